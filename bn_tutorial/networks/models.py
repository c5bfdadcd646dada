"""From a recipe to a Keras model."""

from __future__ import annotations

import zlib
from typing import Any

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.layers import normalization
from bn_tutorial.networks.normfree import Gain, StandardizedDense
from bn_tutorial.networks.recurrent import SMALL_SCALE, ProjectedGRU
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.recipe.tables import NORMALISERS

SHAPE = (32, 32, 3)


def build(
    recipe: Recipe, seed: int = 0, *, shape: tuple[int, ...] = SHAPE, classes: int = 10
) -> keras.Model:
    """Build the network that a recipe describes.

    Layers of the same role get the same initial weights and the same streams of dropout and
    noise from the same seed, whatever else the recipe says: two arms of one seed differ only
    in the thing under study.

    A layer of model ``"gru"`` is a `Dense` layer that projects every row, and a recurrence
    (`bn_tutorial.networks.recurrent.ProjectedGRU`), always with tanh. With ``norm_position="before"``
    the normaliser stands between the two: the input-to-hidden transition is normalised, the
    recurrence is not (Laurent et al. 2016). Norm ``"batch"`` then shares its statistics over
    the examples and the rows (Amodei et al. 2016); its option ``per_step`` gives each row its
    own statistics, moving statistics, γ and β. With the option ``recurrent`` of ``"batch"`` and
    ``"layer"`` the transition from state to state is normalised as well, and the γ of both batch
    normalisations start from 0.1 (Cooijmans et al. 2017).

    A residual network is pre-activated (He et al. 2016): the sum of what all dense layers so far
    have put out is what normaliser and activation are given, and the next dense layer adds to it. With
    ``residual="skipinit"`` each branch is multiplied by a number that starts at 0 (De & Smith 2020,
    SkipInit).

    Parameters
    ----------
    recipe : Recipe
        What to build.
    seed : int
        Fixes the initial weights, the dropout stream and the noise.
    shape : tuple of int
        Shape of one image: rows, columns, colours.
    classes : int
        Number of classes.

    Returns
    -------
    keras.Model
        Takes images of shape (n, rows, columns, colours), float32, and gives class probabilities of shape
        (n, classes). Without residual connections it is a `keras.Sequential`.
    """
    inputs, layers = keras.layers.Input(shape), _layers(recipe, seed, shape, classes)
    if not recipe.residual:
        return keras.Sequential([inputs, *layers])
    values, total = inputs, None  # of what branches have added up to
    for layer in layers:
        before, adds = values, isinstance(layer, keras.layers.Add)
        values = layer([total, before] if adds else before)
        first = total is None and isinstance(layer, keras.layers.Dense)
        # of the first layer, as of all others, it is what dropout leaves that is added up
        if adds or first or (total is before and isinstance(layer, keras.layers.Dropout)):
            total = values
    return keras.Model(inputs, values)


def initial_values(recipe: Recipe, seed: int, model: keras.Model) -> list[tuple[Any, Any]]:
    """Return what `build` draws at random for another seed, without building a model.

    Parameters
    ----------
    recipe : Recipe
        Of the same architecture as the model.
    seed : int
        As in `build`.
    model : keras.Model
        What `build` returned.

    Returns
    -------
    list of (variable, value)
        Each kernel, and each state of a stream of dropout or noise, with the value that it would
        have in a new model.
    """
    layers = _layers(recipe, seed, model.input_shape[1:], model.output_shape[-1])
    own = [one for one in model.layers if not isinstance(one, keras.layers.InputLayer)]
    values = []
    for layer, other in zip(own, layers, strict=True):
        for name, initializer in _DRAWN.items():
            if hasattr(layer, name):
                variable = getattr(layer, name)
                value = getattr(other, initializer)(variable.shape, variable.dtype)
                values.append((variable, value))
        if hasattr(layer, "seed_generator"):
            values.append((layer.seed_generator.state, other.seed_generator.state))
    return values


#: Where the colours are, whatever ``keras.json`` says.
LAST = "channels_last"
#: The variables that are drawn at random, and what draws them.
_DRAWN = {"kernel": "kernel_initializer", "recurrent_kernel": "recurrent_initializer"}


