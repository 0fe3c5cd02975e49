"""The documented options of one method, as they are handed to TorchScript's to_backend there, and to ts.compile here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.enums import DeviceType
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.ts.options import translate_options

_DEVICE = {"device_type", "gpu_id", "dla_core", "allow_gpu_fallback"}


class TensorRTCompileSpec(Mapping[str, object]):
    """The options of one method, checked: `torch_tensorrt.ts.compile(module, **spec)` compiles with them.

    `torch._C._jit_to_backend("tensorrt", module, {"forward": spec})` can't: PyTorch takes backends from C++ only, and what compiles
    here is Python. It raises PyTorch's RuntimeError, in which the text of the spec says what to call instead.
    """

    def __init__(self, inputs: object = None, input_signature: object = None, **options: object) -> None:
        """The options are those of `torch_tensorrt.ts.compile`; `device` may be a dict of Device's arguments, with its device_type.

        Raises InputError for an option or device that isn't acceptable.
        """
        if isinstance(options.get("device"), Mapping):
            options["device"] = _device(options["device"])  # type: ignore[arg-type]
        CompilationSettings.from_options(**translate_options(options))
        tensors = {"inputs": inputs, "input_signature": input_signature}
        self._given = {**{name: given for name, given in tensors.items() if given is not None}, **options}

    def __getitem__(self, name: str) -> object:
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={given!r:.200}" for name, given in self._given.items())
        return f"TensorRTCompileSpec({shown}) [to compile with it: torch_tensorrt.ts.compile(module, **spec)]"


def _device(record: Mapping[str, object]) -> Device:
    unknown = set(record) - _DEVICE
    if unknown:
        raise InputError(
            f"device={record!r}: {', '.join(map(repr, sorted(unknown)))} is not known; {', '.join(sorted(_DEVICE))} are."
        )
    kind = DeviceType._from(record.get("device_type", DeviceType.GPU))
    numbers = {name: record[name] for name in ("gpu_id", "dla_core") if record.get(name) is not None}
    fallback = record.get("allow_gpu_fallback", False)
    if kind is DeviceType.CPU:
        return Device("cpu")
    if kind is not DeviceType.DLA:
        numbers.pop("dla_core", None)  # the documented example gives 0 for a GPU
    return Device(**{"gpu_id": 0, **numbers}, allow_gpu_fallback=fallback)  # type: ignore[arg-type]
