"""Tries an operator on this machine's GPU: which cases a library has a kernel for is written nowhere."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import Argument

from torch_tensorrt.observe.log import logger

_log = logger(__name__)
_known: dict[str, bool] = {}  # what was tried already


def works(node: fx.Node) -> bool:
    """Whether `node`'s operator runs on its GPU with tensors of these sizes (typical ones where they vary).

    True without trying where PyTorch has no GPU at all: then nothing is run here either.
    """
    assert isinstance(node.target, OpOverload)
    device = _device(node)
    if device.type != "cuda" or not torch.cuda.is_available():
        return True
    described = f"{node.target} {fx.map_arg((node.args, node.kwargs), _form)}"
    if described not in _known:
        _known[described] = _try(node)
    return _known[described]


def _try(node: fx.Node) -> bool:
    assert callable(node.target)
    args, kwargs = fx.map_arg((node.args, node.kwargs), _example)
    try:
        with torch.no_grad():
            node.target(*args, **kwargs)
        torch.cuda.synchronize(_device(node))
    except RuntimeError as error:
        _log.debug("%s is not used: %s", node.target, error)
        return False
    return True


def _device(node: fx.Node) -> torch.device:
    value = node.meta["val"]
    first = (
        value[0] if isinstance(value, (tuple, list)) else value
    )  # operators with several results give one first that is whole
    assert isinstance(first, Tensor)
    return first.device


def _sizes(values: torch.Size | tuple[int, ...]) -> list[int]:
    return [value.node.hint if isinstance(value, torch.SymInt) else value for value in values]


def _form(node: fx.Node) -> str:
    value = node.meta["val"]
    if isinstance(value, Tensor):
        return f"{value.dtype} {_sizes(value.shape)} {_sizes(value.stride())}"
    return str(value)


def _example(node: fx.Node) -> Argument:
    value = node.meta["val"]
    if not isinstance(value, Tensor):
        return _sizes((value,))[0]  # a number
    return torch.empty_strided(_sizes(value.shape), _sizes(value.stride()), dtype=value.dtype, device=value.device)
