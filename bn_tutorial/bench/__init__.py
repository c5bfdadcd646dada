"""The test bench: what ails a model or a reader's function, how long the library takes, how far its ways to compute agree."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
