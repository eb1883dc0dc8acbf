"""Work beside the main thread."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


def threads() -> "ThreadPoolExecutor":
    """Threads for whole pieces of work that release the interpreter: unpacking, digests, fsync.

    Two more than processors, so that some may wait for the disk.
    """
    from concurrent.futures import ThreadPoolExecutor  # a cache hit does without

    return ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="pixelprep")
