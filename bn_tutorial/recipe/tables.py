"""Two tables: each normaliser and each optimiser, described once.

Recipes, the layers' factory, the engines, folding and the figures' legends read them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

#: Groups of a group normalisation if no option says otherwise.
DEFAULT_GROUPS = 8


@dataclasses.dataclass(frozen=True)
class Normaliser:
    """A normaliser, for all who must know something of it.

    Parameters
    ----------
    make : str
        Its layer, as ``module:class``.
    options : tuple of str
        What `Recipe.norm_options` may say of it; but for `STEPWISE` the layer is given them.
    color : str
        Its colour in all figures.
    fixed : mapping
        What else the layer is given.
    over : {"batch", "layer", "group", "channel", "number"}
        What shares statistics in a dense layer: a feature's numbers in all examples; of an example
        all numbers, a group of them, or none; or every number for itself, without statistics.
    moving : bool
        Whether it is a batch normalisation, with moving statistics for inference.
    random : bool
        Whether it draws at random in training. The layer is given a ``seed`` then.
    plain : mapping
        Attributes with which the layer, in training, is plain batch normalisation.
    """

    make: str
    options: tuple[str, ...]
    color: str
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    over: Literal["batch", "layer", "group", "channel", "number"] = "batch"
    moving: bool = False
    random: bool = False
    plain: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_KERAS, _OURS, _FREE = (
    f"{module}:{{}}".format
    for module in ("keras.layers", "bn_tutorial.networks.layers", "bn_tutorial.networks.normfree")
)
_AFFINE, _NOISE = ("epsilon", "center", "scale"), ("max_shift", "max_scale", "by_example")
_MOVING = ("momentum", *_AFFINE)
#: Options of a recurrent network.
STEPWISE = ("per_step", "recurrent")

#: The normalisers. A new one stands here, in the type of `Recipe.norm`, and in `networks.layers` (or
#: `networks.normfree`) if Keras lacks it. Colours are clear on white as on a dark page; any two can be told apart by
#: colour-blind readers (three are by Okabe & Ito). There is no room for more than nine such, so that
#: those which no experiment draws together share one.
NORMALISERS = {
    "batch": Normaliser(_KERAS("BatchNormalization"), (*_MOVING, *STEPWISE), "#0b84d8", moving=True),
    "noisy": Normaliser(
        _OURS("NoisyBatchNormalization"), (*_NOISE, *_MOVING), color="#b4a578",
        moving=True, random=True, plain={"noise": False},
    ),
    "noise": Normaliser(
        _OURS("ShiftingNoise"), _NOISE, "#b82000", over="number", random=True, plain={"noise": False}
    ),
    "ghost": Normaliser(
        _OURS("GhostBatchNormalization"), ("size", *_MOVING), color="#56b4e9",
        moving=True, plain={"size": None},
    ),
    "renorm": Normaliser(
        _KERAS("BatchNormalization"), _MOVING, color="#d55e00",
        fixed={"renorm": True}, moving=True, plain={"renorm": False},
    ),
    "layer": Normaliser(_KERAS("LayerNormalization"), (*_AFFINE, "recurrent"), "#e69f00", over="layer"),
    "instance": Normaliser(
        _KERAS("GroupNormalization"), _AFFINE, "#b0307f", fixed={"groups": -1}, over="channel"
    ),
    "group": Normaliser(
        _KERAS("GroupNormalization"), ("groups", *_AFFINE), color="#1a7f5a", over="group"
    ),
    "partial": Normaliser(
        _OURS("PartialBatchNormalization"), ("mean", "variance", *_MOVING),
        color="#56b4e9", moving=True,
    ),
    "rms": Normaliser(_KERAS("RMSNormalization"), ("epsilon",), "#d55e00", over="layer"),
    "dyt": Normaliser(_FREE("DynamicTanh"), ("alpha",), "#b82000", over="number"),
    "derf": Normaliser(_FREE("DynamicErf"), ("alpha",), "#b4a578", over="number"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """An optimiser: Keras's of that name, with its defaults.

    Parameters
    ----------
    elementwise : bool
        Whether its rule treats each number by itself, so that it can update the weights of
        several networks as one stack.
    decays : bool
        Whether it has a weight decay of its own, which the recipe's takes the place of.
    """

    elementwise: bool
    decays: bool = False


#: The optimisers. A new one stands here and in the type of `Recipe.optimizer`.
OPTIMISERS = {
    "adam": Optimiser(elementwise=True),
    "adamw": Optimiser(elementwise=True, decays=True),
    "sgd": Optimiser(elementwise=True),
    "rmsprop": Optimiser(elementwise=True),
}
