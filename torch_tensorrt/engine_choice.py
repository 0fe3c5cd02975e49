"""Which engine a program is built with: what the caller asked for, or what fits the device of its inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch.export import ExportedProgram

from torch_tensorrt import engines
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

NVIDIA = ("tensorrt", "tensorrt_rtx")  # what a request for a TensorRT engine means, the first that is here
Choice: TypeAlias = tuple[EngineBackend, torch.device, str]  # backend, device that it builds for, why it was chosen
_AUTOMATIC = {"cpu": "openvino", "cuda": "inductor"}  # device of the inputs -> engine="auto"


def choose_backend(program: ExportedProgram, settings: CompilationSettings, preferred: Sequence[str] = ()) -> Choice:
    """The backend, the device that it builds for, and why it was chosen. `preferred`: what "auto" takes instead, in this order.

    Raises InputError when the engine that was asked for is not available for the device, UnsupportedError when its engines don't
    run on Windows and are to.
    """
    return choose_backend_for(_device_of(program), settings, preferred)


def choose_backend_for(inputs: torch.device, settings: CompilationSettings, preferred: Sequence[str] = ()) -> Choice:
    """The same for a program whose tensors are on the device `inputs`."""
    device = settings.device.torch_device() if settings.device is not None else inputs
    capabilities = settings.device.compute_capabilities if settings.device is not None else ()
    if inputs.type == device.type == "cuda" and device.index and device.index != (inputs.index or 0):
        raise InputError(
            f"The model's tensors are on {inputs}, and device= asks for {device}; move the model and its inputs there with "
            f".to('{device}'), or leave device= out."
        )
    name, reason = settings.engine, "engine= asked for it"
    if name == "auto" and os.environ.get("TORCH_TENSORRT_ENGINE"):
        name, reason = os.environ["TORCH_TENSORRT_ENGINE"], "TORCH_TENSORRT_ENGINE asked for it"
    elif name == "auto" and capabilities:
        name, reason = "tensorrt_rtx", "device= names a compute capability"
    elif name == "auto" and (preferred or (settings.enable_cross_compile_for_windows and device.type == "cuda")):
        name, reason = _first_available(preferred or NVIDIA, device), "it is the TensorRT that is here"
    elif name == "auto":
        if device.type not in _AUTOMATIC:
            raise InputError(
                f"No engine of this version builds for {device}; {' and '.join(_AUTOMATIC)} are what it compiles for. Move the "
                "model and its inputs there, or ask for engine='eager'."
            )
        name, reason = _AUTOMATIC[device.type], f"the inputs are on {device.type}"
    backend = engines.backend(name)
    if capabilities and backend.builds_for_capabilities:
        device = inputs  # the target needn't be here: the tensors are where they are
    available = backend.available(device)
    if not available:
        raise InputError(
            f"Engine {name!r} can't be used for {device}: {available.reason}. Known engines: {', '.join(engines.names())}."
        )
    portable = not settings.enable_cross_compile_for_windows or backend.builds_for(Platform.WIN_X86_64)
    if not portable:
        raise UnsupportedError(
            f"Engine {name!r} can't be built for Windows: {portable.reason}. Ask for engine='tensorrt_rtx' or 'openvino'."
        )
    return backend, device, reason


def is_automatic(settings: CompilationSettings) -> bool:
    """Whether the engine is ours to choose: neither the option nor the environment names one."""
    return settings.engine == "auto" and not os.environ.get("TORCH_TENSORRT_ENGINE")


def _first_available(names: Sequence[str], device: torch.device) -> str:
    return next((name for name in names if engines.backend(name).available(device)), names[-1])


def _device_of(program: ExportedProgram) -> torch.device:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            return value.device
    return torch.device("cpu")
