"""The documented enumerations: dtype, memory_format, DeviceType, EngineCapability, Platform."""

from __future__ import annotations

import builtins
import platform
import sys
from enum import Enum

import numpy as np
import torch

from torch_tensorrt.spec.errors import InputError


class dtype(Enum):  # noqa: N801 - the documented name
    """Element types; a member's value is the name of its torch dtype. Equal to that torch dtype, and hashes like it."""

    unknown = "unknown"
    u8 = "uint8"
    i8 = "int8"
    i32 = "int32"
    i64 = "int64"
    f16 = "float16"
    f32 = "float32"
    f64 = "float64"
    b = "bool"
    bf16 = "bfloat16"
    f8 = "float8_e4m3fn"
    f4 = "float4_e2m1fn_x2"

    uint8 = "uint8"
    int8 = "int8"
    int32 = "int32"
    long = "int64"
    int64 = "int64"
    float8 = "float8_e4m3fn"
    fp8 = "float8_e4m3fn"
    float4 = "float4_e2m1fn_x2"
    fp4 = "float4_e2m1fn_x2"
    half = "float16"
    fp16 = "float16"
    float16 = "float16"
    float = "float32"
    fp32 = "float32"
    float32 = "float32"
    double = "float64"
    fp64 = "float64"
    float64 = "float64"
    bfloat16 = "bfloat16"
    bool = "bool"
    int = "int32"

    @classmethod
    def _from(cls, t: object, use_default: builtins.bool = False) -> dtype:
        """The member for a torch dtype, numpy dtype, name or member; float32 for others with `use_default`, else InputError."""
        found = cls.try_from(t, use_default)
        if found is None:
            raise InputError(
                f"{t!r} is not a dtype that torch_tensorrt knows; use a torch dtype such as torch.float32."
            )
        return found

    @classmethod
    def try_from(cls, t: object, use_default: builtins.bool = False) -> dtype | None:
        """As `_from`, but None where it would raise."""
        if isinstance(t, dtype):
            return t
        name = str(t).removeprefix("torch.") if isinstance(t, (torch.dtype, str)) else _numpy_name(t)
        found = next((member for member in cls if member.value == name), None) or cls.__members__.get(name)
        return dtype.f32 if found is None and use_default else found

    def to(self, t: builtins.type, use_default: builtins.bool = False) -> object:
        """This type as `torch.dtype`, `np.dtype` or `torch_tensorrt.dtype`. Raises InputError when there is none."""
        found = self.try_to(t, use_default)
        if found is None:
            raise InputError(f"{self} can't be expressed as {getattr(t, '__name__', t)}.")
        return found

    def try_to(self, t: builtins.type, use_default: builtins.bool = False) -> object | None:
        """As `to`, but None where it would raise."""
        if t is dtype:
            return self
        as_torch = getattr(torch, self.value, torch.float32 if use_default else None)
        if t is torch.dtype or as_torch is None:
            return as_torch
        if t is np.dtype:
            name = str(as_torch).removeprefix("torch.")
            return np.dtype(name) if name in np.sctypeDict else None
        return None

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, torch.dtype):
            return getattr(torch, self.value, None) == other
        return self is other

    def __hash__(self) -> builtins.int:
        return hash(getattr(torch, self.value, self.value))


def _numpy_name(t: object) -> str:
    try:
        return np.dtype(t).name  # type: ignore[call-overload, no-any-return]
    except TypeError:
        return ""


class memory_format(Enum):  # noqa: N801 - the documented name
    """Layouts. Those that PyTorch has convert to and from torch.memory_format; the others are TensorRT's."""

    linear = "contiguous_format"
    chw2 = "chw2"
    hwc8 = "hwc8"
    chw4 = "chw4"
    chw16 = "chw16"
    chw32 = "chw32"
    dhwc8 = "dhwc8"
    cdhw32 = "cdhw32"
    hwc = "channels_last"
    dla_linear = "dla_linear"
    dla_hwc4 = "dla_hwc4"
    hwc16 = "hwc16"
    dhwc = "channels_last_3d"

    contiguous = "contiguous_format"
    channels_last = "channels_last"
    channels_last_3d = "channels_last_3d"

    @classmethod
    def _from(cls, f: object) -> memory_format:
        """The member for a torch.memory_format, a name or a member. Raises InputError otherwise."""
        found = cls.try_from(f)
        if found is None:
            raise InputError(f"{f!r} is not a memory format; use torch.contiguous_format or torch.channels_last.")
        return found

    @classmethod
    def try_from(cls, f: object) -> memory_format | None:
        """As `_from`, but None where it would raise."""
        if isinstance(f, memory_format):
            return f
        name = str(f).removeprefix("torch.") if isinstance(f, (torch.memory_format, str)) else ""
        return next((member for member in cls if member.value == name), None) or cls.__members__.get(name)

    def to(self, t: type) -> object:
        """This format as `torch.memory_format` or `torch_tensorrt.memory_format`. Raises InputError when there is none."""
        found = self.try_to(t)
        if found is None:
            raise InputError(f"{self} can't be expressed as {getattr(t, '__name__', t)}.")
        return found

    def try_to(self, t: type) -> object | None:
        """As `to`, but None where it would raise."""
        if t is memory_format:
            return self
        return getattr(torch, self.value, None) if t is torch.memory_format else None


class DeviceType(Enum):
    """Kinds of device."""

    UNKNOWN = "unknown"
    CPU = "cpu"
    GPU = "cuda"
    DLA = "dla"

    @classmethod
    def _from(cls, d: object) -> DeviceType:
        """The member for a torch.device, a name ("cuda", "gpu", "dla", "cpu") or a member. Raises InputError otherwise."""
        found = cls.try_from(d)
        if found is None:
            raise InputError(f"{d!r} is not a kind of device; the kinds are cpu, cuda (gpu) and dla.")
        return found

    @classmethod
    def try_from(cls, d: object) -> DeviceType | None:
        """As `_from`, but None where it would raise."""
        if isinstance(d, DeviceType):
            return d
        name = d.type if isinstance(d, torch.device) else str(d).lower()
        return {"cpu": cls.CPU, "cuda": cls.GPU, "gpu": cls.GPU, "dla": cls.DLA, "unknown": cls.UNKNOWN}.get(name)


class EngineCapability(Enum):
    """TensorRT's flavours of engine."""

    STANDARD = "standard"
    SAFETY = "safety"
    DLA_STANDALONE = "dla_standalone"


class Platform(Enum):
    """Operating system and processor that a file is made for."""

    LINUX_X86_64 = "linux_x86_64"
    LINUX_AARCH64 = "linux_aarch64"
    WIN_X86_64 = "windows_x86_64"
    WIN_ARM64 = "windows_arm64"
    UNKNOWN = "unknown"

    @classmethod
    def current_platform(cls) -> Platform:
        """Where this process runs."""
        system = {"linux": "linux", "win32": "windows"}.get(sys.platform, "")
        machine = {"amd64": "x86_64", "arm64": "arm64" if system == "windows" else "aarch64"}.get(
            platform.machine().lower(), platform.machine().lower()
        )
        return next((member for member in cls if member.value == f"{system}_{machine}"), cls.UNKNOWN)
