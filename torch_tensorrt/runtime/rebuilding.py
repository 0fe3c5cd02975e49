"""An engine from a portable file that doesn't fit this machine, built again for it from the program beside it."""

from __future__ import annotations

import io

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt import engines
from torch_tensorrt.archives import reading
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.engine_bytes import read_program
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.settings_record import settings_from_record

_log = logger("runtime")
_CHOICES = {"cpu": ("openvino", "inductor", "eager"), "cuda": ("inductor", "eager")}
_OF_THE_ENGINE = ("engine_options", "disabled_passes")  # another engine has other ones
_HINT = "Saved with torch_tensorrt.save(..., portable=True), the file would be built again for this machine."


class PayloadFormatError(FileFormatError):
    """An engine whose payload is in a format that its backend doesn't read (any more, or yet)."""


def rebuild(spec: EngineSpec, data: memoryview, reason: EngineNotRunnable | PayloadFormatError) -> Engine:
    """The engine in `data` built for this machine by the first backend that can, with a warning that says so.

    Raises `reason`, with what would help, when there is no program beside the engine, and EngineNotRunnable when no backend here
    takes it.
    """
    found = read_program(data)
    if found is None:
        raise type(reason)(f"{reason} {_HINT}") from reason
    program, options = found
    chosen = {name: value for name, value in options.items() if name not in {"engine", "device", *_OF_THE_ENGINE}}
    settings = settings_from_record(chosen)
    module = reading.read_program(io.BytesIO(program), f"The program of engine {spec.name!r}").module(
        check_guards=False
    )
    assert isinstance(module, fx.GraphModule)
    device = torch.device(next((tensor.device for tensor in (*spec.inputs, *spec.outputs)), "cpu"))
    for name in _CHOICES.get(device.type, ("eager",)):
        backend = engines.backend(name)
        if backend.available(device) and _takes(backend, module, settings):
            _log.warning(
                "%s It is built again now with %r from the program in the file; save it here to load it fast.",
                reason,
                name,
            )
            return backend.build(Partition(spec.name, name, module, spec.inputs, spec.outputs), settings)
    raise EngineNotRunnable(f"{reason} No engine of this machine takes its program for {device} either.") from reason


def _takes(backend: EngineBackend, module: fx.GraphModule, settings: CompilationSettings) -> bool:
    called = [node for node in module.graph.nodes if isinstance(node.target, OpOverload)]
    return all(node.target is torch.ops.aten.sym_size.int or backend.supports(node, settings) for node in called)
