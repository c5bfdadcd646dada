from . import bench as bench
from . import cli as cli
from . import data as data
from . import engines as engines
from . import evidence as evidence
from . import experiment as experiment
from . import figures as figures
from . import networks as networks
from . import scratch as scratch
from . import training as training
from .bench.report import Checkup as Checkup
from .bench.report import checkup as checkup
from .data.cifar10 import load_cifar10 as load_cifar10
from .data.dataset import Dataset as Dataset
from .data.sources import DataError as DataError
from .experiment import Experiment as Experiment
from .networks.folding import fold as fold
from .networks.models import build as build
from .networks.recalibration import recalibrate as recalibrate
from .recipe.recipes import Recipe as Recipe
from .settings import Profile as Profile
from .settings import profile as profile
from .training.runs import Run as Run
from .training.runs import Runs as Runs
from .training.store import RunStore as RunStore
from .training.sweep import train as train

__version__: str
