"""Python processes that find this in PYTHONPATH do without Keras and TensorFlow."""

from tests.engines import stand_in_for_backend

stand_in_for_backend()
