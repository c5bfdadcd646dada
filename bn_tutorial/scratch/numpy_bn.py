"""Batch normalisation (BN) in NumPy, as its papers write it.

Ioffe and Szegedy (2015), https://arxiv.org/abs/1502.03167, is "the paper" below. A batch
gives a feature m values: one per example, or in a convolutional layer one per example and
pixel. The meanings of ``axis``, ``momentum`` and ``epsilon`` are those of Keras. float32
and float64 are kept; NaN goes through, as it does in Keras.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]


class Cache(NamedTuple):
    """What `forward` keeps."""

    x_hat: Array  # the normalised input
    inv_std: Array  # 1 / sqrt(variance + epsilon); like gamma, of a shape to broadcast with x
    gamma: Array
    mean: Array  # of the batch, shape (features,), as is the biased variance
    variance: Array
    axes: tuple[int, ...]  # the axes averaged over


def forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, axis: int = -1, epsilon: float = 1e-3
) -> tuple[Array, Cache]:
    """Normalise a batch by its own mean and variance: training mode (the paper, Algorithm 1).

    Parameters
    ----------
    x : array_like, at least 2 dimensions
        The batch.
    gamma, beta : array_like, shape (features,)
        Scale and shift.
    axis : int
        The axis of the features; the statistics are over all others.
    epsilon : float
        Added to the variance.

    Returns
    -------
    y : ndarray, shape and dtype of x
        The output.
    cache : Cache
        For `backward` and `update_moving`.

    Raises
    ------
    ValueError
        If `x` is empty or has fewer than 2 dimensions, `axis` is out of range, `epsilon` is
        negative, or `gamma` or `beta` does not have one value per feature.
    """
    x, axes, (eps, gamma, beta) = _prepare("x", x, axis, epsilon, gamma=gamma, beta=beta)
    if x.size == 0:
        raise ValueError(f"x has shape {x.shape}, but a batch must hold at least one value.")

    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    inv_std = 1 / np.sqrt(variance + eps)
    x_hat = (x - mean) * inv_std
    y = gamma * x_hat + beta
    return y, Cache(x_hat, inv_std, gamma, mean.ravel(), variance.ravel(), axes)


def backward(dy: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Carry the gradient of a loss from y back to x, gamma and beta.

    These are the six equations of the paper's section 3, put together. The second term of dx
    is there because x moves the batch mean, the third because x moves the batch variance.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient with respect to y.
    cache : Cache
        From `forward`.

    Returns
    -------
    dx : ndarray, shape of x
        Gradient with respect to x.
    dgamma, dbeta : ndarray, shape (features,)
        Gradients with respect to gamma and beta.

    Raises
    ------
    ValueError
        If `dy` has another shape than x.
    """
    x_hat, inv_std, gamma, _, _, axes = cache
    dy = np.asarray(dy, x_hat.dtype)
    if dy.shape != x_hat.shape:
        raise ValueError(f"dy has shape {dy.shape}, but must have that of x, {x_hat.shape}.")

    m = x_hat.size // gamma.size
    dbeta = dy.sum(axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axes, keepdims=True)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma.ravel(), dbeta.ravel()


