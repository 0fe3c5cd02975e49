"""Input in its documented forms, its examples, and the forms that are refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_tensorrt import Input, InputError, dtype, memory_format

STATIC, DYNAMIC = Input._ShapeMode.STATIC, Input._ShapeMode.DYNAMIC
RANGE: dict[str, Any] = {"min_shape": (1, 3), "opt_shape": (4, 3), "max_shape": (8, 3)}


@pytest.mark.parametrize(
    "made",
    [
        Input((1, 3)),
        Input([1, 3]),
        Input(shape=(1, 3)),
        Input(shape=torch.Size([1, 3])),
        Input(shape=(np.int64(1), np.int32(3))),
        Input(torch_tensor=torch.zeros(1, 3)),
    ],
    ids=["position", "list", "keyword", "torch.Size", "numpy ints", "of a tensor"],
)
def test_one_shape_makes_a_static_input(made: Input) -> None:
    assert made.shape == (1, 3)
    assert all(type(size) is int for size in made.shape)
    assert made.shape_mode is STATIC
    assert made == Input((1, 3))
    assert made.example_tensor().shape == (1, 3)


def test_three_shapes_make_a_dynamic_input() -> None:
    made = Input(**RANGE)
    assert made.shape_mode is DYNAMIC
    assert made.shape == RANGE
    for point, shape in RANGE.items():
        assert made.example_tensor(point).shape == shape


def test_what_is_not_given_has_the_documented_default() -> None:
    made = Input((2,))
    assert (made.dtype, made._explicit_set_dtype) == (dtype.f32, False)
    assert (made.format, made.tensor_domain) == (memory_format.linear, (0.0, 2.0))
    assert (made.low_tensor_domain_incl, made.high_tensor_domain_excl) == (0.0, 2.0)
    assert (made.name, made.is_shape_tensor, made.shared_dims, made.torch_tensor) == ("", False, {}, None)


@pytest.mark.parametrize(
    "given", [torch.float16, dtype.f16, dtype.half, "half", np.float16, np.dtype("float16")], ids=repr
)
def test_a_dtype_may_be_given_in_every_known_form(given: object) -> None:
    made = Input((2,), dtype=given)
    assert made.dtype is dtype.f16
    assert made.dtype == torch.float16
    assert made._explicit_set_dtype


@pytest.mark.parametrize("given", [None, dtype.unknown])
def test_no_dtype_and_the_unknown_one_mean_the_default(given: object) -> None:
    assert Input((2,), dtype=given).dtype is dtype.f32
    assert not Input((2,), dtype=given)._explicit_set_dtype


EXAMPLE_DTYPES = [member for member in dtype if member not in (dtype.unknown, dtype.f4)]


@pytest.mark.parametrize("member", EXAMPLE_DTYPES, ids=lambda member: member.name)
def test_an_example_has_the_dtype_and_stays_in_the_default_domain(member: dtype) -> None:
    example = Input((512,), dtype=member).example_tensor()
    assert example.dtype == member
    assert example.device.type == "cpu"
    values = example.double()
    assert values.min() >= 0
    assert values.max() < 2
    assert values.unique().numel() > 1


@pytest.mark.parametrize("domain", [(-3, -1), (0.5, 7.5), (5, 6), (-0.1, 0.3)], ids=str)
@pytest.mark.parametrize("member", [dtype.f32, dtype.f16, dtype.bf16, dtype.f64, dtype.i64, dtype.i32, dtype.i8])
def test_an_example_stays_in_the_domain_that_was_given(member: dtype, domain: tuple[float, float]) -> None:
    made = Input((4096,), dtype=member, tensor_domain=domain)
    values = made.example_tensor().double()
    assert made.tensor_domain == domain
    rounding = 0.0 if member.to(torch.dtype) in (torch.int8, torch.int32, torch.int64) else 1e-2
    assert values.min() >= domain[0] - rounding
    assert values.max() < domain[1]


def test_all_values_of_a_dtype_are_a_domain() -> None:
    whole = Input((8,), dtype=torch.int64, tensor_domain=(-(2**63), 2**63)).example_tensor()
    assert whole.unique().numel() == 8
    limit = torch.finfo(torch.float32).max
    assert Input((64,), tensor_domain=(-limit, limit)).example_tensor().isfinite().all()
    assert Input((4096,), dtype=torch.uint8, tensor_domain=(0, 256)).example_tensor().max() == 255


def test_a_float4_example_has_to_be_given() -> None:
    with pytest.raises(InputError, match="torch_tensor="):
        Input((2,), dtype=dtype.f4).example_tensor()


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (torch.channels_last, (2, 3, 4, 5)),
        (memory_format.channels_last, (2, 3, 4, 5)),
        (torch.channels_last_3d, (2, 3, 4, 5, 6)),
        (torch.contiguous_format, (2, 3)),
        ("contiguous", (2, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("member", [torch.float32, torch.float16, torch.int32])
def test_an_example_has_the_layout(layout: object, shape: tuple[int, ...], member: torch.dtype) -> None:
    made = Input(shape, format=layout, dtype=member)
    assert made.example_tensor().is_contiguous(memory_format=made.format.to(torch.memory_format))
    assert made.example_tensor().shape == shape


@pytest.mark.parametrize(
    ("tensor", "layout"),
    [
        (torch.zeros(2, 3, 4, 5), memory_format.linear),
        (torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), memory_format.channels_last),
        (torch.zeros(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d), memory_format.channels_last_3d),
        (torch.zeros((), dtype=torch.int64), memory_format.linear),
        (torch.zeros(0, 3, dtype=torch.bool), memory_format.linear),
    ],
    ids=["contiguous", "channels last", "channels last 3d", "0-d", "empty"],
)
def test_an_input_from_a_tensor_describes_it_and_has_it_for_an_example(
    tensor: torch.Tensor, layout: memory_format
) -> None:
    made = Input.from_tensor(tensor)
    assert (made.shape, made.format) == (tuple(tensor.shape), layout)
    assert made.dtype == tensor.dtype
    assert made._explicit_set_dtype
    assert made.example_tensor() is tensor
    assert Input.from_tensors([tensor, tensor]) == [made, made]


def test_a_tensor_with_other_strides_needs_the_check_disabled() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).t()
    with pytest.raises(InputError, match=r"contiguous\(\)"):
        Input.from_tensor(tensor)
    assert Input.from_tensor(tensor, disable_memory_format_check=True).example_tensor() is tensor


def test_a_given_example_is_used_where_its_shape_fits() -> None:
    tensor = torch.full((4, 3), 7.0)
    made = Input(**RANGE, torch_tensor=tensor)
    assert made.example_tensor("opt_shape") is tensor
    assert made.example_tensor("min_shape").max() < 2


@pytest.mark.parametrize(
    ("made", "point", "words"),
    [
        (Input(**RANGE), None, "min_shape.*None"),
        (Input(**RANGE), "shape", "min_shape.*'shape'"),
        (Input(**RANGE), "avg_shape", "avg_shape"),
        (Input((2,)), "opt_shape", r"one shape \(2,\).*opt_shape"),
    ],
)
def test_a_dynamic_example_needs_a_point_and_a_static_one_has_none(made: Input, point: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        made.example_tensor(point)


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "nothing": ((), {}, r"missing: min_shape, opt_shape, max_shape"),
    "no opt": ((), {"min_shape": (1,), "max_shape": (2,)}, r"missing: opt_shape"),
    "only max": ((), {"max_shape": (2,)}, r"missing: min_shape, opt_shape"),
    "min over opt": ((), {**RANGE, "min_shape": (5, 3)}, r"Dimension 0.*5, 4, 8"),
    "opt over max": ((), {**RANGE, "opt_shape": (4, 9)}, r"Dimension 1.*3, 9, 3"),
    "ranks differ": ((), {**RANGE, "opt_shape": (4, 3, 1)}, r"2, 3 and 2 dimensions"),
    "shape and range": (((1, 3),), RANGE, r"a shape and min_shape"),
    "shape twice": (((1, 3),), {"shape": (1, 3)}, r"twice"),
    "sizes by position": ((1, 3, 224, 224), {}, r"Input\(\(1, 3\)\)"),
    "one number": ((5,), {}, r"shape=5"),
    "a string": (("12",), {}, r"shape='12'"),
    "negative size": (((1, -3),), {}, r"dimension 1 is -3"),
    "negative size in a range": ((), {**RANGE, "min_shape": (-1, 3)}, r"min_shape.*dimension 0 is -1"),
    "float size": (((1, 3.0),), {}, r"dimension 1 is 3\.0"),
    "bool size": (((True, 3),), {}, r"dimension 0 is True"),
    "no size": (((1, None),), {}, r"dimension 1 is None"),
    "misspelt keyword": ((), {"min_shap": (1,)}, r"min_shap.*[Dd]id you mean 'min_shape'"),
    "unknown keyword": (((1,),), {"zzz": 1}, r"zzz.*keywords are shape"),
    "profiles and a shape": (((1,),), {"profiles": [RANGE]}, r"profiles and a shape"),
    "profiles that are none": ((), {"profiles": [1]}, r"profiles=\[1\]: a list of dicts"),
    "no profiles": ((), {"profiles": []}, r"a list of dicts"),
    "a profile without its end": ((), {"profiles": [RANGE, {"min_shape": (1, 3)}]}, r"Profile 1 .*needs min_shape"),
    "profiles of other ranks": (
        (),
        {"profiles": [RANGE, {"min_shape": (1,), "opt_shape": (1,), "max_shape": (1,)}]},
        r"the same number of dimensions",
    ),
    "tensor outside the profiles": ((), {"profiles": [RANGE], "torch_tensor": torch.zeros(9, 3)}, r"\(9, 3\).*\(1, 3\) to"),
    "unknown dtype": (((1,),), {"dtype": "float33"}, r"float33"),
    "complex": (((1,),), {"dtype": torch.complex64}, r"complex64"),
    "complex tensor": ((), {"torch_tensor": torch.zeros(1, dtype=torch.complex64)}, r"complex64"),
    "not a tensor": (((1,),), {"torch_tensor": [1.0]}, r"torch_tensor=\[1\.0\]"),
    "tensor of another shape": (((1,),), {"torch_tensor": torch.zeros(2)}, r"\(2,\).*\(1,\)"),
    "tensor outside the range": ((), {**RANGE, "torch_tensor": torch.zeros(9, 3)}, r"\(9, 3\).*\(1, 3\) to \(8, 3\)"),
    "tensor of another rank": ((), {**RANGE, "torch_tensor": torch.zeros(4)}, r"\(4,\)"),
    "tensor of another dtype": (((1,),), {"dtype": torch.half, "torch_tensor": torch.zeros(1)}, r"float32.*float16"),
    "channels last of a matrix": (((1, 3),), {"format": torch.channels_last}, r"4 dimensions, not of 2"),
    "layout of TensorRT": (((1, 3),), {"format": memory_format.chw32}, r"chw32"),
    "unknown layout": (((1, 3),), {"format": torch.preserve_format}, r"preserve_format"),
    "domain upside down": (((1,),), {"tensor_domain": (2, 1)}, r"low has to be below high"),
    "empty domain": (((1,),), {"tensor_domain": (1, 1)}, r"low has to be below high"),
    "one bound": (((1,),), {"tensor_domain": (1,)}, r"two finite numbers"),
    "three bounds": (((1,),), {"tensor_domain": (1, 2, 3)}, r"two finite numbers"),
    "bounds of a wrong type": (((1,),), {"tensor_domain": ("0", "1")}, r"two finite numbers"),
    "no bound": (((1,),), {"tensor_domain": (0, float("inf"))}, r"two finite numbers"),
    "not a number": (((1,),), {"tensor_domain": (float("nan"), 1)}, r"two finite numbers"),
    "no integer in the domain": (((1,),), {"tensor_domain": (0.2, 0.9), "dtype": torch.int64}, r"no value of torch\.int64"),
    "over the dtype's limit": (((1,),), {"tensor_domain": (0, 1e6), "dtype": torch.half}, r"torch\.float16"),
    "over uint8": (((1,),), {"tensor_domain": (0, 257), "dtype": torch.uint8}, r"torch\.uint8 \(0 to 255\)"),
    "name of a wrong type": (((1,),), {"name": 3}, r"name=3"),
    "flag of a wrong type": (((1,),), {"is_shape_tensor": 1}, r"is_shape_tensor=1"),
    "shared_dims as a list": (((1,),), {"shared_dims": ["batch"]}, r"dict from dimension to name"),
    "shared dimension that is missing": (((1,),), {"shared_dims": {1: "batch"}}, r"no dimension 1; it has 1"),
    "shared dimension by name": (((1,),), {"shared_dims": {"batch": 0}}, r"no dimension 'batch'"),
    "shared name that is none": (((1,),), {"shared_dims": {0: "my batch"}}, r"'my batch' is not a name"),
    "one name, two sizes": (((1, 3),), {"shared_dims": {0: "n", 1: "n"}}, r"'n' have different sizes"),
    "one dimension, two names": (((1, 3),), {"shared_dims": {1: "n", -1: "m"}}, r"dimension 1 has two names"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_form_is_one_input_error(name: str) -> None:
    args, kwargs, words = BAD[name]
    with pytest.raises(InputError, match=words):
        Input(*args, **kwargs)


def test_what_is_no_tensor_makes_no_input() -> None:
    with pytest.raises(InputError, match="list"):
        Input.from_tensor([1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Tensor"):
        Input.from_tensors(torch.zeros(2))  # type: ignore[arg-type]


def test_shared_dimensions_are_counted_from_the_front() -> None:
    made = Input(**RANGE, shared_dims={-2: "batch", 1: "width"})
    assert made.shared_dims == {0: "batch", 1: "width"}


ALIKE = {"min_shape": (1,), "opt_shape": (2,), "max_shape": (3,)}
DIFFERENCES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "shape": ({"max_shape": (4,)}, False),
    "dtype": ({"dtype": torch.half}, False),
    "domain": ({"tensor_domain": (0, 1)}, True),
    "name": ({"name": "x"}, True),
    "shared dimension": ({"shared_dims": {0: "batch"}}, True),
    "shape tensor": ({"is_shape_tensor": True}, True),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_inputs_are_equal_when_nothing_differs_and_equivalent_when_no_tensor_tells(what: str) -> None:
    other, equivalent = DIFFERENCES[what]
    a, b = Input(**ALIKE), Input(**{**ALIKE, **other})
    assert (a == b) == (what == "nothing")
    assert (len({a, b}) == 1) == (what == "nothing")
    assert Input.equivalent_spec(a, b) == equivalent


def test_a_layout_and_a_shape_mode_tell_inputs_apart() -> None:
    shape = (2, 3, 4, 5)
    assert not Input.equivalent_spec(Input(shape), Input(shape, format=torch.channels_last))
    assert Input(shape) != Input(min_shape=shape, opt_shape=shape, max_shape=shape)
    assert Input(shape) != shape


def test_an_input_does_not_change() -> None:
    made = Input(**RANGE, shared_dims={0: "batch"})
    with pytest.raises(AttributeError, match="name"):
        made.name = "other"
    made.shape["min_shape"] = (7, 7)
    made.shared_dims[1] = "width"
    assert made == Input(**RANGE, shared_dims={0: "batch"})


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Any three shapes with min <= opt <= max."""
    sizes = [sorted(draw(st.tuples(*[st.integers(0, 6)] * 3))) for _ in range(draw(st.integers(0, 4)))]
    points = ("min_shape", "opt_shape", "max_shape")
    return {point: tuple(size[at] for size in sizes) for at, point in enumerate(points)}


