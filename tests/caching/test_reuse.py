"""Compiling with the engine cache: the same engine isn't built twice, and never another one is taken for it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from caching.programs import Net, Renamed, partitions_of
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.caching.entry import MAGIC
from torch_tensorrt.caching.reuse import place_for
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.dynamo._engine_cache import BaseEngineCache
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.settings import CompilationSettings

BOTH = {"cache_built_engines": True, "reuse_cached_engines": True}
RANGE = torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))
ENGINES = ["eager", "openvino"]


class Builds:
    """Counts what the backends build."""

    def __init__(self) -> None:
        self.names: list[str] = []


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    counted = Builds()
    for name in ENGINES:
        kind = type(engines.backend(name))
        original = kind.build

        def build(
            self: object, partition: Partition, settings: CompilationSettings, original: object = original
        ) -> Engine:
            counted.names.append(partition.name)
            return original(self, partition, settings)  # type: ignore[operator]

        monkeypatch.setattr(kind, "build", build)
    yield counted


class Memory(BaseEngineCache):
    """Keeps entries in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def save(self, hash: str, blob: bytes) -> None:
        self.kept[hash] = blob

    def load(self, hash: str) -> bytes | None:
        return self.kept.get(hash)

    def engines(self) -> dict[str, bytes]:
        """The entries that are engines, not whole programs."""
        return {hash: blob for hash, blob in self.kept.items() if blob.startswith(MAGIC)}


def compiled(model: nn.Module, inputs: list[object], **options: object) -> CompiledModule:
    return torch_tensorrt.compile(model.eval(), inputs=inputs, min_block_size=1, **options)  # type: ignore[arg-type]


