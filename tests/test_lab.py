"""The lab: its network in NumPy trains like Keras's, and its script like its network in NumPy."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.scratch.dense import SGD, Adam, DenseNetwork

from .lab import LAB, TRAIN, TRIALS, Trial, difference, drawn, for_javascript


@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
@pytest.mark.parametrize("norm", [True, False])
def test_the_network_in_numpy_trains_like_keras_s(norm: bool, optimiser: str) -> None:
    kernels, inputs, labels, batches = drawn(Trial(widths=(192, 16, 8, 10)))
    layers, kind = keras.layers, {"dtype": "float64"}
    stack = [keras.Input((192,), dtype="float64")]
    for kernel in kernels[:-1]:
        stack.append(layers.Dense(kernel.shape[1], use_bias=not norm, **kind))
        stack += [layers.BatchNormalization(**kind)] if norm else []
        stack.append(layers.ReLU(**kind))
    model = keras.Sequential([*stack, layers.Dense(10, **kind)])
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    for layer, kernel in zip(dense, kernels, strict=True):
        layer.kernel.assign(kernel)
    ours = DenseNetwork(kernels, norm=norm)
    rate = 0.01
    theirs, step = (
        getattr(keras.optimizers, optimiser)(rate),
        {"SGD": SGD, "Adam": Adam}[optimiser](rate),
    )
    for batch in batches[:10]:  # Keras has the rate and Adam's constants in 32 bits
        with tf.GradientTape() as tape:
            scores = model(inputs[batch], training=True)
            each = keras.losses.sparse_categorical_crossentropy(labels[batch], scores, True)
            loss = tf.reduce_mean(each)
        weights = model.trainable_variables
        theirs.apply(tape.gradient(loss, weights), weights)
        assert ours.step(inputs[batch], labels[batch], step) == pytest.approx(float(loss), rel=2e-5)
    for training in (True, False):
        with keras.StatelessScope():
            scores = model(inputs, training=training)
        assert ours.scores(inputs, training) == pytest.approx(np.array(scores), abs=3e-4)


def test_its_gradients_are_those_of_differences_where_statistics_are_frozen() -> None:
    kernels, inputs, labels, _ = drawn(Trial(widths=(192, 6, 5, 10)))
    network = DenseNetwork(kernels)
    network.moving = [[np.full_like(mean, 0.3), variance * 2] for mean, variance in network.moving]
    _, gradients, _ = network.gradients(inputs, labels, frozen=True)
    for name, gradient in gradients.items():
        one, width = network.weights[name].reshape(-1), 1e-6
        sides = []
        for move in (width, -2 * width):
            one[2] += move
            sides.append(network.gradients(inputs, labels, frozen=True)[0])
        one[2] += width
        slope = (sides[0] - sides[1]) / (2 * width)
        assert gradient.reshape(-1)[2] == pytest.approx(slope, abs=1e-7), name


@pytest.mark.skipif(
    not shutil.which("node"), reason="there is no node; `nox -s site` asks a browser"
)
def test_the_lab_s_script_trains_like_the_network_in_numpy(tmp_path: Path) -> None:
    trials = {name: for_javascript(trial) for name, trial in TRIALS.items()}
    (tmp_path / "trials.json").write_text(json.dumps(trials))
    (tmp_path / "run.js").write_text(
        f"const train = {TRAIN};\n"
        f"const library = require({json.dumps(str(LAB / 'network.js'))});\n"
        "const trials = Object.entries(require('./trials.json'));\n"
        "const found = trials.map(([name, trial]) => [name, train(library, trial)]);\n"
        "console.log(JSON.stringify(Object.fromEntries(found)));\n"
    )
    result = subprocess.run(["node", tmp_path / "run.js"], check=True, capture_output=True)
    for name, found in json.loads(result.stdout).items():
        assert difference(TRIALS[name], found) < 1e-9, name


def test_the_lab_s_scripts_are_light() -> None:
    assert 20_000 < sum(file.stat().st_size for file in LAB.glob("*.js")) < 60_000
