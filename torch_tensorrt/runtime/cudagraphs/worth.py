"""Whether a graph is worth what it copies: with large inputs or results, calls can be faster without one."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch_tensorrt.observe.log import warn_once
from torch_tensorrt.runtime.cudagraphs.cuda import Device

Call = Callable[[], object]
LARGE = 16 * 2**20  # bytes that each call copies; 10 microseconds on an H200
_ROUNDS = 4  # of which the fastest counts
_MARGIN = 1.02  # times as long are as long


def is_slower(name: str, device: Device, copied: int, replayed: Call, plain: Call) -> bool:
    """Whether calls with the graph take longer than without, when each is waited for. A warning says so, once for each `name`.

    copied: bytes that each call copies to and from the graph's memory; nothing is measured where they are few.
    """
    if copied < LARGE:
        return False
    with_graph, without = (min(seconds) for seconds in zip(*_rounds(device, replayed, plain), strict=True))
    if with_graph < without * _MARGIN:
        return False
    warn_once(
        f"cuda graph copies: {name}",
        f"{name} takes {1e3 * with_graph:.3g} ms in a CUDA graph, of which each call copies {copied / 1e6:.0f} MB to and from the "
        f"memory, and {1e3 * without:.3g} ms without: it runs without one for inputs of such sizes. Within "
        "torch_tensorrt.runtime.enable_pre_allocated_outputs results aren't copied.",
    )
    return True


def _rounds(device: Device, *calls: Call) -> list[tuple[float, ...]]:
    return [tuple(_seconds(device, call) for call in calls) for _ in range(_ROUNDS)]


def _seconds(device: Device, call: Call) -> float:
    device.wait()
    start = time.perf_counter()
    call()
    device.wait()
    return time.perf_counter() - start
