"""Portable files: an engine that doesn't fit the machine is built again from the program beside it, and nothing else changes."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.contracts.backend import Support
from torch_tensorrt.contracts.engine_bytes import decode, read_program
from torch_tensorrt.engines.inductor import cxx, sdk
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError

X = torch.randn(3, 6)
SIZES = {
    "fixed": torch_tensorrt.Input((3, 6)),
    "varying": torch_tensorrt.Input(min_shape=(1, 6), opt_shape=(3, 6), max_shape=(8, 6)),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.first(x).tanh()
        return {"mean": y.mean(-1), "scores": self.second(y).softmax(-1)}


def saved(sizes: str = "fixed", *, portable: bool = True, **options: object) -> io.BytesIO:
    compiled = torch_tensorrt.compile(Net().eval(), inputs=[SIZES[sizes]], min_block_size=1, **options)
    file = io.BytesIO()
    torch_tensorrt.save(compiled, file, portable=portable)
    file.seek(0)
    return file


def take_away_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a machine with neither OpenVINO nor a C++ compiler, nor the C++ runtime."""
    monkeypatch.setenv("TORCH_TENSORRT_RUNTIME", "off")
    for name in ("openvino", "inductor"):
        for question in ("available", "runnable"):
            monkeypatch.setattr(engines.backend(name), question, lambda device: Support(False, "it is not installed"))


def constants(program: torch.export.ExportedProgram) -> list[memoryview]:
    return [memoryview(tensor.numpy()) for tensor in program.state_dict.values() if tensor.dtype is torch.uint8]


@pytest.mark.parametrize("sizes", SIZES)
def test_on_another_machine_another_engine_is_built_with_a_warning(
    sizes: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = saved(sizes)
    take_away_sdks(monkeypatch)
    caplog.set_level(logging.WARNING, logger="torch_tensorrt")
    module = torch_tensorrt.load(file).module()
    for x in (X, *([torch.randn(7, 6)] if sizes == "varying" else [])):
        found, wanted = module(x), Net().eval()(x)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert "built again now with 'eager'" in caplog.text


def test_where_the_engine_fits_it_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="torch_tensorrt")
    found = torch_tensorrt.load(saved()).module()(X)
    torch.testing.assert_close(found, Net().eval()(X), rtol=1e-4, atol=1e-5)
    assert "built again" not in caplog.text


def test_a_refusal_says_that_portable_files_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    program = torch_tensorrt.load(saved(portable=False))
    take_away_sdks(monkeypatch)
    with pytest.raises(EngineNotRunnable, match=r"portable=True"):
        program.module()(X)


def test_a_portable_program_that_was_loaded_can_be_saved_as_one_again_and_another_can_not() -> None:
    again = io.BytesIO()
    torch_tensorrt.save(torch_tensorrt.load(saved()), again, portable=True)
    again.seek(0)
    assert all(read_program(data) is not None for data in constants(torch_tensorrt.load(again)))
    with pytest.raises(InputError, match="portable"):
        torch_tensorrt.save(torch_tensorrt.load(saved(portable=False)), io.BytesIO(), portable=True)


def test_the_engine_itself_is_the_same_with_and_without() -> None:
    compiled = torch_tensorrt.compile(Net().eval(), inputs=[X], min_block_size=1)
    files = [io.BytesIO(), io.BytesIO()]
    for portable, file in enumerate(files):
        torch_tensorrt.save(compiled, file, portable=bool(portable))
        file.seek(0)
    (plain,), (portable_one,) = (constants(torch_tensorrt.load(file)) for file in files)
    assert decode(plain)[0] == decode(portable_one)[0]
    assert bytes(decode(plain)[1]) == bytes(decode(portable_one)[1])


def test_the_options_of_the_compilation_are_kept() -> None:
    (data,) = constants(torch_tensorrt.load(saved(enabled_precisions={torch.float32, torch.bfloat16})))
    found = read_program(data)
    assert found is not None
    assert sorted(found[1]["enabled_precisions"]) == ["bfloat16", "float32"]


def test_a_changed_program_is_noticed_when_it_is_needed() -> None:
    (data,) = constants(torch_tensorrt.load(saved()))
    changed = bytearray(data)
    changed[-3] ^= 1
    decode(memoryview(changed))  # the engine is as it was
    with pytest.raises(FileFormatError, match="changed"):
        read_program(memoryview(changed))
    with pytest.raises(FileFormatError):
        decode(memoryview(bytes(changed) + b"more"))
    with pytest.raises(FileFormatError):
        decode(memoryview(bytes(changed)[:-1]))


def test_new_weights_are_never_saved_beside_an_old_program() -> None:
    compiled = torch_tensorrt.compile(Net().eval(), inputs=[X], min_block_size=1, immutable_weights=False)
    other = Net().eval()
    with torch.no_grad():
        other.first.weight.mul_(2)
    program = torch.export.export(other, (X,))
    refitted = torch_tensorrt.dynamo.refit_module_weights(compiled, program)
    with pytest.raises(InputError, match="portable"):
        torch_tensorrt.save(refitted, io.BytesIO(), portable=True)


def test_a_torchscript_file_can_be_portable_too(tmp_path: Path) -> None:
    compiled = torch_tensorrt.compile(Net().eval(), inputs=[X], min_block_size=1)
    torch_tensorrt.save(compiled, tmp_path / "net.ts", output_format="torchscript", inputs=[X], portable=True)
    found = torch_tensorrt.load(tmp_path / "net.ts")(X)
    torch.testing.assert_close(found["scores"], Net().eval()(X)["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("has_compiler", [True, False])
def test_native_code_for_another_processor_is_compiled_again_or_another_engine_is_built(
    has_compiler: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not engines.backend("inductor").available(torch.device("cpu")):
        pytest.skip("no C++ compiler here")
    target = sdk.target(torch.device("cpu"))
    monkeypatch.setattr(sdk, "target", lambda device: f"{target} avx4096f")  # while it is built
    file = saved("varying", engine="inductor")
    monkeypatch.undo()
    if not has_compiler:
        monkeypatch.setattr(cxx, "_answers", lambda command: False)
    caplog.set_level(logging.WARNING, logger="torch_tensorrt")
    module = torch_tensorrt.load(file).module()
    for rows in (1, 3, 8):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(module(x), Net().eval()(x), rtol=1e-4, atol=1e-5)
    assert "avx4096f" in caplog.text
    told = "compiled again now" if has_compiler else "built again now with 'openvino'"
    assert told in caplog.text
