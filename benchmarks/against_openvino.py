"""Latency of a compiled module against OpenVINO used directly on the same model, and load time against compile time.

Directly means: torch.export, openvino.convert_model, compile_model for the CPU with the same precision (f32) and latency hint,
and an infer request that shares the memory of its inputs and outputs. All calls are measured in turns in one process per model;
loading is measured in one more process, which has never seen the model, up to its first answer. Both processes import what
compiling and loading import (PyTorch's compiler, OpenVINO) first, and say how long that took: it is paid once per process, by
whichever comes first. Weights are random, save for EfficientNet-Lite0, whose weights come with an installed package.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino
import torch
import transformers as hf
from measuring import Row, medians, write_results
from torch import Tensor, nn

import torch_tensorrt

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from efficientnet_lite0 import load_efficientnet

LATENCY_LIMIT, LOAD_LIMIT = 1.03, 0.2
LOADS = 5
LATE = ("torch._dynamo", "torch.export.pt2_archive", "openvino", "openvino.frontend.pytorch.fx_decoder")


class Tensors(nn.Module):
    """A Hugging Face model with tensors in and one tensor out: its first result."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(*inputs, return_dict=False)[0]


@dataclass(frozen=True)
class Case:
    """`make(tiny)` builds a network, `sample(tiny)` its inputs. Tiny ones are for trying this file out."""

    make: Callable[[bool], nn.Module]
    sample: Callable[[bool], tuple[Tensor, ...]]


def image(tiny: bool) -> tuple[Tensor, ...]:
    """One picture."""
    return (torch.randn(1, 3, 64 if tiny else 224, 64 if tiny else 224),)


def tokens(tiny: bool) -> tuple[Tensor, ...]:
    """128 tokens and their mask."""
    length = 16 if tiny else 128
    return torch.randint(0, 1000, (1, length)), torch.ones(1, length, dtype=torch.int64)


def mlp(tiny: bool) -> nn.Module:
    """Three layers."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def unit_gain(model: nn.Module) -> nn.Module:
    """Weights that keep the size of what passes through, so that no network computes with vanishing numbers."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return model


def transformer_sizes(tiny: bool) -> dict[str, int]:
    """Sizes of a small transformer, or nothing: the published ones."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return small if tiny else {}


def resnet(tiny: bool) -> nn.Module:
    """ResNet-50."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]} if tiny else {}
    return Tensors(unit_gain(hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000, **sizes))))


def mobilenet(tiny: bool) -> nn.Module:
    """MobileNetV2."""
    return Tensors(unit_gain(hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(num_labels=1000))))


def bert(tiny: bool) -> nn.Module:
    """BERT-base."""
    return Tensors(unit_gain(hf.BertModel(hf.BertConfig(**transformer_sizes(tiny)))))


def vit(tiny: bool) -> nn.Module:
    """ViT-B/16."""
    sizes = {"image_size": 64, **transformer_sizes(tiny)} if tiny else {}
    return Tensors(unit_gain(hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000, **sizes))))


CASES = {
    "resnet50": Case(resnet, image),
    "mobilenet_v2": Case(mobilenet, image),
    "bert_base": Case(bert, tokens),
    "vit_b16": Case(vit, image),
    "efficientnet_lite0": Case(lambda tiny: load_efficientnet(), image),
    "mlp": Case(mlp, lambda tiny: (torch.randn(1, 64),)),
}


