"""The suite with Inductor: the rows that it refuses, and those that it gets wrong though nothing in the graph tells."""

from __future__ import annotations

from collections.abc import Mapping

BACKEND = "inductor"
REFUSED: frozenset[str] = frozenset(
    {
        "as_strided of a view",
        "diagonal below dynamic",
        "diagonal dynamic",
        "index by a mask",
        "index with a scalar",
        "masked_select",
        "nonzero",
        "number pow tensor",
    }
)
_NAN = "Inductor's formula for it does not treat NaN and infinities as PyTorch's kernel does"
WRONG: Mapping[str, str] = {
    "gelu of special values": _NAN,
    "softshrink of special values": _NAN,
    "floor_divide of special values": _NAN,
    "expm1 near 0": "Inductor computes exp(x) - 1 where the processor has vectors, and loses what 1 + x rounds away",
}
# Rows that are always run: each kind of work once. The others take a C++ compiler a quarter of an hour.
FAST = (
    "linear",
    "softmax -1",
    "conv2d {}",
    "cat",
    "slice 1:None:2",
    "embedding",
    "max_pool2d ceil=True",
    "where",
    "layer_norm",
    "cumsum",
)
