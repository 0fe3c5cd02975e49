"""torch.compile with our backend: what it computes, what it shares and writes, and when it is compiled again."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.backends import registry
from torch._dynamo.exc import BackendCompilerFailed
from torch.utils import _pytree as pytree

import torch_tensorrt
from torch_tensorrt import BuildError, InputError, UnsupportedError
from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import entry, registration, torch_tensorrt_backend
from torch_tensorrt.engines.openvino.backend import OpenVINOBackend

SMALL = {"min_block_size": 1}


def compiled_by(model: Callable[..., object], **options: object) -> Callable[..., object]:
    """`model` through torch.compile, with blocks of any size."""
    return torch.compile(model, backend=torch_tensorrt_backend, options={**SMALL, **options})


def agree(answer: object, wanted: object) -> None:
    """Same structure, values, dtypes, shapes and strides."""
    (given, form), (expected, wanted_form) = pytree.tree_flatten(answer), pytree.tree_flatten(wanted)
    assert form == wanted_form
    for one, two in zip(given, expected, strict=True):
        if isinstance(two, Tensor):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, check_stride=True)
        else:
            assert one == two


def shared(args: object, results: object) -> list[tuple[int, int]]:
    """Which of all tensors in `args` and `results` show the same memory."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, results)) if isinstance(leaf, Tensor)]
    storages = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    return [
        (first, second)
        for first in range(len(storages))
        for second in range(first)
        if storages[first] == storages[second] != 0
    ]


# The names


def run_elsewhere(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_project_declares_both_names_so_that_they_work_without_importing_it() -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name in registration.NAMES:
        assert f'\n{name} = "torch_tensorrt.dynamo.backend:torch_tensorrt_backend"\n' in declared


def test_a_process_that_never_imports_the_package_finds_the_backend() -> None:
    installed = {point.name for point in registration.entry_points(group="torch_dynamo_backends")}
    if not set(registration.NAMES) <= installed:
        pytest.skip("the package was installed before it had entry points: make install")
    told = run_elsewhere(
        "import sys, torch\n"
        "model = torch.nn.Linear(4, 3).eval()\n"
        "compiled = torch.compile(model, backend='tensorrt', options={'min_block_size': 1})\n"
        "x = torch.randn(2, 4)\n"
        "with torch.inference_mode():\n"
        "    print((compiled(x) - model(x)).abs().max().item() < 1e-5, 'torch_tensorrt' in sys.modules)\n"
    )
    assert told.split() == ["True", "True"]


def test_importing_the_installed_package_does_not_import_dynamo() -> None:
    if not registration.entry_points(group="torch_dynamo_backends").select(name="torch_tensorrt"):
        pytest.skip("the package was installed before it had entry points: make install")
    assert run_elsewhere("import sys, torch_tensorrt; print('torch._dynamo' in sys.modules)").strip() == "False"


def test_a_package_that_is_imported_without_being_installed_registers_the_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for table in ("_BACKENDS", "_COMPILER_FNS"):
        monkeypatch.setattr(registry, table, {})
    none = registration.entry_points(group="no group of this name")
    monkeypatch.setattr(registration, "entry_points", lambda group: none)
    for _ in range(2):  # again: nothing happens
        registration.register_backends()
    for name in registration.NAMES:
        assert registry.lookup_backend(name) is torch_tensorrt_backend


@pytest.mark.parametrize("name", registration.NAMES)
def test_both_names_stand_for_the_backend(name: str, plans: list[Plan]) -> None:
    model, x = nn.Linear(4, 3).eval(), torch.randn(2, 4)
    with torch.no_grad():
        agree(torch.compile(model, backend=name, options=SMALL)(x), model(x))
    assert [plan.in_engines for plan in plans] == [1]


# The options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"min_blok_size": 3}, "Did you mean 'min_block_size'"),
        ({"min_block_size": "three"}, "min_block_size"),
        ({"engine": "no such engine"}, "no such engine"),
    ],
    ids=["misspelt", "wrong type", "unknown engine"],
)
def test_a_wrong_option_is_refused_with_our_error(options: Mapping[str, object], told: str) -> None:
    with pytest.raises(BackendCompilerFailed, match=re.escape(told)) as caught:
        torch.compile(torch.relu, backend=torch_tensorrt_backend, options=options)(torch.randn(3))
    assert isinstance(caught.value.inner_exception, InputError)


