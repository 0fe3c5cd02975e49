"""Each compile option of TensorRT's builder, read back from the builder's own configuration; targets; profiles; the engine cache.

TensorRT-RTX's configuration is real. TensorRT's is a stand-in with the same enums, since it can't be imported without its libraries.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor, nn

trt = pytest.importorskip("tensorrt_rtx")

import torch_tensorrt  # noqa: E402
from torch_tensorrt import engines  # noqa: E402
from torch_tensorrt.engines.tensorrt import build, configuring, sdk  # noqa: E402
from torch_tensorrt.engines.tensorrt.configuring import configure, target  # noqa: E402
from torch_tensorrt.engines.tensorrt.payload import read_payload  # noqa: E402
from torch_tensorrt.engines.tensorrt.refitting import with_facts  # noqa: E402
from torch_tensorrt.runtime.op import live_engine  # noqa: E402
from torch_tensorrt.spec.errors import BuildError, InputError, UnsupportedError  # noqa: E402
from torch_tensorrt.spec.settings import CompilationSettings  # noqa: E402
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec  # noqa: E402

RTX = sdk.load("tensorrt_rtx")
BACKEND = engines.backend("tensorrt_rtx")
Read = Callable[[Any], object]


def pool(name: str) -> Read:
    return lambda config: config.get_memory_pool_limit(getattr(trt.MemoryPoolType, name))


def flag(name: str) -> Read:
    return lambda config: config.get_flag(getattr(trt.BuilderFlag, name))


def attribute(name: str) -> Read:
    return lambda config: getattr(config, name)


ROWS: Mapping[str, tuple[dict[str, object], Read, object]] = {
    "optimization_level": ({"optimization_level": 5}, attribute("builder_optimization_level"), 5),
    "workspace_size": ({"workspace_size": 1 << 28}, pool("WORKSPACE"), 1 << 28),
    "num_avg_timing_iters": ({"num_avg_timing_iters": 4}, attribute("avg_timing_iterations"), 4),
    "max_aux_streams": ({"max_aux_streams": 3}, attribute("max_aux_streams"), 3),
    "no aux streams": ({"max_aux_streams": 0}, attribute("max_aux_streams"), 0),
    "sparse_weights": ({"sparse_weights": True}, flag("SPARSE_WEIGHTS"), True),
    "tiling": (
        {"tiling_optimization_level": "moderate"},
        attribute("tiling_optimization_level"),
        trt.TilingOptimizationLevel.MODERATE,
    ),
    "l2_limit_for_tiling": ({"l2_limit_for_tiling": 1 << 20}, attribute("l2_limit_for_tiling"), 1 << 20),
    "engine_capability": (
        {"engine_capability": torch_tensorrt.EngineCapability.SAFETY},
        attribute("engine_capability"),
        trt.EngineCapability.SAFETY,
    ),
    "version_compatible": ({"version_compatible": True}, flag("VERSION_COMPATIBLE"), True),
    "immutable_weights": ({"immutable_weights": False}, flag("REFIT_INDIVIDUAL"), True),
    "make_refittable": ({"make_refittable": True}, flag("REFIT_INDIVIDUAL"), True),
    "strip_engine_weights": ({"strip_engine_weights": True, "immutable_weights": False}, flag("STRIP_PLAN"), True),
    "enable_weight_streaming": ({"enable_weight_streaming": True}, flag("WEIGHT_STREAMING"), True),
    "disable_tf32": ({"disable_tf32": True}, flag("TF32"), False),
    "debug": ({"debug": True}, attribute("profiling_verbosity"), trt.ProfilingVerbosity.DETAILED),
}
TENSORRT_ONLY: Mapping[str, tuple[dict[str, object], Read, object]] = {
    "hardware_compatible": (
        {"hardware_compatible": True},
        attribute("hardware_compatibility_level"),
        trt.HardwareCompatibilityLevel.AMPERE_PLUS,
    ),
    "dla_core": ({"device": torch_tensorrt.Device("dla:1")}, attribute("DLA_core"), 1),
    "a DLA": ({"device": "dla:0"}, attribute("default_device_type"), trt.DeviceType.DLA),
    "allow_gpu_fallback": (
        {"device": torch_tensorrt.Device("dla:0", allow_gpu_fallback=True)},
        flag("GPU_FALLBACK"),
        True,
    ),
    "no gpu_fallback": ({"device": "dla:0"}, flag("GPU_FALLBACK"), False),
    "dla_sram_size": ({"dla_sram_size": 1 << 19}, pool("DLA_MANAGED_SRAM"), 1 << 19),
    "dla_local_dram_size": ({"dla_local_dram_size": 1 << 28}, pool("DLA_LOCAL_DRAM"), 1 << 28),
    "dla_global_dram_size": ({"dla_global_dram_size": 1 << 28}, pool("DLA_GLOBAL_DRAM"), 1 << 28),
}


class Config:
    """An IBuilderConfig of TensorRT: takes all, and keeps it. refuses: what it answers with an error in the log."""

    def __init__(self, refuses: str = "") -> None:
        self.flags, self.pools, self.refuses = {trt.BuilderFlag.TF32}, dict[object, int](), refuses
        self.avg_timing_iterations, self.timing_cache = 1, None

    def __setattr__(self, name: str, value: object) -> None:
        if name == self.__dict__.get("refuses"):
            sdk.hear("ERROR", f"{name} is not for this GPU")
        super().__setattr__(name, value)

    def set_flag(self, flag: object) -> None:
        if str(flag).endswith(self.refuses or "-"):
            return sdk.hear("ERROR", f"{flag} is not for this GPU")
        self.flags.add(flag)
        return None

    def clear_flag(self, flag: object) -> None:
        self.flags.discard(flag)

    def get_flag(self, flag: object) -> bool:
        return flag in self.flags

    def set_memory_pool_limit(self, pool: object, size: int) -> None:
        self.pools[pool] = size if not str(pool).endswith(self.refuses or "-") else size // 2

    def get_memory_pool_limit(self, pool: object) -> int:
        return self.pools[pool]

    def create_timing_cache(self, data: bytes) -> SimpleNamespace | None:
        return None if data == b"broken" else SimpleNamespace(data=data, serialize=lambda: data + b"+timed")

    def set_timing_cache(self, cache: SimpleNamespace, mismatch: bool) -> bool:
        if cache.data == b"of another GPU":
            return False
        self.timing_cache = cache
        return True

    def get_timing_cache(self) -> object:
        return self.timing_cache


class TensorRT:
    """The package `tensorrt`: RTX's enums, without what RTX alone has."""

    __version__ = "11.4.0"

    def __getattr__(self, name: str) -> object:
        if name == "ComputeCapability":
            raise AttributeError(name)
        return getattr(trt, name)


