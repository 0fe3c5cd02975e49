"""Which form of Inductor's output makes the better engine: an AOTInductor package, or the artifact of standalone_compile.

    python benchmarks/inductor_forms.py            # writes results/inductor_forms.json and .md
    python benchmarks/inductor_forms.py --dry --only mlp

Both are compiled for the same exported program, written to disk, and loaded and first run in a process of their own; then they are
called in turns. "packed": weights in the code, in the layout of the CPU's library (Inductor's freezing). "apart": weights beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from measuring import Row, medians, write_results
from torch import Tensor, nn
from torch.export import ExportedProgram

OPTIONS = {"aot_inductor.enable_line_tables": False, "aot_inductor.enable_frame_pointer": False}


def mlp() -> tuple[nn.Module, Tensor]:
    """Three layers, batch 1: what is measured is the call."""
    sizes = ((256, 512), (512, 512), (512, 10))
    layers = [layer for size in sizes for layer in (nn.Linear(*size), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), torch.randn(1, 256)


def resnet50() -> tuple[nn.Module, Tensor]:
    """ResNet-50 with random weights, batch 1."""
    from transformers import ResNetConfig, ResNetForImageClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ResNetForImageClassification(ResNetConfig())

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).logits

    return Logits(), torch.randn(1, 3, 224, 224)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {"mlp": mlp, "resnet50": resnet50}


class Package:
    """AOTInductor: native code with its own calling interface."""

    def __init__(self, *, packed: bool) -> None:
        self.packed = packed

    def write(self, program: ExportedProgram, path: Path) -> None:
        buffer = io.BytesIO()
        options = {**OPTIONS, "freezing": self.packed}
        torch._inductor.aoti_compile_and_package(program, package_path=buffer, inductor_configs=options)
        path.write_bytes(buffer.getvalue())

    @staticmethod
    def read(path: Path) -> Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]]:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
        return lambda weights, x: loader.boxed_run([x])


class Artifact:
    """standalone_compile: Inductor's cache entries, run through Python wrappers. Weights are arguments."""

    def write(self, program: ExportedProgram, path: Path) -> None:
        graph, examples = program.graph_module, [*weights_of(program), *program.example_inputs[0]]
        artifact = torch._inductor.standalone_compile(graph, examples, dynamic_shapes="from_example_inputs")
        artifact.save(path=str(path), format="binary")

    @staticmethod
    def read(path: Path) -> Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]]:
        artifact = torch._inductor.CompiledArtifact.load(path=str(path), format="binary")
        return lambda weights, x: artifact(*weights, x)


FORMS: dict[str, Package | Artifact] = {
    "AOTInductor, packed": Package(packed=True),
    "AOTInductor, apart": Package(packed=False),
    "standalone artifact": Artifact(),
}


def weights_of(program: ExportedProgram) -> list[Tensor]:
    """In the order of the program's placeholders."""
    lifted = [spec.target for spec in program.graph_signature.input_specs if spec.target is not None]
    return [program.state_dict[name].detach() for name in lifted]


def load_seconds(form: str, path: Path, inputs: Path) -> float:
    """Loading and the first run, in a process of its own with an empty cache; imports not counted."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--load", form, str(path), str(inputs)]
        return float(
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
        )


def _load(form: str, path: str, inputs: str) -> None:
    import torch._inductor.standalone_compile

    weights, x = torch.load(inputs)
    start = time.perf_counter()
    with torch.no_grad():
        FORMS[form].read(Path(path))(weights, x)
    print(time.perf_counter() - start)


def measure(name: str, rounds: int, seconds: float) -> list[Row]:
    """A row per form."""
    model, x = MODELS[name]()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(model.eval(), (x,), strict=False).run_decompositions()
        weights, reference = weights_of(program), model(x)
        inputs = Path(folder) / "inputs.pt"
        torch.save((weights, x), inputs)
        calls: dict[str, Callable[[], object]] = {"PyTorch": lambda: model(x)}
        rows: dict[str, Row] = {"PyTorch": {"model": name, "form": "PyTorch"}}
        for form, kind in FORMS.items():
            path = Path(folder) / f"{form.replace(', ', '_').replace(' ', '_')}.pt2"
            start = time.perf_counter()
            kind.write(program, path)
            built = time.perf_counter() - start
            run = kind.read(path)
            error = float((run(weights, x)[0] - reference).norm() / reference.norm())
            size = path.stat().st_size / 1e6 + (0 if isinstance(kind, Package) else inputs.stat().st_size / 1e6)
            loaded = load_seconds(form, path, inputs)
            rows[form] = {"model": name, "form": form, "build s": built, "load s": loaded, "MB": size, "error": error}
            calls[form] = lambda run=run: run(weights, x)
        for form, median in medians(calls, rounds, seconds).items():
            rows[form]["call us"] = median * 1e6
    return list(rows.values())


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--dry", action="store_true", help="print and write nothing")
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        return _load(*given.load)
    torch.manual_seed(0)
    rows = [row for name in MODELS if given.only in {None, name} for row in measure(name, given.rounds, given.seconds)]
    print(json.dumps(rows) if given.dry else write_results("inductor_forms", "Forms of Inductor's output", rows))
    return None


if __name__ == "__main__":
    main()
