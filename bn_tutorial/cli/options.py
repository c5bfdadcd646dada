"""Options of the command line: one for each field of a recipe, read from its types and docstring."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Callable
from pathlib import Path

import click
import docstring_parser

from bn_tutorial import recipe
from bn_tutorial.recipe.recipes import Recipe

Command = Callable[..., None]


def recipe_options(command: Command) -> Command:
    """Give a command an option for each field of `Recipe`, described as in its docstring."""
    described = {
        one.arg_name: " ".join((one.description or "").replace("`", "").split())
        for one in docstring_parser.parse(Recipe.__doc__ or "").params
    }
    for field in reversed(dataclasses.fields(Recipe)):
        if field.name == "norm_options":
            command = click.option(
                "--norm-option",
                "norm_options",
                type=_norm_option,
                metavar="NAME=VALUE",
                multiple=True,
                help="An option of the normaliser, for instance momentum=0.9; can be given "
                "several times.",
            )(command)
            continue
        from_profile = field.name == "epochs"
        default = "the profile's, usually 10" if from_profile else str(field.default).lower()
        type_, metavar = _type(field.name)
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=type_,
            metavar=metavar,
            default=None if from_profile else field.default,
            help=f"{described[field.name].replace('None', 'none')}  [default: {default}]",
        )(command)
    return command


def json_option(text: str) -> Callable[[Command], Command]:
    """Return an option that names a JSON file to write."""
    return click.option(
        "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help=text
    )


def _type(field: str) -> tuple[Callable[[str], object], str]:
    """Return what reads the values of a recipe's field, and how the help names them."""
    hint = typing.get_type_hints(Recipe)[field]
    allowed = recipe.choices(field)
    kinds = typing.get_args(hint) or (hint,)
    optional = None in allowed if allowed else types.NoneType in kinds
    if allowed:
        names = ["none" if one is None else one for one in allowed]
        type_, metavar = click.Choice(names), f"[{'|'.join(names)}]"
    else:
        type_ = click.types.convert_type(kinds[0])
        metavar = f"{type_.name.upper()}|none" if optional else type_.name.upper()
    if not optional:
        return type_, metavar

    def read(text: str) -> object:
        return None if text == "none" else type_(text)

    return read, metavar


def _norm_option(text: str) -> tuple[str, float]:
    name, _, value = (part.strip() for part in text.partition("="))
    for read in (int, float, {"true": True, "false": False}.__getitem__):
        with contextlib.suppress(ValueError, KeyError):
            return name.replace("-", "_"), read(value)
    raise click.BadParameter(f"{text!r} is not a name and a number such as momentum=0.9.")
