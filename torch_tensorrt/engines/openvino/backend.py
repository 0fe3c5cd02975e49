"""OpenVINO: any CPU. A partition goes through OpenVINO's PyTorch frontend whole and becomes one compiled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.openvino import operators, sdk
from torch_tensorrt.engines.openvino.engine import OpenVINOEngine
from torch_tensorrt.engines.openvino.hazards import crashes_with_snippets
from torch_tensorrt.engines.openvino.payload import Payload, read_payload, write_payload
from torch_tensorrt.engines.openvino.refittable import Recipe, RefittableEngine, recipe_from, safe_xml
from torch_tensorrt.engines.openvino.representation import represent
from torch_tensorrt.engines.openvino.rewriting import rewrite_for_frontend
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, FileFormatError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

_CAPABILITY = {torch.float32: "FP32", torch.bfloat16: "BF16", torch.float16: "FP16"}

_HONOURS = {"enabled_precisions", "optimization_level", "immutable_weights"}


class OpenVINOBackend(EngineBackend):
    """Builds partitions with OpenVINO for the CPU of this machine."""

    name: ClassVar[str] = "openvino"
    format_version: ClassVar[int] = 1

    def available(self, device: torch.device) -> Support:
        """CPU devices, where OpenVINO is installed."""
        if device.type != "cpu":
            return Support(False, f"it is used for the CPU only, not for {device}")
        try:
            sdk.openvino()
        except EngineNotRunnable as error:
            return Support(False, str(error))
        return Support(True)

    def builds_for(self, platform: Platform) -> Support:
        """Any platform: a model's representation is compiled where it is read."""
        return Support(True)

    def keep_whole(self, settings: CompilationSettings) -> frozenset[OpOverload]:
        """Operators that OpenVINO has a fast kernel for, and PyTorch's core table would take apart."""
        return operators.KEPT_WHOLE

    def unhonoured(self, settings: CompilationSettings) -> Sequence[str]:
        """Precisions that this CPU lacks, and optimization levels."""
        lacking = [dtype for dtype in settings.enabled_precisions if _CAPABILITY.get(dtype) not in sdk.capabilities()]
        told = [
            f"OpenVINO does not compute in {dtype} on this CPU; float32, or another of enabled_precisions, is used instead."
            for dtype in sorted(lacking, key=str)
        ]
        if settings.is_set("optimization_level"):
            told.append("OpenVINO has no optimization levels; optimization_level is not used.")
        return [*told, *settings.unhonoured(self.name, honours=_HONOURS)]

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Operators that OpenVINO's frontend has a rule for, in the forms that gave PyTorch's results when tested."""
        reason = operators.refusal(node)
        return Support(not reason, reason)

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """One compiled model. Raises BuildError with OpenVINO's own words."""
        precision = _precision(partition, settings)
        module, outputs = rewrite_for_frontend(partition.module)
        dtypes = [partition.outputs[outputs.index(port)].dtype for port in range(len(set(outputs)))]
        snippets = not crashes_with_snippets(module)
        spec = self._spec(partition, settings)
        placeholders = [node.name for node in module.graph.nodes if node.op == "placeholder"]
        try:
            if not settings.immutable_weights:
                representation, names = represent(module, partition.inputs, dtypes)
                wiring = Wiring(tuple(placeholders.index(name) for name in names), outputs)
                return RefittableEngine(spec, Recipe(representation, wiring, precision, snippets))
            model = sdk.convert(module, partition.inputs, dtypes)
            compiled = sdk.compile_model(model, sdk.config(precision, snippets=snippets))
        except UnsupportedError:
            raise
        except Exception as error:  # OpenVINO raises classes of its own, and what Python raises in its decoder
            raise BuildError(_explain(partition, str(error))) from error
        wiring = Wiring(tuple(placeholders.index(name) for name in sdk.input_names(model)), outputs)

        def write(weights_owner: fx.GraphModule = module) -> bytes:  # the model's constants are its tensors' memory
            blob = b"" if settings.enable_cross_compile_for_windows else sdk.export_blob(compiled)  # it is for this CPU
            return write_payload(precision, wiring, blob, *sdk.write_ir(model), snippets=snippets)

        return OpenVINOEngine(spec, compiled, wiring, write)

    def _spec(self, partition: Partition, settings: CompilationSettings) -> EngineSpec:
        return EngineSpec(
            name=partition.name,
            backend=self.name,
            format_version=self.format_version,
            target=f"any CPU, {Platform.WIN_X86_64.value}"
            if settings.enable_cross_compile_for_windows
            else sdk.target(),
            settings_key=settings.engine_key(),
            inputs=partition.inputs,
            outputs=partition.outputs,
            versions={"openvino": sdk.version(), "torch": torch.__version__},
        )

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str] | None:
        """OpenVINO's version, the CPU, and what it can compute in."""
        return {"openvino": sdk.version(), "target": sdk.target()}

    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        """The engine as it was compiled, or compiled again, with a warning, when the CPU or OpenVINO is another one."""
        payload = read_payload(blob, (len(spec.inputs), len(spec.outputs)))
        made = f"OpenVINO {spec.versions.get('openvino')} for {spec.target}"
        here = f"OpenVINO {sdk.version()} on {sdk.target()}"
        weights = b""
        try:
            if payload.constants is not None:  # no compiled model is in it, so that there is nothing that could not fit
                return RefittableEngine(spec, recipe_from(payload))
            if made == f"OpenVINO {sdk.version()} for {sdk.target()}":
                compiled = sdk.import_blob(payload.blob, sdk.config(payload.precision, snippets=payload.snippets))
            else:
                logger(__name__).warning(
                    "Engine %r was built with %s; this is %s. It is compiled again now; save it here to load it fast.",
                    spec.name, made, here,
                )  # fmt: skip
                compiled = _compile_again(payload, weights := payload.weights())
            payload.wiring.check(len(compiled.inputs), len(compiled.outputs))
            return OpenVINOEngine(spec, compiled, payload.wiring, lambda: bytes(blob), keep=(blob, weights))
        except (RuntimeError, UnicodeDecodeError) as error:  # the latter where a name in the model is no text
            raise FileFormatError(f"OpenVINO can't read engine {spec.name!r}, built with {made}: {error}") from error


def _compile_again(payload: Payload, weights: bytes) -> sdk.Compiled:
    model = sdk.read_ir(safe_xml(payload.xml), weights)
    return sdk.compile_model(model, sdk.config(payload.precision, snippets=payload.snippets))


def _precision(partition: Partition, settings: CompilationSettings) -> torch.dtype:
    """What to compute in: the smallest type that the user allows, or else the partition uses, if the CPU has it."""
    values = [node.meta.get("val") for node in partition.module.graph.nodes]
    used = {value.dtype for value in values if isinstance(value, torch.Tensor)}
    for dtype in (torch.float16, torch.bfloat16):
        if dtype in (settings.enabled_precisions or used) and _CAPABILITY[dtype] in sdk.capabilities():
            return dtype
    return torch.float32


def _explain(partition: Partition, words: str) -> str:
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    named = [node for node in nodes if str(node.target) in words] or nodes
    listed = ", ".join(f"{node.name!r} ({node.target})" for node in named[:10]) + (", ..." if len(named) > 10 else "")
    remedy = sorted({str(node.target) for node in named[:10]})
    return (
        f"OpenVINO refused partition {partition.name!r} with {listed}: {words.strip()}\n"
        f"To run operators in PyTorch instead: torch_executed_ops={{{', '.join(map(repr, remedy))}}}."
    )
