"""How runs and effects are drawn: one style, for light and dark pages, with the numbers inside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
