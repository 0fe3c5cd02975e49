"""Saved and loaded modules give the same numbers; what was changed or isn't ours is refused."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import torch_tensorrt
from torch_tensorrt import Input

ENGINES = ("eager", "openvino")


class Net(nn.Module):
    """A buffer that is written, a dict of results with None and a size, and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor, *, shift: Tensor | None = None) -> dict[str, object]:
        self.calls.add_(1)
        y = self.second(torch.relu(self.first(x))) * self.calls
        return {"y": y if shift is None else y + shift, "none": None, "batch": x.shape[0]}


RANGE = Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))
SHIFT = {"shift": torch.ones(4)}


def net(engine: str, given: Input) -> torch_tensorrt.CompiledModule:
    torch.manual_seed(0)
    return torch_tensorrt.compile(Net().eval(), inputs=[given], kwarg_inputs=SHIFT, engine=engine, min_block_size=1)


def agrees(module: nn.Module, batch: int) -> None:
    torch.manual_seed(0)
    reference, x = Net().eval(), torch.randn(batch, 8)
    for _ in range(2):  # the buffer goes on counting
        ours, eager = module(x, **SHIFT), reference(x, **SHIFT)
        torch.testing.assert_close(ours["y"], eager["y"], rtol=1e-5, atol=1e-5)
        assert (ours["none"], ours["batch"]) == (None, batch)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("retrace", [True, False])
def test_a_module_of_fixed_sizes_comes_back(engine: str, retrace: bool, tmp_path: Path) -> None:
    torch_tensorrt.save(net(engine, Input((4, 8))), tmp_path / "net.ep", retrace=retrace)
    agrees(torch_tensorrt.load(tmp_path / "net.ep").module(), 4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("retrace", [True, False])
def test_a_module_of_varying_sizes_keeps_its_range(engine: str, retrace: bool, tmp_path: Path) -> None:
    torch_tensorrt.save(net(engine, RANGE), tmp_path / "net.ep", retrace=retrace)
    for batch in (1, 3, 16):
        agrees(torch_tensorrt.load(tmp_path / "net.ep").module(), batch)


def test_explicit_dims_trace_again_for_their_range() -> None:
    file, x = io.BytesIO(), torch.randn(4, 8)
    shapes = {"x": {0: Dim("batch", min=2, max=8)}, "shift": None}
    torch_tensorrt.save(net("openvino", RANGE), file, inputs=[x], kwarg_inputs=SHIFT, dynamic_shapes=shapes)
    file.seek(0)
    agrees(torch_tensorrt.load(file).module(), 7)


def test_inputs_outside_the_compiled_range_are_refused() -> None:
    wider = Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(64, 8))
    with pytest.raises(torch_tensorrt.InputError, match=r"1 to 16"):
        torch_tensorrt.save(net("eager", RANGE), io.BytesIO(), inputs=[wider], kwarg_inputs=SHIFT)


def test_mixed_inputs_and_tensors_are_saved_for_fixed_sizes(caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    torch_tensorrt.save(net("eager", RANGE), file, inputs=[RANGE], kwarg_inputs=SHIFT)
    assert "mixed" in caplog.text
    file.seek(0)
    agrees(torch_tensorrt.load(file).module(), 4)


def test_extra_files_come_back_and_unknown_arguments_are_named(caplog: pytest.LogCaptureFixture) -> None:
    file, extras = io.BytesIO(), {"labels.txt": ""}
    torch_tensorrt.save(net("eager", RANGE), file, extra_files={"labels.txt": "cat"}, colour="blue")
    assert "colour" in caplog.text
    file.seek(0)
    torch_tensorrt.load(file, extra_files=extras)
    assert extras == {"labels.txt": "cat"}


def test_another_process_gives_the_same_numbers(tmp_path: Path) -> None:
    module, x = net("openvino", RANGE), torch.randn(5, 8)
    torch_tensorrt.save(module, tmp_path / "net.ep")
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import torch, torch_tensorrt; m = torch_tensorrt.load('net.ep').module(); "
        "torch.save(m(torch.load('x.pt'), shift=torch.ones(4))['y'], 'y.pt')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=180)
    assert torch.equal(torch.load(tmp_path / "y.pt"), module(x, **SHIFT)["y"])


@pytest.fixture(scope="module")
def saved() -> bytes:
    file = io.BytesIO()
    torch_tensorrt.save(net("openvino", RANGE), file)
    return file.getvalue()


def test_a_changed_byte_is_found_or_harmless(saved: bytes) -> None:
    chance = random.Random(0)
    found = 0
    for _ in range(300):
        place = chance.randrange(len(saved))
        changed = bytearray(saved)
        changed[place] ^= 1 << chance.randrange(8)
        try:
            agrees(torch_tensorrt.load(io.BytesIO(bytes(changed))).module(), 4)
        except torch_tensorrt.FileFormatError:
            found += 1
    assert found > 290


@pytest.mark.parametrize("length", [0, 1, 4, 100, 2000, -30, -1])
def test_a_truncated_file_is_refused(saved: bytes, length: int) -> None:
    with pytest.raises(torch_tensorrt.FileFormatError):
        torch_tensorrt.load(io.BytesIO(saved[:length]))


def test_a_program_that_torch_saved_loads_as_well() -> None:
    file = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),)), file)
    file.seek(0)
    assert torch_tensorrt.load(file).module()(torch.ones(1, 3)).shape == (1, 2)