@settings(deadline=None, max_examples=60)
@given(
    shapes=ranges(),
    member=st.sampled_from([dtype.f32, dtype.f16, dtype.i64, dtype.b]),
    name=st.sampled_from(["", "x", "it's"]),
    domain=st.sampled_from([(0, 2), (-1.5, 3.25)]),
)
def test_any_range_round_trips(
    shapes: dict[str, tuple[int, ...]], member: dtype, name: str, domain: tuple[float, float]
) -> None:
    made = Input(**shapes, dtype=member, name=name, tensor_domain=domain)
    assert made.shape == shapes
    for point, shape in shapes.items():
        example = made.example_tensor(point)
        assert (tuple(example.shape), example.dtype) == (shape, member)
        assert Input.from_tensor(example).shape == shape
    written = eval(repr(made), {"Input": Input, "dtype": dtype, "memory_format": memory_format})
    assert str(made) == repr(made)
    assert written == copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made
    assert hash(written) == hash(made)


@settings(deadline=None, max_examples=60)
@given(shapes=ranges().filter(lambda shapes: bool(shapes["opt_shape"])), data=st.data())
def test_a_range_with_one_size_out_of_order_names_the_dimension(
    shapes: dict[str, tuple[int, ...]], data: st.DataObject
) -> None:
    opt = list(shapes["opt_shape"])
    at = data.draw(st.integers(0, len(opt) - 1))
    opt[at] = shapes["max_shape"][at] + 1
    with pytest.raises(InputError, match=f"Dimension {at}:"):
        Input(**{**shapes, "opt_shape": tuple(opt)})


def test_several_profiles_are_one_range_over_all_of_them_with_the_typical_sizes_of_the_first() -> None:
    decode = {"min_shape": (1, 1), "opt_shape": (2, 1), "max_shape": (8, 1)}
    prefill = {"min_shape": (1, 16), "opt_shape": (1, 64), "max_shape": (1, 512)}
    made = Input(profiles=[decode, prefill], dtype=torch.int64)
    assert made.shape == {"min_shape": (1, 1), "opt_shape": (2, 1), "max_shape": (8, 512)}
    assert made.profiles == (((1, 1), (2, 1), (8, 1)), ((1, 16), (1, 64), (1, 512)))
    assert made != Input(**made.shape, dtype=torch.int64)
    assert "profiles=" in repr(made)


def test_an_input_without_profiles_has_one() -> None:
    assert Input((1, 3)).profiles == (((1, 3),) * 3,)
    assert Input(**RANGE).profiles == (((1, 3), (4, 3), (8, 3)),)