def tensorrt(version: str = "11.4.0") -> sdk.Sdk:
    module = TensorRT()
    module.__version__ = version  # type: ignore[misc]
    return sdk.Sdk("tensorrt", module, None)  # type: ignore[arg-type]


def configured(chosen: sdk.Sdk, config: object = None, **options: object) -> Any:
    """The configuration that `options` make."""
    settings = CompilationSettings.from_options(**options)
    builder = chosen.builder() if config is None else SimpleNamespace(create_builder_config=lambda: config)
    return configure(chosen, builder, settings).config


@pytest.mark.parametrize(("options", "read", "value"), ROWS.values(), ids=ROWS)
def test_an_option_stands_in_tensorrt_rtx_s_configuration(
    options: dict[str, object], read: Read, value: object
) -> None:
    assert read(configured(RTX)) != value or value == 1 << 28
    assert read(configured(RTX, **options)) == value


@pytest.mark.parametrize(
    ("options", "read", "value"), [*ROWS.values(), *TENSORRT_ONLY.values()], ids=[*ROWS, *TENSORRT_ONLY]
)
def test_an_option_stands_in_tensorrt_s_configuration(options: dict[str, object], read: Read, value: object) -> None:
    assert read(configured(tensorrt(), Config(), **options)) == value


def test_every_option_that_the_engine_honours_has_a_row_here() -> None:
    rows = [options for options, _, _ in (*ROWS.values(), *TENSORRT_ONLY.values())]
    known = {name.replace("make_refittable", "immutable_weights") for options in rows for name in options}
    elsewhere = {"timing_cache_path", "lazy_engine_init", "refit_identical_engine_weights"}  # below, and in refitting
    graph = {"enabled_precisions", "use_fp32_acc"}  # change the network
    assert configuring.HONOURED - known == elsewhere | graph


