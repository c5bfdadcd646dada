"""The loss of a first epoch by Keras's own `fit` on JAX, printed as JSON: for a process of its own."""

from __future__ import annotations

import json
import os
import sys

import keras  # on the backend that the environment names, before the library refuses it
import numpy as np

os.environ["KERAS_BACKEND"] = "tensorflow"
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe

RECIPES = {"plain": Recipe(), "normalised": Recipe(norm="batch")}


def main() -> None:
    """Train a recipe from the weights, and on the images, of a file."""
    recipe = RECIPES[sys.argv[1]]
    with np.load(sys.argv[2]) as given:
        images, labels = given["images"], given["labels"]
        weights = [given[name] for name in given.files if name.startswith("arr_")]
    found = {"backend": keras.backend.backend()}
    for activation in ("linear", "softmax"):
        model = build(recipe, shape=images.shape[1:])
        model.set_weights(weights)
        model.layers[-1].activation = keras.activations.get(activation)
        optimizer = keras.optimizers.get(recipe.optimizer)
        optimizer.learning_rate = recipe.learning_rate
        logits = activation == "linear"
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=logits))
        run = model.fit(images, labels, batch_size=recipe.batch_size, shuffle=False, verbose=0)
        found["from logits" if logits else "from probabilities"] = run.history["loss"][0]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
