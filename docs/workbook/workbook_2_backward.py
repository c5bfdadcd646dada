# %% [markdown]
# # Workbook 2: backward
#
# The gradient of batch normalisation, twice: node by node, then in one line. And layer normalisation, forward and backward, which is the same with rows for columns; almost.
#
# Put your lines in the place of `raise NotImplementedError(...)`, run the cell, then the check below it. The derivation: `learn-backward`. You need NumPy and the chain rule.

# %%
import timeit

import numpy as np

from bn_tutorial.bench import check

# %% [markdown]
# ## 4. Backward, by the graph
#
# The forward pass of one feature, as a graph of simple steps:
#
# ```
# x ─────► c = x − μ ──────────────► x̂ = c · s ──► y = γ · x̂ + β
# │        ▲  │                        ▲
# └► μ ────┘  └► v = mean of c² ─► s ──┘       s = (v + ε)^(−1/2)
# ```
#
# Go backward through it: for each node, from right to left, write down how the loss changes with it. Three rules are enough.
#
# - A node whose value goes to several places gets the *sum* of what comes back from them. (Which two nodes are these?)
# - A mean hands back the same $1/m$ of its gradient to each value that it was taken of.
# - A number that serves the whole batch, as $\gamma$, $\beta$, $s$ and $\mu$ do, gets the sum over the batch.
#
# Here `dy` is the gradient $\partial\ell/\partial y$ that arrives from above. Walk forward first, keep the nodes, then walk back.


# %% your turn
def backward(dy, x, gamma, epsilon):
    """Carry the gradient of a loss through batch normalisation.

    dy and x have the shape (m, features); gamma has the shape (features,).
    Return the gradients of x, of shape (m, features), and of gamma and beta, of shape (features,).
    """
    c = x - x.mean(axis=0)
    v = (c**2).mean(axis=0)
    s = (v + epsilon) ** -0.5
    x_hat = c * s

    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx_hat = dy * gamma
    ds = (dx_hat * c).sum(axis=0)
    dv = ds * -0.5 * s**3
    dc = dx_hat * s + dv * 2 * c / len(x)
    dmean = -dc.sum(axis=0)
    dx = dc + dmean / len(x)
    return dx, dgamma, dbeta


# %%
check(backward)

# %% [markdown]
# The check has nudged each number of `x`, `gamma` and `beta` a little both ways, and seen how a loss changes.
#
# **Before you run this**: what do the gradients of a feature add up to, over the batch? And what is left of them along the normalised values?

# %%
rng = np.random.default_rng(0)
x, dy, gamma = rng.normal(2, 3, (8, 2)), rng.normal(size=(8, 2)), np.array([1.0, 2.0])
dx, _, _ = backward(dy, x, gamma, 1e-3)
x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
print("sum of the gradients:       ", dx.sum(axis=0).round(3) + 0)
print("along the normalised values:", (dx * x_hat).sum(axis=0).round(3) + 0)

# %% [markdown]
# Shifting and stretching a feature changes no output, so the loss has no slope in these two directions (up to what ε lets through).
#
# ## 5. Backward, in one line
#
# Now put the steps together on paper. Most of it cancels, and with $\hat x$ and $s$ at hand three terms are left: one for each way from $x_j$ to the loss, which are the direct one, that through the mean, and that through the variance.


# %% your turn
def one_line(dy, x_hat, gamma, s):
    """Carry the gradient of a loss through batch normalisation, to x alone.

    dy and x_hat, the normalised values, have the shape (m, features); gamma and s, which is one over
    the standard deviation with its epsilon, have the shape (features,). Return the gradient of x.
    """
    return gamma * s * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))


# %%
check(one_line)

# %% [markdown]
# **Before you run this**: which of the two is faster, and by how much?

