"""The command line: fetch the data, train recipes, look after what is stored, time it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
