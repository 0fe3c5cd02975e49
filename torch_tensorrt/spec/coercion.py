"""Checks and normal forms of option values: each function takes (option name, what was given)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch._ops import OpOverload, OpOverloadPacket

from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.enums import EngineCapability
from torch_tensorrt.spec.enums import dtype as trt_dtype
from torch_tensorrt.spec.errors import InputError

_COMPUTE = (torch.float32, torch.float16, torch.bfloat16)


def flag(name: str, given: object) -> bool:
    """True or False."""
    if not isinstance(given, bool):
        raise InputError(f"{name}={given!r}: True or False is needed.")
    return given


def text(name: str, given: object) -> str:
    """A non-empty string."""
    if not isinstance(given, str) or not given:
        raise InputError(f"{name}={given!r}: a name is needed.")
    return given


def at_least(least: int) -> Callable[[str, object], int]:
    """An integer that is not below `least`."""

    def check(name: str, given: object) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or given < least:
            raise InputError(f"{name}={given!r}: an integer of at least {least} is needed.")
        return given

    return check


def optional_count(name: str, given: object) -> int | None:
    """None or an integer of at least 0."""
    return None if given is None else at_least(0)(name, given)


def level(name: str, given: object) -> int | None:
    """None or an integer from 0 to 5."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 5:
        raise InputError(f"{name}={given!r}: an integer from 0 to 5, or None, is needed.")
    return given


def device(name: str, given: object) -> Device | None:
    """Anything that names a device."""
    return None if given is None else Device._from(given)


def capability(name: str, given: object) -> EngineCapability:
    """A member of EngineCapability or its name."""
    if isinstance(given, EngineCapability):
        return given
    if isinstance(given, str) and given.upper() in EngineCapability.__members__:
        return EngineCapability[given.upper()]
    raise InputError(f"{name}={given!r}: one of {', '.join(EngineCapability.__members__)} is needed.")


def precisions(name: str, given: object) -> frozenset[torch.dtype]:
    """A dtype or several, as torch dtypes."""
    single = isinstance(given, (str, torch.dtype, trt_dtype))
    if not single and not isinstance(given, (set, frozenset, list, tuple)):
        raise InputError(f"{name}={given!r}: a set of dtypes such as {{torch.float16}} is needed.")
    members = (given,) if single else given
    assert isinstance(members, Iterable)
    found = frozenset(trt_dtype._from(member).to(torch.dtype) for member in members)
    for member in found:
        if member not in _COMPUTE:
            raise InputError(
                f"{name} holds {member}; engines of this version compute in {', '.join(map(str, _COMPUTE))}."
            )
    return found


def modules(name: str, given: object) -> frozenset[str]:
    """Module classes and names, as names."""
    return frozenset(_module_name(name, member) for member in _members(name, given))


def _module_name(name: str, member: object) -> str:
    if isinstance(member, str) and member:
        return member
    if isinstance(member, type) and issubclass(member, nn.Module):
        return f"{member.__module__}.{member.__qualname__}"
    raise InputError(f"{name} holds {member!r}; an nn.Module class, its qualified name, or a module path is needed.")


def operators(name: str, given: object) -> frozenset[str]:
    """Operators and their names, as `aten.convolution.default` (an overload) or `aten.convolution` (all of them)."""
    return frozenset(_operator_name(name, member) for member in _members(name, given))


def _operator_name(name: str, member: object) -> str:
    if isinstance(member, (OpOverload, OpOverloadPacket)):
        return str(member)
    if not isinstance(member, str):
        raise InputError(
            f"{name} holds {member!r}; an operator such as torch.ops.aten.relu.default, or its name, is needed."
        )
    normal = member.removeprefix("torch.ops.").replace("::", ".")
    parts = normal.split(".")
    found: object = torch.ops
    for at, part in enumerate(parts):
        if len(parts) not in {2, 3} or not hasattr(found, part):
            known = dir(torch.ops.aten) if at == 1 and parts[0] == "aten" else []
            close = difflib.get_close_matches(part, known, n=1)
            hint = f" Did you mean 'torch.ops.aten.{close[0]}'?" if close else ""
            raise InputError(f"{name} holds {member!r}, which names no operator of torch.ops.{hint}")
        found = getattr(found, part)
    return normal


def _members(name: str, given: object) -> Iterable[object]:
    if isinstance(given, (set, frozenset, list, tuple)):
        return given
    if given is None:
        return ()
    raise InputError(f"{name}={given!r}: a set or list is needed.")
