"""Inductor: PyTorch's own compiler, ahead of time. Any CUDA GPU with Triton, and CPUs with a C++ compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.engines.inductor import sdk
from torch_tensorrt.engines.inductor.cxx import compiler
from torch_tensorrt.engines.inductor.engine import InductorEngine
from torch_tensorrt.engines.inductor.first_runs import worth_measuring
from torch_tensorrt.engines.inductor.knobs import read_knobs, variants
from torch_tensorrt.engines.inductor.passes import chosen_passes
from torch_tensorrt.engines.inductor.payload import Payload, read_payload
from torch_tensorrt.engines.inductor.programs import device_of, give_examples, input_formats, lift, write_program
from torch_tensorrt.graphs.quantized import kind_of
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.progress import progress
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.spec.assumptions import has_extreme_size, varying_sizes
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_log = logger("engines.inductor")
_HONOURED = frozenset({"immutable_weights", "disable_tf32", "disabled_passes", "engine_options", "optimization_level"})
_HALF = frozenset({torch.float16, torch.bfloat16})
_PRECISIONS = _HALF | {torch.float32, torch.float64, torch.float8_e4m3fn}
_DECIDED = "and Inductor decides that for the typical sizes only"
# Pools to a number of windows -> the first dimension that they divide, from the end.
_ADAPTIVE = {
    aten._adaptive_avg_pool2d.default: -2,
    aten._adaptive_avg_pool3d.default: -3,
    aten.adaptive_max_pool2d.default: -2,
    aten.adaptive_max_pool3d.default: -3,
    aten.fractional_max_pool2d.default: -2,
    aten.fractional_max_pool3d.default: -3,
}
_PRODUCTS = frozenset({aten.linear.default, aten.addmm.default, aten.mm.default})


class InductorBackend(EngineBackend):
    """Builds partitions with AOTInductor for the CPU or GPU of this machine."""

    name: ClassVar[str] = "inductor"
    format_version: ClassVar[int] = 1
    builds_slowly: ClassVar[bool] = True
    strongly_typed: ClassVar[bool] = True

    def available(self, device: torch.device) -> Support:
        """CPUs, and CUDA GPUs where Triton is installed; both need a C++ compiler."""
        present = self.runnable(device)
        if not present:
            return present
        if device.type == "cuda" and not sdk.has_triton():
            return Support(
                False, "the 'inductor' engine compiles kernels with Triton, which isn't installed: pip install triton"
            )
        try:
            compiler()
        except EngineNotRunnable as error:
            return Support(False, str(error))
        return Support(True)

    def runnable(self, device: torch.device) -> Support:
        """CPUs and CUDA GPUs: what is compiled already needs no compiler."""
        if device.type == "cuda" and not torch.cuda.is_available():
            return Support(False, "PyTorch finds no CUDA GPU here")
        return Support(
            device.type in {"cpu", "cuda"}, f"the 'inductor' engine is used for CPUs and CUDA, not for {device}"
        )

    def unhonoured(self, settings: CompilationSettings) -> tuple[str, ...]:
        """All that is of interest to SDKs only, and precisions that no pass casts to.

        Raises InputError for a name in `disabled_passes` or `engine_options` that this engine doesn't know.
        """
        chosen_passes(settings)
        read_knobs(settings)
        precisions = {"enabled_precisions"} if settings.enabled_precisions <= _PRECISIONS else set()
        return settings.unhonoured(self.name, honours=_HONOURED | precisions)

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str]:
        """PyTorch, the target, the compiler, and whether TF32 is allowed in this process."""
        return {
            "torch": torch.__version__,
            "target": sdk.target(device_of(partition)),
            "compiler": compiler(),
            "tf32": str(_choices(partition, settings).tf32),
        }

    def keep_whole(self, settings: CompilationSettings) -> frozenset[OpOverload]:
        """Attention: in parts, its mask could not be seen, nor its fast kernels be used."""
        return frozenset({aten.scaled_dot_product_attention.default})

    def variants(self, settings: CompilationSettings, device: torch.device) -> Mapping[str, Mapping[str, object]]:
        """With weights in the code or apart, without each pass, and with kernels that Inductor has measured itself."""
        return variants([each.name for each in chosen_passes(settings)], on_cpu=device.type == "cpu")

    def passes(self, settings: CompilationSettings) -> Sequence[LoweringPass]:
        """What Inductor leaves undone on a GPU. Raises InputError for a name in `disabled_passes` that no pass has."""
        return chosen_passes(settings)

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Operators that write to no argument, draw no random numbers, and whose results have sizes known before they run."""
        reason = _refusal(node)
        return Support(not reason, reason)

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """One package of native code. Raises BuildError with Inductor's own words."""
        device, choices = device_of(partition), _choices(partition, settings)
        try:
            with quiet_torch(), progress(f"{partition.name} by Inductor", 2) as steps:
                program = lift(partition)
                archive = write_program(program)
                steps.advance("exported")
                give_examples(program, partition.inputs, device)
                package, choices = sdk.compile_package(program, choices, device)
                steps.advance("compiled")
        except Exception as error:  # Inductor raises classes of its own and those of what it calls
            raise BuildError(_explain(partition, error)) from error
        spec = EngineSpec(
            name=partition.name,
            backend=self.name,
            format_version=self.format_version,
            target=sdk.target(device),
            settings_key=settings.engine_key(),
            inputs=partition.inputs,
            outputs=partition.outputs,
            versions={"torch": torch.__version__},
        )
        weights = {name: value for name, value in program.state_dict.items() if isinstance(value, Tensor)}
        return InductorEngine(spec, Payload(package, archive, weights, choices, input_formats(partition)))

    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        """The engine from its bytes. Code from them is loaded when it is first run, and not before.

        Raises EngineNotRunnable when it is for another processor and there is no compiler: a portable file has more to offer.
        """
        engine = InductorEngine(spec, read_payload(blob, len(spec.inputs)))
        engine.check_fits()
        return engine