REFUSED = {
    "hardware_compatible": (
        {"hardware_compatible": True},
        r"can't honour hardware_compatible \(.*setHardwareCompatibilityLevel\(\) is unsupported",
    ),
    "dla_core": ({"device": "dla:0"}, "does not build for a DLA"),
    "dla_sram_size": ({"dla_sram_size": 1 << 19}, "can't honour dla_sram_size=524288: .*DLA"),
    "dla_local_dram_size": ({"dla_local_dram_size": 1 << 28}, "DLA"),
    "dla_global_dram_size": ({"dla_global_dram_size": 1 << 28}, "DLA"),
    "a capability": ({"device": "sm_90"}, "no ComputeCapability.SM90; what it knows is .*SM89"),
}


@pytest.mark.parametrize(("options", "says"), REFUSED.values(), ids=REFUSED)
def test_what_tensorrt_rtx_can_t_honour_is_an_error_in_its_own_words(options: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        configured(RTX, **options)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"optimization_level": 4}, "builder_optimization_level"),
        ({"version_compatible": True}, "VERSION_COMPATIBLE"),
        ({"workspace_size": 1 << 28}, "WORKSPACE"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_with_its_words(options: dict[str, object], refused: str) -> None:
    with pytest.raises(UnsupportedError, match=r"TensorRT 11\.4\.0 can't"):
        configured(tensorrt(), Config(refused), **options)


def test_stripped_engines_have_to_be_refittable() -> None:
    with pytest.raises(InputError, match=r"strip_engine_weights=True .*immutable_weights=False"):
        configured(RTX, strip_engine_weights=True)


# Targets


@pytest.mark.parametrize(
    ("device", "capabilities", "name"),
    [
        ("sm_89", ["SM89"], "sm_89"),
        ("sm_86,sm_120", ["SM86", "SM120"], "sm_86,sm_120"),
        (torch_tensorrt.Device("sm_75,sm_80,sm_86,sm_89,sm_120"), ["SM75", "SM80", "SM86", "SM89", "SM120"], None),
    ],
)
def test_capabilities_stand_in_the_configuration(device: object, capabilities: list[str], name: str | None) -> None:
    config = configured(RTX, device=device)
    found = [config.get_compute_capability(place).name for place in range(config.num_compute_capabilities)]
    assert found == capabilities
    settings = CompilationSettings.from_options(device=device)
    assert target(RTX, settings) == (name or str(device and "sm_75,sm_80,sm_86,sm_89,sm_120"))


def test_plans_of_other_targets_differ_and_say_so() -> None:
    plans = {}
    for device in ("sm_86", "sm_89", "sm_86,sm_89"):
        settings = CompilationSettings.from_options(device=device)
        partition = make_partition(lambda x: x.relu() + 1, [torch.ones(4)], BACKEND, settings=settings)
        engine = BACKEND.build(partition, settings)
        assert engine.spec.target == device
        plans[device] = engine.to_bytes()
    # Bytes 32 to 39 of RTX's plans: a mask of the capabilities (undocumented, seen in version 1.7).
    masks = {device: int.from_bytes(plan[32:40], "little") for device, plan in plans.items()}
    assert masks["sm_86,sm_89"] == masks["sm_86"] | masks["sm_89"]
    assert masks["sm_86"] != masks["sm_89"]


def test_tensorrt_builds_for_no_capability_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"not for sm_89 by name; engine='tensorrt_rtx' does"):
        configured(tensorrt(), Config(), device="sm_89")


def test_a_recorded_device_keeps_its_capabilities() -> None:
    from torch_tensorrt.spec.settings_record import record_settings, settings_from_record

    settings = CompilationSettings.from_options(device="sm_86,sm_89")
    assert settings_from_record(record_settings(settings)).device == settings.device


