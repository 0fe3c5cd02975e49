"""Compares a name of the documented list (tests/data/public_api.json) with what this package has under it."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

import torch_tensorrt
from torch_tensorrt.dynamo import CompilationSettings
from torch_tensorrt.dynamo import _defaults as defaults
from torch_tensorrt.dynamo.conversion import ConverterPriority
from torch_tensorrt.fx import LowerPrecision, lower

ENTRIES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "public_api.json").read_text())
# What documented defaults are written with.
_NAMES = {
    "CompilationSettings": CompilationSettings,
    "ConverterPriority": ConverterPriority,
    "Device": torch_tensorrt.Device,
    "DeviceType": torch_tensorrt.DeviceType,
    "EngineCapability": torch_tensorrt.EngineCapability,
    "LowerPrecision": LowerPrecision,
    "create_lower_trt_interpreter": lower.create_lower_trt_interpreter,
    "default_split_function": lower.default_split_function,
    "dtype": torch_tensorrt.dtype,
    "os": os,
    "tempfile": tempfile,
    "torch": torch,
    "_defaults": defaults,
    **{name: value for name, value in vars(defaults).items() if name.isupper()},
}
_SETTINGS = {declared.name: declared.default for declared in dataclasses.fields(CompilationSettings)}
# The options that functions of a place take by **kwargs, with their defaults.
_TS_OPTIONS = {
    **_SETTINGS,
    "min_block_size": 3,
    "allow_shape_tensors": False,
    "capability": _SETTINGS["engine_capability"],
    "refit": not _SETTINGS["immutable_weights"],
    "truncate_long_and_double": _SETTINGS["truncate_double"],
}
_OPTIONS: Mapping[str, Mapping[str, object]] = {
    "dynamo._compiler": _SETTINGS,
    "ts._compiler": _TS_OPTIONS,
    "ts._compile_spec": _TS_OPTIONS,
}
_NOT_COMPARED = object()  # a default that the list gives as code of the documented system


def label(entry: Mapping[str, Any]) -> str:
    """`place:name`."""
    return f"{entry['place']}:{entry['name']}"


def find(place: str, name: str) -> Any:
    """What `from place import name` gives."""
    return getattr(importlib.import_module(place), name)


def differences(entry: Mapping[str, Any]) -> dict[str, str]:
    """Argument, field or method -> how it differs from the documented one."""
    found = find(entry["place"], entry["name"])
    if entry["kind"] == "constant":
        wrong = _difference(entry["default"], found)
        return {entry["name"]: wrong} if wrong else {}
    if entry["kind"] == "function":
        return dict(_arguments(entry["signature"], found, _OPTIONS.get(entry["place"].partition(".")[2], {})))
    return {**dict(_fields(entry.get("fields", ()), found)), **dict(_methods(entry.get("methods", ()), found))}


def _arguments(
    signature: str, function: Any, options: Mapping[str, object] = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    documented = ast.parse(f"def f{signature}: ...").body[0].args  # type: ignore[attr-defined]
    plain = [*documented.posonlyargs, *documented.args]
    given = [None] * (len(plain) - len(documented.defaults)) + documented.defaults
    pairs = [*zip(plain, given, strict=True), *zip(documented.kwonlyargs, documented.kw_defaults, strict=True)]
    own = inspect.signature(function).parameters
    takes_options = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own.values())
    for argument, default in pairs:
        name = argument.arg
        if name in ("cls", "self"):
            continue
        if name in own:
            has = own[name].default
        elif takes_options and name in options:
            has = options[name]
        else:
            yield name, "is missing"
            continue
        if default is None and has is not inspect.Parameter.empty:
            continue  # documented as required, and optional here
        wrong = _difference("" if default is None else ast.unparse(default), has)
        if wrong:
            yield name, wrong


def _fields(fields: list[str], owner: type) -> Iterator[tuple[str, str]]:
    declared = {field.name: field for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else {}
    for field in fields:
        name, _, default = field.partition("=")
        if name.startswith("_") and name != "_explicit_set_dtype":
            continue
        known = name in declared or hasattr(owner, name) or name in getattr(owner, "__annotations__", {})
        if not known:
            yield name, "is missing"
        elif default and not issubclass(owner, Enum):
            has = declared[name].default if name in declared else getattr(owner, "_field_defaults", {}).get(name)
            wrong = _difference(default, has) if name in declared or hasattr(owner, "_field_defaults") else ""
            if wrong:
                yield name, wrong


def _methods(methods: list[str], owner: type) -> Iterator[tuple[str, str]]:
    for method in methods:
        name, paren, arguments = method.partition("(")
        if not hasattr(owner, name):
            yield name, "is missing"
        elif paren and callable(getattr(owner, name)):
            function = getattr(owner, name)
            for argument, wrong in _arguments(paren + arguments, function):
                yield f"{name}.{argument}", wrong


def _difference(documented: str, has: Any) -> str:
    wanted = _evaluate(documented) if documented else inspect.Parameter.empty
    if wanted is _NOT_COMPARED or isinstance(has, dataclasses._MISSING_TYPE):
        return ""
    empty = (None, [], set(), frozenset(), ())  # all mean the same where a collection is asked for
    same = wanted == has or (wanted in empty and has in empty)
    return "" if same else f"is {has!r} by default, documented: {documented or 'required'}"


@functools.cache
def _evaluate(documented: str) -> Any:
    if "field(" in documented or "current_user" in documented or "has_complex" in documented:
        return _NOT_COMPARED
    return eval(documented, dict(_NAMES))  # the list is a file of this repository
