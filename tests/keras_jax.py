"""The loss of a first epoch by Keras's own `fit` on JAX, printed as JSON: for a process of its own."""

from __future__ import annotations

import json
import sys

import numpy as np

from bn_tutorial.backend import keras
from bn_tutorial.models import build
from bn_tutorial.recipe import Recipe

RECIPE = Recipe(norm="batch")


def main() -> None:
    """Train from the weights, and on the images, of a file: once from logits, once from probabilities."""
    with np.load(sys.argv[1]) as given:
        images, labels = given["images"], given["labels"]
        weights = [given[name] for name in given.files if name.startswith("arr_")]
    found = {"backend": keras.backend.backend()}
    for ends_in, activation in (("logits", "linear"), ("probabilities", "softmax")):
        model = build(RECIPE, shape=images.shape[1:])
        model.set_weights(weights)
        model.layers[-1].activation = keras.activations.get(activation)
        model.compile(
            keras.optimizers.get(
                {"class_name": RECIPE.optimizer, "config": {"learning_rate": RECIPE.learning_rate}}
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=ends_in == "logits"),
        )
        history = model.fit(
            images, labels, batch_size=RECIPE.batch_size, shuffle=False, verbose=0
        ).history
        found[ends_in] = history["loss"][0]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
