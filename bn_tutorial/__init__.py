"""Batch normalisation, learnt from experiments.

A `Recipe` is trained into `Runs`; runs become figures and evidence. Names are loaded
when they are first used, so that importing the package starts neither Keras nor TensorFlow.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
