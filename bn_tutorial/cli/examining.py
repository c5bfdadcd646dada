"""The command that examines a model from a file."""

from __future__ import annotations

import json
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import click

from bn_tutorial.cli import output
from bn_tutorial.cli.options import json_option

#: What arrays may be called in a file.
INPUTS, TARGETS = (
    ("x", "images", "inputs", "x_train", "x_test"),
    ("y", "labels", "targets", "y_train", "y_test"),
)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--batch-size", type=click.IntRange(1), help="The size of the training's batches.")
@click.option(
    "--unsafe",
    is_flag=True,
    help="Let the model's file run code of its own: only for files that you trust.",
)
@json_option("Write the report here, too.")
def checkup(
    model: Path, images: Path, batch_size: int | None, unsafe: bool, json_file: Path | None
) -> None:
    """Examine a model, and say whether batch normalisation ails it.

    MODEL is a .keras file. IMAGES is an .npz file with the arrays x and, if there are targets, y (or
    with the names of the model's inputs), or an .npy file. The exit status is 1 if something serious
    was found, 2 if it could not be examined.
    """
    output.check_targets(json_file)
    from bn_tutorial.bench import checkup as examine

    with output.users_errors(ValueError, TypeError):
        x, y = _arrays(images)
        found = examine(_model(model, unsafe), x, y, batch_size=batch_size)
    if json_file is not None:
        output.write(json_file, json.dumps(found.to_dict(), indent=1))
    click.echo(str(found))
    sys.exit(1 if found.serious else 0)


def _arrays(file: Path) -> tuple[Any, Any]:
    """Return inputs and targets from a file."""
    import numpy as np

    try:
        loaded = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(file)!r}.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(file)!r} cannot be read as .npz or .npy: {error}") from error
    if isinstance(loaded, np.ndarray):
        return loaded, None
    try:
        arrays = dict(loaded)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(file)!r} cannot be read: {error}") from error
    target = next((arrays.pop(name) for name in TARGETS if name in arrays), None)
    name = next((name for name in INPUTS if name in arrays), None)
    if name is None and len(arrays) == 1:
        (name,) = arrays
    if name is not None:
        return arrays[name], target
    if not arrays:
        raise ValueError(f"{str(file)!r} holds no array x with images.")
    return arrays, target


def _model(file: Path, unsafe: bool) -> Any:
    from bn_tutorial.networks.backend import keras

    if not file.exists():
        raise ValueError(f"there is no file {str(file)!r}.")
    try:
        return keras.saving.load_model(file, safe_mode=not unsafe)
    except Exception as error:
        first = " ".join(str(error).split())
        if "safe_mode" in first or "unsafe" in first:
            raise ValueError(
                f"{str(file)!r} asks to run code of its own (a lambda): if you trust it, add --unsafe."
            ) from error
        raise ValueError(
            f"{str(file)!r} cannot be loaded as a Keras model: {first[:300]}"
        ) from error
