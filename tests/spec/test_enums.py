"""dtype, memory_format and the other enumerations, and their conversions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_tensorrt import DeviceType, EngineCapability, InputError, Platform, dtype, memory_format

# (member, torch dtype, numpy dtype or None, other names of the member)
DTYPES = [
    (dtype.u8, torch.uint8, np.uint8, "uint8"),
    (dtype.i8, torch.int8, np.int8, "int8"),
    (dtype.i32, torch.int32, np.int32, "int32 int"),
    (dtype.i64, torch.int64, np.int64, "int64 long"),
    (dtype.f16, torch.float16, np.float16, "float16 fp16 half"),
    (dtype.f32, torch.float32, np.float32, "float32 fp32 float"),
    (dtype.f64, torch.float64, np.float64, "float64 fp64 double"),
    (dtype.b, torch.bool, np.bool_, "bool"),
    (dtype.bf16, torch.bfloat16, None, "bfloat16"),
    (dtype.f8, torch.float8_e4m3fn, None, "float8 fp8"),
    (dtype.f4, torch.float4_e2m1fn_x2, None, "float4 fp4"),
]
IDS = [row[0].name for row in DTYPES]


@pytest.mark.parametrize(("member", "as_torch", "as_numpy", "names"), DTYPES, ids=IDS)
def test_a_dtype_converts_to_pytorch_and_back(
    member: dtype, as_torch: torch.dtype, as_numpy: type | None, names: str
) -> None:
    assert member.to(torch.dtype) is as_torch
    assert dtype._from(as_torch) is member
    assert dtype._from(str(as_torch)) is member
    assert member.to(dtype) is member
    assert dtype._from(member) is member


@pytest.mark.parametrize(("member", "as_torch", "as_numpy", "names"), DTYPES, ids=IDS)
def test_a_dtype_converts_to_numpy_and_back_where_numpy_has_it(
    member: dtype, as_torch: torch.dtype, as_numpy: type | None, names: str
) -> None:
    if as_numpy is None and member.value in np.sctypeDict:  # ml_dtypes, which others import, teaches numpy more types
        assert member.to(np.dtype) == np.dtype(member.value)
    elif as_numpy is None:
        assert member.try_to(np.dtype) is None
        with pytest.raises(InputError, match=f"{member.name}.*dtype"):
            member.to(np.dtype)
        assert member.to(np.dtype, use_default=True) == np.dtype("float32")
    else:
        assert member.to(np.dtype) == np.dtype(as_numpy)
        assert dtype._from(as_numpy) is member
        assert dtype._from(np.dtype(as_numpy)) is member


@pytest.mark.parametrize(("member", "as_torch", "as_numpy", "names"), DTYPES, ids=IDS)
def test_the_documented_names_of_a_dtype_mean_the_same(
    member: dtype, as_torch: torch.dtype, as_numpy: type | None, names: str
) -> None:
    for name in (member.name, *names.split()):
        assert dtype[name] is member
        assert dtype._from(name) is member
        assert dtype._from(name.upper()) is member


@pytest.mark.parametrize(("member", "as_torch", "as_numpy", "names"), DTYPES, ids=IDS)
def test_a_dtype_equals_its_torch_dtype_and_no_other(
    member: dtype, as_torch: torch.dtype, as_numpy: type | None, names: str
) -> None:
    assert member == as_torch
    assert as_torch == member
    assert hash(member) == hash(as_torch)
    assert [row[1] for row in DTYPES if row[1] == member] == [as_torch]
    assert [row[0] for row in DTYPES if row[0] == as_torch] == [member]
    assert member != member.name


def test_a_set_holds_a_dtype_once_in_either_form() -> None:
    assert len({dtype.f32, torch.float32, dtype.f16}) == 2
    assert torch.float16 in {dtype.f16}


@pytest.mark.parametrize(
    "given",
    [None, "float33", torch.complex64, torch.int16, np.dtype(">f4"), np.dtype("complex64"), 3, [], object(), ""],
    ids=lambda given: repr(given).partition(" at 0x")[0],
)
def test_what_is_no_dtype_is_refused_or_becomes_the_default(given: object) -> None:
    assert dtype.try_from(given) is None
    assert dtype.try_from(given, use_default=True) is dtype.f32
    assert dtype._from(given, use_default=True) is dtype.f32
    with pytest.raises(InputError, match="is not a dtype"):
        dtype._from(given)


def test_the_unknown_dtype_is_nothing_in_pytorch_except_by_default() -> None:
    assert dtype.unknown.try_to(torch.dtype) is None
    assert dtype.unknown.to(torch.dtype, use_default=True) is torch.float32
    assert dtype._from("unknown") is dtype.unknown
    with pytest.raises(InputError, match=r"dtype\.unknown"):
        dtype.unknown.to(torch.dtype)
    with pytest.raises(InputError, match="str"):
        dtype.f32.to(str)


@pytest.mark.parametrize(
    ("member", "as_torch", "names"),
    [
        (memory_format.linear, torch.contiguous_format, "linear contiguous contiguous_format"),
        (memory_format.channels_last, torch.channels_last, "hwc channels_last"),
        (memory_format.channels_last_3d, torch.channels_last_3d, "dhwc channels_last_3d"),
    ],
)
def test_a_layout_that_pytorch_has_converts_both_ways(
    member: memory_format, as_torch: torch.memory_format, names: str
) -> None:
    assert member.to(torch.memory_format) is as_torch
    assert memory_format._from(as_torch) is member
    for name in names.split():
        assert memory_format._from(name) is member


@pytest.mark.parametrize(
    "name", ["chw2", "hwc8", "chw4", "chw16", "chw32", "dhwc8", "cdhw32", "dla_linear", "dla_hwc4", "hwc16"]
)
def test_a_layout_that_only_tensorrt_has_is_known_but_nothing_in_pytorch(name: str) -> None:
    member = memory_format[name]
    assert member.to(memory_format) is member
    assert member.try_to(torch.memory_format) is None
    with pytest.raises(InputError, match=name):
        member.to(torch.memory_format)


@pytest.mark.parametrize("given", [torch.preserve_format, "nchw", None, 1], ids=repr)
def test_what_is_no_layout_is_refused(given: object) -> None:
    assert memory_format.try_from(given) is None
    with pytest.raises(InputError, match="is not a memory_format"):
        memory_format._from(given)


@pytest.mark.parametrize(
    ("given", "member"),
    [
        ("gpu", DeviceType.GPU),
        ("CUDA", DeviceType.GPU),
        (torch.device("cuda:3"), DeviceType.GPU),
        (torch.device("cpu"), DeviceType.CPU),
        ("dla", DeviceType.DLA),
        ("unknown", DeviceType.UNKNOWN),
        (torch.device("meta"), None),
        ("tpu", None),
        (None, None),
    ],
    ids=repr,
)
def test_a_kind_of_device_is_found_by_name_and_by_torch_device(given: object, member: DeviceType | None) -> None:
    assert DeviceType.try_from(given) is member
    if member is None:
        with pytest.raises(InputError, match="is not a DeviceType"):
            DeviceType._from(given)


def test_a_kind_of_device_converts_to_a_torch_device() -> None:
    expected = {DeviceType.CPU: "cpu", DeviceType.GPU: "cuda", DeviceType.DLA: "cuda"}
    assert {kind: kind.to(torch.device) for kind in expected} == {k: torch.device(n) for k, n in expected.items()}
    assert DeviceType.UNKNOWN.try_to(torch.device) is None


def test_an_engine_capability_is_found_by_name() -> None:
    assert {EngineCapability._from(name.lower()) for name in ("STANDARD", "SAFETY", "DLA_STANDALONE")} == set(
        EngineCapability
    )
    with pytest.raises(InputError, match="STANDARD"):
        EngineCapability._from("fast")


@pytest.mark.parametrize(
    ("system", "machine", "member"),
    [
        ("linux", "x86_64", Platform.LINUX_X86_64),
        ("linux", "aarch64", Platform.LINUX_AARCH64),
        ("linux", "arm64", Platform.LINUX_AARCH64),
        ("win32", "AMD64", Platform.WIN_X86_64),
        ("win32", "ARM64", Platform.WIN_ARM64),
        ("darwin", "arm64", Platform.UNKNOWN),
        ("linux", "riscv64", Platform.UNKNOWN),
    ],
)
def test_the_platform_is_told_from_system_and_processor(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, member: Platform
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert Platform.current_platform() is member
