"""How a process that computes with large arrays keeps its memory."""

import ctypes
import gc
import sys

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_NEVER = 2**31 - 1


def keep_freed() -> None:
    """Keep what is freed for the next array, and leave what has been imported out of garbage collection.

    glibc hands a large block back to the system as soon as it is freed, and gets the next one page by page, zeroed: for
    networks, whose every operation makes arrays of megabytes, a tenth of the time. Where there is no glibc, nothing of
    that is changed.
    """
    gc.freeze()
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_TOP_PAD, 64 << 20)
