"""Import TensorFlow quietly, and describe its devices."""

import importlib.util
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any  # Any: JSON values

from pixelprep.errors import TrainError, missing_extra

LOG = logging.getLogger("pixelprep")
BACKEND_HINT = "set KERAS_BACKEND=tensorflow"


def require(purpose: str) -> None:
    """Refuse to start work that needs TensorFlow where it is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise missing_extra("TensorFlow", "train", purpose)


def start(purpose: str) -> None:
    """Import TensorFlow and initialize its devices, silently unless ``TF_CPP_MIN_LOG_LEVEL=0``."""
    require(purpose)
    if "tensorflow" not in sys.modules:
        LOG.info("starting TensorFlow")  # which takes a while
    verbose = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    # Its first messages precede its logging setup and ignore any level: only redirecting the
    # descriptor helps.
    with nullcontext() if verbose else silence_stderr():
        import tensorflow as tf

        tf.zeros(1)


def start_keras(purpose: str) -> None:
    """Start TensorFlow and import Keras; refuse settings of the user's that it cannot work with."""
    start(purpose)
    try:
        import keras
    except ImportError as error:  # of a backend that is not installed
        message = f"{purpose} needs Keras on TensorFlow, and it is set to another: {error}"
        raise TrainError(message, BACKEND_HINT) from error
    if keras.config.backend() != "tensorflow":
        message = f"{purpose} needs Keras on TensorFlow, and it is set to {keras.config.backend()}"
        raise TrainError(message, BACKEND_HINT)
    floatx = keras.config.floatx()
    if floatx in ("float16", "bfloat16"):
        message = f"{purpose} needs Keras's floatx to be float32, and it is {floatx}"
        raise TrainError(message, 'set "floatx": "float32" in keras.json (KERAS_HOME or ~/.keras)')


@contextmanager
def silence_retracing() -> Iterator[None]:
    """Suppress TensorFlow's warnings about retracing, which many models in a row cause."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    log = logging.getLogger("tensorflow")
    log.addFilter(is_wanted)
    try:
        yield
    finally:
        log.removeFilter(is_wanted)


def environment_info() -> dict[str, Any]:
    """Describe this machine, its devices, and the versions of Python and Keras; JSON values."""
    import keras
    import tensorflow as tf

    devices = [device.name.split(":", 1)[-1] for device in tf.config.list_physical_devices()]
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "devices": ", ".join(devices),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what libraries write to standard error's descriptor, past any logging."""
    with suppress(OSError):  # on a full disk messages are lost, and no more
        sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
