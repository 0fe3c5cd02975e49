"""Damaged files: some hundreds here, 10,000 by `make fuzz`. Each gives the right numbers, or is refused by an error of ours."""

from __future__ import annotations

import contextlib
import io
import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from archives import END, SEAL, Archive, reseal
from fuzzing import GOOD, Outcome, run, summary
from mutations import (
    GOLDEN,
    KINDS,
    edit_json_member,
    edit_members,
    flip,
    golden,
    make,
    set_zip_fields,
    splice,
    truncate,
)

import torch_tensorrt
from torch_tensorrt import FileFormatError, TorchTensorRTError
from torch_tensorrt.package import loading

FILES = 300


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """What became of the first files, loaded and run in child processes."""
    return list(run(range(FILES)))


def test_no_damaged_file_does_harm(outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.failed]
    assert failed == [], summary(failed)


def test_every_file_has_an_outcome_and_both_kinds_occur(outcomes: list[Outcome]) -> None:
    assert [outcome.number for outcome in outcomes] == list(range(FILES))
    kinds = {outcome.outcome for outcome in outcomes}
    assert {"right", "refused"} <= kinds
    assert {outcome.how.partition(" (")[0] for outcome in outcomes} == set(KINDS)


def test_files_are_made_from_numbers_alone() -> None:
    assert make(7) == make(7)
    assert len({make(number).data for number in range(50)}) > 45


def test_a_file_that_is_sealed_again_is_refused_for_what_is_in_it_not_for_its_seal(outcomes: list[Outcome]) -> None:
    sealed = [outcome for outcome in outcomes if "sealed" in outcome.how and outcome.outcome == "refused"]
    assert sum("SHA-256" in outcome.detail for outcome in sealed) < len(sealed) / 10


def test_the_watch_sees_harm(tmp_path: Path) -> None:
    """The fuzzer has to be able to fail: a child that is told of an outcome outside of GOOD counts it."""
    harmful = Outcome(0, "made up (x.ep)", "left files", "planted")
    assert harmful.failed
    assert "1 failures" in summary([harmful])
    assert all(not Outcome(0, "x (y)", name).failed for name in GOOD)


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_engine_or_torchscript_file_is_described_or_refused(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    files = sorted(path for path in GOLDEN.iterdir() if path.suffix in {".engine", ".ts"})
    good = dice.choice(files)
    path = tmp_path / good.name
    data = good.read_bytes()
    change = dice.choice((flip, splice, lambda old, d: old[: d.randrange(len(old))]))
    path.write_bytes(change(data, dice))
    try:
        report = torch_tensorrt.inspect_file(path)
    except TorchTensorRTError:
        return
    assert report.size == path.stat().st_size
    assert report.seal != "right" or path.read_bytes() == data
    if good.suffix == ".engine":
        with pytest.raises(FileFormatError):
            torch_tensorrt.load(path)


# A TorchScript file and an AOTInductor package are loaded by PyTorch's own code, which believes what it reads: native code is
# native code. What is ours is all that comes before it, so that is what is fuzzed: the loaders are taken away.


def package_of(engine: bytes) -> bytes:
    """The members that AOTInductor writes, with an engine among the constants of what stands for the library."""
    folder, buffer = "model/data/aotinductor/model", io.BytesIO()
    described = Archive.read(golden("openvino-dynamic.ep"))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{folder}/x.wrapper.so", b"\x7fELF" + bytes(5000) + engine + bytes(77))
        archive.writestr(f"{folder}/x_metadata.json", '{"AOTI_DEVICE_KEY": "cpu", "AOTI_CPU_ISA": "AVX2"}')
        archive.writestr("model/extra/torch_tensorrt.json", described.members[described.find("torch_tensorrt.json")])
        archive.writestr("model/extra/note.txt", "hello")
    return reseal(buffer.getvalue())


ARCHIVES = (flip, splice, set_zip_fields, edit_json_member, edit_members)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["torchscript", "aot_inductor"])
def test_files_that_pytorch_loads_are_refused_before_it_or_handed_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_on: list[str] = []
    monkeypatch.setattr(loading, "load_package", lambda *_: handed_on.append("aot_inductor"))
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: handed_on.append("torchscript") or torch.nn.Module())
    data = golden("openvino-dynamic.ts") if kind == "torchscript" else package_of(golden("openvino.engine"))
    path = tmp_path / "file"
    outcomes: Counter[str] = Counter()
    for seed in range(250):
        dice = random.Random(seed)
        sealed = seed % 2 == 1
        changed = truncate(data, dice)[0] if seed % 10 == 0 else dice.choice(ARCHIVES)(data, dice)
        path.write_bytes(reseal(changed) if sealed else changed)
        handed_on.clear()
        for look in (torch_tensorrt.inspect_file, lambda path: torch_tensorrt.load(path, extra_files={})):
            with contextlib.suppress(TorchTensorRTError):
                look(path)
        outcomes["handed on" if handed_on else "refused"] += 1
        if handed_on and not sealed:  # all that the seal covers is as it was, or there is no seal
            assert changed.startswith(data[: data.rfind(END)]) or SEAL not in changed
        assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert min(outcomes["handed on"], outcomes["refused"]) > 25, outcomes
