"""Device in its documented forms, on a machine that has none of them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch

from torch_tensorrt import Device, DeviceType, InputError

GPU, DLA, CPU = DeviceType.GPU, DeviceType.DLA, DeviceType.CPU
# form -> (device, kind, gpu_id, dla_core, torch device)
FORMS = {
    "cuda:0": (Device("cuda:0"), GPU, 0, -1, "cuda:0"),
    "cuda": (Device("cuda"), GPU, 0, -1, "cuda:0"),
    "gpu:1": (Device("gpu:1"), GPU, 1, -1, "cuda:1"),
    "GPU:1": (Device("GPU:1"), GPU, 1, -1, "cuda:1"),
    "gpu_id=2": (Device(gpu_id=2), GPU, 2, -1, "cuda:2"),
    "dla:1": (Device("dla:1", allow_gpu_fallback=True), DLA, 0, 1, "cuda:0"),
    "dla_core=1": (Device(dla_core=1), DLA, 0, 1, "cuda:0"),
    "gpu_id=1, dla_core=0": (Device(gpu_id=1, dla_core=0), DLA, 1, 0, "cuda:1"),
    "cpu": (Device("cpu"), CPU, -1, -1, "cpu"),
    "torch cpu": (Device(torch.device("cpu")), CPU, -1, -1, "cpu"),
    "torch cuda:1": (Device(torch.device("cuda:1")), GPU, 1, -1, "cuda:1"),
    "sm_89": (Device("sm_89"), GPU, 0, -1, "cuda:0"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_documented_form_gives_the_device_it_names(form: str) -> None:
    device, kind, gpu, core, as_torch = FORMS[form]
    assert (device.device_type, device.gpu_id, device.dla_core) == (kind, gpu, core)
    assert device.torch_device() == device.to(torch.device) == torch.device(as_torch)


def test_devices_are_values() -> None:
    distinct = {Device("cuda:0"), Device("cuda"), Device(gpu_id=0), Device("gpu:0"), Device("cuda:1"), Device("dla:0")}
    assert len(distinct) == 3
    assert Device("dla:0") != Device("dla:0", allow_gpu_fallback=True)
    assert Device("sm_89") != Device("cuda:0")
    for device, *_ in FORMS.values():
        assert copy.deepcopy(device) == pickle.loads(pickle.dumps(device)) == device
        assert f"gpu_id={device.gpu_id}" in repr(device)
    with pytest.raises(AttributeError):
        Device("cpu").gpu_id = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "capability"),
    [("sm_75", (7, 5)), ("sm_89", (8, 9)), ("SM_120", (12, 0)), ("sm80", (8, 0)), ("cuda:0", None)],
)
def test_a_compute_capability_names_a_target_that_is_not_here(name: str, capability: tuple[int, int] | None) -> None:
    assert Device(name).compute_capability == capability


BAD = {
    "unknown name": (lambda: Device("tpu:0"), r"tpu:0.*sm_89"),
    "no index": (lambda: Device("cuda:"), r"cuda:"),
    "negative index": (lambda: Device("cuda:-1"), r"cuda:-1"),
    "one digit of capability": (lambda: Device("sm_8"), r"sm_8"),
    "empty name": (lambda: Device(""), r"not a device"),
    "a device of PyTorch that is none of ours": (lambda: Device(torch.device("meta")), r"meta"),
    "nothing": (lambda: Device(), r"gpu_id"),
    "two names": (lambda: Device("cuda:0", "cuda:1"), r"one name"),
    "name and index": (lambda: Device("cuda:0", gpu_id=1), r"gpu_id=1"),
    "negative gpu_id": (lambda: Device(gpu_id=-1), r"gpu_id=-1"),
    "gpu_id of a wrong type": (lambda: Device(gpu_id="0"), r"gpu_id='0'"),  # type: ignore[arg-type]
    "dla_core of a wrong type": (lambda: Device(dla_core=True), r"dla_core=True"),
    "fallback of a wrong type": (lambda: Device("dla:0", allow_gpu_fallback=1), r"allow_gpu_fallback=1"),  # type: ignore[arg-type]
    "a number": (lambda: Device._from(0), r"0 is not a device"),
    "conversion to a string": (lambda: Device("cpu").to(str), r"torch\.device"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_device_is_one_input_error(name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(InputError, match=words):
        make()


def test_what_names_a_device_becomes_one() -> None:
    device = Device("cuda:1")
    assert Device._from(device) is device
    assert Device._from("cuda:1") == Device._from(torch.device("cuda:1")) == device


def test_no_device_means_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Device._from(None) == Device._current_device() == Device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert Device._from(None) == Device("cuda:1")


def test_naming_a_gpu_asks_cuda_nothing() -> None:
    code = (
        "import torch\n"
        "def refuse(*_): raise AssertionError('CUDA was asked')\n"
        "torch.cuda.is_available = torch.cuda.current_device = torch.cuda.device_count = torch.cuda._lazy_init = refuse\n"
        "from torch_tensorrt.spec.device import Device\n"
        "print(Device('cuda:1').torch_device(), Device('sm_89').compute_capability)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split("\n")[0] == "cuda:1 (8, 9)", done.stderr
