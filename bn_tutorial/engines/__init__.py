"""How one run is trained, measured on the way, timed, or dealt to replicas."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
