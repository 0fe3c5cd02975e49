"""Layer by layer, NVIDIA's own evaluation of constants and the interpreter give the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

trt = pytest.importorskip("tensorrt_rtx")

from interpret.interpreter import Interpreter  # noqa: E402
from interpret.sandbox import NotFoldedError, Sandbox  # noqa: E402

Add: TypeAlias = "Callable[[Sandbox], Any]"
FLOATS = torch.tensor([-2.75, -1.5, -0.5, 0.0, 0.5, 1.25, 2.5, 3.0])
UNIT = torch.tensor([-0.9, -0.5, -0.25, 0.0, 0.125, 0.5, 0.75, 0.9])
ABOVE = torch.tensor([0.125, 0.5, 1.0, 1.25, 2.0, 2.5, 3.0, 7.5])
OTHERS = torch.tensor([0.7, -0.7, 2.0, 1.0, -1.5, 0.3, -2.0, 0.6])
WHOLE = torch.tensor([-7, -4, -1, 0, 1, 3, 6, 9])
DIVISORS = torch.tensor([2, 3, -2, 5, -3, 2, -4, 4])
TRUTH = torch.tensor([True, True, False, False])
OTHER_TRUTH = torch.tensor([True, False, True, False])
MATRIX = torch.tensor([[1.5, -2.0, 0.5, 4.0], [0.0, 3.0, -1.0, 2.0], [-2.5, 1.0, 6.0, -3.0]])
COUNTS = torch.tensor([[5, -7, 2, 0], [3, 8, -1, 4], [-6, 1, 9, -2]])
UNARY_INPUT = {
    "LOG": ABOVE, "SQRT": ABOVE, "RECIP": ABOVE, "ACOSH": ABOVE + 1, "ASIN": UNIT, "ACOS": UNIT, "ATANH": UNIT,
    "NOT": TRUTH, "TAN": UNIT,
}  # fmt: skip
BOTH = ("AND", "OR", "XOR")
TOLERANCE = 2e-6


def _alphas(name: str) -> tuple[float, float]:
    return (-0.75, 1.5) if name == "CLIP" else (0.3, 0.6)


def _activation(box: Sandbox, name: str) -> Any:
    layer = box.network.add_activation(box.constant(FLOATS), getattr(trt.ActivationType, name))
    layer.alpha, layer.beta = _alphas(name)
    return layer


def _elementwise(box: Sandbox, name: str, x: Tensor, y: Tensor) -> Any:
    operation = getattr(trt.ElementWiseOperation, name)
    return box.network.add_elementwise(box.constant(x), box.constant(y), operation)


def _reduce(box: Sandbox, name: str, x: Tensor, axes: int, keep: bool) -> Any:
    return box.network.add_reduce(box.constant(x), getattr(trt.ReduceOperation, name), axes, keep)


def _pointwise() -> Iterator[tuple[str, Add]]:
    for name in trt.ActivationType.__members__:
        yield f"activation {name}", lambda box, name=name: _activation(box, name)
    for name in trt.UnaryOperation.__members__:
        given = UNARY_INPUT.get(name, FLOATS)
        operation = getattr(trt.UnaryOperation, name)
        yield f"unary {name}", lambda box, x=given, op=operation: box.network.add_unary(box.constant(x), op)
    for name in trt.ElementWiseOperation.__members__:
        x, y = (TRUTH, OTHER_TRUTH) if name in BOTH else (ABOVE if name == "POW" else FLOATS, OTHERS)
        yield f"elementwise {name}", lambda box, name=name, x=x, y=y: _elementwise(box, name, x, y)
        if name not in (*BOTH, "POW"):
            yield f"elementwise {name} of int64", lambda box, name=name: _elementwise(box, name, WHOLE, DIVISORS)
    yield "broadcasting", lambda box: _elementwise(box, "SUB", MATRIX[:, :1], MATRIX[:1])
    yield "select", lambda box: box.network.add_select(*map(box.constant, (TRUTH, FLOATS[:4], OTHERS[:4])))


def _reductions() -> Iterator[tuple[str, Add]]:
    for name in sorted(set(trt.ReduceOperation.__members__) - {"NONE"}):
        for axes, keep in ((1, False), (2, True), (3, False)):
            label = f"{name} over {axes} keep={keep}"
            yield f"reduce {label}", lambda box, n=name, a=axes, k=keep: _reduce(box, n, MATRIX, a, k)
            yield f"reduce {label} of int64", lambda box, n=name, a=axes, k=keep: _reduce(box, n, COUNTS, a, k)
    plain, turned, vector = trt.MatrixOperation.NONE, trt.MatrixOperation.TRANSPOSE, trt.MatrixOperation.VECTOR

    def matmul(box: Sandbox, x: Tensor, how: Any, y: Tensor, other: Any) -> Any:
        return box.network.add_matrix_multiply(box.constant(x), how, box.constant(y), other)

    yield "matmul", lambda box: matmul(box, MATRIX, plain, MATRIX.T[:, :2], plain)
    yield "matmul transposed", lambda box: matmul(box, MATRIX, turned, MATRIX, plain)
    yield "matmul by a vector", lambda box: matmul(box, MATRIX, plain, MATRIX[0], vector)
    yield "matmul of long rows", lambda box: matmul(box, UNIT.repeat(6)[None], plain, OTHERS.repeat(6)[:, None], plain)


def _casts() -> Iterator[tuple[str, Add]]:
    def cast(x: Tensor, dtype: Any) -> Add:
        return lambda box: box.network.add_cast(box.constant(x), dtype)

    yield "cast to int64 cuts off", cast(FLOATS, trt.int64)
    yield "cast to int32 cuts off", cast(FLOATS, trt.int32)
    yield "cast of bool to float", cast(TRUTH, trt.float32)
    yield "cast of int64 to float", cast(WHOLE, trt.float32)
    yield "cast of int64 to bool", cast(WHOLE, trt.bool)
    yield "cast of float to bool", cast(FLOATS, trt.bool)


def _gathers() -> Iterator[tuple[str, Add]]:
    def gather(box: Sandbox, index: Tensor, mode: Any, axis: int = 0, x: Tensor = MATRIX) -> Any:
        layer = box.network.add_gather_v2(box.constant(x), box.constant(index), mode)
        layer.axis = axis
        return layer

    modes = trt.GatherMode
    yield "gather rows", lambda box: gather(box, torch.tensor([2, 0, -1, -3]), modes.DEFAULT)
    yield "gather columns", lambda box: gather(box, torch.tensor([[1], [-1]]), modes.DEFAULT, 1)
    yield "gather elements", lambda box: gather(box, torch.tensor([[0, -1, 2, 1]]), modes.ELEMENT)
    yield "gather pairs", lambda box: gather(box, torch.tensor([[0, 1], [2, -1]]), modes.ND)
    for index in ([0, 3], [-1, -4], [4, -5]):
        yield f"one_hot {index}", lambda box, index=index: _one_hot(box, index, -1)
    yield "one_hot along the first axis", lambda box: _one_hot(box, [1, 2], 0)


def _one_hot(box: Sandbox, index: list[int], axis: int) -> Any:
    values, depth = torch.tensor([3, 7]), torch.tensor(4)
    return box.network.add_one_hot(*map(box.constant, (torch.tensor(index), values, depth)), axis)


def _movements() -> Iterator[tuple[str, Add]]:
    for mode in trt.SampleMode.__members__:
        for start, size, stride in (((-2,), (8,), (1,)), ((5,), (6,), (-2,)), ((1,), (5,), (3,))):
            inside = mode != "STRICT_BOUNDS"
            begin, count = (start, size) if inside else (((1,) if stride[0] > 0 else (6,)), (3,))
            label = f"slice {mode} {begin} {count} {stride}"
            yield label, lambda box, m=mode, a=begin, b=count, c=stride: _slice(box, m, a, b, c)
    yield "shuffle", _shuffle
    yield "concatenation", lambda box: box.network.add_concatenation([box.constant(FLOATS), box.constant(UNIT)])
    yield "squeeze", lambda box: box.network.add_squeeze(box.constant(MATRIX[None]), box.constant(torch.tensor([0])))
    yield "unsqueeze", lambda box: box.network.add_unsqueeze(box.constant(MATRIX), box.constant(torch.tensor([1])))
    yield "shape", lambda box: box.network.add_shape(box.constant(MATRIX))
    yield "identity", lambda box: box.network.add_identity(box.constant(MATRIX))
    yield "linspace", _linspace
    yield "scale", _scale


def _slice(box: Sandbox, mode: str, start: Any, size: Any, stride: Any) -> Any:
    layer = box.network.add_slice(box.constant(FLOATS[:4] if mode != "STRICT_BOUNDS" else FLOATS), start, size, stride)
    layer.mode = getattr(trt.SampleMode, mode)
    return layer


def _shuffle(box: Sandbox) -> Any:
    layer = box.network.add_shuffle(box.constant(MATRIX))
    layer.first_transpose, layer.reshape_dims, layer.second_transpose = (1, 0), (2, 6), (1, 0)
    return layer


def _linspace(box: Sandbox) -> Any:
    layer = box.network.add_fill((3, 4), trt.FillOperation.LINSPACE, trt.int64)
    layer.set_input(1, box.constant(torch.tensor(2)))
    layer.set_input(2, box.constant(torch.tensor([10, 3])))
    return layer


def _scale(box: Sandbox) -> Any:
    x = box.constant(MATRIX.reshape(1, 3, 2, 2))
    shift, scale = (box.weights(torch.tensor(values)) for values in ([0.5, -1.0, 2.0], [2.0, 0.5, -1.5]))
    return box.network.add_scale_nd(x, trt.ScaleMode.CHANNEL, shift, scale, trt.Weights(), 1)


ROWS = (*_pointwise(), *_reductions(), *_casts(), *_gathers(), *_movements())


@pytest.mark.parametrize(("name", "add"), ROWS, ids=[name for name, _ in ROWS])
def test_nvidias_evaluation_of_constants_agrees(name: str, add: Add) -> None:
    box = Sandbox()
    result = add(box).get_output(0)
    box.network.mark_output(result)
    (ours,) = Interpreter(box.network).run_all()
    said = box.folded(result)
    if ours.is_floating_point():
        torch.testing.assert_close(ours.double(), said, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        assert torch.equal(ours.long(), said), f"{ours} and NVIDIA has {said}"


def test_a_constant_index_outside_is_refused() -> None:
    box = Sandbox()
    layer = box.network.add_gather(box.constant(FLOATS), box.constant(torch.tensor([8])), 0)
    with pytest.raises((RuntimeError, ValueError)):  # an object says "no" by having no shape
        box.folded(layer.get_output(0))


def _pool(box: Sandbox) -> Any:
    return box.network.add_pooling_nd(box.constant(MATRIX.reshape(1, 3, 2, 2)), trt.PoolingType.MAX, (2, 2))


# Where this judge is silent; should it speak one day, the layer moves up.
SILENT: tuple[tuple[str, Add], ...] = (
    ("softmax", lambda box: box.network.add_softmax(box.constant(MATRIX))),
    ("pooling", _pool),
    ("einsum", lambda box: box.network.add_einsum([box.constant(MATRIX)], "ij->i")),
    ("topk", lambda box: box.network.add_topk(box.constant(MATRIX), trt.TopKOperation.MAX, 2, 2)),
    ("cumulative", lambda box: box.network.add_cumulative(box.constant(MATRIX), box.constant(torch.tensor(1)), trt.CumulativeOperation.SUM, False, False)),  # noqa: E501
    ("lrn", lambda box: box.network.add_lrn(box.constant(MATRIX.reshape(1, 3, 2, 2)), 3, 0.1, 0.75, 1.0)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "add"), SILENT, ids=[name for name, _ in SILENT])
def test_where_nvidia_evaluates_nothing_is_known(name: str, add: Add) -> None:
    box = Sandbox()
    with pytest.raises(NotFoldedError):
        box.folded(add(box).get_output(0))
