"""The table in docs/saving.md tells what `save` does."""

from __future__ import annotations

import io

import pytest

import torch_tensorrt
from tests.package.matrix import CASES, Case, _compiled, outcome, read_table, rows

QUICK = ("nothing", "tensor and Input", "tensors, one Dim 2..8")


def _marked(case: Case) -> object:
    refused = case.kind in {"ScriptModule", "nn.Module"}
    compiles = case.format == "aot_inductor" and not refused and case.kind != "nn.Module"
    quick = not compiles and (case.kind == "compiled" or refused) and case.given in QUICK
    return pytest.param(case, id=str(case), marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("case", [_marked(case) for case in CASES])
def test_the_table_is_right(case: Case) -> None:
    assert outcome(case) == read_table()[case]


def test_the_table_holds_every_case() -> None:
    table = read_table()
    assert set(table) == set(CASES)
    assert len(rows(table)) > len(CASES) / 8


@pytest.mark.parametrize("retrace", [True, False])
@pytest.mark.parametrize(("use_legacy_exporter", "same_as"), [(None, None), (True, False), (False, True)])
def test_use_legacy_exporter_decides_over_retrace(
    retrace: bool, use_legacy_exporter: bool | None, same_as: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []
    export = torch_tensorrt.package.exporting.torch.export.export
    monkeypatch.setattr(
        torch_tensorrt.package.exporting.torch.export, "export", lambda *a, **k: traced.append(1) or export(*a, **k)
    )
    torch_tensorrt.save(_compiled("4"), io.BytesIO(), retrace=retrace, use_legacy_exporter=use_legacy_exporter)
    assert bool(traced) == (retrace if same_as is None else same_as)


@pytest.mark.parametrize("flag", ["retrace", "use_legacy_exporter"])
def test_a_flag_is_true_or_false(flag: str) -> None:
    with pytest.raises(torch_tensorrt.InputError, match=f"{flag}='yes': True or False is needed"):
        torch_tensorrt.save(_compiled("4"), io.BytesIO(), **{flag: "yes"})
