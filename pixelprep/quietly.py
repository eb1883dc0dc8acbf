"""TensorFlow started without its talk on standard error."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext


def start_tensorflow() -> None:
    """Import TensorFlow and find its devices.

    What goes wrong comes as an exception; ``TF_CPP_MIN_LOG_LEVEL=0`` brings the talk back.
    """
    wanted = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    # Its first lines come before its logging is set up and heed no level: only the descriptor
    # itself can be turned away.
    with nullcontext() if wanted else _standard_error_closed():
        import tensorflow as tf

        tf.zeros(1)


@contextmanager
def many_models() -> Iterator[None]:
    """Without TensorFlow's advice on functions built again: each model has its own."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    log = logging.getLogger("tensorflow")
    log.addFilter(is_wanted)
    try:
        yield
    finally:
        log.removeFilter(is_wanted)


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
