"""
Do speedrun settings help?
==========================

Whoever trains on CIFAR-10 in seconds has tuned batch normalisation with care. The programs of Jordan
(airbench94) and of Balsam (hlb-CIFAR10) agree on four settings that differ from Keras's: γ stays 1; β learns at
64 times the rate; ε is :math:`10^{-12}`; and the moving statistics have a momentum of 0.6. Which of them would
help you?

**What you'll do:** turn each switch by itself, and then all. **What you'll see:** what each is worth in a
short training, read as Keras reads it. **Read with it:** :ref:`practice-keras`.
"""

# %%
# Four switches
# -------------
# Their networks are convolutional, trained for about ten epochs by SGD with Nesterov momentum, in batches of
# 1,024 and 512. Here a dense network is trained by plain SGD, for about as many steps as Jordan's. Keras's
# defaults are a momentum of 0.99 and an ε of 0.001. All have the rate that validated best for the defaults in
# pilot runs, with seeds that are not used here: what is asked is what the switch does if you turn it.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import parts

trial = Experiment("speedrun")
defaults = Recipe(
    width=64,
    depth=3,
    norm="batch",
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    learning_rate=0.3,
    batch_size=64,
    epochs=min(trial.budget.epochs, 6),
    train_size=trial.budget.subset,
    validation=min(1_000, trial.budget.validation),
)
options = {
    "γ fixed": {"scale": False},
    "ε of 1e-12": {"epsilon": 1e-12},
    "momentum 0.6": {"momentum": 0.6},
}
switches = {
    name: defaults.but(norm_options=changed) for name, changed in options.items()
}
every = {
    key: value for changed in options.values() for key, value in changed.items()
}
all_four = defaults.but(norm_options=every)
usual = trial.train([defaults, *switches.values()], ends=True)
fast = trial.train([defaults, all_four], engine=parts.shift_at_64)
runs = {
    "defaults": usual.of(defaults),
    "β at 64 times the rate": fast.of(defaults),
    "all four": fast.of(all_four),
} | {name: usual.of(net) for name, net in switches.items()}

# %%
# What each is worth
# ------------------
# What to expect? Before a ReLU, a γ of each unit can be taken over by the weights that come next. β has one
# number for each unit; whether it learns too slowly for a short training is what 64 times the rate would tell.
# An ε of 0.001 matters where variances are as small as that. And a momentum of 0.99 remembers a hundred steps,
# of 480 here.
#
# Test accuracy with moving statistics, as Keras reports it, minus that with the defaults. The rate is the defaults'
# own best; speedruns tune it together with the switches, and 64 times this one is a high rate for β.

from bn_tutorial.evidence import difference

TEST = "test_accuracy"
tested = {name: trial.tested(TEST, one) for name, one in runs.items()}
trial.effects(
    {
        name: difference(tested["defaults"], values)
        for name, values in tested.items()
        if name != "defaults"
    },
    alt="Points of test accuracy gained over Keras's defaults: by γ fixed at 1, "
    "β at 64 times the rate, an epsilon of 1e-12, a momentum of 0.6, and all "
    "four.",
)

# %%
# The estimates
# -------------
# Registered in ``hypotheses/speedrun.toml`` after pilot runs, and before the runs shown here.

ids = {
    "speedrun-all": "all four",
    "speedrun-gamma": "γ fixed",
    "speedrun-beta": "β at 64 times the rate",
    "speedrun-epsilon": "ε of 1e-12",
    "speedrun-momentum": "momentum 0.6",
}
trial.judge(
    {
        id: {"defaults": tested["defaults"], "switched": tested[name]}
        for id, name in ids.items()
    }
)

# %%
# What this does *not* show
# -------------------------
# A speedrun is one recipe in which everything was tuned together: another schedule, augmentation, whitened
# inputs, and a rate that suits β at 64 times. A switch that does nothing here may do something there.
#
# **Go further.** Predict which switch gains most if training lasts one epoch, then write
# ``epochs=1``.

trial.record()
