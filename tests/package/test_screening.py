"""A file can't run code: each place of an archive that PyTorch would unpickle, evaluate or turn into source is planted with a bomb."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import torch_tensorrt
from torch_tensorrt.archives.expressions import check_expression, check_guard
from torch_tensorrt.spec.errors import FileFormatError

Members = dict[str, bytes]
MODEL, WEIGHTS, CONSTANTS = (
    "models/model.json",
    "weights/model_weights_config.json",
    "constants/model_constants_config.json",
)


class Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, mode: str) -> torch.Tensor:
        return (x * self.weight).reshape(x.shape[0] * 3)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.write_text, (self.target, "boom")


@pytest.fixture
def members() -> Members:
    sizes = {"x": {0: torch.export.Dim("batch", min=2, max=9)}, "mode": None}
    program = torch.export.export(Scale(), (torch.randn(4, 3), "plain"), dynamic_shapes=sizes)
    file = io.BytesIO()
    torch.export.save(program, file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members: Members) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    file.seek(0)
    return file


def edit(members: Members, ending: str, change: Callable[[Any], None]) -> None:
    (name,) = [name for name in members if name.endswith(ending)]
    document = json.loads(members[name])
    change(document)
    members[name] = json.dumps(document).encode()


def change_node(**fields: Any) -> Callable[[Members, Path], None]:
    def plant(members: Members, marker: Path) -> None:
        edit(members, MODEL, lambda model: model["graph_module"]["graph"]["nodes"][0].update(fields))

    return plant


def rename_input(members: Members, marker: Path) -> None:
    (name,) = [name for name in members if name.endswith(MODEL)]
    members[name] = members[name].replace(b'"x"', json.dumps(f"x=open({str(marker)!r}, 'w')").encode())


def evaluate_size(members: Members, marker: Path) -> None:
    def change(model: Any) -> None:
        values = model["graph_module"]["graph"]["sym_int_values"]
        next(iter(values.values()))["as_expr"]["expr_str"] = f"open({str(marker)!r}, 'w')"

    edit(members, MODEL, change)


def guard(members: Members, marker: Path) -> None:
    edit(members, MODEL, lambda model: model.update(guards_code=[f"open({str(marker)!r}, 'w') is None"]))


def quoted_constant(members: Members, marker: Path) -> None:
    (name,) = [name for name in members if name.endswith(MODEL)]
    code = f"plain' if open({str(marker)!r}, 'w') else '"
    assert b'"as_string": "plain"' in members[name]
    members[name] = members[name].replace(b'"as_string": "plain"', f'"as_string": {json.dumps(code)}'.encode())


def pickled_weight(members: Members, marker: Path) -> None:
    def change(config: Any) -> None:
        record = config["config"]["weight"]
        record["use_pickle"] = True
        (name,) = [name for name in members if name.endswith(record["path_name"])]
        members[name] = pickle.dumps(Bomb(marker))

    edit(members, WEIGHTS, change)


def opaque_constant(members: Members, marker: Path) -> None:
    record = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edit(members, CONSTANTS, lambda config: config["config"].update(bomb=record))
    (folder,) = [name.rpartition("/")[0] for name in members if name.endswith(CONSTANTS)]
    members[f"{folder}/opaque_obj_0"] = pickle.dumps(Bomb(marker))


def legacy_weights(members: Members, marker: Path) -> None:
    (folder,) = [name.rpartition("/")[0] for name in members if name.endswith(WEIGHTS)]
    members[f"{folder}/model.pt"] = pickle.dumps(Bomb(marker))


def sample_inputs(members: Members, marker: Path) -> None:
    (name,) = [name for name in members if name.endswith("sample_inputs/model.pt")]
    file = io.BytesIO()
    torch.save(Bomb(marker), file)
    members[name] = file.getvalue()


def empty_weight(members: Members, marker: Path) -> None:
    def change(config: Any) -> None:
        record = config["config"]["weight"]
        record["tensor_meta"]["sizes"] = [{"as_int": 2**40}]
        (name,) = [name for name in members if name.endswith(record["path_name"])]
        members[name] = b""

    edit(members, WEIGHTS, change)


def outside(members: Members, marker: Path) -> None:
    members["../outside.txt"] = b"boom"


PLANTS: dict[str, Callable[[Members, Path], None]] = {
    "a function of torch as operator": change_node(target="torch.hub.load"),
    "a library as operator": change_node(target="torch.ops.load_library"),
    "an operator on files": change_node(target="torch.ops.aten.from_file.default"),
    "a module of Python": change_node(target="math.__loader__.load_module"),
    "an input named like code": rename_input,
    "a size that is code": evaluate_size,
    "a guard that is code": guard,
    "a quote in a constant": quoted_constant,
    "a pickled weight": pickled_weight,
    "an opaque constant": opaque_constant,
    "weights of an older format": legacy_weights,
    "pickled sample inputs": sample_inputs,
    "a large tensor without bytes": empty_weight,
    "a member outside of the archive": outside,
}


def test_the_archive_that_all_attacks_start_from_is_loaded(members: Members) -> None:
    module = torch_tensorrt.load(archive_of(members)).module()
    assert torch.equal(module(torch.ones(2, 3), "plain"), torch.ones(6))


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_planted_archive_is_refused_and_nothing_runs(
    plant: Callable[[Members, Path], None], members: Members, tmp_path: Path
) -> None:
    plant(members, tmp_path / "marker")
    with pytest.raises(FileFormatError):
        torch_tensorrt.load(archive_of(members)).module()(torch.ones(2, 3), "plain")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "s0",
        "2*s0 + 1",
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(2), Pow(Symbol('s77', positive=True), Integer(-2)))",
        "FloorDiv(s0 - 1, 4)",
        "Max(1, Mod(s0, 8))",
        "(s0 > 3) & Eq(s1, 4)",
        "TruncToInt(Mul(Float('0.33333333333333331', precision=53), ToFloat(Symbol('s0', integer=True))))",
        "FloatPow(ToFloat(Symbol('s41', integer=True)), Float('-0.5', precision=53))",
        "TruncToInt(Mul(Float('-1.e-5', precision=53), ToFloat(Symbol('s0', integer=True))))",
    ],
)
def test_expressions_of_sizes_pass(text: str) -> None:
    check_expression(text, "here")


@pytest.mark.parametrize(
    "text",
    [
        "open('x')",
        "().__class__",
        "__import__('os')",
        "[x for x in s0]",
        "lambda: 0",
        "Symbol('s0', x=open('x'))",
        "Symbol(open)",
        "9**9**9",
        "Pow(Integer(9), Pow(Integer(9), Integer(99)))",
        "2 << 10**9",
        "Float('open(1)', precision=53)",
        "Float('1.5', precision=10**9)",
        "Float('1.5', precision=999999999)",
        "Float('1.5', dps='')",
        "Float('1e999999999', precision=53)",
        "Float(*'1')",
        "Float('1.5', **53)",
        "Float('1.5', precision=53.0)",
        "Float('1.5', precision=53, dps=9)",
        "Float('\u0661', precision=53)",
        "Float(1, 100000000)/3",
        "Float(sqrt(2), 10**8)",
        "Pow(Symbol('s0'), Float('1e9', precision=53))",
        "(" * 300,
        "1 +" * 10_000,
    ],
)
def test_other_expressions_do_not(text: str) -> None:
    with pytest.raises(FileFormatError):
        check_expression(text, "here")


def test_guards_are_comparisons_of_inputs() -> None:
    check_guard("L['x'].size()[0] % 8 == 0 and not (L['args'][0].size()[1] <= 2)", "here")
    for text in ("L['x'].numpy().tofile('x')", "math.factorial(9)", "torch.load('x')", "open('x')", "L['x'].__class__"):
        with pytest.raises(FileFormatError):
            check_guard(text, "here")
