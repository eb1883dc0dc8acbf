"""Work beside the main thread."""

import os
from concurrent.futures import ThreadPoolExecutor


def threads() -> ThreadPoolExecutor:
    """Threads for whole pieces of work that release the interpreter: unpacking, digests, fsync.

    Two more than processors, so that some may wait for the disk.
    """
    return ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="pixelprep")
