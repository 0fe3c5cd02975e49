"""Weights that are kept for later, in a file without a name: they are in memory of the process only while they are read.

What is compiled owns a copy of the model's weights, from which engines are built once and saved in some formats. The mapping is
shared with the file, so that pages may leave memory at any time, also those that were written to.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from torch_tensorrt.contracts.mapped import CAN_MAP, LARGE, chunks, release, repeatedly
from torch_tensorrt.observe.log import logger

_LEAST = 2**20  # bytes of a tensor that is worth it
_ALIGNMENT = 64
_log = logger("memory")
_parked: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def park(tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """A copy in a mapped file for each tensor that is large and lies in the memory of the CPU in order; None for the others.

    All are None where they are not large together, and where the folder for temporary files takes no more.
    """
    places, end = list[int | None](), 0
    for tensor in tensors:
        places.append(end if _is_plain(tensor) else None)
        end += tensor.nbytes + -tensor.nbytes % _ALIGNMENT if _is_plain(tensor) else 0
    if end < LARGE or not CAN_MAP:
        return [None] * len(tensors)
    try:
        memory = _written(tensors, places, end)
    except OSError as error:
        _log.info(
            "%d MB of weights stay in memory, because %s takes no file: %s", end // 10**6, tempfile.gettempdir(), error
        )
        return [None] * len(tensors)
    _parked.add(memory)
    return [
        None
        if place is None
        else torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=place).view(tensor.shape)
        for tensor, place in zip(tensors, places, strict=True)
    ]


def _is_plain(tensor: Tensor) -> bool:
    kept = (
        type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu" and tensor.layout is torch.strided
    )
    return kept and tensor.nbytes >= _LEAST and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()


def _written(tensors: Sequence[Tensor], places: Sequence[int | None], size: int) -> mmap.mmap:
    with tempfile.TemporaryFile(prefix="torch_tensorrt_") as file:
        for tensor, place in zip(tensors, places, strict=True):
            if place is not None:
                file.seek(place)
                for chunk in chunks(memoryview(tensor.detach().reshape(-1).view(torch.uint8).numpy())):  # type: ignore[arg-type]
                    file.write(chunk)
        file.truncate(size)
        file.flush()
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE)


def trim() -> None:
    """Memory that was freed goes back to the system: glibc keeps blocks of many megabytes. Does nothing elsewhere."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if give_back is not None:
        give_back(0)


def any_parked() -> bool:
    """Whether weights of some model are parked."""
    return bool(_parked)


def put_away() -> None:
    """All parked weights leave the memory of the process until they are read again."""
    for memory in list(_parked):
        release(memory)


@contextmanager
def read_in_passing() -> Iterator[None]:
    """Parked weights that the block reads leave memory meanwhile, and at its end."""
    with repeatedly(put_away) if _parked else nullcontext():
        yield
