"""How far results may be from PyTorch's, by the dtypes that engines may compute in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.spec.settings import CompilationSettings

# Of the norm of the difference, relative to that of PyTorch's result. int8: where a value is on the edge between two steps, the last bit
# of a sum decides which it becomes, and later layers add to that: 0.01 to 0.09 between right engines (EfficientNet, BERT, MobileNetV2).
_ALLOWED = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.int8: 1e-1}
_NARROW = 1e-1  # float8
_TF32 = 5e-3  # float32 on a GPU, where PyTorch itself lets cuDNN multiply in TF32


def allowed_error(graph: fx.Graph, settings: CompilationSettings, device: torch.device) -> float:
    """The largest relative error of the results of `graph` that counts as right."""
    values = (node.meta.get("val") for node in graph.nodes)
    used = {value.dtype for value in values if isinstance(value, Tensor) and value.dtype.is_floating_point}
    if any(_quantizes(node) for node in graph.nodes):
        used.add(torch.int8)
    return loosest(used | settings.enabled_precisions, on_gpu=device.type == "cuda")


def _quantizes(node: fx.Node) -> bool:
    """Whether values become whole numbers here: quantize_per_tensor, fake_quantize_..., quantize_affine; not weights that were already."""
    name = str(node.target)
    return isinstance(node.target, OpOverload) and "quantize" in name and "dequantize" not in name


def loosest(dtypes: Iterable[torch.dtype], *, on_gpu: bool) -> float:
    """What the coarsest of `dtypes` allows."""
    found = [_ALLOWED.get(dtype, _NARROW) for dtype in dtypes]
    return max([*found, _TF32 if on_gpu else _ALLOWED[torch.float32]])


def relative_error(given: Sequence[object], wanted: Sequence[object]) -> float:
    """The largest over all results; infinity where one has another dtype, shape, or NaN or infinity at another place."""
    if len(given) != len(wanted):
        return math.inf
    return max((_error(one, two) for one, two in zip(given, wanted, strict=True)), default=0.0)


def _error(given: object, wanted: object) -> float:
    if not isinstance(given, Tensor) or not isinstance(wanted, Tensor):
        return 0.0 if given == wanted else math.inf
    if (given.dtype, given.shape) != (wanted.dtype, wanted.shape):
        return math.inf
    if not wanted.numel():
        return 0.0
    if not wanted.dtype.is_floating_point:
        return float((given != wanted).double().mean())  # an index of two nearly equal values may be the other one
    one, two = given.detach().double(), wanted.detach().double()
    finite = two.isfinite()
    if not torch.equal(one.isfinite(), finite) or not torch.equal(one[~finite].nan_to_num(), two[~finite].nan_to_num()):
        return math.inf
    size = float(two[finite].norm())
    distance = float((one[finite] - two[finite]).norm())
    return distance / size if size > 0 else distance
