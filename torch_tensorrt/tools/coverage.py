"""How much of a model goes into engines, and how exactly the result agrees with PyTorch. Uses public names only."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import torch_tensorrt

Arguments: TypeAlias = "tuple[tuple[object, ...], dict[str, object]]"
Sample: TypeAlias = Callable[[int], Arguments]  # batch size -> random (args, kwargs)
BATCHES = (1, 4, 8)  # the smallest, usual and greatest batch of the dynamic compilation
BATCH = 4


class ModelRow(Protocol):
    """What an entry of a zoo file's `ROWS` has to offer."""

    @property
    def name(self) -> str:
        """For the table."""

    @property
    def sample(self) -> Sample:
        """Random arguments of a batch size."""

    def build(self) -> nn.Module:
        """The model in eval mode, the same at each call."""


@dataclass(frozen=True)
class Measurement:
    """One compilation of one model. `error` is the relative error, or None where `failure` says why there is none."""

    in_engines: int = 0
    total: int = 0
    engines: int = 0
    refusals: tuple[tuple[str, str], ...] = ()  # (operator, reason)
    error: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class ModelCoverage:
    """One model: compiled for one batch size, and for a range of them (None when the sizes can't vary).

    converted: the same as TensorRT-RTX engines, which are built and not run; None when nobody asked.
    """

    name: str
    static: Measurement
    dynamic: Measurement | None
    converted: tuple[Measurement, Measurement | None] | None = None  # both, for a GPU that need not be here

    @property
    def is_whole(self) -> bool:
        """True when all operations are in one single engine, whatever the batch."""
        return all(
            run is None or (run.engines == 1 and run.in_engines == run.total and not run.failure)
            for run in (self.static, self.dynamic)
        )


