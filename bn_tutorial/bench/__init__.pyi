from . import agreement as agreement
from . import speed as speed