def agrees(module: nn.Module, model: nn.Module, *inputs: Tensor) -> None:
    torch.testing.assert_close(module(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("inputs", [[torch.ones(3, 8)], [RANGE]], ids=["fixed", "varying"])
def test_the_second_compilation_builds_nothing_and_runs_alike(
    engine: str, inputs: list[object], builds: Builds, tmp_path: Path
) -> None:
    first = compiled(Net(), inputs, engine=engine, engine_cache_dir=tmp_path, **BOTH)
    again = compiled(Net(), inputs, engine=engine, engine_cache_dir=tmp_path, **BOTH)
    assert len(builds.names) == 1
    for batch in (3,) if inputs[0] is not RANGE else (1, 5, 16):
        x = torch.randn(batch, 8)
        assert torch.equal(first(x), again(x))
    agrees(again, Net(), torch.randn(3, 8))


def test_a_kept_engine_serves_a_model_with_other_names_under_these(builds: Builds) -> None:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    other = compiled(Renamed(), [RANGE], custom_engine_cache=cache, **BOTH)
    assert len(builds.names) == 1
    agrees(other, Renamed(), torch.randn(7, 8))
    with pytest.raises(torch_tensorrt.InputError, match="tokens"):
        other(torch.randn(17, 8))
    op = torch.ops.tensorrt.execute_engine.default
    (call,) = [node for node in other.graph.nodes if node.target is op]
    assert '"name":"tokens"' in call.args[2]


def test_a_module_from_the_cache_is_saved_and_loaded_like_any_other(tmp_path: Path) -> None:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    torch_tensorrt.save(compiled(Renamed(), [RANGE], custom_engine_cache=cache, **BOTH), tmp_path / "net.ep")
    agrees(torch_tensorrt.load(tmp_path / "net.ep").module(), Net(), torch.randn(9, 8))


def test_new_weights_are_never_answered_with_old_ones(builds: Builds, tmp_path: Path) -> None:
    x, model = torch.randn(3, 8), Net()
    compiled(model, [x], engine_cache_dir=tmp_path, **BOTH)
    with torch.no_grad():
        model.second.bias[0] += 1
    agrees(compiled(model, [x], engine_cache_dir=tmp_path, **BOTH), model, x)
    assert len(builds.names) == 2


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [({}, {}, 2), ({"cache_built_engines": True}, {}, 2), (BOTH, {"cache_built_engines": True}, 2),
     ({"reuse_cached_engines": True}, BOTH, 2), ({"cache_built_engines": True}, {"reuse_cached_engines": True}, 1)],
)  # fmt: skip
def test_each_option_does_its_half(first: dict, second: dict, expected: int, builds: Builds) -> None:
    cache = Memory()
    for options in (first, second):
        compiled(Net(), [torch.ones(3, 8)], custom_engine_cache=cache, **options)
    assert len(builds.names) == expected


def test_without_the_options_no_folder_is_made(tmp_path: Path) -> None:
    compiled(Net(), [torch.ones(3, 8)], engine_cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_each_partition_is_an_entry_and_a_changed_one_is_built_alone(builds: Builds) -> None:
    class Two(nn.Module):
        def __init__(self, last: float) -> None:
            super().__init__()
            self.last = last

        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x * 2 + 1).values * self.last - 1

    cache, x = Memory(), torch.randn(4, 8)
    options = {"torch_executed_ops": {"aten.sort"}, "custom_engine_cache": cache, **BOTH}
    compiled(Two(2.0), [x], **options)
    assert len(builds.names) == 2
    agrees(compiled(Two(3.0), [x], **options), Two(3.0), x)
    assert len(builds.names) == 3
    assert len(cache.engines()) == 3


@pytest.fixture(scope="module")
def kept() -> tuple[str, bytes]:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    (entry,) = cache.engines().items()
    return entry


def test_a_damaged_entry_is_dropped_with_a_warning_and_built_anew(
    kept: tuple[str, bytes], builds: Builds, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hash, blob = kept
    path = tmp_path / f"{hash}.trtengine"
    path.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    module = compiled(Net(), [RANGE], engine_cache_dir=tmp_path, **BOTH)
    agrees(module, Net(), torch.randn(3, 8))
    assert builds.names == ["part_0"]
    assert "dropped" in caplog.text
    assert hash in caplog.text
    assert path.read_bytes() != blob[:-1] + bytes([blob[-1] ^ 1])
    compiled(Net(), [RANGE], engine_cache_dir=tmp_path, **BOTH)
    assert builds.names == ["part_0"]


def test_a_damaged_entry_is_removed_even_when_nothing_may_be_kept(kept: tuple[str, bytes], tmp_path: Path) -> None:
    hash, blob = kept
    (tmp_path / f"{hash}.trtengine").write_bytes(blob[:100])
    compiled(Net(), [RANGE], engine_cache_dir=tmp_path, reuse_cached_engines=True)
    assert list(tmp_path.iterdir()) == []


def damages(blob: bytes) -> Iterator[bytes]:
    chance = random.Random(0)
    for length in (0, 1, 47, 48, 100, len(blob) // 2, len(blob) - 1):
        yield blob[:length]
    yield blob + b"\0"
    for place in [*range(48), *(chance.randrange(48, len(blob)) for _ in range(60))]:
        damaged = bytearray(blob)
        damaged[place] ^= 1 << chance.randrange(8)
        yield bytes(damaged)


def test_every_damage_is_found(kept: tuple[str, bytes], caplog: pytest.LogCaptureFixture) -> None:
    hash, blob = kept
    cache, count = Memory(), 0
    (partition,) = partitions_of(Net(), [RANGE])
    settings = CompilationSettings.from_options(min_block_size=1, custom_engine_cache=cache, reuse_cached_engines=True)
    place = place_for(partition, engines.backend("openvino"), settings)
    assert place is not None
    cache.kept[hash] = blob
    assert place.key.hash == hash
    for damaged in damages(blob):
        cache.kept[hash] = damaged
        count += 1
        assert place.find() is None, damaged[:60]
    assert caplog.text.count("dropped") == count > 100


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(builds: Builds) -> None:
    x, cache = torch.randn(3, 8), Memory()
    double = Net()
    with torch.no_grad():
        double.second.weight *= 2
    compiled(Net(), [x], custom_engine_cache=cache, **BOTH)
    compiled(double, [x], custom_engine_cache=cache, **BOTH)
    (one, first), (other, second) = cache.engines().items()
    cache.kept = {one: second, other: first}
    agrees(compiled(Net(), [x], custom_engine_cache=cache, **BOTH), Net(), x)
    agrees(compiled(double, [x], custom_engine_cache=cache, **BOTH), double, x)
    assert len(builds.names) == 4


def test_a_cache_that_gives_something_else_than_bytes_is_named() -> None:
    class Wrong(Memory):
        def load(self, hash: str) -> bytes | None:
            return "text"  # type: ignore[return-value]

    with pytest.raises(torch_tensorrt.InputError, match=r"Wrong.*str"):
        compiled(Net(), [torch.ones(3, 8)], custom_engine_cache=Wrong(), **BOTH)


def test_what_a_cache_of_the_user_raises_is_not_hidden() -> None:
    class Broken(Memory):
        def save(self, hash: str, blob: bytes) -> None:
            raise ConnectionError("no route")

    with pytest.raises(ConnectionError, match="no route"):
        compiled(Net(), [torch.ones(3, 8)], custom_engine_cache=Broken(), **BOTH)


def test_a_folder_that_can_t_be_used_costs_a_warning_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    module = compiled(Net(), [torch.ones(3, 8)], engine_cache_dir=tmp_path / "file", **BOTH)
    agrees(module, Net(), torch.randn(3, 8))
    assert "engine cache" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_default_folder_is_not_trusted_when_others_may_write_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "torch_tensorrt_engine_cache"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    compiled(Net(), [torch.ones(3, 8)], **BOTH)
    compiled(Net(), [torch.ones(3, 8)], **BOTH)
    assert len(builds.names) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    compiled(Net(), [torch.ones(3, 8)], **BOTH)
    assert len(builds.names) == 2
    assert "can be written to by other users" in caplog.text


def test_a_backend_that_says_nothing_about_itself_is_not_cached(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(type(engines.backend("eager")), "fingerprint", lambda *_: None)
    for _ in range(2):
        compiled(Net(), [torch.ones(3, 8)], engine="eager", engine_cache_dir=tmp_path, **BOTH)
    assert len(builds.names) == 2
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys, torch, torch_tensorrt
from torch_tensorrt import engines
from caching.programs import Net
kind, builds = type(engines.backend("openvino")), []
original = kind.build
kind.build = lambda *given: builds.append(1) or original(*given)
x = torch.ones(3, 8)
module = torch_tensorrt.compile(
    Net(), inputs=[x], min_block_size=1, cache_built_engines=True, reuse_cached_engines=True, engine_cache_dir=sys.argv[1]
)
torch.testing.assert_close(module(x), Net()(x), rtol=1e-4, atol=1e-5)
print(len(builds))
"""


def test_processes_one_after_the_other_and_at_once_share_the_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    at_once = [start(), start()]
    told = [worker.communicate(timeout=300) for worker in at_once]
    assert [worker.returncode for worker in at_once] == [0, 0], told
    later = start()
    out, errors = later.communicate(timeout=300)
    assert (out.strip(), later.returncode) == ("0", 0), errors
    assert len(list(tmp_path.iterdir())) == 2  # an engine and a program