def _choices(partition: Partition, settings: CompilationSettings) -> sdk.Choices:
    """Weights go into the code where the CPU's library then keeps them packed: convolutions, and products of half floats.

    For products of float32 it pays off at no size that was measured (docs/decisions/0002-inductor-form.md).
    """
    nodes = partition.module.graph.nodes
    packed = any(
        node.target is aten.convolution.default
        or kind_of(node).startswith("dequantize")  # frozen only, such weights meet kernels for int8
        or (node.target in _PRODUCTS and node.meta["val"].dtype in _HALF)
        for node in nodes
    )
    knobs, device = read_knobs(settings), device_of(partition).type
    convolves = worth_measuring(partition.module.graph)
    frozen = (packed if knobs.freezing is None else knobs.freezing) and settings.immutable_weights and device == "cpu"
    if frozen and _misreads_numbers(partition.module.graph):
        _log.warning(
            "%s has quantized convolutions of one channel, which Inductor's int8 kernels get wrong: it is computed in float32.",
            partition.name,
        )
        frozen = False
    return sdk.Choices(
        frozen=frozen,
        apart=not frozen,
        refittable=not settings.immutable_weights,
        tf32=sdk.tf32_allowed() and not settings.disable_tf32,
        max_autotune=knobs.max_autotune,
        coordinate_descent_tuning=knobs.coordinate_descent_tuning,
        measured=device == "cuda" and settings.optimization_level not in {0, 1, 2} and convolves,
    )


def _misreads_numbers(graph: fx.Graph) -> bool:
    """A convolution of quantized numbers from or to one channel.

    Ahead of time, PyTorch 2.13 hands its int8 kernel memory of one channel in another layout than it says.
    """
    for node in graph.find_nodes(op="call_function", target=aten.convolution.default):
        weight, groups = node.args[1], node.args[8]
        if isinstance(weight, fx.Node) and kind_of(weight).startswith("dequantize"):
            outputs, inputs = weight.meta["val"].shape[:2]
            if outputs == 1 or (inputs == 1 and groups == 1):
                return True
    return False


def _refusal(node: fx.Node) -> str:
    if not isinstance(node.target, OpOverload):
        return f"{node.target} is not an operator with a schema"
    if node.target._schema.is_mutable:
        return f"{node.target} writes to one of its arguments"
    if torch.Tag.nondeterministic_seeded in node.target.tags and _drops(node):
        return f"{node.target} draws random numbers, and Inductor draws others than PyTorch"
    if torch.Tag.data_dependent_output in node.target.tags or free_unbacked_symbols(node.meta.get("val")):
        return f"the size of {node.target}'s result is known only when it has run"
    values = [given.meta.get("val") for given in (*node.all_input_nodes, node)]
    tensors = [value for value in values if isinstance(value, Tensor)]
    if any(value.layout is not torch.strided for value in tensors):
        return f"{node.target} works on a tensor that isn't dense"
    devices = sorted({value.device.type for value in tensors if value.dim() > 0})
    if len(devices) > 1:
        return f"{node.target} goes from {devices[0]} to {devices[1]}, and an engine is on one device"
    if node.target is aten.pow.Scalar and not node.meta["val"].dtype.is_floating_point:
        return "Inductor gives a float32 result for a whole number to the power of whole numbers"
    if node.target is aten.as_strided.default and not tensors[0].is_contiguous():
        return "as_strided reads memory by its layout, which an engine may change"
    return _refusal_of_sizes(node)


def _drops(node: fx.Node) -> bool:
    """Whether an operator that can draw random numbers does: attention without dropout draws none."""
    assert isinstance(node.target, OpOverload)
    given = {each.name: each.default_value for each in node.target._schema.arguments if each.has_default_value()}
    given.update(zip((each.name for each in node.target._schema.arguments), node.args, strict=False))
    return "scaled_dot_product" not in str(node.target) or bool({**given, **node.kwargs}["dropout_p"] != 0.0)


def _refusal_of_sizes(node: fx.Node) -> str:
    """Inductor takes the way that is right for the example sizes, and AOTInductor doesn't check for others when it runs."""
    assert isinstance(node.target, OpOverload)
    if has_extreme_size(node):
        return f"a size of {node.target}'s result is the smaller or larger of sizes that vary, {_DECIDED}"
    if node.target in _ADAPTIVE and varying_sizes(node.all_input_nodes[0], from_dim=_ADAPTIVE[node.target]):
        return f"{node.target} puts windows where sizes that vary say, {_DECIDED}"
    ceil = next((at for at, given in enumerate(node.target._schema.arguments) if given.name == "ceil_mode"), None)
    if ceil is not None and varying_sizes(node) and (node.args[ceil:] or [node.kwargs.get("ceil_mode")])[0]:
        return f"{node.target} with ceil_mode rounds sizes that vary, {_DECIDED}"
    return ""


def _explain(partition: Partition, error: Exception) -> str:
    words = f"{type(error).__name__}: {str(error).strip()}"
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    named = [node for node in nodes if str(node.target) in words] or nodes
    listed = ", ".join(f"{node.name!r} ({node.target})" for node in named[:10]) + (", ..." if len(named) > 10 else "")
    remedy = sorted({str(node.target) for node in named[:10]})
    return (
        f"Inductor refused partition {partition.name!r} with {listed}: {words}\n"
        f"To run operators in PyTorch instead: torch_executed_ops={{{', '.join(map(repr, remedy))}}}."
    )
