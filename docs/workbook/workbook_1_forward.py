# %% [markdown]
# # Workbook 1: forward
#
# Batch normalisation (BN) in three functions: what it does in training, what it remembers, and what it does in use.
# Each task says what to write; put your lines in the place of `raise NotImplementedError(...)`, run the cell, then the check below it.
# A check that fails says what your numbers look like. It knows no formula: it asks Keras's own layer.
#
# The formulas, with all their shapes: `learn-algorithm`. You need NumPy, and nothing else.

# %%
import numpy as np

from bn_tutorial.bench import check

# %% [markdown]
# ## 1. Forward, in training
#
# A batch `x` has $m$ examples in its rows and a feature in each column. Each feature is normalised by *its own* mean and biased variance in *this* batch, then scaled and shifted:
#
# $$\mu = \frac1m \sum_i x_i, \qquad \sigma^2 = \frac1m \sum_i (x_i - \mu)^2, \qquad y_i = \gamma\,\frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta$$
#
# A batch of images has the shape (images, rows, columns, channels). Then a channel is a feature, and all pixels of all images are its examples.
# Write it for both: the features are always on the last axis, and the statistics are over all others.


# %% your turn
def forward(x, gamma, beta, epsilon):
    """Normalise a batch by its own statistics.

    x has the shape (..., features); gamma and beta have the shape (features,).
    Return the output, and the mean and the variance of each feature, of shape (features,).
    """
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    y = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
    return y, mean, variance


# %%
check(forward)

# %% [markdown]
# One number of four is changed, from 10 to 20. **Before you run this**: how many of the four outputs change?

# %%
for last in (10.0, 20.0):
    batch = np.array([[2.0], [4.0], [4.0], [last]])
    y, _, _ = forward(batch, np.ones(1), np.zeros(1), epsilon=0)
    print(f"2, 4, 4, {last:.0f} become {y[:, 0].round(2)}")

# %% [markdown]
# All of them: in training, no example stands alone.
#
# ## 2. The moving average
#
# In use, an answer should not depend on who else asks. So training remembers: after each batch,
#
# $$\text{moving} \leftarrow \alpha \cdot \text{moving} + (1 - \alpha) \cdot \text{batch}$$
#
# for the mean and for the variance. The momentum $\alpha$ is the weight of the past, as in Keras.


# %% your turn
def update(moving, batch, momentum):
    """Take one step of a moving average.

    moving is the average so far, batch is the statistic of the new batch; both have one value per
    feature. Return the new average.
    """
    return momentum * moving + (1 - momentum) * batch


# %%
check(update)

# %% [markdown]
# Every batch has the mean 5, and the average starts at 0. **Before you run this**: with Keras's momentum of 0.99, where is it after 100 batches?

# %%
for momentum in (0.9, 0.99):
    moving = np.zeros(1)
    for _ in range(100):
        moving = update(moving, np.full(1, 5.0), momentum)
    print(f"momentum {momentum}: {moving[0]:.2f} of 5")

# %% [markdown]
# What is missing is $\alpha^t$ of the way. A network that is used after few steps still carries its start with it: the first case of `practice-clinic`.
#
# ## 3. Inference
#
# In use, the moving statistics take the place of the batch's, in the same formula. So the layer is one multiplication and one addition per feature, and an example stands alone again.


# %% your turn
def infer(x, gamma, beta, mean, variance, epsilon):
    """Normalise by stored statistics.

    x has the shape (..., features), all others have the shape (features,). Return the output.
    """
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


# %%
check(infer)

# %% [markdown]
# ## All three together
#
# Batches of 32 examples with mean 5 and standard deviation 3 go by; every one moves the averages.
# The same new examples are then answered in training and in inference mode. **Before you run this**: after how many batches will the two agree, roughly?

# %%
rng = np.random.default_rng(0)
gamma, beta, epsilon = np.ones(1), np.zeros(1), 1e-3
new = rng.normal(5, 3, (1000, 1))
target = forward(new, gamma, beta, epsilon)[0]

mean, variance = np.zeros(1), np.ones(1)  # where Keras starts
for step in range(1, 1001):
    _, batch_mean, batch_variance = forward(rng.normal(5, 3, (32, 1)), gamma, beta, epsilon)
    mean, variance = update(mean, batch_mean, 0.99), update(variance, batch_variance, 0.99)
    if step in (10, 100, 300, 1000):
        apart = np.abs(infer(new, gamma, beta, mean, variance, epsilon) - target).mean()
        print(f"after {step:4} batches the answers are {apart:.2f} standard deviations apart")

# %% [markdown]
# What is left at the end is chance: an average with a momentum of 0.99 knows little but the last few hundred batches.
#
# You have written the layer. `learn-from-scratch` puts such lines into one that Keras can train. The second notebook, from `learn-workbook`, goes backward.
