"""Which of several GPUs a compiled model belongs to, and what happens to inputs that are on another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from torch_tensorrt.observe.log import warn_once
from torch_tensorrt.spec.errors import InputError

moves_inputs = False  # what set_multi_device_safe_mode sets: asked at every call


def set_moves_inputs(mode: bool) -> bool:
    """Sets it, and returns what it was. Raises InputError for anything but True and False."""
    global moves_inputs
    if not isinstance(mode, bool):
        raise InputError(f"set_multi_device_safe_mode({mode!r}): True or False is needed.")
    before, moves_inputs = moves_inputs, mode
    return before


@dataclass(frozen=True)
class Home:
    """The GPU that a model was compiled on. pinned: by what it has to stay there (weights that PyTorch uses), or ""."""

    device: torch.device
    pinned: str

    def check(self, what: str, tensor: Tensor) -> None:
        """Raises InputError when `tensor`, called `what`, is on another GPU and the model can't follow it there."""
        if self.pinned and tensor.is_cuda and tensor.device != self.device:
            raise InputError(
                f"{what} is on {tensor.device}, but the model was compiled on {self.device} and its {self.pinned} there; move it with "
                f".to('{self.device}'), or have all inputs moved: torch_tensorrt.runtime.set_multi_device_safe_mode(True)."
            )

    def bring(self, flat: Sequence[object]) -> Sequence[object]:
        """`flat`, with tensors on other GPUs moved here, of which a warning tells once."""
        strange = {str(x.device) for x in flat if isinstance(x, Tensor) and x.is_cuda and x.device != self.device}
        if not strange:
            return flat
        found = " and ".join(sorted(strange))
        warn_once(
            f"inputs moved from {found} to {self.device}",
            f"Inputs on {found} are moved to {self.device}, where the model was compiled; that takes time at every call.",
        )
        return [x.to(self.device) if isinstance(x, Tensor) and str(x.device) in strange else x for x in flat]


def home_of(graph: fx.Graph) -> Home | None:
    """The home of a compiled model with this graph; None on a CPU, and where nothing says it."""
    nodes = list(graph.nodes)
    inputs = [node.meta.get("val") for node in nodes if node.op == "placeholder"]
    weights = [(node, node.meta.get("val")) for node in nodes if node.op == "get_attr"]
    for node, value in weights:
        if isinstance(value, Tensor) and value.is_cuda:
            return Home(value.device, f"weight {str(node.target)!r} is")
    for node in nodes:
        made = node.kwargs.get("device")
        if isinstance(made, torch.device) and made.type == "cuda":
            return Home(torch.device("cuda", made.index or 0), f"operation {node.name!r} makes a tensor")
    found = [value.device for value in inputs if isinstance(value, Tensor) and value.is_cuda]
    return Home(found[0], "") if found else None
