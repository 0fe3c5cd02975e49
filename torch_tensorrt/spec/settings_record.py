"""The options that shape a graph and its engines as JSON, so that a saved model can be made the same way again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.enums import EngineCapability
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Json, dtype_name

# Options beside those that change an engine. No paths: what a file says must not decide where this machine writes.
_ALSO = ("torch_executed_ops", "torch_executed_modules", "min_block_size", "require_full_compilation")


def record_settings(settings: CompilationSettings) -> dict[str, Json]:
    """The options that are not at their defaults and say how the graph is lowered or an engine is built."""
    known = [field for field in dataclasses.fields(settings) if field.metadata["engine"] or field.name in _ALSO]
    return {field.name: _json(getattr(settings, field.name)) for field in known if field.name in settings.given()}


def settings_from_record(record: Mapping[str, Json]) -> CompilationSettings:
    """The inverse of `record_settings`. Raises FileFormatError for an option that doesn't exist or has no such value."""
    allowed = {field.name for field in dataclasses.fields(CompilationSettings) if field.metadata["engine"]}
    unknown = set(record) - allowed - set(_ALSO)
    if unknown:
        raise FileFormatError(f"The options in an engine's origin hold {sorted(unknown)}, which it can't have.")
    try:
        return CompilationSettings.from_options(**record)
    except InputError as error:
        raise FileFormatError(f"The options in an engine's origin are not options of this version: {error}") from error


def _json(value: object) -> Json:
    if isinstance(value, (frozenset, set)):
        return [*sorted(str(_json(member)) for member in value)]
    if isinstance(value, tuple):
        return dict(value)
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    if isinstance(value, Device):
        named = ",".join(f"sm_{major}{minor}" for major, minor in value.compute_capabilities)
        return named or str(value.torch_device())
    if isinstance(value, EngineCapability):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
