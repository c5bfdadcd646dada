"""The lab's arithmetic beside the library's: the same networks, trained by both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial import load_cifar10
from bn_tutorial.scratch.dense import SGD, Adam, DenseNetwork

Array = NDArray[Any]
LAB = Path(__file__).parents[1] / "docs" / "_static" / "lab"
STEPS = 50
WIDTHS = (192, 64, 64, 10)

#: In JavaScript: train a network of `library` as a trial says, and return what `reference` returns.
TRAIN = """(library, { kernels, inputs, labels, batches, options, optimiser, rate, frozen }) => {
  const network = new library.Network(kernels, options);
  const step = new library[optimiser](rate);
  const width = kernels[0].inputs;
  const rows = (chosen) => Float64Array.from(chosen.flatMap((i) => inputs.slice(i * width, (i + 1) * width)));
  const found = { losses: [] };
  for (const batch of batches)
    found.losses.push(network.step(rows(batch), batch.map((i) => labels[i]), batch.length, step, frozen));
  const all = labels.map((_, i) => i);
  network.gradients(rows(all), labels, all.length, frozen);
  for (const [name, { value, gradient }] of Object.entries(network.weights)) {
    found[name] = [...value];
    found[`gradient of ${name}`] = [...gradient];
  }
  network.layers.filter((layer) => layer.normed).forEach(({ mean, variance }, i) => {
    found[`moving mean ${i}`] = [...mean];
    found[`moving variance ${i}`] = [...variance];
  });
  for (const mode of ["batch", "moving"]) found[`scores, ${mode}`] = [...network.forward(rows(all), all.length, mode)];
  return found;
}"""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to train: what the lab's reader may set."""

    norm: bool = True
    learned: bool = True  # γ and β
    momentum: float = 0.99
    optimiser: str = "SGD"
    rate: float = 0.1
    batch: int = 32
    frozen: bool = False
    widths: tuple[int, ...] = WIDTHS

    @property
    def options(self) -> dict[str, Any]:
        scale = {"scale": self.learned, "center": self.learned}
        return {"norm": self.norm, "momentum": self.momentum, "epsilon": 1e-3, **scale}


TRIALS = {
    "without, SGD": Trial(norm=False),
    "without, Adam": Trial(norm=False, optimiser="Adam", rate=0.002),
    "with, SGD": Trial(),
    "with, Adam": Trial(optimiser="Adam", rate=0.002),
    "short memory, no γ and β": Trial(momentum=0.9, learned=False),
    "frozen": Trial(frozen=True, optimiser="Adam", rate=0.002),
    "a batch of one": Trial(batch=1, rate=0.01),
    "odd sizes, deep": Trial(batch=7, widths=(192, 21, 9, 30, 10)),
}


def drawn(trial: Trial) -> tuple[list[Array], Array, Array, Array]:
    """Return initial kernels, inputs, labels and batches: pooled images of the sample."""
    rng = np.random.default_rng(0)
    kernels = [
        rng.normal(0, np.sqrt(2 / shape[0]), shape)
        for shape in zip(trial.widths, trial.widths[1:], strict=False)
    ]
    data = load_cifar10("sample")
    pixels = data.x_train[:100].reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)).reshape(100, -1)
    inputs = (pixels - pixels.mean(0)) / pixels.std(0)
    batches = [rng.permutation(100)[: trial.batch] for _ in range(STEPS)]
    return kernels, inputs, data.y_train[:100], np.array(batches)


def for_javascript(trial: Trial) -> dict[str, Any]:
    """Return what `TRAIN` takes, ready for JSON."""
    kernels, inputs, labels, batches = drawn(trial)
    return {
        "kernels": [
            {"values": one.ravel().tolist(), "inputs": one.shape[0], "outputs": one.shape[1]}
            for one in kernels
        ],
        "inputs": inputs.ravel().tolist(),
        "labels": labels.tolist(),
        "batches": batches.tolist(),
        "options": trial.options,
        **{name: getattr(trial, name) for name in ("optimiser", "rate", "frozen")},
    }


def reference(trial: Trial) -> dict[str, Array]:
    """Return what the library makes of the same: losses, weights, gradients, statistics, scores."""
    kernels, inputs, labels, batches = drawn(trial)
    network = DenseNetwork(kernels, **trial.options)
    optimiser = {"SGD": SGD, "Adam": Adam}[trial.optimiser](trial.rate)
    found: dict[str, Any] = {
        "losses": [
            network.step(inputs[batch], labels[batch], optimiser, trial.frozen) for batch in batches
        ]
    }
    _, gradients, _ = network.gradients(inputs, labels, trial.frozen)
    found |= {name: value.ravel() for name, value in network.weights.items()}
    found |= {f"gradient of {name}": value.ravel() for name, value in gradients.items()}
    for layer, (mean, variance) in enumerate(network.moving):
        found |= {f"moving mean {layer}": mean, f"moving variance {layer}": variance}
    for mode in ("batch", "moving"):
        found[f"scores, {mode}"] = network.scores(inputs, training=mode == "batch").ravel()
    return {name: np.asarray(value) for name, value in found.items()}


def difference(trial: Trial, found: dict[str, Any]) -> float:
    """Return by how much JavaScript's numbers are off at most, once the same numbers are there."""
    expected = reference(trial)
    assert set(found) == set(expected)
    assert all(np.isfinite(value).all() for value in expected.values())
    assert np.ptp(expected["losses"]) > 0.01  # something was learnt
    return max(float(np.abs(found[name] - value).max()) for name, value in expected.items())
