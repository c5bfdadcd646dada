from . import agreement as agreement
from . import floor as floor
from . import speed as speed
from . import unit as unit
from .findings import Finding as Finding
from .report import Checkup as Checkup
from .report import checkup as checkup
