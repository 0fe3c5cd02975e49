"""What OpenVINO tells of the tensors of a compiled model, of one that it placed itself, and of a request that runs the model."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol


class Range(Protocol):
    """A size of a model: from `min_length` to `max_length`, which is -1 where there is no bound."""

    is_dynamic: bool
    min_length: int
    max_length: int


class PartialShape(Protocol):
    """Sizes of a model. `rank`: how many there are, which may be open."""

    rank: Range

    def __iter__(self) -> Iterator[Range]: ...


class Found(Protocol):
    """A tensor in OpenVINO's own memory."""

    def get_shape(self) -> Sequence[int]:
        """Its sizes."""

    def copy_to(self, target: object) -> None:
        """Copies it to memory that OpenVINO is shown."""


class Request(Protocol):
    """An infer request: one run at a time, with memory of its own."""

    def set_input_tensor(self, index: int, tensor: object) -> None:
        """The memory to read input `index` from."""

    def set_output_tensor(self, index: int, tensor: object) -> None:
        """The memory to write output `index` to."""

    def get_output_tensor(self, index: int) -> Found:
        """What output `index` was written to."""

    def get_profiling_info(self) -> Sequence[ProfilingInfo]:
        """What the last run took, where the model was compiled for that."""

    def set_callback(self, callback: Callable[[object], None], userdata: object) -> None:
        """What is called at the end of a run that was started and went well."""

    def wait(self) -> None:
        """Waits for the end of a run that was started; raises what went wrong in it."""

    def wait_for(self, timeout: int) -> bool:
        """The same for so many milliseconds; whether it ended."""


class ProfilingInfo(Protocol):
    """What a node of a model took in a run."""

    node_name: str
    node_type: str
    exec_type: str  # the implementation that the CPU plugin chose
    real_time: datetime.timedelta
    status: object
