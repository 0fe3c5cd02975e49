"""OpenVINO: any CPU. A partition goes through OpenVINO's PyTorch frontend whole and becomes one compiled model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from typing import ClassVar, TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.mapped import read_once, write_parts
from torch_tensorrt.contracts.parked import any_parked, put_away, read_in_passing
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.contracts.raw import RawEngine
from torch_tensorrt.engines.openvino import operators, sdk
from torch_tensorrt.engines.openvino.engine import OpenVINOEngine
from torch_tensorrt.engines.openvino.hazards import crashes_with_snippets
from torch_tensorrt.engines.openvino.ir import represent_in_place
from torch_tensorrt.engines.openvino.knobs import KNOBS, properties, variants
from torch_tensorrt.engines.openvino.packing import pack_four_bits
from torch_tensorrt.engines.openvino.payload import Facts, Payload, read_payload, write_payload
from torch_tensorrt.engines.openvino.raw import START, read_raw
from torch_tensorrt.engines.openvino.refittable import Recipe, RefittableEngine, recipe_from, safe_xml
from torch_tensorrt.engines.openvino.representation import represent
from torch_tensorrt.engines.openvino.rewriting import rewrite_for_frontend
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.progress import progress
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, FileFormatError, UnsupportedError
from torch_tensorrt.spec.settings import MEASURED_LEVEL, CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec

_CAPABILITY = {torch.float32: "FP32", torch.bfloat16: "BF16", torch.float16: "FP16"}
_SHORTEST = (torch.float16, torch.bfloat16, torch.float32)  # what is computed in where it is allowed

_HONOURS = {"enabled_precisions", "optimization_level", "immutable_weights", "engine_options", "num_threads"}
Specs: TypeAlias = "tuple[TensorSpec, ...]"


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
        """Precisions that this CPU lacks, and optimization levels. Raises InputError for engine_options that aren't known."""
        properties(settings)
        lacking = [dtype for dtype in settings.enabled_precisions if _CAPABILITY.get(dtype) not in sdk.capabilities()]
        told = [
            f"OpenVINO does not compute in {dtype} on this CPU; float32, or another of enabled_precisions, is used instead."
            for dtype in sorted(lacking, key=str)
        ]
        if settings.is_set("optimization_level") and (settings.optimization_level or 0) < MEASURED_LEVEL:
            told.append(
                f"OpenVINO has no optimization levels; optimization_level is not used below {MEASURED_LEVEL}, from which on the "
                "fastest way to build is found by measuring."
            )
        return [*told, *settings.unhonoured(self.name, honours=_HONOURS)]

    def variants(self, settings: CompilationSettings, device: torch.device) -> Mapping[str, Mapping[str, object]]:
        """For short or for many runs, with fewer threads, and in each of enabled_precisions."""
        allowed = settings.enabled_precisions if len(settings.enabled_precisions) > 1 else ()
        here = [dtype for dtype in _SHORTEST if dtype in allowed and _CAPABILITY[dtype] in sdk.capabilities()]
        return variants(here, settings.num_threads)

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Operators that OpenVINO's frontend has a rule for, in the forms that gave PyTorch's results when tested."""
        reason = operators.refusal(node)
        return Support(not reason, reason)

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """One compiled model. Raises BuildError with OpenVINO's own words."""
        precision = _precision(partition, settings)
        module, outputs = rewrite_for_frontend(partition.module)
        dtypes = [partition.outputs[outputs.index(port)].dtype for port in range(len(set(outputs)))]
        spec = self._spec(partition.name, partition.inputs, partition.outputs, settings)
        placeholders = [node.name for node in module.graph.nodes if node.op == "placeholder"]
        knobs = properties(settings)
        # With one thread OpenVINO 2026.4 makes one snippet of linears in a row, and fails for some: "Layout rank can't be larger".
        snippets = not crashes_with_snippets(module) and not _has_one_thread(knobs)
        options = sdk.config(precision, snippets=snippets, knobs=knobs)
        try:
            with progress(f"{partition.name} by OpenVINO", 2) as steps, read_in_passing():
                if not settings.immutable_weights:
                    representation, names = represent(module, partition.inputs, dtypes)
                    steps.advance("converted")
                    wiring = Wiring(tuple(placeholders.index(name) for name in names), outputs)
                    return RefittableEngine(spec, Recipe(representation, wiring, precision, snippets, knobs))
                model = sdk.convert(module, partition.inputs, dtypes)
                pack_four_bits(model)
                # Reads all weights: where they are large not while the compiled model is in memory, elsewhere not before it is asked for.
                early = represent_in_place(model) if any_parked() else None
                put_away()
                steps.advance("converted")
                compiled = sdk.compile_model(model, options)
                steps.advance("compiled")
        except UnsupportedError:
            raise
        except Exception as error:  # OpenVINO raises classes of its own, and what Python raises in its decoder
            raise BuildError(_explain(partition, str(error))) from error
        wiring = Wiring(tuple(placeholders.index(name) for name in sdk.input_names(model)), outputs)

        # The model's constants are its tensors' memory, so that the module must live as long as it.
        def write(file: BytesIO, weights_owner: fx.GraphModule = module) -> None:
            export = (lambda file: None) if settings.enable_cross_compile_for_windows else compiled.export_model
            with read_in_passing():
                ir = early or represent_in_place(model)
                write_payload(file, Facts(precision, wiring, snippets, knobs), export, ir)

        return OpenVINOEngine(spec, compiled, options, wiring, write)

    def wrote(self, raw: bytes) -> bool:
        """Whether it is a compiled model."""
        return raw.startswith(START)

    def read_raw(self, raw: RawEngine, settings: CompilationSettings) -> Engine:
        """The engine of a compiled model, which computes in the shortest of enabled_precisions, or in float32."""
        return read_raw(raw, self._spec(raw.name, (), (), settings), _shortest(settings.enabled_precisions))

    def _spec(self, name: str, inputs: Specs, outputs: Specs, settings: CompilationSettings) -> EngineSpec:
        return EngineSpec(
            name=name,
            backend=self.name,
            format_version=self.format_version,
            target=f"any CPU, {Platform.WIN_X86_64.value}"
            if settings.enable_cross_compile_for_windows
            else sdk.target(),
            settings_key=settings.engine_key(),
            inputs=inputs,
            outputs=outputs,
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
        options, weights = sdk.config(payload.precision, snippets=payload.snippets, knobs=payload.knobs), b""
        fits = made == f"OpenVINO {sdk.version()} for {sdk.target()}"
        if not (fits or payload.xml):
            raise EngineNotRunnable(
                f"Engine {spec.name!r} is a raw engine that was embedded with {made}; this is {here}. It holds nothing to compile "
                "again; compile the model here, or embed an engine that was made here."
            )
        try:
            if payload.constants is not None:  # no compiled model is in it, so that there is nothing that could not fit
                return RefittableEngine(spec, recipe_from(payload))
            if fits:
                with read_once(blob):  # OpenVINO makes a form of its own of nearly all weights
                    compiled = sdk.import_blob(payload.blob, options)
            else:
                logger(__name__).warning(
                    "Engine %r was built with %s; this is %s. It is compiled again now; save it here to load it fast.",
                    spec.name, made, here,
                )  # fmt: skip
                compiled = _compile_again(payload, options, weights := payload.weights())
            payload.wiring.check(len(compiled.inputs), len(compiled.outputs))
            return OpenVINOEngine(
                spec, compiled, options, payload.wiring, lambda file: write_parts(file, (blob,)), keep=(blob, weights)
            )
        except (RuntimeError, UnicodeDecodeError) as error:  # the latter where a name in the model is no text
            raise FileFormatError(f"OpenVINO can't read engine {spec.name!r}, built with {made}: {error}") from error


def _has_one_thread(knobs: Mapping[str, str]) -> bool:
    """Whether OpenVINO will, because it is told so or has but one core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return knobs.get(KNOBS["num_threads"][0], str(cores)) == "1"


def _compile_again(payload: Payload, options: sdk.Config, weights: bytes) -> sdk.Compiled:
    model = sdk.read_ir(safe_xml(payload.xml), weights)
    return sdk.compile_model(model, options)


def _precision(partition: Partition, settings: CompilationSettings) -> torch.dtype:
    """What to compute in: the smallest type that the user allows, or else the partition uses, if the CPU has it."""
    values = [node.meta.get("val") for node in partition.module.graph.nodes]
    used = {value.dtype for value in values if isinstance(value, torch.Tensor)}
    return _shortest(settings.enabled_precisions or used)


def _shortest(allowed: Collection[torch.dtype]) -> torch.dtype:
    """The shortest type of those that the CPU has."""
    for dtype in (torch.float16, torch.bfloat16):
        if dtype in allowed and _CAPABILITY[dtype] in sdk.capabilities():
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
