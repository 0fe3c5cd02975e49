"""ONNX Runtime: CPUs. A partition goes through torch.onnx's exporter and becomes one session."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.onnxruntime import sdk
from torch_tensorrt.engines.onnxruntime.engine import ONNXRuntimeEngine, input_names, output_names
from torch_tensorrt.engines.onnxruntime.knobs import read_knobs, variants
from torch_tensorrt.engines.onnxruntime.payload import read_payload
from torch_tensorrt.engines.onnxruntime.programs import as_program, typical_inputs
from torch_tensorrt.graphs.resizing import becomes_one, rounds
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, FileFormatError
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


class ONNXRuntimeBackend(EngineBackend):
    """Builds partitions with ONNX Runtime for the CPU."""

    name: ClassVar[str] = "onnxruntime"
    format_version: ClassVar[int] = 1

    def available(self, device: torch.device) -> Support:
        """CPU devices, where onnxruntime and onnxscript are installed."""
        runnable = self.runnable(device)
        try:
            return Support(bool(sdk.exporter())) if runnable else runnable
        except EngineNotRunnable as error:
            return Support(False, str(error))

    def runnable(self, device: torch.device) -> Support:
        """CPU devices, where onnxruntime is installed."""
        if device.type != "cpu":
            return Support(False, f"it is used for the CPU only, not for {device}")
        try:
            sdk.onnxruntime()
        except EngineNotRunnable as error:
            return Support(False, str(error))
        return Support(True)

    def builds_for(self, platform: Platform) -> Support:
        """Any platform: an ONNX model is made ready where it is read."""
        return Support(True)

    def unhonoured(self, settings: CompilationSettings) -> Sequence[str]:
        """All that is of interest to other SDKs. Raises InputError for engine_options that aren't known."""
        read_knobs(settings)
        return settings.unhonoured(self.name, honours={"engine_options", "num_threads"})

    def keep_whole(self, settings: CompilationSettings) -> frozenset[OpOverload]:
        """Operators that ONNX has one of its own for."""
        return frozenset(
            {
                aten.layer_norm.default,
                aten.group_norm.default,
                aten.scaled_dot_product_attention.default,
                aten.upsample_bicubic2d.vec,  # in parts, it divides by zero where a size turns out to be one
            }
        )

    def variants(self, settings: CompilationSettings, device: torch.device) -> Mapping[str, Mapping[str, object]]:
        """With all threads, with one, and without threads that wait busily."""
        return variants(settings.num_threads)

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Operators that the exporter has a rule for, on dtypes that ONNX Runtime's CPU kernels take."""
        reason = _refusal(node)
        return Support(not reason, reason)

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """One session. Raises BuildError with the exporter's or ONNX Runtime's own words."""
        spec = EngineSpec(
            name=partition.name,
            backend=self.name,
            format_version=self.format_version,
            target="any CPU",
            settings_key=settings.engine_key(),
            inputs=partition.inputs,
            outputs=partition.outputs,
            versions=sdk.versions(),
        )
        try:
            with quiet_torch():
                model = sdk.to_onnx(as_program(partition), input_names(spec), output_names(spec))
            engine = ONNXRuntimeEngine(spec, model, read_knobs(settings))
            engine.run(typical_inputs(partition.inputs))  # what a kernel lacks is told when it runs
            return engine
        except Exception as error:  # of many classes: the exporter's, the SDK's, protobuf's for more than 2 GB
            raise BuildError(_explain(partition, error)) from error

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str] | None:
        """The versions; the engine is for any CPU, with as many threads as PyTorch has when it is opened."""
        return sdk.versions()

    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        """The engine from its bytes. Raises FileFormatError when ONNX Runtime can't read them."""
        options, model = read_payload(blob)
        try:
            return ONNXRuntimeEngine(spec, model, options)
        except FileFormatError:
            raise
        except Exception as error:  # ONNX Runtime raises classes of its own
            raise FileFormatError(
                f"ONNX Runtime {sdk.onnxruntime().__version__} can't read engine {spec.name!r}: {error}"
            ) from error


def _refusal(node: fx.Node) -> str:
    if not isinstance(node.target, OpOverload):
        return f"{node.target} is not an operator with a schema"
    if node.target._schema.is_mutable:
        return f"{node.target} writes to one of its arguments"
    if torch.Tag.nondeterministic_seeded in node.target.tags and "scaled_dot_product" not in str(node.target):
        return f"{node.target} draws random numbers, and ONNX Runtime draws others than PyTorch"
    values = [owner.meta.get("val") for owner in (node, *node.all_input_nodes)]
    for value in values:
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, Tensor) and part.dtype not in sdk.NUMPY:
                return f"ONNX Runtime's CPU kernels don't take {part.dtype}"
            if isinstance(part, Tensor) and any(isinstance(size, int) and size == 0 for size in part.shape):
                return "ONNX Runtime's reductions of nothing differ from PyTorch's"
    if not sdk.is_known(node.target):
        return f"torch.onnx's exporter has no rule for {node.target}"
    return _resizing(node)


def _resizing(node: fx.Node) -> str:
    """Why it would take other pixels than PyTorch, where it resizes, or ""."""
    name = str(node.target)
    if name.startswith("aten.upsample_nearest"):
        between = rounds(node, steps=False)
        return f"{between}: ONNX Runtime rounds otherwise than PyTorch" if between else ""
    if name.startswith("aten.upsample_bicubic"):
        one = becomes_one(node, shrinking=False) if node.args[2] else ""  # align_corners
        return f"{one}, which ONNX Runtime has no number for" if one else ""
    return ""


def _explain(partition: Partition, error: Exception) -> str:
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    words = _COLOURS.sub("", str(error)).strip()
    named = [node for node in nodes if str(node.target) in words] or nodes
    listed = ", ".join(f"{node.name!r} ({node.target})" for node in named[:10]) + (", ..." if len(named) > 10 else "")
    remedy = sorted({str(node.target) for node in named[:10]})
    return (
        f"ONNX Runtime refused partition {partition.name!r} with {listed}: {type(error).__name__}: {words[:2000]}\n"
        f"To run operators in PyTorch instead: torch_executed_ops={{{', '.join(map(repr, remedy))}}}."
    )