# %%
x, dy = rng.normal(size=(2, 256, 512))
gamma, s = np.ones(512), 1 / np.sqrt(x.var(axis=0) + 1e-3)
x_hat = (x - x.mean(axis=0)) * s
graph = min(timeit.repeat(lambda: backward(dy, x, gamma, 1e-3), number=5, repeat=5)) / 5
line = min(timeit.repeat(lambda: one_line(dy, x_hat, gamma, s), number=5, repeat=5)) / 5
print(f"by the graph {1e3 * graph:.1f} ms, in one line {1e3 * line:.1f} ms")

# %% [markdown]
# (A part of the difference is that the one line is handed $\hat x$, which a layer keeps from its forward pass.)
#
# ## 6. Layer normalisation, forward
#
# Layer normalisation uses the same formula, but the mean and the variance are those of an *example*, over its $d$ features:
#
# $$\mu_i = \frac1d \sum_k x_{ik}, \qquad \sigma_i^2 = \frac1d \sum_k (x_{ik} - \mu_i)^2, \qquad y_{ik} = \gamma_k\,\frac{x_{ik} - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}} + \beta_k$$
#
# Mind which index $\gamma$ has. No batch, no moving averages, no second mode.


# %% your turn
def layer_forward(x, gamma, beta, epsilon):
    """Normalise each example by its own statistics.

    x has the shape (examples, features); gamma and beta have the shape (features,).
    Return the output.
    """
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


# %%
check(layer_forward)

# %% [markdown]
# **Before you run this**: the whole batch is multiplied by 10; then one *feature* of it is. Which of the two does layer normalisation not notice? And batch normalisation?

# %%
x, ones, zeros = rng.normal(2, 3, (6, 4)), np.ones(4), np.zeros(4)
wide = x * np.array([10, 1, 1, 1])
for name, other in (("everything", 10 * x), ("one feature", wide)):
    by_layer = np.abs(layer_forward(other, ones, zeros, 0) - layer_forward(x, ones, zeros, 0))
    by_batch = np.abs((other - other.mean(0)) / other.std(0) - (x - x.mean(0)) / x.std(0))
    moved = by_layer.max(), by_batch.max()
    print("{} times 10: layer norm moves by {:.2f}, batch norm by {:.2f}".format(name, *moved))

# %% [markdown]
# ## 7. Layer normalisation, backward
#
# Take your one line and turn it round: rows for columns. One thing does not turn with it. For batch normalisation $\gamma$ is the same all along a mean, so that it can stand in front; here it changes along the mean.
#
# The gradients of $\gamma$ and $\beta$ are what they were: each feature has one, whatever the mean is over.


# %% your turn
def layer_backward(dy, x_hat, gamma, s):
    """Carry the gradient of a loss through layer normalisation.

    dy and x_hat have the shape (examples, features), gamma has the shape (features,), and s, one
    over each example's standard deviation with its epsilon, has the shape (examples, 1).
    Return the gradients of x, of shape (examples, features), and of gamma and beta.
    """
    g = dy * gamma
    along = (g * x_hat).mean(axis=1, keepdims=True)
    dx = s * (g - g.mean(axis=1, keepdims=True) - x_hat * along)
    return dx, (dy * x_hat).sum(axis=0), dy.sum(axis=0)


# %%
check(layer_backward)

# %% [markdown]
# **Before you run this**: a batch of one. What gradient comes through batch normalisation, and what through layer normalisation?

# %%
x, dy, gamma = rng.normal(2, 3, (1, 4)), rng.normal(size=(1, 4)), np.ones(4)
s = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-3)
x_hat = (x - x.mean(axis=1, keepdims=True)) * s
print("batch norm:", backward(dy, x, gamma, 1e-3)[0].round(3) + 0)
print("layer norm:", layer_backward(dy, x_hat, gamma, s)[0].round(3) + 0)

# %% [markdown]
# With a batch of one, nothing below batch normalisation learns; layer normalisation does not care. When to use which: `practice-alternatives`. The third notebook, from `learn-workbook`, works on a trained network.
