"""Memory of compiling, and of running a saved file, in multiples of the weights' size.

Each figure comes from a process of its own that has compiled, saved and loaded a small network before, so that libraries are
there already, and is the growth of the resident memory (VmHWM, of which the system is told to start anew; Linux only) over what
the process had right before. For compiling, that is with the caller's model in memory: its weights are the caller's and don't count.
All other copies count: of the weights that the compiled module keeps for itself, OpenVINO's own form, the engine's bytes. Pages of
mapped files count while they are in memory.

Activations are what the tensors that the network computes take at the same time at most, were each freed after its last use.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from against_openvino import CASES
from measuring import Row, write_results
from torch import nn

import torch_tensorrt

MODELS = ("bert_base", "vit_b16", "resnet50")
COMPILE_LIMIT, LOADED_LIMIT = 2.2, 1.3
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> Mapping[str, int]:
    """Bytes: VmRSS (now) and VmHWM (the most so far), with others."""
    lines = (line.partition(":") for line in _STATUS.read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, _, value in lines if name.startswith(("Vm", "Rss"))}


def grown(step: Callable[[], object]) -> tuple[object, int, int]:
    """What `step` gives, by how many bytes memory grew at most meanwhile, and by how many it has grown at its end."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide what is taken
    _CLEAR.write_text("5")  # the peak starts anew
    before = resident()["VmRSS"]
    result = step()
    peak = resident()["VmHWM"] - before
    gc.collect()
    return result, peak, resident()["VmRSS"] - before


def warm_up(folder: Path) -> None:
    """Whatever is imported or set up once per process."""
    x = torch.randn(1, 8)
    compiled = torch_tensorrt.compile(nn.Linear(8, 8), inputs=[x], engine="openvino", min_block_size=1)
    torch_tensorrt.save(compiled, folder / "small.ep", arg_inputs=[x])
    torch_tensorrt.load(folder / "small.ep").module()(x)


def weights_of(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def activations(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Bytes, from the sizes in the exported graph; tensors that share memory count once."""
    graph = torch.export.export(model, inputs, strict=False).graph
    last: dict[int, int] = {}  # storage -> the last node that uses it
    sizes: dict[int, tuple[int, int]] = {}  # storage -> the node that makes it, bytes
    for at, node in enumerate(graph.nodes):
        for used in (node, *node.all_input_nodes):
            value = used.meta.get("val")
            for tensor in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    last[storage._cdata] = at
                    if node.op == "call_function":
                        sizes.setdefault(storage._cdata, (at, storage.nbytes()))
    given = {x.meta["val"].untyped_storage()._cdata for x in graph.find_nodes(op="placeholder") if "val" in x.meta}
    made = [(first, last[key], size) for key, (first, size) in sizes.items() if key not in given]
    return max(sum(size for first, end, size in made if first <= at <= end) for at in range(len(graph.nodes)))


def compiling(name: str, folder: Path, tiny: bool) -> Row:
    """The first process: compiles, runs and saves."""
    torch.manual_seed(0)
    model, inputs = CASES[name].make(tiny).eval().requires_grad_(False), CASES[name].sample(tiny)
    weights = weights_of(model)
    compiled, peak, kept = grown(
        lambda: torch_tensorrt.compile(model, arg_inputs=inputs, engine="openvino", min_block_size=1)
    )
    assert isinstance(compiled, nn.Module)
    result = compiled(*inputs)
    _, saving, _ = grown(lambda: torch_tensorrt.save(compiled, folder / "model.ep", arg_inputs=inputs))
    torch.save((inputs, result), folder / "inputs.pt")
    return {
        "weights MB": weights / 1e6,
        "activations MB": activations(model, inputs) / 1e6,
        "compile: peak / weights": peak / weights,
        "kept": kept / weights,
        "save: peak / weights": saving / weights,
    }


def loading(name: str, folder: Path, tiny: bool) -> Row:
    """The second process: loads the file and runs it."""
    inputs, expected = torch.load(folder / "inputs.pt", weights_only=True)
    size = (folder / "model.ep").stat().st_size  # about the weights; `measure` has the exact figure

    def first() -> nn.Module:
        module = torch_tensorrt.load(folder / "model.ep").module()
        torch.testing.assert_close(module(*inputs), expected)
        return module

    _, peak, kept = grown(first)
    return {"load and run: peak / weights": peak, "kept by the loaded": kept, "file MB": size / 1e6}


def measure(name: str, tiny: bool = False) -> Row:
    """Both processes."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (run_self(step, name, folder, tiny) for step in STEPS)
    weights = float(first["weights MB"] or 0) * 1e6
    for column in ("load and run: peak / weights", "kept by the loaded"):
        second[column] = float(second[column] or 0) / weights
    return {"model": name, **first, **second}


STEPS: Mapping[str, Callable[[str, Path, bool], Row]] = {"compiling": compiling, "loading": loading}


def run_self(step: str, name: str, folder: str, tiny: bool) -> Row:
    """What this file prints when it is run for one step."""
    flags = ["--tiny"] if tiny else []
    command = [sys.executable, __file__, "--step", step, "--only", name, "--folder", folder, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def judge(rows: list[Row]) -> list[str]:
    """What misses its limit: a loaded model may take its activations besides."""
    told = []
    for row in rows:
        activated = float(row["activations MB"] or 0) / float(row["weights MB"] or 1)
        limits = {"compile: peak / weights": COMPILE_LIMIT, "load and run: peak / weights": LOADED_LIMIT + activated}
        told += [
            f"{row['model']}: {column} is {row[column]:.2f} (limit {limit:.2f})"
            for column, limit in limits.items()
            if float(row[column] or 0) > limit
        ]
    return told


def main() -> int:
    """The exit code is 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(MODELS))
    parser.add_argument(
        "--tiny", action="store_true", help="tiny networks: shows that everything runs, measures nothing"
    )
    parser.add_argument("--dry", action="store_true", help="write no results and judge nothing")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        folder = Path(chosen.folder)
        warm_up(folder)
        print(json.dumps(STEPS[chosen.step](chosen.only[0], folder, chosen.tiny)))
        return 0
    rows = [measure(name, chosen.tiny) for name in chosen.only]
    if chosen.dry:
        print(json.dumps(rows))
        return 0
    print(write_results("memory", "Memory in multiples of the weights: float32, batch 1", rows))
    missed = judge(rows)
    print("\n".join(missed) or "every limit is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
