"""Bad input: each case is one clear error of our own class, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import FileFormatError, InputError, TorchTensorRTError


class Scaled(nn.Module):
    """A model with a keyword argument that may be None."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        y = self.linear(x).relu()
        return y if scale is None else y * scale


def range_input() -> torch_tensorrt.Input:
    """Two to eight rows of six numbers."""
    return torch_tensorrt.Input(min_shape=(2, 6), opt_shape=(4, 6), max_shape=(8, 6), dtype=torch.float32, name="x")


@pytest.fixture(scope="module")
def compiled() -> nn.Module:
    """A compiled model for two to eight rows."""
    return torch_tensorrt.compile(Scaled().eval(), inputs=[range_input()], min_block_size=1)


@pytest.fixture(scope="module")
def saved(compiled: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good file."""
    path = tmp_path_factory.mktemp("good") / "model.ep"
    torch_tensorrt.save(compiled, str(path), inputs=[range_input()])
    return path.read_bytes()


BAD_CALLS: Mapping[str, tuple[Mapping[str, object], str]] = {
    "no inputs": ({}, r"[Nn]o inputs"),
    "both inputs and arg_inputs": ({"inputs": [(2, 6)], "arg_inputs": [(2, 6)]}, r"`?inputs`? and `?arg_inputs`?"),
    "a numpy array": ({"inputs": [np.zeros((2, 6), dtype=np.float32)]}, r"inputs\[0\].*numpy.*torch\.from_numpy"),
    "an object": ({"inputs": [object()]}, r"inputs\[0\].*object"),
    "a wrong type deep inside": ({"inputs": [{"a": (torch.zeros(1), {1, 2})}]}, r"inputs\[0\].*set"),
    "inputs that is a number": ({"inputs": 3}, r"`inputs`.*int.*list"),
    "kwarg_inputs that is a list": ({"kwarg_inputs": [torch.zeros(2, 6)]}, r"kwarg_inputs.*list.*dict"),
    "too many inputs": ({"inputs": [(2, 6), (2, 4), (1, 1)]}, r"forward"),
    "unknown keyword": ({"inputs": [(2, 6)], "kwarg_inputs": {"scal": torch.ones(4)}}, r"scal"),
    "misspelt option": ({"inputs": [(2, 6)], "min_blok_size": 1}, r"min_blok_size.*[Dd]id you mean.*min_block_size"),
    "option of a wrong type": ({"inputs": [(2, 6)], "min_block_size": "many"}, r"min_block_size.*many"),
    "negative block size": ({"inputs": [(2, 6)], "min_block_size": -1}, r"min_block_size.*-1"),
    "optimization level 9": ({"inputs": [(2, 6)], "optimization_level": 9}, r"optimization_level.*9"),
    "unknown engine": ({"inputs": [(2, 6)], "engine": "openvin"}, r"openvin.*openvino"),
    "unknown precision": ({"inputs": [(2, 6)], "enabled_precisions": {"f99"}}, r"f99"),
    "unknown ir": ({"inputs": [(2, 6)], "ir": "dynamite"}, r"dynamite.*dynamo"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_of_compile_is_one_input_error(name: str) -> None:
    arguments, words = BAD_CALLS[name]
    with pytest.raises(InputError, match=f"(?s){words}"):
        torch_tensorrt.compile(Scaled().eval(), **arguments)


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 6), (2, 6), (8, 6)),
        ((2, 6), (9, 6), (8, 6)),
        ((8, 6), (8, 6), (2, 6)),
        ((2, 6), (4, 6, 1), (8, 6)),
        ((-1, 6), (4, 6), (8, 6)),
    ],
    ids=["min over opt", "opt over max", "min over max", "ranks differ", "negative size"],
)
def test_an_input_whose_three_shapes_contradict_each_other_is_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    low, opt, high = shapes
    with pytest.raises(InputError, match=r"min|shape"):
        torch_tensorrt.Input(min_shape=low, opt_shape=opt, max_shape=high)


BAD_RUNS: Mapping[str, tuple[Callable[[], object], str]] = {
    "below the range": (lambda: torch.zeros(1, 6), r"x.*\b1\b.*\b2\b.*\b8\b"),
    "above the range": (lambda: torch.zeros(9, 6), r"x.*\b9\b.*\b2\b.*\b8\b"),
    "wrong fixed size": (lambda: torch.zeros(4, 7), r"x.*\b7\b.*\b6\b"),
    "wrong rank": (lambda: torch.zeros(4, 6, 1), r"x.*(rank|dim|shape)"),
    "float64 for float32": (lambda: torch.zeros(4, 6, dtype=torch.float64), r"x.*float64.*float32|x.*float32.*float64"),
    "int64 for float32": (lambda: torch.zeros(4, 6, dtype=torch.int64), r"x.*int64.*float32|x.*float32.*int64"),
    "wrong device": (lambda: torch.zeros(4, 6, device="meta"), r"x.*meta.*cpu|x.*cpu.*meta"),
    "not a tensor": (lambda: [[0.0] * 6] * 4, r"(?i)tensor|structure|list"),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_a_bad_run_is_one_input_error(compiled: nn.Module, name: str) -> None:
    make, words = BAD_RUNS[name]
    with pytest.raises(InputError, match=f"(?s){words}"):
        compiled(make())
    good = torch.randn(3, 6)
    assert compiled(good).shape == (3, 4), "the module has to work on after a refused call"


@pytest.mark.parametrize(
    "arguments", [(), (torch.zeros(4, 6), torch.zeros(4), torch.zeros(4))], ids=["too few", "too many"]
)
def test_a_run_with_a_wrong_number_of_arguments_is_one_input_error(
    compiled: nn.Module, arguments: tuple[Tensor, ...]
) -> None:
    with pytest.raises(InputError):
        compiled(*arguments)


def test_an_unknown_keyword_at_run_time_is_one_input_error(compiled: nn.Module) -> None:
    with pytest.raises(InputError, match="scal"):
        compiled(torch.zeros(4, 6), scal=torch.ones(4))


def test_an_empty_path_is_refused(compiled: nn.Module) -> None:
    with pytest.raises(InputError, match="path"):
        torch_tensorrt.save(compiled, "", inputs=[range_input()])
    with pytest.raises(InputError, match="path"):
        torch_tensorrt.load("")


def test_a_path_in_a_missing_folder_is_named(compiled: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "model.ep"
    with pytest.raises(TorchTensorRTError, match="missing"):
        torch_tensorrt.save(compiled, str(path), inputs=[range_input()])
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_a_folder_is_refused_and_the_folder_stays(compiled: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "model.ep"
    folder.mkdir()
    with pytest.raises(TorchTensorRTError, match=r"model\.ep"):
        torch_tensorrt.save(compiled, str(folder), inputs=[range_input()])
    assert list(tmp_path.iterdir()) == [folder]


def test_loading_what_does_not_exist_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(TorchTensorRTError, match=r"nothing\.ep"):
        torch_tensorrt.load(str(tmp_path / "nothing.ep"))


UNWRITABLE = """
    import sys, torch, torch_tensorrt
    from torch_tensorrt import TorchTensorRTError
    {limit}
    model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU()).eval()
    x = torch.randn(2, 256)
    compiled = torch_tensorrt.compile(model, inputs=[x], min_block_size=1)
    {before}
    try:
        torch_tensorrt.save(compiled, sys.argv[1], inputs=[x])
    except TorchTensorRTError as error:
        print("refused:", error)
