"""Device: where, or what for, a model is compiled. The target needn't be present."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import torch

from torch_tensorrt.spec.enums import DeviceType
from torch_tensorrt.spec.errors import InputError

_NAME = re.compile(r"(?P<kind>cpu|cuda|gpu|dla)(:(?P<index>\d+))?")
_CAPABILITY = re.compile(r"sm_?(?P<major>\d+)(?P<minor>\d)")
_Parsed: TypeAlias = "tuple[DeviceType, int, int, tuple[tuple[int, int], ...]]"  # kind, gpu, dla core, capabilities


@dataclass(frozen=True, init=False)
class Device:
    """A device in one of the documented forms.

    `Device("cuda:0")`, `Device("gpu:1")`, `Device("dla:0", allow_gpu_fallback=True)`, `Device("cpu")`,
    `Device(torch.device("cuda"))`, `Device(gpu_id=0)`, `Device(dla_core=1)`, and `Device("sm_89")` or `Device("sm_86,sm_89")`
    for compute capabilities that this machine needn't have. Raises InputError for anything else.
    """

    device_type: DeviceType = DeviceType.UNKNOWN
    gpu_id: int = -1
    dla_core: int = -1
    allow_gpu_fallback: bool = False
    compute_capabilities: tuple[tuple[int, int], ...] = ()

    def __init__(
        self,
        *args: str | torch.device,
        gpu_id: int | None = None,
        dla_core: int | None = None,
        allow_gpu_fallback: bool = False,
    ) -> None:
        if len(args) > 1 or (args and (gpu_id is not None or dla_core is not None)):
            raise InputError(
                f"Device takes one name, or gpu_id / dla_core, not {args} with gpu_id={gpu_id}, dla_core={dla_core}."
            )
        if not isinstance(allow_gpu_fallback, bool):
            raise InputError(f"allow_gpu_fallback={allow_gpu_fallback!r}: True or False is needed.")
        kind, gpu, core, capabilities = _parse(args[0]) if args else _by_index(gpu_id, dla_core)
        for name, value in (
            ("device_type", kind),
            ("gpu_id", gpu),
            ("dla_core", core),
            ("allow_gpu_fallback", allow_gpu_fallback),
            ("compute_capabilities", capabilities),
        ):
            object.__setattr__(self, name, value)

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        """The first of the compute capabilities; None where none was named."""
        return self.compute_capabilities[0] if self.compute_capabilities else None

    def torch_device(self) -> torch.device:
        """The torch.device that tensors for this target are on; nothing is asked of the machine."""
        if self.device_type is DeviceType.CPU:
            return torch.device("cpu")
        return torch.device("cuda", max(self.gpu_id, 0))

    def to(self, t: type[torch.device]) -> torch.device:
        """This device as `torch.device`. Raises InputError for another type."""
        if t is not torch.device:
            raise InputError(f"A Device converts to torch.device only, not to {t!r}.")
        return self.torch_device()

    @classmethod
    def _from(cls, d: object) -> Device:
        """A Device from a Device, torch.device, name or None (the current one)."""
        if isinstance(d, Device):
            return d
        if d is None:
            return cls._current_device()
        if isinstance(d, (str, torch.device)):
            return cls(d)
        raise InputError(f"{d!r} is not a device; pass torch_tensorrt.Device, torch.device or a name such as 'cpu'.")

    @classmethod
    def _current_device(cls) -> Device:
        """The current CUDA device, or the CPU on a machine without one."""
        return cls(f"cuda:{torch.cuda.current_device()}") if torch.cuda.is_available() else cls("cpu")


def _by_index(gpu_id: int | None, dla_core: int | None) -> _Parsed:
    if gpu_id is None and dla_core is None:
        raise InputError("Device needs a name such as 'cuda:0', or gpu_id / dla_core.")
    for name, index in (("gpu_id", gpu_id), ("dla_core", dla_core)):
        if index is not None and (isinstance(index, bool) or not isinstance(index, int) or index < 0):
            raise InputError(f"{name}={index!r}: an integer of at least 0 is needed.")
    kind = DeviceType.GPU if dla_core is None else DeviceType.DLA
    return kind, 0 if gpu_id is None else gpu_id, -1 if dla_core is None else dla_core, ()


def _parse(given: object) -> _Parsed:
    text = str(given).lower() if isinstance(given, (str, torch.device)) else ""
    capabilities = [_CAPABILITY.fullmatch(part.strip()) for part in text.split(",")]
    if all(capabilities):
        pairs = {(int(part["major"]), int(part["minor"])) for part in capabilities if part}
        return DeviceType.GPU, 0, -1, tuple(sorted(pairs))
    match = _NAME.fullmatch(text)
    if not match:
        raise InputError(f"{given!r} is not a device; known forms are 'cpu', 'cuda:0', 'gpu:0', 'dla:0' and 'sm_89'.")
    index = int(match["index"] or 0)
    kind = DeviceType._from(match["kind"])
    if kind is DeviceType.CPU:
        return kind, -1, -1, ()
    return (kind, 0, index, ()) if kind is DeviceType.DLA else (kind, index, -1, ())
