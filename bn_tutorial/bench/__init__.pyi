from . import agreement as agreement
from . import floor as floor
from . import speed as speed
from . import unit as unit
