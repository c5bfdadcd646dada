"""What theory predicts, in NumPy: the lines that figures draw beside measurements."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]


def gradient_growth(batch_size: int | None = None, activation: str = "relu") -> float:
    """Return by which factor a batch-normalised network's gradient grows, from layer to layer.

    It is the norm of ∂loss/∂h that grows from a hidden layer's affine output h to that of the
    layer before, in a wide and deep network at initialisation, with the normaliser between
    h and the activation and an epsilon of 0. The scale of the weights does not matter.

    Parameters
    ----------
    batch_size : int or None
        Images in a batch, at least 4; None is the limit of large batches.
    activation : {"relu", "linear"}
        The activation.

    Returns
    -------
    float
        The factor: for large batches √(π / (π − 1)) ≈ 1.21 with ReLU and 1 without.

    Raises
    ------
    ValueError
        If the batch is smaller than 4, or there is no such activation.

    References
    ----------
    Yang et al. (2019), A mean field theory of batch normalization, Theorem 3.10, whose rates
    are those of the squared norm. It is about infinitely wide networks, and assumes that the
    weights of the backward pass are independent of those of the forward pass (appendix B).
    """
    if activation not in ("relu", "linear"):
        raise ValueError(f"activation={activation!r} is impossible: choose 'relu' or 'linear'.")
    if batch_size is None:
        return float(np.sqrt(np.pi / (np.pi - 1))) if activation == "relu" else 1.0
    if batch_size < 4:
        raise ValueError(f"batch_size={batch_size} is impossible: it must be at least 4.")
    if activation == "linear":
        return float(np.sqrt((batch_size - 2) / (batch_size - 3)))
    # deep in the network, any two images of a batch correlate by this much; kernel and slope
    # are the arc-cosine kernel of degree 1 there, J in the paper, and its derivative
    correlation = -1 / (batch_size - 1)
    angle = np.arccos(correlation)
    slope = (np.pi - angle) / np.pi
    kernel = np.sin(angle) / np.pi + correlation * slope
    squared = ((batch_size - 1 + slope) / (1 - kernel) - 1) / (batch_size - 3)
    return float(np.sqrt(squared))


def normalized_std(variance: ArrayLike, epsilon: float) -> Array:
    """Return the standard deviation after normalisation: √(variance / (variance + epsilon)).

    Parameters
    ----------
    variance : array_like
        The variance before.
    epsilon : float
        What the normaliser adds to it.

    Returns
    -------
    ndarray, shape of variance
        From 0 to 1: far below 1 if the variance is not large compared with epsilon.

    References
    ----------
    Follows from Ioffe & Szegedy (2015), Algorithm 1, third line.
    """
    variance = np.asarray(variance, float)
    result: Array = np.sqrt(variance / (variance + epsilon))
    return result


def start_weight(steps: ArrayLike, momentum: float) -> Array:
    """Return the weight of its initial value in an exponential average: momentum ** steps.

    Parameters
    ----------
    steps : array_like
        Updates so far.
    momentum : float
        The weight of the average in each update; Keras's default is 0.99.

    Returns
    -------
    ndarray, shape of steps
        From 1 down to 0.

    References
    ----------
    Kingma & Ba (2015), Adam, section 3: averages that start from 0 are divided by
    1 − momentum ** steps. Keras's moving statistics are not corrected in such a way.
    """
    result: Array = np.asarray(momentum, float) ** np.asarray(steps)
    return result


def expected_variance_ratio(count: ArrayLike) -> Array:
    """Return the expected biased variance of `count` values over that of their population.

    Parameters
    ----------
    count : array_like
        Independent values of a feature in a batch. In a dense network that is the batch size.

    Returns
    -------
    ndarray, shape of count
        (count − 1) / count.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 2, step 10, which multiplies by the inverse.
    """
    count = np.asarray(count, float)
    result: Array = (count - 1) / count
    return result


def batch_noise(count: ArrayLike, kurtosis: float = 3.0) -> tuple[Array, Array]:
    """Return how far the mean and the standard deviation of a batch scatter by chance.

    Both are standard deviations over many batches, in units of the population's standard
    deviation. The first is exact, the second the law for large batches.

    Parameters
    ----------
    count : array_like
        Independent values of a feature in a batch. In a dense network that is the batch size.
    kurtosis : float
        The fourth central moment of the values over their squared variance, at least 1:
        3 for a normal distribution.

    Returns
    -------
    mean, std : ndarray, shape of count
        1 / √count and √((kurtosis − 1) / (4 count)).

    Raises
    ------
    ValueError
        If the kurtosis is below 1, which no distribution has.

    References
    ----------
    Casella & Berger (2002), Statistical inference, Theorem 5.2.6 for the mean; for the
    standard deviation, the variance of the variance (Exercise 5.8) and the delta method
    (Theorem 5.5.24).
    """
    if kurtosis < 1:
        raise ValueError(f"kurtosis={kurtosis} is impossible: it must be at least 1.")
    mean: Array = 1 / np.sqrt(np.asarray(count, float))
    return mean, mean * np.sqrt((kurtosis - 1) / 4)


def effective_rate(learning_rate: float, norm_squared: ArrayLike) -> Array:
    """Return the learning rate that counts where only a kernel's direction matters.

    If the network does not change when w is multiplied by a number, as it does not before
    a normaliser, then a gradient step with rate η from w turns the direction w / ‖w‖ as a
    step with rate η / ‖w‖² from w / ‖w‖ would.

    Parameters
    ----------
    learning_rate : float
        The rate η of plain gradient descent.
    norm_squared : array_like
        The squared norm ‖w‖² of the kernel.

    Returns
    -------
    ndarray, shape of norm_squared
        η / ‖w‖².

    References
    ----------
    van Laarhoven (2017), L2 regularization versus batch and weight normalization, whose
    effective learning rate this is; it follows from ∇L(cw) = ∇L(w) / c.
    """
    result: Array = learning_rate / np.asarray(norm_squared, float)
    return result


def norm_growth(
    norm_squared: ArrayLike, learning_rate: float, gradient_norm_squared: ArrayLike
) -> Array:
    """Return the squared norm of a kernel before a normaliser after a gradient step.

    The gradient g is orthogonal to the kernel w, as the loss does not change along w; so
    the step −ηg adds as in Pythagoras's theorem, and without weight decay w only grows.

    Parameters
    ----------
    norm_squared : array_like
        ‖w‖² before the step.
    learning_rate : float
        The rate η of plain gradient descent.
    gradient_norm_squared : array_like
        ‖g‖².

    Returns
    -------
    ndarray
        ‖w‖² + η² ‖g‖².

    References
    ----------
    Arora, Li & Lyu (2019), Theoretical analysis of auto rate-tuning by batch normalization,
    Lemma 2.4.
    """
    result: Array = np.asarray(norm_squared, float) + learning_rate**2 * np.asarray(
        gradient_norm_squared, float
    )
    return result