"""


def save_in_child(path: Path, limit: str = "", before: str = "") -> subprocess.CompletedProcess[str]:
    """Compiles and saves in another process, which may limit itself first."""
    code = textwrap.dedent(UNWRITABLE).format(limit=limit, before=before)
    return subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_full_disk_while_saving_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model.ep"
    path.write_bytes(b"the old file")
    # Beyond the limit a write fails with an OSError, as on a full disk.
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    done = save_in_child(path, before=full)
    assert "refused:" in done.stdout, done.stdout + done.stderr
    assert "model.ep" in done.stdout
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_without_write_permission_is_one_error_and_stays_empty(tmp_path: Path) -> None:
    # A file where a folder is needed fails for every user, root included.
    blocker = tmp_path / "blocker"
    blocker.write_text("a file, not a folder")
    done = save_in_child(blocker / "model.ep")
    assert "refused:" in done.stdout, done.stdout + done.stderr
    assert "model.ep" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["blocker"]


FOREIGN: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "text": lambda good: b"This is not a model.\n" * 100,
    "truncated in the middle": lambda good: good[: len(good) // 2],
    "truncated by one byte": lambda good: good[:-1],
    "zeros": lambda good: bytes(len(good)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_damaged_or_foreign_file_is_a_file_format_error(saved: bytes, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.ep"
    path.write_bytes(FOREIGN[name](saved))
    with pytest.raises(FileFormatError, match=r"model\.ep"):
        torch_tensorrt.load(str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_zip_file_of_something_else_is_a_file_format_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.ep"
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(FileFormatError, match=r"weights\.ep"):
        torch_tensorrt.load(str(path))


def test_one_changed_byte_anywhere_is_noticed_or_harmless(saved: bytes, compiled: nn.Module, tmp_path: Path) -> None:
    """A changed byte may hit padding; then the answer stays exact. It never gives another answer or a foreign error."""
    path = tmp_path / "model.ep"
    x = torch.randn(3, 6)
    reference, noticed = compiled(x), 0
    places = range(7, len(saved), max(1, len(saved) // 60))
    for place in places:
        damaged = bytearray(saved)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            answer = torch_tensorrt.load(str(path)).module()(x)
        except FileFormatError:
            noticed += 1
        else:
            assert torch.equal(answer, reference), f"byte {place} of {len(saved)} changed the answer unnoticed"
    assert noticed > len(places) // 2


def test_saving_a_module_that_was_not_compiled_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compile"):
        torch_tensorrt.save(Scaled().eval(), str(tmp_path / "model.ep"), inputs=[range_input()])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_output_format_is_refused(compiled: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exported_programme.*exported_program"):
        torch_tensorrt.save(
            compiled, str(tmp_path / "model.ep"), output_format="exported_programme", inputs=[range_input()]
        )
    assert list(tmp_path.iterdir()) == []


def test_none_among_kwarg_inputs_means_none() -> None:
    model, x = Scaled().eval(), torch.randn(3, 6)
    compiled = torch_tensorrt.compile(model, inputs=[x], kwarg_inputs={"scale": None}, min_block_size=1)
    torch.testing.assert_close(compiled(x, scale=None), model(x))


def test_a_tensor_where_none_was_compiled_is_one_input_error() -> None:
    x = torch.randn(3, 6)
    compiled = torch_tensorrt.compile(Scaled().eval(), inputs=[x], kwarg_inputs={"scale": None}, min_block_size=1)
    with pytest.raises(InputError, match="scale"):
        compiled(x, scale=torch.ones(4))


def test_a_model_in_training_mode_is_compiled_as_in_eval_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.ReLU()).train()
    x = torch.randn(4, 6)
    with caplog.at_level("WARNING", logger="torch_tensorrt"):
        compiled = torch_tensorrt.compile(model, inputs=[x], min_block_size=1)
    assert "training mode" in caplog.text
    assert model.training, "the caller's model keeps its mode"
    assert model[1].training
    answer = compiled(x)
    torch.testing.assert_close(answer, model.eval()(x))


def test_something_that_is_not_a_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"function|lambda|callable|nn\.Module"):
        torch_tensorrt.compile(lambda x: x, inputs=[(2, 2)])
