"""Memory for what engines return: large results in huge pages.

The system gives new memory page by page, when it is first written to. With pages of 4 KiB that takes longer than the writing:
200 MB take 65 ms, 13 in pages of 2 MiB, 8 where they were written to before.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

LARGE = 32 * 2**20  # bytes up to which malloc may hand out what it has used before (glibc: DEFAULT_MMAP_THRESHOLD_MAX)
_HUGE_PAGE = 2 * 2**20  # bytes; the size of most processors. Where it is larger, part of the memory has none


def new_result(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised, contiguous tensor on the CPU."""
    made = torch.empty(shape, dtype=dtype)
    if made.nbytes >= LARGE:
        ask_for_huge_pages(made.data_ptr(), made.nbytes)
    return made


def ask_for_huge_pages(address: int, size: int) -> None:
    """Advises the system to use huge pages for `size` bytes from `address` on. A wish: without such pages nothing changes."""
    advise = _madvise()
    if advise is None:
        return
    start = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    whole = (address + size - start) // _HUGE_PAGE * _HUGE_PAGE
    if whole > 0:
        advise(start, whole, mmap.MADV_HUGEPAGE)


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """The C library's function, where the system knows of huge pages."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes, advise.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return advise
