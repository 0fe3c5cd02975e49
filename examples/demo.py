"""Two real networks, compiled, saved, loaded in another process, and compared with PyTorch. `make demo` runs this.

EfficientNet-Lite0 looks at two photos; MiniLM compares a dozen sentences of different lengths. All weights and photos
come from installed packages: no network is needed. The exit code is 1, with one line each, if anything disagrees.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import skimage.data
import torch
from efficientnet_lite0 import load_efficientnet, preprocess
from labels import label
from rich import box
from rich.console import Console
from rich.table import Table
from sentence_encoder import SENTENCES, load_encoder, tokenize
from timing import median_milliseconds
from torch import Tensor, nn

import torch_tensorrt

EXPECTED = {"chelsea": 285, "coffee": 967}
CNN_BOUND, TRANSFORMER_BOUND = 1e-5, 1e-4
console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


@dataclass
class Case:
    """One network and what becomes of it. calls: name -> arguments; times in seconds, latencies in milliseconds."""

    name: str
    model: nn.Module
    inputs: list[torch_tensorrt.Input]
    calls: dict[str, tuple[Tensor, ...]]
    timed: Sequence[str]
    bound: float
    seconds: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, dict[str, float]] = field(default_factory=dict)
    disagreements: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def efficientnet_case() -> Case:
    """EfficientNet-Lite0, one photo at a time."""
    calls = {name: (preprocess(getattr(skimage.data, name)()),) for name in EXPECTED}
    inputs = [torch_tensorrt.Input(shape=(1, 3, 224, 224), dtype=torch.float32)]
    return Case("EfficientNet-Lite0", load_efficientnet(), inputs, calls, ["chelsea"], CNN_BOUND)


def minilm_case() -> Case:
    """MiniLM with 1 to 16 sentences of 1 to 256 tokens."""
    tokens = {"min_shape": (1, 1), "opt_shape": (12, 32), "max_shape": (16, 256), "dtype": torch.int64}
    inputs = [torch_tensorrt.Input(name=name, **tokens) for name in ("input_ids", "attention_mask")]
    calls = {f"sentence {at}": tokenize([sentence]) for at, sentence in enumerate(SENTENCES)}
    calls["1 token"] = tokenize(["cat"])[0][:, 1:2], torch.ones(1, 1, dtype=torch.int64)
    calls["12 sentences"] = tokenize(list(SENTENCES))
    calls["16 x 256 tokens"] = tokenize([" ".join(SENTENCES * 4)] * 16)
    timed = ["sentence 0", "12 sentences"]
    return Case("MiniLM", load_encoder(), inputs, calls, timed, TRANSFORMER_BOUND)


def relative_error(answer: Tensor, reference: Tensor) -> float:
    """||answer - reference|| / ||reference||."""
    return float((answer - reference).double().norm() / reference.double().norm())


def clock(case: Case, what: str, step: Callable[[], object]) -> object:
    """Runs `step` and keeps its wall time under `what`."""
    start = time.perf_counter()
    result = step()
    case.seconds[what] = time.perf_counter() - start
    return result


def run_case(case: Case, folder: Path) -> dict[str, Tensor]:
    """Compiles, saves, loads in a child, compares and times one network. Gives the compiled module's answers."""
    console.rule(case.name)
    reference = {name: case.model(*arguments) for name, arguments in case.calls.items()}
    compiled = clock(case, "build", lambda: torch_tensorrt.compile(case.model, inputs=case.inputs))
    answers = {name: compiled(*arguments) for name, arguments in case.calls.items()}
    plan = compiled.plan
    coverage = f"{plan.in_engines} of {plan.total} nodes in {len(plan.groups)} engine(s)"
    console.print(f"compiled in {case.seconds['build']:.1f} s: {coverage}")
    if plan.in_engines < plan.total:
        case.disagreements.append(f"{case.name}: not all operations are in an engine: {coverage}")
    path = folder / f"{case.name}.ep"
    clock(case, "save", lambda: torch_tensorrt.save(compiled, str(path), inputs=case.inputs))
    console.print(f"saved in {case.seconds['save']:.1f} s: {path.stat().st_size / 1e6:.1f} MB")
    loaded = answers_of_child(case, path)
    compare(case, "compiled", answers, reference, case.bound)
    compare(case, "loaded in another process", loaded, answers, 1e-6)
    time_calls(case, compiled)
    return answers