def test_torch_compile_checks_options_before_anything_is_called() -> None:
    with pytest.raises(InputError, match="Did you mean 'min_block_size'"):
        torch_tensorrt.torch_compile(nn.Linear(2, 2), min_blok_size=3)


def test_a_mode_of_inductor_is_refused() -> None:
    with pytest.raises(BackendCompilerFailed, match="mode='max-autotune' is for Inductor"):
        torch.compile(torch.relu, backend=torch_tensorrt_backend, mode="max-autotune")(torch.randn(3))


def test_torch_compile_is_torch_compile_with_options(plans: list[Plan]) -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval(), torch.randn(2, 4)
    compiled = torch_tensorrt.torch_compile(model, min_block_size=1, engine="eager", torch_executed_ops={"aten.relu"})
    assert plans == []
    with torch.no_grad():
        agree(compiled(x), model(x))
    (plan,) = plans
    assert plan.backend == "eager"
    assert list(plan.refusals.values()) == ["aten.relu.default is listed in torch_executed_ops"]


def test_the_verb_compile_has_torch_compile_as_an_ir(plans: list[Plan]) -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval(), torch.randn(2, 4)
    compiled = torch_tensorrt.compile(model, ir="torch_compile", inputs=[x], min_block_size=1)
    with torch.no_grad():
        agree(compiled(x), model(x))
        agree(compiled(x[:1]), model(x[:1]))
    assert len(plans) == 2
    with pytest.raises(InputError, match="Did you mean 'min_block_size'"):
        torch_tensorrt.compile(model, ir="torch_compile", inputs=[x], min_blok_size=1)


def test_engines_are_taken_from_the_engine_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = {"cache_built_engines": True, "reuse_cached_engines": True, "engine_cache_dir": str(tmp_path)}
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval(), torch.randn(2, 4)
    for taken in (0, 1):
        torch._dynamo.reset()
        caplog.clear()
        with torch.no_grad(), caplog.at_level("INFO", "torch_tensorrt"):
            agree(compiled_by(model, **cache)(x), model(x))
        assert caplog.text.count("taken from the engine cache") == taken


def test_modules_are_named_as_in_the_model(plans: list[Plan]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4), nn.Tanh()])[0], nn.Tanh()).eval()
    with torch.no_grad():
        compiled_by(model, torch_executed_modules={"1", "torch.nn.modules.activation.Tanh"})(torch.randn(2, 4))
    assert [why.partition(", listed")[0] for why in plans[0].refusals.values()] == [
        "it belongs to module '1'",
        "it belongs to module '2'",
    ]


def test_dryrun_prints_the_plan_and_runs_in_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = nn.Linear(4, 3).eval(), torch.randn(2, 4)
    with torch.no_grad():
        agree(compiled_by(model, dryrun=True)(x), model(x))
    assert "aten.linear.default" in capsys.readouterr().out


# What is computed


@dataclass(frozen=True)
class Case:
    """A function, the arguments of each call, and how many graphs come of it (None: any)."""

    run: Callable[..., object]
    calls: Callable[[], list[tuple[object, ...]]]
    graphs: int | None = 1


def breaks(x: Tensor) -> Tensor:
    """Two graphs."""
    y = (x * 2).relu()
    torch._dynamo.graph_break()
    return y.sin() + x


def chooses(x: Tensor) -> Tensor:
    """Python control flow on data: a graph before it, and one for each way."""
    return x * 2 if x.sum() > 0 else x.exp() - 1


def counts(x: Tensor) -> Tensor:
    """A result whose size depends on the data."""
    return x[x > 0] * 2


def writes(x: Tensor) -> Tensor:
    """Its input, too."""
    x.add_(1)
    return x * 2


