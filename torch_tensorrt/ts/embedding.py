"""A ScriptModule around one engine that was built elsewhere."""

from __future__ import annotations

import keyword

import torch
from torch import nn

from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.runtime.op import pack

_TAKEN = frozenset({"self", "torch", "engine", "results", "Tensor"})


def embed(engine: Engine) -> torch.jit.ScriptModule:
    """The ScriptModule, which takes the engine's inputs in order, and gives its output or a tuple of its outputs."""
    holder: nn.Module = type("EmbeddedEngine", (nn.Module,), {})()  # TorchScript gives each class one forward
    holder.register_buffer("engine", pack(engine))
    scripted = torch.jit.script(holder.eval())
    spec = engine.spec
    arguments = _arguments([tensor.name for tensor in spec.inputs])
    results = [f"results[{place}]" for place in range(len(spec.outputs))]
    given = results[0] if len(results) == 1 else f"({', '.join(results)})"
    scripted.define(
        f"def forward({', '.join(['self', *(f'{name}: Tensor' for name in arguments)])}):\n"
        f"    results = torch.ops.tensorrt.execute_engine([{', '.join(arguments)}], self.engine, {spec.to_json()!r})\n"
        f"    return {given}\n"
    )
    return scripted


def _arguments(names: list[str]) -> list[str]:
    """The names where they can be those of arguments, else numbered ones."""
    fit = [name.isidentifier() and name.isascii() and not keyword.iskeyword(name) for name in names]
    free = not _TAKEN & set(names) and not any(name.startswith("_") for name in names)
    return names if all(fit) and free else [f"input_{place}" for place in range(len(names))]
