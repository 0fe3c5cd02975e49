"""The kernels that GPUs have for attention, what each takes, and which is fastest where (measured on an H200, torch 2.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import cast

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import Argument

from torch_tensorrt.engines.inductor.passes.masks.reader import sizes_of
from torch_tensorrt.observe.log import logger

aten = torch.ops.aten
CUDNN = aten._scaled_dot_product_cudnn_attention.default
FLASH = aten._scaled_dot_product_flash_attention.default
EFFICIENT = aten._scaled_dot_product_efficient_attention.default
KERNELS: Mapping[OpOverload, int] = {
    CUDNN: 128,
    FLASH: 256,
    EFFICIENT: 128,
}  # the most numbers per head that are given to them
_SHORT = 64  # queries and keys up to which the efficient kernel is ahead of cuDNN's: 47 against 89 us for Swin-T, 8 against 12 for 32 x 64
_SMALL = 128 * 96  # keys times heads (of all batches) up to which flash attention is 1 us ahead of cuDNN's
_ALIGNED = 8  # numbers that its rows of added numbers are aligned to
_log = logger(__name__)


def arguments_for(
    kernel: OpOverload, given: Mapping[str, object], bias: fx.Node | None
) -> tuple[tuple[Argument, ...], Mapping[str, Argument]]:
    """What to call `kernel` with where attention was called with `given`. bias: what is added to the scores."""
    known = cast("Mapping[str, Argument]", given)
    tensors = (known["query"], known["key"], known["value"])
    rest: tuple[Argument, ...] = (0.0,) if kernel is FLASH else (bias, False, 0.0)
    return (*tensors, *rest, known["is_causal"]), {"scale": known["scale"]}


def is_plain(given: Mapping[str, object]) -> bool:
    """No dropout, rank 4, heads of one width that is a multiple of 8, and as many queries as keys where it is causal."""
    nodes = [given[name] for name in ("query", "key", "value")]
    if given["dropout_p"] != 0.0:
        return False
    query, key, value = (sizes_of(node) for node in nodes if isinstance(node, fx.Node))
    if any(len(each) != 4 for each in (query, key, value)) or len({each[3] for each in (query, key, value)}) != 1:
        return False
    if not query[3].is_Integer or query[3] % 8 or key[:3] != value[:3] or query[0] != key[0]:
        return False
    if query[1] != key[1] and not given["enable_gqa"]:
        return False
    return not given["is_causal"] or query[2] == key[2]


def candidates(given: Mapping[str, object]) -> Iterator[OpOverload]:
    """Kernels that may take `given`, the fastest first."""
    query, key = given["query"], given["key"]
    assert isinstance(query, fx.Node)
    assert isinstance(key, fx.Node)
    width, device = int(sizes_of(query)[3]), query.meta["val"].device
    heads, queries, keys = sizes_of(query)[0] * sizes_of(query)[1], sizes_of(query)[2], sizes_of(key)[2]
    short = queries.is_Integer and keys.is_Integer and queries <= _SHORT and keys <= _SHORT
    several = bool(short and queries > 1 and sizes_of(query)[1] == sizes_of(key)[1])
    modern = capability(device) >= (8, 0)
    if several and modern and width <= KERNELS[EFFICIENT]:
        yield EFFICIENT
    if given["attn_mask"] is not None:
        return
    fixed = queries.is_Integer and keys.is_Integer and heads.is_Integer
    small = fixed and 1 < queries <= 128 and keys <= 128 and keys * heads <= _SMALL
    if small and modern and width <= KERNELS[FLASH]:
        yield FLASH
    if width <= KERNELS[CUDNN] and capability(device) >= (9, 0) and _takes_one(query, key):
        yield CUDNN
    if width <= KERNELS[FLASH] and modern:
        yield FLASH


def padding_to_align(keys: int) -> int:
    """How many numbers a row of added numbers is longer than `keys`."""
    return -keys % _ALIGNED


def storable(values: object) -> object:
    """The results of a kernel without uint64 and sizes that vary, which torch.export.save of PyTorch 2.11 can't write here.

    These are the state of random numbers and the lengths, for the backward pass: nothing reads them.
    """
    assert isinstance(values, tuple)
    return tuple(_storable(value) for value in values)


def _storable(value: object) -> object:
    if isinstance(value, torch.SymInt):
        return value.node.hint if value.node.has_hint() else 1
    return value.to(torch.int64) if isinstance(value, Tensor) and value.dtype is torch.uint64 else value


def _takes_one(query: fx.Node, key: fx.Node) -> bool:
    """Whether lengths that vary may all be given to cuDNN, down to 1; fixed lengths are tried as they are."""
    values = [query.meta["val"], key.meta["val"]]
    lengths = [1 if isinstance(value.shape[2], torch.SymInt) else int(value.shape[2]) for value in values]
    if all(isinstance(value.shape[2], int) for value in values) or not torch.cuda.is_available():
        return True
    heads = [int(value.shape[1]) for value in values]
    return _runs(values[0].device, values[0].dtype, (*heads, *lengths, int(values[0].shape[3])))


@cache
def _runs(device: torch.device, dtype: torch.dtype, sizes: tuple[int, int, int, int, int]) -> bool:
    heads, key_heads, queries, keys, width = sizes
    query = torch.empty(1, heads, queries, width, dtype=dtype, device=device)
    key = torch.empty(1, key_heads, keys, width, dtype=dtype, device=device)
    try:
        with torch.no_grad():
            CUDNN(query, key, key, None, False, 0.0, False)
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        _log.debug("cuDNN's attention is not used: %s", error)
        return False
    return True


def is_contiguous(value: Tensor) -> bool:
    """Whether the strides are those of a contiguous tensor, without asking what sizes that vary are: that would fix them."""
    wanted = "1"
    product: int | torch.SymInt = 1
    for size, stride in zip(reversed(value.shape), reversed(value.stride()), strict=True):
        wanted = str(product)
        if str(size) != "1" and str(stride) != wanted:
            return False
        product = product * size
    return True


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if torch.cuda.is_available() else (0, 0)


capability: Callable[[torch.device], tuple[int, int]] = _capability  # tests put one of their own here