def writes_a_view(x: Tensor) -> Tensor:
    """A part of its input."""
    x[1:].mul_(3)
    return x.relu()


def writes_one_of_two(x: Tensor, y: Tensor) -> Tensor:
    """Whether they share memory or not."""
    x.mul_(2)
    return x + y


def overlapping() -> list[tuple[object, ...]]:
    """Two views of one tensor."""
    base = torch.randn(6)
    return [(base[:4], base[2:])]


def numbers(x: Tensor, k: int, w: float) -> Tensor:
    """Arguments that are no tensors."""
    return (x * k).relu() * w + k


def sizes(x: Tensor) -> tuple[Tensor, int, int]:
    """Results that are no tensors."""
    return x.relu(), x.shape[0] * 2, 7


def structures(given: Mapping[str, Tensor], *, scale: Tensor) -> dict[str, object]:
    """Dicts, lists, None."""
    return {"a": [given["x"] * scale, None], "b": (given["y"].sin(), "text")}


def rows(*shapes: tuple[int, ...]) -> Callable[[], list[tuple[object, ...]]]:
    """A call for each shape."""
    return lambda: [(torch.randn(shape),) for shape in shapes]


CASES: Mapping[str, Case] = {
    "one graph": Case(lambda x: F.gelu(x @ x.mT).softmax(-1), rows((3, 4), (3, 4))),
    "a graph break": Case(breaks, rows((3, 4)), 2),
    "control flow on data": Case(chooses, lambda: [(torch.ones(3),), (-torch.ones(3),)], 3),
    "a size that depends on data": Case(counts, rows((8,), (8,)), None),
    "another size makes sizes vary": Case(lambda x: x.relu() * x.shape[0], rows((3, 4), (5, 4), (6, 4), (7, 4)), 2),
    "sizes 0 and 1": Case(lambda x: x.relu() + 1, rows((3, 4), (1, 4), (0, 4), (5, 4)), None),
    "other dtypes": Case(
        lambda x: x * 2 + 1, lambda: [(torch.randn(3).to(dtype),) for dtype in (torch.float32, torch.int64, torch.bool)], 3
    ),
    "another rank": Case(lambda x: x.relu().sum(-1), rows((3, 4), (2, 3, 4)), 2),
    "0-d": Case(lambda x, y: (x * y).sin(), lambda: [(torch.randn(()), torch.randn(3)), (torch.randn(()), torch.randn(()))], 2),
    "numbers that vary": Case(
        numbers, lambda: [(torch.randn(3), 2, 0.5), (torch.randn(3), 3, 0.5), (torch.randn(3), 4, 1.5), (torch.randn(3), 5, 2.5)], None
    ),
    "numbers as results": Case(sizes, rows((3,), (4,), (5,)), None),
    "transposed": Case(lambda x: x.relu() @ x.mT, lambda: [(torch.randn(4, 3).t(),)]),
    "strided with an offset": Case(lambda x: x.relu() + 1, lambda: [(torch.randn(8, 8)[2::2, 1:5],)]),
    "expanded": Case(lambda x: x.sin() * 2, lambda: [(torch.randn(1, 4).expand(3, 4),)]),
    "channels last": Case(
        lambda x: F.avg_pool2d(x.relu(), 2), lambda: [(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),)]
    ),
    "one tensor twice": Case(lambda x, y: x + y * 2, lambda: [(x := torch.randn(3), x)]),
    "float64": Case(lambda x: x.sin() + 1, lambda: [(torch.randn(3, dtype=torch.float64),)]),
    "complex": Case(lambda x: x * x.conj() + 1, lambda: [(torch.randn(3, dtype=torch.complex64),)], None),
    "writes its input": Case(writes, rows((3, 4), (3, 4))),
    "writes a view of its input": Case(writes_a_view, rows((3, 4))),
    "writes one of two inputs": Case(writes_one_of_two, lambda: [(torch.randn(4), torch.randn(4))]),
    "writes one of two inputs that overlap": Case(writes_one_of_two, overlapping, None),
    "returns its input": Case(lambda x: (x, x * 2), rows((3,))),
    "returns a view of its input": Case(lambda x: (x[1:], x.relu()), rows((3, 4))),
    "returns a view at an offset, with a size that varies": Case(
        lambda x: (x.t()[2:], x.relu()), rows((3, 4), (5, 4), (6, 4)), 2
    ),
    "returns two views of one result": Case(lambda x: (lambda y: (y[1:], y.t()))(x.relu() + 1), rows((3, 4))),
    "returns a result and a view of it": Case(lambda x: (lambda y: (y, y.view(-1)))(x.relu() + 1), rows((3, 4), (3, 4))),
    "returns a view of a result with another layout": Case(
        lambda x: F.max_pool2d(x, 2).permute(0, 2, 3, 1).view(-1, 3)[1:].unsqueeze(0).expand(2, -1, -1)[0].unbind(1),
        lambda: [(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),)],
    ),
    "returns parts of its input, with a size that varies": Case(
        lambda x: (*x.split(2, dim=1), *x.unbind(1), x.relu()), rows((3, 4), (5, 4), (6, 4)), 2
    ),
    "returns parts of a result": Case(lambda x: (x * 2).chunk(2), rows((4, 3))),
    "returns one result twice": Case(lambda x: (lambda y: (y, y))(x.relu() + 1), rows((3, 4))),
    "structures": Case(
        lambda x, y, s: structures({"x": x, "y": y}, scale=s), lambda: [(torch.randn(3), torch.randn(2), torch.randn(()))]
    ),
    "constants only": Case(lambda x: (torch.arange(4) * 2, x + 1), rows((3,))),
    "no tensor at all": Case(lambda k: torch.full((2, 2), k) + 1, lambda: [(3,), (3,)], None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_memory_and_written_inputs_are_those_of_pytorch(name: str, plans: list[Plan]) -> None:
    case = CASES[name]
    compiled = compiled_by(case.run)
    with torch.no_grad():
        for args in case.calls():
            ours = pytree.tree_map(lambda leaf: leaf, copy.deepcopy(args))
            wanted, given = case.run(*args), compiled(*ours)
            agree(given, wanted)
            agree(ours, args)
            assert shared(ours, given) == shared(args, wanted)
    assert case.graphs is None or len(plans) == case.graphs
    assert case.graphs is None or sum(plan.in_engines for plan in plans) >= (name != "float64")


def test_a_size_marked_dynamic_varies_from_the_first_call(plans: list[Plan]) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU()).eval()
    compiled = compiled_by(model)
    with torch.no_grad():
        for rows_ in (3, 5, 9):
            x = torch.randn(rows_, 4)
            torch._dynamo.mark_dynamic(x, 0, min=2, max=16)
            agree(compiled(x), model(x))
    assert len(plans) == 1


