from . import lockstep as lockstep
from . import notebook as notebook
from . import observe as observe
from . import probes as probes
from . import replicas as replicas
from . import single as single
from . import timing as timing
