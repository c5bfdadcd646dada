from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import notebook
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe import Recipe


def test_no_global_seed_makes_every_epoch_the_same(tiny: Dataset) -> None:
    keras.utils.set_random_seed(3)
    assert tf.compat.v1.get_seed(None) != (None, None)
    history = notebook.fit(Recipe(epochs=1), tiny, seed=0)
    assert tf.compat.v1.get_seed(None) == (None, None)
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