def test_a_size_that_the_model_fixes_is_compiled_for_each_value(plans: list[Plan]) -> None:
    def run(x: Tensor) -> Tensor:
        return x.relu() if x.shape[0] < 4 else x.sin()

    compiled = compiled_by(run)
    for size in (2, 3, 5, 6):
        x = torch.randn(size, 2)
        agree(compiled(x), run(x))
    assert len(plans) <= 4


def test_dynamic_false_compiles_for_each_size(plans: list[Plan]) -> None:
    compiled = torch_tensorrt.torch_compile(torch.relu, dynamic=False, min_block_size=1)
    for size in (2, 3, 4):
        compiled(torch.randn(size))
    assert len(plans) == 3


def test_fullgraph_refuses_a_graph_break() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch_tensorrt.torch_compile(breaks, fullgraph=True)(torch.randn(3))


class Stateful(nn.Module):
    """Counts calls in a buffer, and keeps the last input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        """The last result enters this one."""
        self.calls += 1
        y = self.linear(x) + self.last * self.calls
        self.last.copy_(y)
        return y


def test_buffers_written_in_forward_are_the_models_own(plans: list[Plan]) -> None:
    model = Stateful().eval()
    reference, compiled = copy.deepcopy(model), compiled_by(model)
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(2, 4)
            agree(compiled(x), reference(x))
            agree(dict(model.named_buffers()), dict(reference.named_buffers()))
    assert len(plans) == 1


def test_batch_norm_in_training_mode_without_gradients_updates_its_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    reference, compiled = copy.deepcopy(model), compiled_by(model)
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(2, 3, 8, 8)
            agree(compiled(x), reference(x))
    agree(model.state_dict(), reference.state_dict())


def test_eval_and_train_are_different_graphs(plans: list[Plan]) -> None:
    model, x = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5)), torch.randn(8, 4)
    compiled = compiled_by(model)
    with torch.no_grad():
        assert (compiled(x) == 0).sum() > 100  # training mode
        model.eval()
        agree(compiled(x), model(x))
        model.train()
        assert (compiled(x) == 0).sum() > 100
    assert len(plans) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_way_to_infer_goes_into_engines(mode: Callable[[], object], plans: list[Plan]) -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8)).eval(), torch.randn(2, 4)
    with mode():  # type: ignore[attr-defined]
        answer, wanted = compiled_by(model)(x), model(x)
        assert answer.requires_grad == wanted.requires_grad
        assert answer.is_inference() == wanted.is_inference()
    agree(answer.detach(), wanted.detach())
    assert [plan.refusals for plan in plans] == [{}]


def test_several_instances_of_a_class_have_their_own_weights() -> None:
    models = [nn.Linear(4, 4).eval() for _ in range(3)]
    compiled, x = [compiled_by(model) for model in models], torch.randn(2, 4)
    with torch.no_grad():
        for _ in range(2):
            for run, model in zip(compiled, models, strict=True):
                agree(run(x), model(x))


def test_layers_that_are_called_in_a_loop_have_their_own_weights() -> None:
    layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)]).eval()
    run = compiled_by(lambda layer, x: layer(x).relu())
    x = torch.randn(2, 4)
    with torch.no_grad():
        for _ in range(3):
            for layer in layers:
                agree(run(layer, x), layer(x).relu())


def test_a_model_under_autocast_computes_in_the_lower_precision() -> None:
    model, x = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(4, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        answer, wanted = compiled_by(model)(x), model(x)
    assert answer.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(answer, wanted, rtol=3e-2, atol=3e-2)


# What can't go into engines


def refuse_to_build(*given: object, **options: object) -> object:
    """As an SDK does."""
    raise BuildError("refused: these are the SDK's own words") from ValueError("its own error")


def test_a_graph_that_no_engine_takes_runs_in_pytorch_with_a_warning_that_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(OpenVINOBackend, "build", refuse_to_build)
    model, x = nn.Linear(4, 4).eval(), torch.randn(2, 4)
    with torch.no_grad():
        agree(compiled_by(model)(x), model(x))
    (record,) = [record for record in caplog.records if "runs in PyTorch" in record.message]
    assert record.levelname == "WARNING"
    assert "BuildError: refused: these are the SDK's own words" in record.message


def test_pass_through_build_failures_raises_what_the_sdk_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVINOBackend, "build", refuse_to_build)
    with torch.no_grad(), pytest.raises(BackendCompilerFailed, match="its own error"):
        compiled_by(nn.Linear(4, 4), pass_through_build_failures=True)(torch.randn(2, 4))


def test_require_full_compilation_raises_and_lists_what_stays_in_pytorch() -> None:
    capture = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
    with capture, pytest.raises(BackendCompilerFailed, match="nonzero") as caught:
        compiled_by(lambda x: x.nonzero() + 1, require_full_compilation=True)(torch.randn(4))
    assert isinstance(caught.value.inner_exception, UnsupportedError)


def test_a_graph_that_autograd_can_not_trace_runs_in_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*given: object, **options: object) -> object:
        raise RuntimeError("some trouble of PyTorch's own")

    monkeypatch.setattr("torch._functorch.aot_autograd.aot_module_simplified", fails)
    x = torch.randn(3)
    agree(compiled_by(torch.sin)(x), x.sin())
    assert "AOTAutograd can't trace this graph: RuntimeError: some trouble of PyTorch's own" in caplog.text


def test_the_function_can_be_called_with_a_graph_that_is_not_of_dynamo() -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval().requires_grad_(requires_grad=False), torch.randn(2, 4)
    graph = torch.fx.symbolic_trace(model)
    graph.graph.output_node().args = ((graph.graph.output_node().args[0],),)  # Dynamo's graphs return tuples
    graph.recompile()
    run = torch_tensorrt_backend(graph, [x], min_block_size=1)
    with torch.no_grad():
        agree(run(x)[0], model(x))
        graph.get_parameter("0.weight").mul_(2)
        agree(run(x)[0], graph(x)[0])


@pytest.mark.parametrize("engine", ["eager", "openvino", "inductor"])
def test_engines_are_built_without_the_callers_autocast(engine: str, plans: list[Plan]) -> None:
    """Its casts are in the graph; operators that a pass computes again would be cast once more."""
    model, x = nn.Linear(64, 64).eval(), torch.randn(8, 64)

    def exact_inside(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return model(x).softmax(-1) @ x.T

    options = {"engine": engine, "truncate_double": True}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted, given = exact_inside(x), compiled_by(exact_inside, **options)(x)
        assert given.dtype == wanted.dtype == torch.float32
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
        model.double()
        wanted, given = exact_inside(x.double()), compiled_by(exact_inside, **options)(x.double())
        assert given.dtype == wanted.dtype == torch.float64
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
    assert all(plan.groups for plan in plans)


def test_a_graph_that_torch_export_made_is_taken(plans: list[Plan]) -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval(), torch.randn(2, 4)
    exported = torch.export.export(model, (x,)).module(check_guards=False)
    with torch.no_grad():
        agree(compiled_by(exported)(x), model(x))
        (given,) = torch_tensorrt_backend(
            torch.export.export(model, (x,)).graph_module, [*model.parameters(), x], options=SMALL
        )(*model.parameters(), x)
        agree(given, model(x))
    assert all(plan.groups for plan in plans)


def test_what_nobody_expected_while_compiling_runs_in_pytorch_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> object:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(entry, "compile_graph", fails)
    model, x = nn.Linear(4, 3).eval(), torch.randn(2, 4)
    with torch.no_grad():
        agree(compiled_by(model)(x), model(x))
    assert "runs in PyTorch: BuildError: This graph can't be compiled: OutOfMemoryError: no memory left" in caplog.text


def test_tracing_in_one_thread_and_torch_compile_in_another_wait_for_each_other_in_one_order() -> None:
    """torch.compile holds Dynamo's lock, which torch.export takes for control flow."""
    told = run_elsewhere(
        "import faulthandler, threading, torch, torch_tensorrt\n"
        "from torch_tensorrt.dynamo.backend import torch_tensorrt_backend\n"
        "faulthandler.dump_traceback_later(100, exit=True)\n"
        "begun, called = threading.Event(), threading.Event()\n"
        "class Branching(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        begun.set()\n"
        "        called.wait(2)  # in vain where the lock is held already\n"
        "        return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x + 1, (x,))\n"
        "def backend(graph, inputs, **_):\n"
        "    called.set()\n"
        "    return torch_tensorrt_backend(graph, inputs, options={'engine': 'eager', 'min_block_size': 1})\n"
        "compiled = torch.compile(torch.nn.Linear(4, 4).eval(), backend=backend)\n"
        "def call():\n"
        "    begun.wait()\n"
        "    with torch.no_grad():\n"
        "        compiled(torch.ones(2, 4))\n"
        "thread = threading.Thread(target=call)\n"
        "thread.start()\n"
        "torch_tensorrt.dynamo.trace(Branching().eval(), inputs=[torch.ones(3)])\n"
        "thread.join()\n"
        "print('both')\n"
    )
    assert told.split() == ["both"]