# Timings


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, b"+timed"), (b"old", b"old+timed"), (b"of another GPU", b"+timed"), (b"broken", b"+timed")],
)
def test_timings_are_kept_in_their_file_and_those_of_another_gpu_begin_anew(
    before: bytes | None, after: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "timings.bin"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    settings = CompilationSettings.from_options(timing_cache_path=str(path))
    builder = SimpleNamespace(create_builder_config=Config)
    configure(tensorrt(), builder, settings).save_timing_cache()
    assert path.read_bytes() == after
    assert [found.name for found in path.parent.iterdir()] == ["timings.bin"]


def test_tensorrt_rtx_says_that_it_measures_no_timings() -> None:
    (told,) = BACKEND.unhonoured(CompilationSettings.from_options(timing_cache_path="timings.bin"))
    assert "measures no timings" in told


def test_what_differs_between_the_packages_is_asked_in_one_file() -> None:
    room = Path(sdk.__file__).parent
    others = [path for path in room.rglob("*.py") if path.name != "sdk.py"]
    found = [path.name for path in others if re.search(r"is_rtx|is_ten|\.version\.startswith", path.read_text())]
    assert found == []


@pytest.mark.parametrize(("version", "flags"), [("10.13.0", 1), ("11.4.0", 0)])
def test_tensorrt_10_is_asked_for_a_strongly_typed_network(version: str, flags: int) -> None:
    asked: list[int] = []
    chosen = tensorrt(version)
    members = {"STRONGLY_TYPED": 0}
    chosen.module.NetworkDefinitionCreationFlag = SimpleNamespace(__members__=members)  # type: ignore[attr-defined]
    chosen.network(SimpleNamespace(create_network=asked.append))  # type: ignore[arg-type]
    assert asked == [flags]


# Profiles


class Scores(nn.Module):
    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        return (query @ keys.transpose(-1, -2)).softmax(-1)


def shapes(low: tuple[int, ...], opt: tuple[int, ...], high: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {"min_shape": low, "opt_shape": opt, "max_shape": high}


DECODE, PREFILL = shapes((1, 1, 8), (2, 1, 8), (4, 1, 8)), shapes((1, 2, 8), (1, 16, 8), (1, 32, 8))
KEYS = shapes((1, 1, 8), (2, 32, 8), (4, 64, 8))


def profiles_of(monkeypatch: pytest.MonkeyPatch, inputs: list[object]) -> list[dict[str, list[tuple[int, ...]]]]:
    """What the builder's profiles hold, as the SDK reads them back."""
    found: list[dict[str, list[tuple[int, ...]]]] = []
    add = build._add_profile

    def watched(definition: build.Definition, configuration: Any, place: int) -> None:
        class Watched:
            def create_optimization_profile(self) -> object:
                profile = definition.builder.create_optimization_profile()
                created.append(profile)
                return profile

        created: list[Any] = []
        add(build.Definition(definition.net, Watched(), definition.partition), configuration, place)  # type: ignore[arg-type]
        names = [spec.name for spec in definition.partition.inputs]
        found.append({name: [tuple(shape) for shape in created[0].get_shape(name)] for name in names})

    monkeypatch.setattr(build, "_add_profile", watched)
    torch_tensorrt.compile(
        Scores(), inputs=inputs, engine="tensorrt_rtx", device="sm_89", min_block_size=1, require_full_compilation=True
    )
    return found


def test_several_ranges_of_an_input_become_profiles_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    query = torch_tensorrt.Input(profiles=[DECODE, PREFILL], name="query")
    keys = torch_tensorrt.Input(**KEYS, name="keys")
    assert profiles_of(monkeypatch, [query, keys]) == [
        {"query": [(1, 1, 8), (2, 1, 8), (4, 1, 8)], "keys": [(1, 1, 8), (2, 32, 8), (4, 64, 8)]},
        {"query": [(1, 2, 8), (1, 16, 8), (1, 32, 8)], "keys": [(1, 1, 8), (1, 32, 8), (1, 64, 8)]},
    ]


def test_one_range_is_one_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = profiles_of(monkeypatch, [torch_tensorrt.Input(**KEYS), torch_tensorrt.Input(**KEYS)])
    assert only == {name: [(1, 1, 8), (2, 32, 8), (4, 64, 8)] for name in ("query", "keys")}


def test_inputs_with_unequal_numbers_of_profiles_are_refused() -> None:
    inputs = [
        torch_tensorrt.Input(profiles=[DECODE, PREFILL]),
        torch_tensorrt.Input(profiles=[KEYS, KEYS, KEYS]),
    ]
    with pytest.raises(InputError, match=r"2 and 3 profiles.*equally many"):
        torch_tensorrt.compile(Scores(), inputs=inputs, engine="tensorrt_rtx", device="sm_89")


def test_other_engines_serve_the_range_over_all_profiles() -> None:
    query = torch_tensorrt.Input(profiles=[DECODE, PREFILL])
    compiled = torch_tensorrt.compile(Scores(), inputs=[query, torch_tensorrt.Input(**KEYS)], min_block_size=1)
    for sizes in ((1, 1), (4, 1), (1, 32), (3, 20)):
        given = torch.randn(*sizes, 8), torch.randn(sizes[0], 5, 8)
        torch.testing.assert_close(compiled(*given), Scores()(*given))


def test_profiles_are_a_matter_of_building_and_not_of_files() -> None:
    several = TensorSpec("x", torch.float32, (Dim("s0", 1, 2, 9, ((1, 2, 4), (5, 6, 9))), Dim("s1", 1, 3, 7), 8))
    assert several.profiles == 2
    assert several.shapes_in(1) == ((5, 1, 8), (6, 3, 8), (9, 7, 8))
    plain = TensorSpec("x", torch.float32, (Dim("s0", 1, 2, 9), Dim("s1", 1, 3, 7), 8))
    assert plain.profiles == 1
    assert TensorSpec.from_json(several.to_json()) == plain


def test_a_profile_that_the_network_can_t_have_is_an_error_in_the_sdk_s_words() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(-1, 4) + 1

    good = shapes((4,), (8,), (16,))
    bad = torch_tensorrt.Input(profiles=[good, shapes((4,), (10,), (16,))])
    with pytest.raises((BuildError, InputError), match=r"profile 1|multiple|divisible|volume"):
        torch_tensorrt.compile(
            Doubled(), inputs=[bad], engine="tensorrt_rtx", device="sm_89", min_block_size=1,
            require_full_compilation=True,
        )  # fmt: skip


# The engine cache


def compiled_twice(folder: Path, *options: dict[str, object]) -> list[bool]:
    """Whether the second compilation took its engine from the cache, for each pair of options."""
    built: list[bytes] = []
    original = build.serialize

    def counted(definition: build.Definition, settings: CompilationSettings) -> bytes:
        built.append(b"")
        return original(definition, settings)

    context = pytest.MonkeyPatch()
    context.setattr("torch_tensorrt.engines.tensorrt.backend.serialize", counted)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    found = []
    for one in options:
        before = len(built)
        module = torch_tensorrt.compile(
            model, inputs=[torch.ones(2, 4)], engine="tensorrt_rtx", min_block_size=1, cache_built_engines=True,
            reuse_cached_engines=True, engine_cache_dir=str(folder), **one,
        )  # fmt: skip
        (constant,) = [buffer for buffer in module.buffers() if buffer.dtype is torch.uint8]
        assert live_engine(constant).engine.to_bytes()[:4] == b"vtrt"
        found.append(len(built) == before)
    context.undo()
    return found


def test_engines_are_taken_from_the_cache_for_the_same_target_and_options_only(tmp_path: Path) -> None:
    plain = {"device": "sm_89"}
    others = [{"device": "sm_86"}, {**plain, "optimization_level": 1}, {**plain, "debug": True}]
    assert compiled_twice(tmp_path, plain, plain, *others, plain) == [False, True, False, False, False, True]


def test_an_engine_for_other_profiles_of_the_same_range_is_another_one(tmp_path: Path) -> None:
    def engine_of(*profiles: dict[str, tuple[int, ...]]) -> bytes:
        module = torch_tensorrt.compile(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval(), inputs=[torch_tensorrt.Input(profiles=profiles)],
            engine="tensorrt_rtx", device="sm_89", min_block_size=1, cache_built_engines=True, reuse_cached_engines=True,
            engine_cache_dir=str(tmp_path),
        )  # fmt: skip
        (constant,) = [buffer for buffer in module.buffers() if buffer.dtype is torch.uint8]
        return live_engine(constant).engine.to_bytes()

    torch.manual_seed(1)
    whole = engine_of(shapes((1, 8), (2, 8), (9, 8)))
    torch.manual_seed(1)
    both = engine_of(shapes((1, 8), (2, 8), (4, 8)), shapes((5, 8), (6, 8), (9, 8)))
    torch.manual_seed(1)
    assert engine_of(shapes((1, 8), (2, 8), (4, 8)), shapes((5, 8), (6, 8), (9, 8))) == both
    assert whole != both


def test_an_engine_of_a_user_s_converter_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_tensorrt.engines.tensorrt.converters import converts

    settings = CompilationSettings.from_options(device="sm_89")
    partition = make_partition(torch.relu, [torch.ones(3)], BACKEND, settings=settings)
    assert BACKEND.fingerprint(partition, settings) == {
        "tensorrt_rtx": RTX.version,
        "target": "sm_89",
        "gpu": "",
        "verbosity": "LAYER_NAMES_ONLY",
        "names": ", ".join(spec.name for spec in (*partition.inputs, *partition.outputs)),
    }
    monkeypatch.setattr(converts, "users", lambda: frozenset({torch.ops.aten.relu.default}))
    assert BACKEND.fingerprint(partition, settings) is None


# Saved files


def test_a_portable_file_is_built_again_for_the_machine_that_can_t_run_its_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine may run the engine")
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    x = torch.randn(2, 4)
    module = torch_tensorrt.compile(model, inputs=[x], engine="tensorrt_rtx", device="sm_89", min_block_size=1)
    path = str(tmp_path / "portable.ep")
    torch_tensorrt.save(module, path, inputs=[x], portable=True)
    torch.testing.assert_close(torch_tensorrt.load(path).module()(x), model(x))
    assert any("sm_89" in record.getMessage() and "built again" in record.getMessage() for record in caplog.records)


def test_facts_of_a_build_that_needs_none_leave_the_plan_alone() -> None:
    settings = CompilationSettings.from_options(device="sm_89")
    partition = make_partition(torch.relu, [torch.ones(3)], BACKEND, settings=settings)
    net = build.define(RTX, partition, settings).net
    assert with_facts(b"plan", net, settings).parts() == (b"plan",)
    special = CompilationSettings.from_options(device="dla:1", version_compatible=True)
    found = read_payload(memoryview(b"".join(with_facts(b"plan", net, special).parts())))
    assert (found.host_code, found.dla_core) == (True, 1)


def test_the_builder_s_phases_are_shown_below_the_bar_of_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_tensorrt.observe import progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class AtOnce:
        daemon = False

        def __init__(self, seconds: float, draw: Callable[[io.StringIO], None], arguments: tuple[io.StringIO]) -> None:
            self.start = lambda: draw(*arguments)

        def cancel(self) -> None: ...

    screen = Terminal()
    monkeypatch.setattr(progress.threading, "Timer", AtOnce)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stderr", screen)
    advance = progress.Steps.advance

    def slowly(steps: progress.Steps, what: str) -> None:
        advance(steps, what)
        if steps._bar is not None:
            steps._bar.refresh()

    monkeypatch.setattr(progress.Steps, "advance", slowly)
    layers = [layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.GELU())]
    torch_tensorrt.compile(
        nn.Sequential(*layers).eval(), inputs=[torch.ones(2, 64)], engine="tensorrt_rtx", device="sm_89"
    )
    shown = screen.getvalue()
    assert "Building tensorrt_rtx engines" in shown
    assert "with TensorRT-RTX" in shown
