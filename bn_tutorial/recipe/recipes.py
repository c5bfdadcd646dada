"""A recipe: what it may say, and what it must not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import typing
from collections.abc import Mapping
from typing import Any, Literal

from bn_tutorial.recipe.tables import DEFAULT_GROUPS, NORMALISERS, STEPWISE

#: The most layers of a convolutional network: 32 pixels can be halved so often.
MAX_CNN_DEPTH = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is built and trained. The defaults are the assignment's baseline.

    Parameters
    ----------
    model : {"mlp", "cnn", "gru"}
        Dense layers on the flattened image; 3 × 3 convolutions; a recurrent network that
        reads the image row by row.
    width : int
        Units of a hidden layer (``mlp``, ``gru``), or channels of the first convolution;
        each further convolution has twice as many.
    depth : int
        Hidden layers.
    activation : str
        The hidden layers' activation, by Keras's name.
    norm : {None, "batch", "layer", "group", "instance", "ghost", "renorm", "noisy", "noise", \
            "partial", "rms", "dyt", "derf"}
        The normaliser of every hidden layer (or, as a control, noise in its place).
    norm_position : {"before", "after"}
        Whether it stands before or after the activation.
    norm_options : mapping
        Its options, for instance ``{"momentum": 0.9}``; see `NORMALISERS`.
    residual : {None, "sum", "skipinit"}
        Whether every dense layer but the first adds its output to the sum of those before it, from
        which normaliser and activation then read; with ``"skipinit"`` it is first multiplied by a
        number that is trained, and starts at 0.
    kernel : {"free", "standardized"}
        Whether the kernel's column for each unit is standardised in every step, and scaled so that
        the output of a ReLU has variance 1; a gain for each unit is trained.
    dropout : float
        The share of hidden units dropped in training, in [0, 1).
    dropout_position : {"after", "before"}
        Whether units are dropped at the end of a hidden layer, or before its normaliser and
        activation.
    initializer : str
        The initial distribution of the hidden layers' kernels, by Keras's name.
    init_scale : float
        Factor on those initial kernels.
    inputs : {"unit", "standardized"}
        Pixels divided by 255, or standardised per colour channel with the mean and the
        standard deviation of the training images.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"}
        With Keras's defaults except for the two fields that follow.
    learning_rate : float
        Its (constant) learning rate.
    weight_decay : float
        In each step the kernels lose this share of themselves, times the learning rate;
        biases and normalisers lose nothing.
    batch_size : int
        Images in a mini-batch; an epoch's last batch may be smaller.
    epochs : int
        Passes over the training images.
    train_size : int or None
        Train on so many images, which the seed draws, class by class; None means all.
    validation : int
        Images held out of the training images, drawn likewise. If there are any, validation is on
        them, and the test images are looked at once, at the end.

    Raises
    ------
    ValueError
        If a field is impossible. The message names the field, the value and what is allowed.
    """

    model: Literal["mlp", "cnn", "gru"] = "mlp"
    width: int = 512
    depth: int = 1
    activation: Literal["relu", "sigmoid", "tanh", "elu", "gelu", "linear"] = "relu"
    norm: (
        Literal[
            "batch", "noisy", "noise", "ghost", "renorm", "layer", "instance", "group", "partial",
            "rms", "dyt", "derf",
        ]
        | None
    ) = None  # fmt: skip
    norm_position: Literal["before", "after"] = "before"
    norm_options: Mapping[str, float] = dataclasses.field(default_factory=dict)
    residual: Literal["sum", "skipinit"] | None = None
    kernel: Literal["free", "standardized"] = "free"
    dropout: float = 0.0
    dropout_position: Literal["after", "before"] = "after"
    initializer: Literal[
        "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "orthogonal"
    ] = "glorot_uniform"
    init_scale: float = 1.0
    inputs: Literal["unit", "standardized"] = "unit"
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    train_size: int | None = None
    validation: int = 0

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            if allowed and getattr(self, field) not in allowed:
                self._refuse(field, f"one of {', '.join(map(repr, allowed))}")
        for field in ("width", "depth", "batch_size", "epochs"):
            if not _is_count(getattr(self, field)):
                self._refuse(field, "a whole number from 1")
        if self.model == "cnn" and self.depth > MAX_CNN_DEPTH:
            self._refuse(
                "depth", f"at most {MAX_CNN_DEPTH} for model='cnn', as each layer halves the image"
            )
        for field, usual in (("residual", None), ("kernel", "free")):
            if self.model != "mlp" and getattr(self, field) != usual:
                self._refuse(field, f"{usual!r} for model={self.model!r}")
        for field in ("learning_rate", "init_scale"):
            if not _is_number(getattr(self, field)) or getattr(self, field) <= 0:
                self._refuse(field, "a positive number")
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            self._refuse("weight_decay", "a number of 0 or more")
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            self._refuse("dropout", "a number from 0 up to, but not including, 1")
        if self.train_size is not None and not _is_count(self.train_size):
            self._refuse("train_size", "None or a whole number from 1")
        if not _is_count(self.validation, least=0):
            self._refuse("validation", "a whole number from 0")
        if self.train_size is not None and self.batch_size > self.train_size:
            self._refuse("batch_size", f"at most train_size, which is {self.train_size}")
        options: Any = self.norm_options
        if not isinstance(options, Mapping) or not all(isinstance(one, str) for one in options):
            self._refuse("norm_options", "a mapping from options to values")
        self._check_norm_options()
        # equal recipes must have equal digests, so 1 becomes 1.0 and −0.0 becomes 0.0
        for field in ("dropout", "init_scale", "learning_rate", "weight_decay"):
            object.__setattr__(self, field, float(getattr(self, field)) + 0.0)
        real = ("momentum", "epsilon", "max_shift", "max_scale", "alpha")
        options = {
            name: float(value) + 0.0 if name in real else value
            for name, value in sorted(self.norm_options.items())
        }
        object.__setattr__(self, "norm_options", options)

    def _check_norm_options(self) -> None:
        options, row = self.norm_options, NORMALISERS.get(self.norm or "")
        allowed = row.options if row else ()
        if unknown := set(options) - set(allowed):
            names = ", ".join(map(repr, allowed)) or "no options"
            self._refuse("norm_options", f"{names} for norm={self.norm!r}, not {sorted(unknown)}")
        for name, value in options.items():
            if name in ("center", "scale", "by_example", "mean", "variance", *STEPWISE):
                if not isinstance(value, bool):
                    self._refuse("norm_options", f"True or False for {name!r}")
            elif not _is_number(value):
                self._refuse("norm_options", f"a number for {name!r}")
        if not 0 <= options.get("momentum", 0.99) < 1:
            self._refuse("norm_options", "a momentum from 0 up to, but not including, 1")
        for name, least in (("an epsilon", 0), ("a max_shift", 0), ("a max_scale", 1)):
            if options.get(name.split()[1], least) < least:
                self._refuse("norm_options", f"{name} of {least} or more")
        if {*STEPWISE} & {*options} and (self.model, self.norm_position) != ("gru", "before"):
            self._refuse("norm_options", "without per_step and recurrent, but before a gru's steps")
        numbers = {"channel": 1, "layer": self.width}
        if "groups" in allowed:
            groups = options.get("groups", DEFAULT_GROUPS)
            if not _is_count(groups) or self.width % int(groups):
                self._refuse("norm_options", f"groups that divide the width, which is {self.width}")
            numbers["group"] = self.width // int(groups)
        if row and self.model != "cnn" and numbers.get(row.over) == 1:
            self._refuse(
                "norm",
                f"another one for model={self.model!r}, or one that spans more of the width, "
                f"which is {self.width}: over a single number it erases it",
            )
        if "size" in allowed:
            size = options.get("size", self.batch_size)
            if not _is_count(size) or self.batch_size % int(size):
                sizes = f"a ghost size that divides batch_size, which is {self.batch_size}"
                self._refuse("norm_options", sizes)

    def _refuse(self, field: str, allowed: str) -> None:
        raise ValueError(f"{field}={getattr(self, field)!r} is impossible: it must be {allowed}.")

    def __hash__(self) -> int:
        return hash(self.digest)

    def but(self, **changes: Any) -> Recipe:
        """Return a copy with some fields changed.

        Raises
        ------
        ValueError
            If there is no such field, or the changed recipe is impossible.
        """
        if unknown := set(changes) - {field.name for field in dataclasses.fields(self)}:
            raise ValueError(f"a recipe has no field {', '.join(map(repr, sorted(unknown)))}.")
        return dataclasses.replace(self, **changes)

    def asdict(self) -> dict[str, Any]:
        """Return the fields and their values."""
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """A digest of all fields: equal for equal recipes, on every machine."""
        text = json.dumps(self.asdict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """In words, how this recipe differs from the default one."""
        default = Recipe()
        words = [] if self.norm is None else [f"{self.norm} norm"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "norm" or value == getattr(default, field.name):
                continue
            if field.name == "norm_options":
                words += [f"{name} {option}" for name, option in value.items()]
            else:
                words.append(f"{field.name.replace('_', ' ')} {value}")
        return ", ".join(words) or "baseline"


def _listed(hint: Any) -> tuple[str | None, ...]:
    """Return the values of a `Literal` type, or of one that may be None."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    inner = [value for part in typing.get_args(hint) for value in _listed(part)]
    return (None, *inner) if inner else ()


_CHOICES = {name: _listed(hint) for name, hint in typing.get_type_hints(Recipe).items()}


def choices(field: str) -> tuple[str | None, ...] | None:
    """Return what a field of a recipe may be, or None if its type does not list that.

    Parameters
    ----------
    field : str
        The field's name.
    """
    return _CHOICES[field] or None


def _is_number(value: object) -> bool:
    """Return whether a value is a number that a float can hold: not NaN, not infinite."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -sys.float_info.max <= value <= sys.float_info.max
    )


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