def update_moving(moving: ArrayLike, batch: ArrayLike, momentum: float = 0.99) -> Array:
    """Take one step of the exponential average of the batch mean or the batch variance.

    The variance is the biased one, as in Keras 3. The paper multiplies its average by
    m / (m - 1) (Algorithm 2, step 10); PyTorch averages the unbiased variance, and calls
    momentum the weight of `batch`.

    Parameters
    ----------
    moving, batch : array_like, shape (features,)
        The average so far, and the statistic of the batch.
    momentum : float
        The weight of `moving`.

    Returns
    -------
    ndarray, shape (features,)
        The new average.

    Raises
    ------
    ValueError
        If `momentum` is outside [0, 1].
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is {momentum}, but must lie in [0, 1].")
    moving, batch, momentum = np.asarray(moving), np.asarray(batch), float(momentum)

    average: Array = moving * momentum + batch * (1 - momentum)
    return average


def population(means: ArrayLike, variances: ArrayLike) -> tuple[Array, Array]:
    """Combine the statistics of equal-sized batches into those of all the data.

    Wu and Johnson (2021), https://arxiv.org/abs/2105.07576, section 3: the mean is E[mu], the
    variance E[sigma^2 + mu^2] - E[mu]^2, where E averages over batches.

    Parameters
    ----------
    means, variances : array_like, shape (batches, features)
        The mean and the biased variance of each batch.

    Returns
    -------
    mean, variance : ndarray, shape (features,)
        The mean and the biased variance of all the data.

    Raises
    ------
    ValueError
        If the shapes differ, do not have 2 dimensions, or hold no batch.
    """
    mu, sigma2 = np.asarray(means), np.asarray(variances)
    if mu.shape != sigma2.shape or mu.ndim != 2 or len(mu) == 0:
        raise ValueError(
            f"means and variances have shapes {mu.shape} and {sigma2.shape}, but both must be "
            "(batches, features) with at least one batch."
        )

    # E[mu^2] - E[mu]^2 as the variance of mu: rounding cannot make it negative.
    return mu.mean(0), sigma2.mean(0) + mu.var(0)


def infer(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> Array:
    """Normalise by a given mean and variance: inference mode (the paper, Algorithm 2, step 11).

    Parameters
    ----------
    x, gamma, beta, axis, epsilon
        As `forward`.
    mean, variance : array_like, shape (features,)
        Moving averages, or the statistics of the population.

    Returns
    -------
    ndarray, shape and dtype of x
        The output; no example affects another.

    Raises
    ------
    ValueError
        As `forward`, but `x` may be empty.
    """
    x, _, (eps, gamma, beta, mean, variance) = _prepare(
        "x", x, axis, epsilon, gamma=gamma, beta=beta, mean=mean, variance=variance
    )

    return gamma / np.sqrt(variance + eps) * (x - mean) + beta


def fold(
    kernel: ArrayLike,
    bias: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-3,
) -> tuple[Array, Array]:
    """Fold inference mode into the dense or convolutional layer just before it.

    Jacob et al. (2018), https://arxiv.org/abs/1712.05877, section 3.2.

    Parameters
    ----------
    kernel : array_like, shape (in, out) or (..., in, out)
        Of a dense or a convolutional layer (but not a depthwise one).
    bias, gamma, beta, mean, variance : array_like, shape (out,)
        The layer's bias (zeros if it has none), and what `infer` would take.
    epsilon : float
        As `infer`.

    Returns
    -------
    kernel, bias : ndarray
        Of one layer that does the work of both.

    Raises
    ------
    ValueError
        As `infer`.
    """
    stats = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    kernel, _, (eps, bias, gamma, beta, mean, variance) = _prepare(
        "kernel", kernel, -1, epsilon, bias=bias, **stats
    )

    scale = gamma / np.sqrt(variance + eps)
    return kernel * scale, ((bias - mean) * scale + beta).ravel()


def _prepare(
    name: str, x: ArrayLike, axis: int, epsilon: float, **per_feature: ArrayLike
) -> tuple[Array, tuple[int, ...], list[Array]]:
    """Check the arguments; return x, the axes to average over, and the rest ready to broadcast."""
    x = np.asarray(x)
    x = x.astype(np.result_type(x, np.float32), copy=False)  # float16 and integers go up
    if x.ndim < 2:
        raise ValueError(f"{name} has {x.ndim} dimension(s), but must have at least 2.")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but must lie in [{-x.ndim}, {x.ndim - 1}].")
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}, but must be at least 0.")

    axes = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    features = x.shape[axis]
    ready = [np.asarray(epsilon, x.dtype)]
    for key, value in per_feature.items():
        array = np.asarray(value, x.dtype)
        if array.shape != (features,):
            raise ValueError(f"{key} has shape {array.shape}, but must have shape ({features},).")
        ready.append(np.expand_dims(array, axes))
    return x, axes, ready
