"""Images: CIFAR-10 from wherever it can be had, verified, and a sample that is bundled."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