def answers_of_child(case: Case, path: Path) -> dict[str, Tensor]:
    """What the saved file answers in a process that has never seen the model."""
    calls, answers = path.with_suffix(".calls.pt"), path.with_suffix(".answers.pt")
    torch.save(case.calls, calls)
    command = [sys.executable, __file__, "--child", str(path), str(calls), str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        case.disagreements.append(
            f"{case.name}: the saved file could not be run in another process:\n{done.stderr.strip()}"
        )
        return {}
    record = torch.load(answers, weights_only=True)
    case.seconds |= record["seconds"]
    ratio = case.seconds["build"] / case.seconds["load"]
    console.print(f"loaded in another process in {case.seconds['load']:.2f} s: {ratio:.1f} times faster than compiling")
    return record["answers"]


def run_child(path: str, calls: str, answers: str) -> None:
    """The other process: loads the saved file and runs it, nothing else."""
    arguments = torch.load(calls, weights_only=True)
    start = time.perf_counter()
    module = torch_tensorrt.load(path).module()
    loaded = time.perf_counter()
    module(*next(iter(arguments.values())))
    seconds = {"load": loaded - start, "first call": time.perf_counter() - loaded}
    torch.save({"seconds": seconds, "answers": {name: module(*call) for name, call in arguments.items()}}, answers)


def compare(case: Case, who: str, answers: dict[str, Tensor], reference: dict[str, Tensor], bound: float) -> None:
    """Prints the greatest relative error of all calls; one above `bound` is a disagreement."""
    errors = {name: relative_error(answers[name], reference[name]) for name in answers}
    if not errors:
        return
    worst = max(errors, key=lambda name: errors[name])
    console.print(f"{who}: relative error at most {errors[worst]:.1e} ({len(errors)} calls, bound {bound:.0e})")
    case.disagreements += [
        f"{case.name}, {who}: relative error {error:.1e} on {name!r} is above {bound:.0e}"
        for name, error in errors.items()
        if not error <= bound
    ]


def time_calls(case: Case, compiled: Callable[..., Tensor]) -> None:
    """Median latencies of PyTorch, torch.compile and the compiled module, measured in turns."""
    contenders = {"PyTorch": case.model, "torch_tensorrt": compiled}
    inductor = torch.compile(case.model, dynamic=len(case.timed) > 1)
    try:
        clock(case, "torch.compile", lambda: [inductor(*case.calls[name]) for name in case.timed])
        contenders["torch.compile"] = inductor
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        case.notes.append(
            f"{case.name}: torch.compile does not work here ({type(error).__name__}: {first}); it needs a C++ compiler"
        )
    for name in case.timed:
        bound = {who: lambda call=call, name=name: call(*case.calls[name]) for who, call in contenders.items()}
        case.latencies[name] = median_milliseconds(bound)
        if case.latencies[name]["torch_tensorrt"] >= case.latencies[name]["PyTorch"]:
            case.notes.append(f"{case.name}, {name}: not faster than PyTorch on this machine")


def show_photos(case: Case, answers: dict[str, Tensor]) -> None:
    """The five likeliest classes of each photo."""
    for name, expected in EXPECTED.items():
        likely = answers[name].softmax(1)[0].topk(5)
        words = ", ".join(f"{label(int(at))} {float(p):.0%}" for p, at in zip(*likely, strict=True))
        console.print(f"{name}: {words}")
        if int(likely.indices[0]) != expected:
            case.disagreements.append(
                f"{case.name}: {name} is taken for {label(int(likely.indices[0]))}, not {label(expected)}"
            )


def show_sentences(answers: dict[str, Tensor]) -> None:
    """The four most similar pairs of sentences."""
    vectors = answers["12 sentences"]
    similar = vectors @ vectors.T
    pairs = [(float(similar[one, two]), one, two) for one in range(len(vectors)) for two in range(one)]
    for value, one, two in sorted(pairs, reverse=True)[:4]:
        console.print(f"{value:.2f}  {SENTENCES[two]}  ~  {SENTENCES[one]}")


def show_times(cases: Sequence[Case]) -> None:
    """Latencies of all calls, then build and load times of all cases."""
    edges = box.ROUNDED if console.is_terminal else box.ASCII
    latencies = Table(title="Milliseconds per call (median, measured in turns)", box=edges)
    costs = Table(title="Seconds before the first answer", box=edges)
    who, steps = (
        ("PyTorch", "torch.compile", "torch_tensorrt"),
        ("build", "save", "load", "first call", "torch.compile"),
    )
    headings = ("build", "save", "load (other process)", "its first call", "torch.compile's build")
    for table, names in ((latencies, ("call", *who, "PyTorch / ours")), (costs, ("network", *headings))):
        for at, name in enumerate(names):
            table.add_column(name, justify="right" if at else "left")
    for case in cases:
        costs.add_row(case.name, *(f"{case.seconds[step]:.2f}" if step in case.seconds else "-" for step in steps))
        for name, times in case.latencies.items():
            measured = [f"{times[one]:.2f}" if one in times else "-" for one in who]
            latencies.add_row(f"{case.name}, {name}", *measured, f"{times['PyTorch'] / times['torch_tensorrt']:.2f}")
    console.print(costs)
    console.print(latencies)


def main() -> int:
    """The demo. Gives the exit code."""
    start = time.perf_counter()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    warnings.filterwarnings("ignore", module="torch")  # torch.compile's own remarks are not the demo's subject
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        vision, text = efficientnet_case(), minilm_case()
        show_photos(vision, run_case(vision, Path(folder)))
        show_sentences(run_case(text, Path(folder)))
    show_times([vision, text])
    if load > 0.5 * cores:
        text.notes.append(
            f"the machine was busy at the start (load {load:.1f} on {cores} cores): latencies mean little"
        )
    disagreements = vision.disagreements + text.disagreements
    for line in (*vision.notes, *text.notes):
        console.print(f"note: {line}", markup=False)
    for line in disagreements:
        console.print(f"DISAGREES: {line}", markup=False, style="bold red")
    verdict = "something disagrees" if disagreements else "everything agrees"
    console.print(f"{verdict}; {time.perf_counter() - start:.0f} s in all")
    return 1 if disagreements else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("FILE", "CALLS", "ANSWERS"), help=argparse.SUPPRESS)
    child = parser.parse_args().child
    if child:
        with torch.inference_mode():
            run_child(*child)
    else:
        sys.exit(main())
