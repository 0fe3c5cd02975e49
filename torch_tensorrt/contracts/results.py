"""Memory for what engines return: a large result takes the place of one before, when nobody holds that any more.

The system gives new memory page by page, when it is first written to, which for 200 MB takes 55 to 85 ms, and 17 to take it back;
writing to memory that was written to before takes 14. malloc keeps some of what is freed, but not at the end of its heap: GPT-2's
26 MB of logits for 128 tokens were new in each call, 6,282 pages.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

LARGE = 2**20  # bytes from which on the pages take longer than looking for memory here
_KEPT = 4  # results; the older ones are let go of
_use_count: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)
if not getattr(sys, "_is_gil_enabled", lambda: True)():  # references of other threads aren't counted at once there
    _use_count = None


def _is_free(storage: torch.UntypedStorage) -> bool:
    """Whether it is ours alone: no tensor, view or array shows it, and no other process.

    A tensor of another's holds PyTorch's object behind `storage`, of which there is one in Python: `untyped_storage()` gives it out.
    """
    if _use_count is None or _use_count(storage._cdata) != 1 or _references(storage) != _ours():
        return False
    return not storage.is_shared()


def _references(storage: torch.UntypedStorage) -> int:
    return sys.getrefcount(storage)


@cache
def _ours() -> int:
    """References to a storage that nobody else holds, on the way that `_free_storage` takes; versions of Python count differently."""
    held = deque([torch.UntypedStorage(1, device="cpu")])
    storage = held.popleft()

    def is_free(storage: torch.UntypedStorage) -> int:
        return _references(storage)

    return is_free(storage)


class ResultMemory:
    """An engine's. `new` may be called by any thread. kept: how many large results to remember; 0 for none."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept: deque[torch.UntypedStorage] = deque(maxlen=kept)  # append and popleft are atomic

    def new(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised, contiguous tensor on the CPU that shares memory with no other tensor."""
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE or _use_count is None:
            return torch.empty(shape, dtype=dtype, device="cpu")
        storage = self._free_storage(size)
        if storage is None:
            storage = torch.UntypedStorage(size, device="cpu")
        made: Tensor = torch.empty(0, dtype=dtype, device="cpu").set_(storage).resize_(tuple(shape))
        self._kept.append(storage)  # from now on `made` tells others that it isn't free
        return made

    def _free_storage(self, size: int) -> torch.UntypedStorage | None:
        for _ in range(len(self._kept)):
            try:
                storage = self._kept.popleft()
            except IndexError:  # another thread took the last one
                return None
            if _is_free(storage):
                if storage.nbytes() == size:
                    return storage
                continue  # goes back to the system: sizes have changed
            self._kept.append(storage)
        return None
