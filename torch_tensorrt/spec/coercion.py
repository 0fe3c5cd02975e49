"""Checks and normal forms of option values: each function takes (option name, what was given).

A normal form is a fixed point: given back to the function, it comes out as it is.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import nn
from torch._ops import OpOverload, OpOverloadPacket

from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.enums import EngineCapability
from torch_tensorrt.spec.enums import dtype as trt_dtype
from torch_tensorrt.spec.errors import InputError

T = TypeVar("T")
Knob: TypeAlias = str | int | float  # bool is an int


def flag(name: str, given: object) -> bool:
    """True or False."""
    if not isinstance(given, bool):
        raise InputError(f"{name}={given!r}: True or False is needed.")
    return given


def text(name: str, given: object) -> str:
    """A non-empty string."""
    if not isinstance(given, str) or not given:
        raise InputError(f"{name}={given!r}: a non-empty string is needed.")
    return given


def optional_text(name: str, given: object) -> str | None:
    """None or a non-empty string."""
    return None if given is None else text(name, given)


def optional_path(name: str, given: object) -> str | None:
    """None or a path, as text."""
    return None if given is None else text(name, os.fspath(given) if isinstance(given, os.PathLike) else given)


def engine_cache(name: str, given: object) -> object:
    """None or an object that saves and loads bytes by name."""
    if given is not None and not all(callable(getattr(given, verb, None)) for verb in ("save", "load")):
        raise InputError(
            f"{name}={given!r:.200}: an object with the methods save(hash, blob) and load(hash) is needed, such as an instance "
            "of a class derived from torch_tensorrt.dynamo._engine_cache.BaseEngineCache."
        )
    return given


def one_of(*known: str) -> Callable[[str, object], str]:
    """One of the strings `known`."""

    def check(name: str, given: object) -> str:
        if not isinstance(given, str) or given not in known:
            raise InputError(f"{name}={given!r}: one of {', '.join(map(repr, known))} is needed.")
        return given

    return check


def texts(name: str, given: object) -> frozenset[str]:
    """A set of non-empty strings."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{name}={given!r}: a collection of strings is needed.")
    return frozenset(text(name, member) for member in given)


def knobs(name: str, given: object) -> tuple[tuple[str, Knob], ...]:
    """A mapping of names to numbers, strings or flags, as pairs in the order of the names."""
    pairs = given.items() if isinstance(given, Mapping) else given
    try:
        known = dict(pairs)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        known = None
    if known is None or not all(
        isinstance(key, str) and isinstance(value, (str, int, float)) for key, value in known.items()
    ):
        raise InputError(f"{name}={given!r}: a dict of names to strings, numbers or flags is needed.")
    return tuple(sorted(known.items()))


def seconds(name: str, given: object) -> float:
    """A number of seconds, from 0 on."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
        raise InputError(f"{name}={given!r}: a number of seconds, 0 or more, is needed.")
    return float(given)


def at_least(least: int) -> Callable[[str, object], int]:
    """An integer that is not below `least`."""

    def check(name: str, given: object) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or given < least:
            raise InputError(f"{name}={given!r}: an integer of at least {least} is needed.")
        return given

    return check


def count(name: str, given: object) -> int | None:
    """None or an integer of at least 0."""
    return None if given is None else at_least(0)(name, given)


def positive(name: str, given: object) -> int | None:
    """None or an integer of at least 1."""
    return None if given is None else at_least(1)(name, given)


def only(default: T, reason: str) -> Callable[[str, object], T]:
    """`default` and nothing else, for the reason given; an empty collection is any empty one."""

    def check(name: str, given: object) -> T:
        empty = isinstance(default, frozenset) and isinstance(given, (set, frozenset, list, tuple)) and not given
        if not empty and not (type(given) is type(default) and given == default):
            raise InputError(f"{name}={given!r:.200} is not possible in this version: {reason}.")
        return default

    return check


def level(name: str, given: object) -> int | None:
    """None or an integer from 0 to 5."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 5:
        raise InputError(f"{name}={given!r}: an integer from 0 to 5, or None, is needed.")
    return given


def device(name: str, given: object) -> Device | None:
    """None or anything that names a device."""
    try:
        return None if given is None else Device._from(given)
    except InputError as error:
        raise InputError(f"{name}={given!r}: {error}") from error


def capability(name: str, given: object) -> EngineCapability:
    """A member of EngineCapability or its name."""
    found = EngineCapability.try_from(given)
    if found is None:
        raise InputError(f"{name}={given!r}: one of {', '.join(EngineCapability.__members__)} is needed.")
    return found


def precisions(name: str, given: object) -> frozenset[torch.dtype]:
    """A dtype or several (torch, torch_tensorrt or numpy dtypes, or names) as torch dtypes; None: no dtype."""
    several = given is None or isinstance(given, (set, frozenset, list, tuple))
    return frozenset(_precision(name, member) for member in (_members(name, given) if several else (given,)))


def _precision(name: str, member: object) -> torch.dtype:
    known = trt_dtype.try_from(member)
    found = None if known is None else known.try_to(torch.dtype)
    if found is None or not (found.is_floating_point or found is torch.int8):
        raise InputError(
            f"{name} holds {member!r}; engines compute in floating-point dtypes and int8: give a set such as "
            "{torch.float16, torch.float32}."
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
    shown = f"an instance of {type(member).__name__}" if isinstance(member, nn.Module) else repr(member)
    raise InputError(f"{name} holds {shown}; an nn.Module class, its qualified name, or a module's path is needed.")


def operators(name: str, given: object) -> frozenset[str]:
    """Operators and their names, as `aten.convolution.default` (one overload) or `aten.convolution` (all of them)."""
    return frozenset(_operator_name(name, member) for member in _members(name, given))


def _operator_name(name: str, member: object) -> str:
    if isinstance(member, (OpOverload, OpOverloadPacket)):
        return str(member)
    if not isinstance(member, str):
        raise InputError(
            f"{name} holds {member!r}; an operator such as torch.ops.aten.relu.default, or its name, is needed."
        )
    normal = member.removeprefix("torch.ops.").replace("::", ".")
    found: object = torch.ops
    for part in normal.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, (OpOverload, OpOverloadPacket)):
        close = difflib.get_close_matches(normal, _operator_names(), n=1, cutoff=0.8)
        hint = f" Did you mean 'torch.ops.{close[0]}'?" if close else ""
        raise InputError(f"{name} holds {member!r}, which names no operator of torch.ops.{hint}")
    return str(found)


def _operator_names() -> Iterable[str]:
    """Every operator that PyTorch knows at this moment, as an overload and as all its overloads."""
    for full in torch._C._dispatch_get_all_op_names():
        packet, _, overload = full.replace("::", ".").partition(".")[2].partition(".")
        namespace = full.partition("::")[0]
        yield f"{namespace}.{packet}"
        yield f"{namespace}.{packet}.{overload or 'default'}"


def _members(name: str, given: object) -> Iterable[object]:
    if isinstance(given, (set, frozenset, list, tuple)):
        return given
    if given is None:
        return ()
    raise InputError(f"{name}={given!r}: a set or list is needed.")
