"""The documented enumerations: dtype, memory_format, DeviceType, EngineCapability, Platform."""

from __future__ import annotations

import builtins
import platform
import sys
from enum import Enum
from typing import TypeVar

import numpy as np
import torch
from typing_extensions import Self

from torch_tensorrt.spec.errors import InputError

E = TypeVar("E", bound="_Convertible")
T = TypeVar("T")


class _Convertible(Enum):
    """Conversions: `try_from` and `try_to` give None where `_from` and `to` raise InputError."""

    @classmethod
    def try_from(cls, t: object, use_default: bool = False) -> Self | None:
        """The member for a member, a name or what a subclass knows besides; None when there is none."""
        if isinstance(t, cls):
            return t
        name = cls._name_of(t)
        by_name = next((member for known, member in cls.__members__.items() if known.lower() == name.lower()), None)
        return by_name or next((member for member in cls if member.value == name), None)

    @classmethod
    def _from(cls, t: object, use_default: bool = False) -> Self:
        """As `try_from`, but raises InputError when there is no member."""
        found = cls.try_from(t, use_default)
        if found is None:
            known = ", ".join(cls.__members__)
            raise InputError(f"{t!r} is not a {cls.__name__} that torch_tensorrt knows; the known ones are {known}.")
        return found

    @classmethod
    def _name_of(cls, t: object) -> str:
        return t if isinstance(t, str) else ""

    def try_to(self, t: type[T], use_default: bool = False) -> T | None:
        """This member as a `t`; None when that can't be expressed."""
        return self if isinstance(self, t) else None

    def to(self, t: type[T], use_default: bool = False) -> T:
        """As `try_to`, but raises InputError when that can't be expressed."""
        found = self.try_to(t, use_default)
        if found is None:
            raise InputError(f"{self} can't be expressed as {getattr(t, '__name__', t)}.")
        return found


class dtype(_Convertible):  # noqa: N801 - the documented name
    """Element types; a member's value is the name of its torch dtype. Equal to that torch dtype, and hashes like it.

    Converts from and to `torch.dtype`, `np.dtype` (from anything that numpy takes for one) and names such as "f16",
    "float16" and "torch.float16". With `use_default`, what can't be expressed becomes float32.
    """

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
    def try_from(cls, t: object, use_default: builtins.bool = False) -> dtype | None:
        """The member for a torch dtype, numpy dtype, name or member; else None, or float32 with `use_default`."""
        return super().try_from(t) or (dtype.f32 if use_default else None)

    @classmethod
    def _name_of(cls, t: object) -> str:
        return str(t).removeprefix("torch.") if isinstance(t, (torch.dtype, str)) else _numpy_name(t)

    def try_to(self, t: type[T], use_default: builtins.bool = False) -> T | None:
        """This type as `torch.dtype`, `np.dtype` or `torch_tensorrt.dtype`; else None, or float32 with `use_default`."""
        found: object = self
        if t is torch.dtype:
            found = getattr(torch, self.value, None)
        elif t is np.dtype:
            found = np.dtype(self.value) if self.value in np.sctypeDict else None
        if isinstance(found, t):
            return found
        return dtype.f32.try_to(t) if use_default and self is not dtype.f32 else None

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, torch.dtype):
            return getattr(torch, self.value, None) is other
        return self is other if isinstance(other, dtype) else NotImplemented

    def __hash__(self) -> builtins.int:
        return hash(getattr(torch, self.value, self.value))


def _numpy_name(t: object) -> str:
    if t is None:  # numpy takes None for float64
        return ""
    try:
        found = np.dtype(t)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return ""
    return str(found.name) if found.isnative else ""  # PyTorch has no other byte order than the machine's


class memory_format(_Convertible):  # noqa: N801 - the documented name
    """Layouts. Those that PyTorch has convert from and to torch.memory_format; the others are TensorRT's."""

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
    def _name_of(cls, t: object) -> str:
        return str(t).removeprefix("torch.") if isinstance(t, (torch.memory_format, str)) else ""

    def try_to(self, t: type[T], use_default: bool = False) -> T | None:
        """This layout as `torch.memory_format` or `torch_tensorrt.memory_format`; None when there is none."""
        found = getattr(torch, self.value, None) if t is torch.memory_format else self
        return found if isinstance(found, t) else None


class DeviceType(_Convertible):
    """Kinds of device. A DLA belongs to a GPU, so as a torch.device it is "cuda"."""

    UNKNOWN = "unknown"
    CPU = "cpu"
    GPU = "cuda"
    DLA = "dla"

    @classmethod
    def _name_of(cls, t: object) -> str:
        return t.type if isinstance(t, torch.device) else super()._name_of(t).lower()

    def try_to(self, t: type[T], use_default: bool = False) -> T | None:
        """This kind as `torch.device` (without an index) or `torch_tensorrt.DeviceType`; None when there is none."""
        found: object = self
        if t is torch.device and self is not DeviceType.UNKNOWN:
            found = torch.device("cpu" if self is DeviceType.CPU else "cuda")
        return found if isinstance(found, t) else None


class EngineCapability(_Convertible):
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
