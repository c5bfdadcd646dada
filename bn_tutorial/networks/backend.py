"""Keras and TensorFlow, imported without their start-up chatter.

TensorFlow writes notes about instruction sets and missing GPUs to stderr before anyone
can switch them off. They are held back here; warnings and errors about anything else
are passed on.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata


class BackendError(ImportError):
    """Keras is to compute with something else than TensorFlow; the message says what to do."""


_CHATTER = re.compile(
    r"^[IW]\d{4} "  # notes and warnings in the format of TensorFlow's logger
    r"|^WARNING: All log messages before absl::InitializeLog"
    r"|^To enable the following instructions"
    r"|failed call to cuInit"  # what a machine without a GPU answers
)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what native code writes to stderr; pass on what is not chatter."""
    if sys.stderr:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            buffer.seek(0)
            for line in buffer.read().decode(errors="replace").splitlines(keepends=True):
                if sys.stderr and not _CHATTER.search(line):
                    sys.stderr.write(line)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise BackendError(
        f"bn_tutorial computes with TensorFlow, and KERAS_BACKEND says {os.environ['KERAS_BACKEND']!r}: "
        "unset it, or say tensorflow."
    )
#: A run is computed by one core, on every machine, so its bits do not depend on their number.
_WANTED = int(os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1"))
with _without_chatter():
    import keras
    import tensorflow as tf

    GPUS = tf.config.list_physical_devices("GPU")
    with contextlib.suppress(RuntimeError):  # TensorFlow has begun: it is used as it is
        tf.config.threading.set_intra_op_parallelism_threads(_WANTED)
        tf.config.threading.set_inter_op_parallelism_threads(_WANTED)
        for _gpu in GPUS:
            tf.config.experimental.set_memory_growth(_gpu, True)
    THREADS = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1
    tf.config.experimental.enable_tensor_float_32_execution(False)  # its products are coarser
    tf.zeros(1)  # starts the devices, which chat once more


def device() -> str:
    """Return the kind of device that trains: ``"cpu"`` or the GPU's name.

    Where a run has more than one thread, that is told, too: because ``TF_NUM_INTRAOP_THREADS`` says
    so, or because TensorFlow had begun before this package was imported.
    """
    if not GPUS:
        return "cpu" if THREADS == 1 else f"cpu, {THREADS} threads"
    return str(tf.config.experimental.get_device_details(GPUS[0]).get("device_name", "gpu"))


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result may depend on."""
    return {name: metadata.version(name) for name in ("keras", "tensorflow", "numpy")}


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """Let Keras's global settings be the usual ones within a ``with`` statement.

    A recipe says all that decides how a network is trained; what a user's ``keras.json`` says of the
    order of axes, or a policy of dtypes for other models, does not.
    """
    config = keras.config
    kept = config.image_data_format(), config.floatx(), config.dtype_policy()
    config.set_image_data_format("channels_last")
    config.set_floatx("float32")
    config.set_dtype_policy("float32")
    try:
        yield
    finally:
        config.set_image_data_format(kept[0])
        config.set_floatx(kept[1])
        config.set_dtype_policy(kept[2])


__all__ = ["GPUS", "THREADS", "device", "keras", "tf", "usual", "versions"]
