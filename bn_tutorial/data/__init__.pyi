from . import cifar10 as cifar10
from . import dataset as dataset
from .cifar10 import DataError as DataError
from .cifar10 import load_cifar10 as load_cifar10
from .cifar10 import source_of as source_of
from .cifar10 import store_path as store_path
from .dataset import CLASSES as CLASSES
from .dataset import Dataset as Dataset