def rows_from_file(path: str) -> Sequence[ModelRow]:
    """The `ROWS` of a Python file. Raises torch_tensorrt.InputError when the file is missing or has none."""
    if not Path(path).is_file():
        raise torch_tensorrt.InputError(f"There is no file {path!r}; --zoo needs a Python file that defines ROWS.")
    spec = importlib.util.spec_from_file_location(f"zoo_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise torch_tensorrt.InputError(f"{path!r} is not a Python file; --zoo needs one that defines ROWS.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    rows: Sequence[ModelRow] = getattr(module, "ROWS", ())
    if not rows:
        raise torch_tensorrt.InputError(f"{path!r} has no ROWS; each row needs name, build() and sample(batch).")
    return rows


@dataclass(frozen=True)
class OwnModel:
    """A user's own model and one example call."""

    name: str
    module: nn.Module
    arguments: Arguments

    def build(self) -> nn.Module:
        """The model."""
        return self.module

    def sample(self, batch: int) -> Arguments:
        """The example call; its batch is what it is."""
        return self.arguments


def row_from_function(place: str) -> ModelRow:
    """The row of `module:function`; the function returns (model, args) or (model, args, kwargs).

    Raises torch_tensorrt.InputError when the place can't be found or gives something else.
    """
    module_name, _, function_name = place.partition(":")
    if not module_name or not function_name:
        raise torch_tensorrt.InputError(f"--model is {place!r}; it needs the form module:function.")
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise torch_tensorrt.InputError(f"--model {place!r} can't be found: {error}.") from error
    answer = function()
    if not isinstance(answer, tuple) or len(answer) not in (2, 3) or not isinstance(answer[0], nn.Module):
        raise torch_tensorrt.InputError(
            f"{place} gave a {type(answer).__name__}; it has to return (model, args) or (model, args, kwargs)."
        )
    model, args, *rest = answer
    return OwnModel(place, model.eval(), (tuple(args), dict(rest[0]) if rest else {}))


def dynamic_inputs(sample: Sample, batches: tuple[int, int, int] = BATCHES) -> Arguments | None:
    """(inputs, kwarg_inputs) of `torch_tensorrt.Input`s whose sizes follow `sample` at three batch sizes.

    None when no size follows the batch.
    """
    args, kwargs = (list(trees) for trees in zip(*(sample(batch) for batch in batches), strict=True))
    flat = [pytree.tree_leaves(call) for call in zip(args, kwargs, strict=True)]
    if all(
        isinstance(leaf, Tensor) and leaf.shape == flat[0][at].shape
        for leaves in flat
        for at, leaf in enumerate(leaves)
    ):
        return None
    merged = pytree.tree_map(_input_over, (args[0], kwargs[0]), (args[1], kwargs[1]), (args[2], kwargs[2]))
    inputs, keywords = merged
    return tuple(inputs), dict(keywords)


def _input_over(low: object, opt: object, high: object) -> object:
    if not (isinstance(low, Tensor) and isinstance(opt, Tensor) and isinstance(high, Tensor)):
        return opt
    if low.shape == high.shape:
        return opt
    return torch_tensorrt.Input(min_shape=low.shape, opt_shape=opt.shape, max_shape=high.shape, dtype=opt.dtype)


def relative_error(answer: object, reference: object) -> float:
    """||answer - reference|| / ||reference|| over all tensors of both results, in float64.

    Infinite when they don't hold the same number of tensors or a shape or dtype differs.
    """
    given, wanted = _tensors(answer), _tensors(reference)
    if [(tensor.shape, tensor.dtype) for tensor in given] != [(tensor.shape, tensor.dtype) for tensor in wanted]:
        return float("inf")
    distance = sum(float((one.double() - two.double()).square().sum()) for one, two in zip(given, wanted, strict=True))
    length = sum(float(tensor.double().square().sum()) for tensor in wanted)
    return float((distance / length) ** 0.5) if length else float(distance > 0)


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def measure_row(row: ModelRow, engine: str, target: str | None = None) -> ModelCoverage:
    """Compiles a row for one batch size and for a range, and compares both with PyTorch on fresh inputs.

    With a `target` ("sm_89"), both are also built as TensorRT-RTX engines for it.
    """
    model = row.build()
    torch.manual_seed(1)
    static = _measure(model, row.sample(BATCH), [row.sample(BATCH) for _ in range(2)], {"engine": engine})
    ranged = dynamic_inputs(row.sample)
    calls = [row.sample(batch) for batch in (1, 3, 4, 8)]
    dynamic = None if ranged is None else _measure(model, ranged, calls, {"engine": engine})
    if target is None:
        return ModelCoverage(row.name, static, dynamic)
    options = {"engine": "tensorrt_rtx", "device": target}
    both = [inputs and _measure(model, inputs, (), options) for inputs in (row.sample(BATCH), ranged)]
    assert both[0] is not None
    return ModelCoverage(row.name, static, dynamic, (both[0], both[1]))


def _measure(
    model: nn.Module, described: Arguments, calls: Sequence[Arguments], options: Mapping[str, str]
) -> Measurement:
    inputs, keywords = described
    try:
        given = {"arg_inputs": list(inputs), "kwarg_inputs": keywords or None, **options}
        compiled = torch_tensorrt.dynamo.compile(model, **given)  # type: ignore[arg-type]
        with torch.no_grad():
            errors = [relative_error(compiled(*args, **kwargs), model(*args, **kwargs)) for args, kwargs in calls]
    except torch_tensorrt.TorchTensorRTError as error:
        return Measurement(failure=f"{type(error).__name__}: {error}".splitlines()[0])
    plan = compiled.plan
    if plan is None:
        return Measurement(failure="the compiled module carries no plan")
    assert plan is not None
    # Only the operator: the line of code that follows it names a path of this machine.
    refusals = tuple(
        (plan.operators.get(name, name).split(" at ")[0], reason) for name, reason in plan.refusals.items()
    )
    return Measurement(plan.in_engines, plan.total, len(plan.groups), refusals, max(errors, default=None))


def count_whole(results: Sequence[ModelCoverage]) -> str:
    """One sentence: how many models are in one single engine."""
    return f"{sum(result.is_whole for result in results)} of {len(results)} models are in one single engine."


def reasons(result: ModelCoverage) -> Iterator[str]:
    """`aten.nonzero.default (2): why` for each operator left in PyTorch, and what failed."""
    yield from _reasons(result.static, result.dynamic)
    if result.converted is not None:
        yield from (f"TensorRT-RTX: {reason}" for reason in _reasons(*result.converted))


def _reasons(static: Measurement, dynamic: Measurement | None) -> Iterator[str]:
    found: dict[tuple[str, str], int] = {}
    for run in (static, dynamic):
        counts: dict[tuple[str, str], int] = {}
        for refusal in run.refusals if run else ():
            counts[refusal] = counts.get(refusal, 0) + 1
        found.update({key: max(count, found.get(key, 0)) for key, count in counts.items()})
    for (operator, reason), count in found.items():
        yield f"{operator} ({count}): {reason}"
    for when, run in (("static", static), ("dynamic", dynamic)):
        if run and run.failure:
            yield f"{when}: {run.failure}"


def cells(run: Measurement | None) -> tuple[str, str, str]:
    """Nodes in engines / total, engines, relative error, as text."""
    if run is None:
        return "-", "-", "-"
    if run.failure:
        return "failed", "-", "-"
    return f"{run.in_engines} / {run.total}", str(run.engines), "-" if run.error is None else f"{run.error:.1e}"


def converted_cells(result: ModelCoverage) -> tuple[str, str]:
    """Nodes converted to TensorRT-RTX / total, with the number of engines where it is not 1; static and dynamic."""

    def shown(run: Measurement | None) -> str:
        nodes, engines, _ = cells(run)
        return nodes if engines in {"1", "-"} else f"{nodes} in {engines}"

    static, dynamic = result.converted or (None, None)
    return shown(static), shown(dynamic)


def markdown(results: Sequence[ModelCoverage], command: str, target: str | None = None) -> str:
    """The results as a Markdown page that begins with the command that made it."""
    lines = [
        "# Coverage",
        "",
        f"Made by `{command}`; don't edit. {count_whole(results)}",
        "",
        "Nodes: operations in engines / in the lowered graph. Error: the greatest ||compiled - eager|| / ||eager||",
        f"over fresh random inputs; static batch {BATCH}, dynamic batch {BATCHES[0]} to {BATCHES[2]}.",
        f"torch {torch.__version__}, float32.",
        "",
    ]
    titles = ["model", "nodes, static", "engines", "error", "nodes, dynamic", "engines", "error"]
    if target is not None:
        lines += [
            f"TensorRT-RTX: operations in engines that its SDK built for {target} here, without a GPU; none has been run.",
            "",
        ]
        titles += ["TensorRT-RTX, static", "dynamic"]
    lines += [_row([*titles, "left in PyTorch, and why"]), _row(["---"] * (len(titles) + 1))]
    for result in results:
        more = () if target is None else converted_cells(result)
        why = "<br>".join(reasons(result))
        lines.append(_row([result.name, *cells(result.static), *cells(result.dynamic), *more, why]))
    return "\n".join(lines) + "\n"


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def write_text(path: str, text: str) -> None:
    """Writes `path` in one step: a reader sees the old page or the new one."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".md")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
