"""What TorchScript's operators on numbers, lists, dicts and types mean in Python; all others are PyTorch's own operators."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from torch_tensorrt.spec.errors import InputError

Operation: TypeAlias = "Callable[..., object]"
# TorchScript keeps dtypes, layouts and memory formats as numbers.
DTYPES: Mapping[int, torch.dtype] = {
    0: torch.uint8, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.int64, 5: torch.float16, 6: torch.float32,
    7: torch.float64, 8: torch.complex32, 9: torch.complex64, 10: torch.complex128, 11: torch.bool, 15: torch.bfloat16,
}  # fmt: skip
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
FORMATS = dict(enumerate((torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)))


def _divide(left: float, right: float, rounding_mode: str | None = None) -> object:
    if rounding_mode is None:
        return left / right
    return left // right if rounding_mode == "floor" else math.trunc(left / right)


def _insert(items: list[object], index: int, value: object) -> None:
    items.insert(index, value)


def _set(items: list[object] | dict[object, object], key: int, value: object) -> object:
    items[key] = value
    return items


def _convert(tensor: Tensor, *given: object) -> Tensor:
    """aten::to in the forms that only TorchScript has."""
    first, *rest = given
    flags = [part for part in rest if isinstance(part, bool)]
    if isinstance(first, Tensor):
        return tensor.to(first, *flags)
    device = first if isinstance(first, torch.device) else None
    number = next((part for part in given if isinstance(part, int) and not isinstance(part, bool)), None)
    return tensor.to(device, None if number is None else DTYPES[number], *flags)


def _tensor(data: object, dtype: int | None = None, device: torch.device | None = None, *_: object) -> Tensor:
    return torch.as_tensor(data, dtype=None if dtype is None else DTYPES[dtype], device=device)


def _number(value: object, kind: Operation) -> object:
    if isinstance(value, Tensor):
        return value.item()
    return value if isinstance(value, (torch.SymInt, torch.SymFloat)) and kind is not float else kind(value)


def _raise(*told: object) -> None:
    raise InputError(f"The model itself raises an error for these inputs: {', '.join(str(part) for part in told)}")


def _slice(items: Sequence[object], start: int | None, end: int | None, step: int = 1) -> object:
    return items[start:end:step]


# On anything that is no tensor.
PLAIN: Mapping[str, Operation] = {
    "add": operator.add, "add_": operator.iadd, "sub": operator.sub, "mul": operator.mul, "div": _divide,
    "floordiv": operator.floordiv, "floor_divide": operator.floordiv, "remainder": operator.mod, "pow": operator.pow,
    "rsub": lambda left, right, alpha=1: right - left * alpha, "neg": operator.neg, "abs": abs,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor, "min": min, "max": max,
    "ceil": math.ceil, "floor": math.floor, "round": round, "sqrt": math.sqrt, "log": math.log, "exp": math.exp,
    "__contains__": operator.contains, "__getitem__": operator.getitem, "_set_item": _set, "slice": _slice,
    "append": lambda items, value: items.append(value) or items, "extend": lambda items, more: items.extend(more),
    "insert": _insert, "pop": lambda items, *at: items.pop(*at), "clear": lambda items: items.clear(),
    "reverse": lambda items: items.reverse(), "index": lambda items, value: items.index(value), "list": list,
    "copy": lambda items: items.copy(), "keys": lambda table: list(table.keys()), "values": lambda table: list(table.values()),
    "items": lambda table: list(table.items()), "get": lambda table, *key: table.get(*key), "dict": dict, "len": len,
    "update": lambda table, more: table.update(more), "str": str, "join": lambda text, parts: text.join(parts),
    "ord": ord, "lower": str.lower, "upper": str.upper, "startswith": str.startswith, "endswith": str.endswith,
    "sum": sum, "all": all, "any": any,
}  # fmt: skip
# On tensors too, where TorchScript's operator is none of PyTorch's, or its result would lose a size that varies.
GENERAL: Mapping[str, Operation] = {
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": operator.not_,
    "aten::size": lambda tensor, dim=None: list(tensor.shape) if dim is None else tensor.shape[dim],
    "aten::dim": lambda tensor: tensor.dim(),
    "aten::numel": lambda tensor: tensor.numel(),
    "aten::is_floating_point": lambda tensor: tensor.is_floating_point(),
    "aten::stride": lambda tensor, dim=None: list(tensor.stride()) if dim is None else tensor.stride(dim),
    "aten::Int": lambda value: _number(value, int),
    "aten::Float": lambda value: _number(value, float),
    "aten::Bool": bool,
    "aten::IntImplicit": lambda value: _number(value, int),
    "aten::FloatImplicit": lambda value: _number(value, float),
    "aten::ScalarImplicit": lambda value: value.item() if isinstance(value, Tensor) else value,
    "aten::item": lambda value: value.item() if isinstance(value, Tensor) else value,
    "aten::tensor": _tensor,
    "aten::as_tensor": _tensor,
    "aten::_unwrap_optional": lambda value: value,
    "aten::format": lambda text, *values: text.format(*values),
    "aten::warn": lambda *_: None,
    "aten::__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__derive_index": lambda index, start, step: start + index * step,
    "prim::NumToTensor": lambda value: value,
    "prim::unchecked_cast": lambda value: value,
    "prim::Uninitialized": lambda: None,
    "prim::Print": lambda *_: None,
    "prim::RaiseException": _raise,
    "prim::dtype": lambda tensor: _NUMBERS[tensor.dtype],
    "prim::device": lambda tensor: tensor.device,
    "prim::type": lambda device: device.type,
    "prim::layout": lambda _: 0,
    "prim::is_cuda": lambda tensor: tensor.is_cuda,
    "prim::data": lambda tensor: tensor.detach(),
    "prim::min": min,
    "prim::max": max,
    "prim::abs": abs,
    "prim::TupleIndex": operator.getitem,
    "prim::ListConstruct": lambda *parts: list(parts),
    "prim::DictConstruct": lambda *parts: dict(zip(parts[::2], parts[1::2], strict=True)),
    "aten::to.prim": _convert,
    # What torch.jit.trace writes for every convolution: the same with flags for cuDNN.
    "aten::_convolution": lambda *args: torch.ops.aten.convolution.default(*args[:9]),
}
