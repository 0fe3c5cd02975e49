"""The time that our wrapper adds to one call: a compiled module against the very OpenVINO model inside it.

The bare call runs an infer request whose input and output tensors are bound once, through OpenVINO's binding, with nothing
around it: nobody can call that model from Python in less. Ours checks the inputs, copies them to memory that is bound already,
copies the outputs to memory of their own and rebuilds the model's result. The column `loaded` is what
`torch_tensorrt.load(...).module()` takes. Where the C++ runtime is built (`python -m torch_tensorrt build-runtime`), the columns with
C++ show the same modules running through it; the others never do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator

import openvino
import torch
from measuring import Row, medians, write_results
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.runtime import native
from torch_tensorrt.runtime.op import live_engine

LIMIT = 5.0  # microseconds


class Relu(nn.Module):
    """As little as an engine can do."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


def mlp() -> nn.Module:
    """Three layers."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


CASES: dict[str, Callable[[], nn.Module]] = {"relu, 1 x 64": Relu, "3-layer MLP, 1 x 64": mlp}


@contextlib.contextmanager
def without_cpp() -> Iterator[None]:
    """Engines that are made here run in Python, also where the C++ runtime is built."""
    found, native.runtime = native.runtime, lambda: None
    try:
        yield
    finally:
        native.runtime = found


def make_calls(model: nn.Module, x: Tensor) -> tuple[nn.Module, Callable[[], object], Callable[[], object]]:
    """The compiled module, a call of it, and a call of it saved and loaded."""
    compiled = torch_tensorrt.compile(model, inputs=[x], engine="openvino", min_block_size=1)
    file = io.BytesIO()
    torch_tensorrt.save(compiled, file, inputs=[x])
    loaded = torch_tensorrt.load(io.BytesIO(file.getvalue())).module()
    loaded(x)  # reads the engine
    return compiled, lambda: compiled(x), lambda: loaded(x)


def bare_call(compiled: nn.Module, x: Tensor) -> Callable[[], object]:
    """Runs the OpenVINO model in `compiled` with tensors that are bound already."""
    op = torch.ops.tensorrt.execute_engine.default
    (node,) = [node for node in compiled.graph.nodes if node.target is op]
    engine = live_engine(getattr(compiled, node.args[1].target)).engine
    request = engine._compiled.create_infer_request()  # the engine's own model, so that both run the same code
    output = torch.empty_like(compiled(x))
    bound = openvino.Tensor(x.numpy(), shared_memory=True), openvino.Tensor(output.numpy(), shared_memory=True)
    request.set_input_tensor(0, bound[0])
    request.set_output_tensor(0, bound[1])
    infer = openvino._pyopenvino.InferRequest.infer

    def call(keep: object = bound) -> object:
        return infer(request, {}, True, False)

    call()
    torch.testing.assert_close(output, compiled(x))
    return call


def measure(name: str, make: Callable[[], nn.Module], rounds: int) -> Row:
    """One model. Times in microseconds."""
    model, x = make().eval(), torch.randn(1, 64)
    with without_cpp():
        compiled, ours, loaded = make_calls(model, x)
    calls = {"eager": lambda: model(x), "bare OpenVINO": bare_call(compiled, x), "ours": ours, "loaded": loaded}
    if native.runtime() is not None:
        _, calls["ours, C++"], calls["loaded, C++"] = make_calls(model, x)
    with torch.no_grad():
        times = {who: 1e6 * seconds for who, seconds in medians(calls, rounds, seconds=60.0).items()}
    adds = {"wrapper adds": times["ours"] - times["bare OpenVINO"]}
    if "ours, C++" in times:
        adds["wrapper adds, C++"] = times["ours, C++"] - times["bare OpenVINO"]
    return {"model": name, **times, **adds}


def main() -> int:
    """The exit code is 1 when the wrapper adds more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20_000, help="how often each is called")
    parser.add_argument("--dry", action="store_true", help="write no results and judge nothing")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    rows = [measure(name, make, chosen.rounds) for name, make in CASES.items()]
    if chosen.dry:
        print(rows)
        return 0
    print(write_results("overhead", "Microseconds per call (medians)", rows))
    worst = max(float(row["wrapper adds"] or 0.0) for row in rows)
    print(f"the wrapper adds at most {worst:.1f} microseconds to a call (limit {LIMIT:.0f})")
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
