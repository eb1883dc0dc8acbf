"""TensorFlow: whether it is there, started without its talk, and what it runs on."""

import importlib.util
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from pixelprep.errors import missing_extra


def require(purpose: str) -> None:
    """Say at once, before any work, when TensorFlow is missing.

    Raises
    ------
    MissingExtraError
        When it is.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise missing_extra("TensorFlow", "train", purpose)


def start(purpose: str) -> None:
    """Import TensorFlow and find its devices, without its talk about them on standard error.

    What goes wrong comes as an exception; ``TF_CPP_MIN_LOG_LEVEL=0`` brings the talk back.

    Raises
    ------
    MissingExtraError
        When it is not there.
    """
    require(purpose)
    wanted = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    # Its first lines come before its logging is set up and heed no level: only the descriptor
    # itself can be turned away.
    with nullcontext() if wanted else _silence_stderr():
        import tensorflow as tf

        tf.zeros(1)


@contextmanager
def silence_retracing() -> Iterator[None]:
    """Without TensorFlow's advice on functions built again: each model has its own."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    log = logging.getLogger("tensorflow")
    log.addFilter(is_wanted)
    try:
        yield
    finally:
        log.removeFilter(is_wanted)


def environment_info() -> dict[str, Any]:
    """What models are trained on here, and with what; JSON values."""
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
def _silence_stderr() -> Iterator[None]:
    with suppress(OSError):  # on a full disk messages are lost, and no more
        sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