def _layers(
    recipe: Recipe, seed: int, shape: tuple[int, ...], classes: int
) -> list[keras.layers.Layer]:
    layers = []
    match recipe.model:
        case "mlp":
            layers.append(keras.layers.Flatten())
        case "gru":
            layers.append(keras.layers.Reshape((shape[0], shape[1] * shape[2])))
    for index in range(recipe.depth):
        layers += _hidden(recipe, seed, index)
    if recipe.model == "cnn":
        layers.append(keras.layers.GlobalAveragePooling2D(LAST))
    head = keras.initializers.GlorotUniform(seed=_seed(seed, "head"))
    layers.append(keras.layers.Dense(classes, activation="softmax", kernel_initializer=head))
    return layers


def _hidden(recipe: Recipe, seed: int, index: int) -> list[keras.layers.Layer]:
    initializer = keras.initializers.get(
        {"class_name": recipe.initializer, "config": {"seed": _seed(seed, f"kernel {index}")}}
    )
    if recipe.init_scale != 1.0:
        initializer = Scaled(initializer, recipe.init_scale)
    activation = keras.layers.Activation(recipe.activation)
    match recipe.model:
        case "mlp":
            dense = StandardizedDense if recipe.kernel == "standardized" else keras.layers.Dense
            block = [dense(recipe.width, kernel_initializer=initializer), activation]
        case "cnn":
            block = [
                keras.layers.Conv2D(
                    recipe.width * 2**index,
                    3,
                    padding="same",
                    data_format=LAST,
                    kernel_initializer=initializer,
                ),
                activation,
            ]
        case "gru":
            block = [
                keras.layers.Dense(3 * recipe.width, kernel_initializer=initializer),
                ProjectedGRU(
                    recipe.width,
                    keras.initializers.OrthogonalInitializer(
                        seed=_seed(seed, f"recurrent {index}")
                    ),
                    return_sequences=index + 1 < recipe.depth,
                    **_recurrent(recipe),
                ),
            ]
    if recipe.norm:
        position = 1 if recipe.norm_position == "before" else len(block)
        block[position:position] = _normalisers(recipe.norm, recipe, seed, index)
    if recipe.residual and index:
        gain = [Gain()] if recipe.residual == "skipinit" else []
        block[1:1] = [*gain, keras.layers.Add()]
    if recipe.model == "cnn":
        block.append(keras.layers.MaxPooling2D(data_format=LAST))
    if recipe.dropout:
        position = 1 if recipe.dropout_position == "before" else len(block)
        dropout = keras.layers.Dropout(recipe.dropout, seed=_seed(seed, f"dropout {index}"))
        block.insert(position, dropout)
    return block


def _normalisers(norm: str, recipe: Recipe, seed: int, index: int) -> list[keras.layers.Layer]:
    options = dict(recipe.norm_options)
    per_step = options.pop("per_step", False)
    if options.pop("recurrent", False) and norm == "batch":
        options["gamma_initializer"] = keras.initializers.Constant(SMALL_SCALE)
    if NORMALISERS[norm].random:
        options["seed"] = _seed(seed, f"noise {index}")
    layer = normalization(norm, **options)
    if not per_step:
        return [layer]
    # with the rows side by side, each feature of each row is a feature of its own
    return [keras.layers.Flatten(), layer, keras.layers.Reshape((-1, 3 * recipe.width))]


def _recurrent(recipe: Recipe) -> dict[str, Any]:
    """Return how the transition from state to state is normalised."""
    options = recipe.norm_options
    if not options.get("recurrent"):
        return {}
    named = {name: options[name] for name in ("momentum", "epsilon") if name in options}
    return {"norm": recipe.norm, **named}


def _seed(seed: int, role: str) -> int:
    """Return a seed for one role, the same on every machine."""
    return zlib.crc32(f"{seed} {role}".encode()) % 2**31


@keras.saving.register_keras_serializable("bn_tutorial")
class Scaled(keras.initializers.Initializer):
    """An initialiser times a factor."""

    def __init__(self, initializer: keras.initializers.Initializer, factor: float) -> None:
        self.initializer, self.factor = initializer, factor

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> object:
        """Return initial values of that shape."""
        return self.factor * self.initializer(shape, dtype)

    def get_config(self) -> dict[str, object]:
        """Return what is needed to build the initialiser anew."""
        config = keras.saving.serialize_keras_object(self.initializer)
        return {"initializer": config, "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> Scaled:
        """Build the initialiser from `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["initializer"])
        return cls(inner, float(str(config["factor"])))