def direct_call(model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """OpenVINO used directly."""
    program = torch.export.export(model, inputs, strict=False)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(openvino.convert_model(program), "CPU", options).create_infer_request()
    arrays = [tensor.numpy() for tensor in inputs]
    return lambda: request.infer(arrays, share_inputs=True, share_outputs=True)


def torch_compiled(model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """A call of the model through torch.compile."""
    inductor = torch.compile(model)
    return lambda: inductor(*inputs)


def seconds_of(step: Callable[[], object]) -> tuple[float, object]:
    """Wall time and result."""
    start = time.perf_counter()
    result = step()
    return time.perf_counter() - start, result


def import_seconds() -> float:
    """How long the modules take that torch_tensorrt imports only when they are needed."""
    return seconds_of(lambda: [importlib.import_module(name) for name in LATE])[0]


def measure(name: str, chosen: argparse.Namespace) -> Row:
    """Everything about one model; this process compiles nothing else before."""
    torch.manual_seed(0)
    model, inputs = CASES[name].make(chosen.tiny).eval(), CASES[name].sample(chosen.tiny)
    imports = import_seconds()
    build, compiled = seconds_of(lambda: torch_tensorrt.compile(model, arg_inputs=inputs, min_block_size=1))
    with torch.inference_mode():
        first, reference = seconds_of(lambda: model(*inputs))
        error = float((compiled(*inputs) - reference).norm() / reference.norm())
        load = load_seconds(compiled, inputs)
        calls = {
            "openvino": direct_call(model, inputs),
            "ours": lambda: compiled(*inputs),
            "eager": lambda: model(*inputs),
        }
        if chosen.torch_compile:
            calls["torch.compile"] = torch_compiled(model, inputs)
        rounds = 5_000 if first < 0.01 else 500
        times = {who: 1e3 * seconds for who, seconds in medians(calls, rounds, chosen.seconds).items()}
    return {
        "model": name,
        **{f"{who} ms": value for who, value in times.items()},
        "ours / openvino": times["ours"] / times["openvino"],
        "eager / ours": times["eager"] / times["ours"],
        "compile s": build,
        "load s": load,
        "load / compile": load / build,
        "imports s": imports,
        "relative error": error,
        "in engines": f"{compiled.plan.in_engines} of {compiled.plan.total} in {len(compiled.plan.groups)}",
    }


def load_seconds(compiled: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """From file to first answer, each time in a new process that has imported what it needs; the median."""
    with tempfile.TemporaryDirectory() as folder:
        model, examples = Path(folder) / "model.ep", Path(folder) / "inputs.pt"
        torch_tensorrt.save(compiled, model, arg_inputs=inputs)
        torch.save(inputs, examples)
        return statistics.median(float(run_self("--load", str(model), "--inputs", str(examples))) for _ in range(LOADS))


def load(path: str, examples: str) -> float:
    """What the other process does."""
    inputs = torch.load(examples, weights_only=True)
    import_seconds()
    with torch.inference_mode():
        return seconds_of(lambda: torch_tensorrt.load(path).module()(*inputs))[0]


def run_self(*arguments: str) -> str:
    """The last line that this file prints when run with `arguments`."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def judge(rows: Sequence[Row]) -> list[str]:
    """What misses its limit."""
    missed = []
    for row in rows:
        latency, loading = float(row["ours / openvino"] or 0), float(row["load / compile"] or 0)
        if latency > LATENCY_LIMIT:
            missed.append(f"{row['model']}: {latency:.3f} times the latency of OpenVINO (limit {LATENCY_LIMIT})")
        if loading > LOAD_LIMIT:
            missed.append(f"{row['model']}: loading takes {loading:.2f} of compiling (limit {LOAD_LIMIT})")
    return missed


def main() -> int:
    """The exit code is 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure the latency of each model")
    parser.add_argument("--torch-compile", action="store_true", help="measure torch.compile too (needs a C++ compiler)")
    parser.add_argument(
        "--tiny", action="store_true", help="tiny networks: shows that everything runs, measures nothing"
    )
    parser.add_argument("--dry", action="store_true", help="write no results and judge nothing")
    for hidden in ("--measure", "--load", "--inputs"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.load:
        print(load(chosen.load, chosen.inputs))
        return 0
    if chosen.measure:
        print(json.dumps(measure(chosen.measure, chosen)))
        return 0
    flags = [flag for flag, on in (("--tiny", chosen.tiny), ("--torch-compile", chosen.torch_compile)) if on]
    rows = [json.loads(run_self("--measure", name, "--seconds", str(chosen.seconds), *flags)) for name in chosen.only]
    if chosen.dry:
        print(json.dumps(rows))
        return 0
    print(write_results("against_openvino", "Against OpenVINO used directly: float32, batch 1, medians", rows))
    missed = judge(rows)
    print("\n".join(missed) or "every limit is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
