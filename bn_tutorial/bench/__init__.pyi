from . import agreement as agreement
from . import floor as floor
from . import speed as speed
from . import unit as unit
from .report import Checkup as Checkup
from .report import checkup as checkup
from .findings import Finding as Finding
