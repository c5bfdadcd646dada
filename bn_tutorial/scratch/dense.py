"""A dense network in NumPy, with or without batch normalisation, trained by SGD or Adam.

It is what the lab of the site computes in the reader's browser, and a test holds the two together.
The batch normalisation in it is that of `bn_tutorial.scratch.numpy_bn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bn_tutorial.scratch import numpy_bn

Array = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


class Pass(NamedTuple):
    """What the way back needs of a layer: its inputs, which of its units are on, and its cache."""

    inputs: Array
    on: npt.NDArray[np.bool_] | None  # not of the scores
    cache: numpy_bn.Cache | None  # not without batch normalisation


class DenseNetwork:
    """Dense → (batch normalisation →) ReLU, over and over, and a dense layer of scores.

    A hidden layer has a bias if no batch normalisation follows, which would subtract it.

    Parameters
    ----------
    kernels : sequence of ndarray, shapes (inputs, outputs)
        The initial kernels, the last of which gives the scores; they are copied.
    norm : bool
        Whether hidden layers are normalised.
    scale, center : bool
        Whether γ and β are learned; if not, they stay 1 and 0.
    momentum : float
        The weight of the past in the moving statistics.
    epsilon : float
        Added to the variance.

    Attributes
    ----------
    weights : dict of str to ndarray
        What is trained: ``"kernel 0"``, ``"bias 0"``, ``"gamma 0"``, ``"beta 0"``, ``"kernel 1"`` and
        so on.
    moving : list of [ndarray, ndarray]
        The moving mean and the moving variance of each normalised layer.
    """

    def __init__(
        self,
        kernels: Sequence[npt.ArrayLike],
        *,
        norm: bool = True,
        scale: bool = True,
        center: bool = True,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
    ) -> None:
        self.norm, self.momentum, self.epsilon = norm, momentum, epsilon
        self.depth = len(kernels) - 1  # hidden layers
        self.weights: dict[str, Array] = {}
        self.moving: list[list[Array]] = []
        for layer, values in enumerate(kernels):
            kernel = self.weights[f"kernel {layer}"] = np.array(values, float)
            units = kernel.shape[1]
            if not norm or layer == self.depth:
                self.weights[f"bias {layer}"] = np.zeros(units)
                continue
            if scale:
                self.weights[f"gamma {layer}"] = np.ones(units)
            if center:
                self.weights[f"beta {layer}"] = np.zeros(units)
            self.moving.append([np.zeros(units), np.ones(units)])

    def scores(self, x: npt.ArrayLike, training: bool = False) -> Array:
        """Return the scores of a batch: logits, before softmax.

        Parameters
        ----------
        x : array_like, shape (n, inputs)
            The batch.
        training : bool
            Whether its own statistics normalise it, or the moving ones.

        Returns
        -------
        ndarray, shape (n, classes)
            The scores.
        """
        return self._forward(x, training)[0]

    def gradients(
        self, x: npt.ArrayLike, y: Labels, frozen: bool = False
    ) -> tuple[float, dict[str, Array], list[Pass]]:
        """Return the mean cross-entropy of a batch, and its gradients.

        Parameters
        ----------
        x : array_like, shape (n, inputs)
            The batch.
        y : ndarray of int, shape (n,)
            Its classes.
        frozen : bool
            Whether the moving statistics normalise, as in inference mode.

        Returns
        -------
        loss : float
            The mean cross-entropy.
        gradients : dict of str to ndarray
            With respect to each of `weights`.
        passes : list of Pass
            What was kept on the way forward, layer by layer.
        """
        scores, passes = self._forward(x, not frozen)
        shifted = scores - scores.max(1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        rows = np.arange(len(y))
        delta = np.exp(logarithms)
        delta[rows, y] -= 1
        delta /= len(y)

        found: dict[str, Array] = {}
        for layer in reversed(range(len(passes))):
            inputs, on, cache = passes[layer]
            if on is not None:
                delta = delta * on
            if cache is not None:
                back, found[f"gamma {layer}"], found[f"beta {layer}"] = numpy_bn.backward(
                    delta, cache
                )
                # frozen statistics do not depend on the batch: two of the three terms are gone
                delta = cache.gamma * cache.inv_std * delta if frozen else back
            found[f"bias {layer}"] = delta.sum(0)
            found[f"kernel {layer}"] = inputs.T @ delta
            delta = delta @ self.weights[f"kernel {layer}"].T
        gradients = {name: found[name] for name in self.weights}
        return float(-logarithms[rows, y].mean()), gradients, passes

    def step(
        self, x: npt.ArrayLike, y: Labels, optimiser: Optimiser, frozen: bool = False
    ) -> float:
        """Train on a batch.

        Parameters
        ----------
        x, y, frozen
            As in `gradients`; frozen moving statistics stay as they are.
        optimiser : SGD or Adam
            What turns gradients into a step.

        Returns
        -------
        float
            The loss before the step.
        """
        loss, gradients, passes = self.gradients(x, y, frozen)
        optimiser.update(self.weights, gradients)
        if self.norm and not frozen:
            for moving, (_, _, cache) in zip(self.moving, passes, strict=False):
                assert cache is not None
                for i, batch in enumerate((cache.mean, cache.variance)):
                    moving[i] = numpy_bn.update_moving(moving[i], batch, self.momentum)
        return loss

    def _forward(self, x: npt.ArrayLike, training: bool) -> tuple[Array, list[Pass]]:
        values, passes = np.asarray(x, float), []
        for layer in range(self.depth + 1):
            inputs, cache = values, None
            values = inputs @ self.weights[f"kernel {layer}"]
            if f"bias {layer}" in self.weights:
                values = values + self.weights[f"bias {layer}"]
            if layer == self.depth:
                passes.append(Pass(inputs, None, None))
                break
            if self.norm:
                values, cache = self._normalise(layer, values, training)
            passes.append(Pass(inputs, values > 0, cache))
            values = np.maximum(values, 0)
        return values, passes

    def _normalise(self, layer: int, h: Array, training: bool) -> tuple[Array, numpy_bn.Cache]:
        ones, zeros = np.ones(h.shape[1]), np.zeros(h.shape[1])
        gamma = self.weights.get(f"gamma {layer}", ones)
        beta = self.weights.get(f"beta {layer}", zeros)
        if training:
            return numpy_bn.forward(h, gamma, beta, epsilon=self.epsilon)
        mean, variance = self.moving[layer]
        y, x_hat = (
            numpy_bn.infer(h, scale, shift, mean, variance, epsilon=self.epsilon)
            for scale, shift in ((gamma, beta), (ones, zeros))
        )
        inv_std = 1 / np.sqrt(variance + self.epsilon)
        return y, numpy_bn.Cache(x_hat, inv_std[None], gamma[None], mean, variance, (0,))


class Optimiser(Protocol):
    """What turns gradients into a step."""

    def update(self, weights: dict[str, Array], gradients: dict[str, Array]) -> None:
        """Change the weights in place."""


class SGD:
    """Plain gradient descent.

    Parameters
    ----------
    rate : float
        The learning rate.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def update(self, weights: dict[str, Array], gradients: dict[str, Array]) -> None:
        """Change the weights in place: w ← w − rate · gradient."""
        for name, gradient in gradients.items():
            weights[name] -= self.rate * gradient


class Adam:
    """Adam with Keras's constants.

    Parameters
    ----------
    rate : float
        The learning rate.
    beta_1, beta_2 : float
        The weights of the past in the averages of gradients and of their squares.
    epsilon : float
        Added to the root of the second; the corrections of both averages are in the rate.

    References
    ----------
    Kingma & Ba (2015), Adam, the end of section 2, where the order of the computations is changed.
    """

    def __init__(
        self, rate: float, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
    ) -> None:
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.steps = 0
        self.averages: dict[str, tuple[Array, Array]] = {}

    def update(self, weights: dict[str, Array], gradients: dict[str, Array]) -> None:
        """Change the weights in place, and the averages."""
        self.steps += 1
        rate = self.rate * np.sqrt(1 - self.beta_2**self.steps) / (1 - self.beta_1**self.steps)
        for name, gradient in gradients.items():
            zeros = np.zeros_like(gradient)
            first, second = self.averages.setdefault(name, (zeros, zeros.copy()))
            first += (1 - self.beta_1) * (gradient - first)
            second += (1 - self.beta_2) * (gradient**2 - second)
            weights[name] -= rate * first / (np.sqrt(second) + self.epsilon)
