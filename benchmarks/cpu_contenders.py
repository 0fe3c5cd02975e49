"""What benchmarks/cpu.py compares: ways to run one network on a CPU, each built from the same weights and the same inputs.

In int8 each peer quantizes with its own tool, from the same samples: Inductor by torchao's X86InductorQuantizer, OpenVINO by NNCF, ONNX
Runtime by onnxruntime.quantization (static for convolutions, dynamic for transformers), ours by torch_tensorrt.quantize.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import torch
from cpu_models import Case
from torch import Tensor, nn
from torch.export import ExportedProgram

import torch_tensorrt
from torch_tensorrt.runtime.module import CompiledModule

Inputs: TypeAlias = "tuple[Tensor, ...]"
Call: TypeAlias = "Callable[[], object]"
SAMPLES = 32  # pictures or texts for quantization; random as what is timed


@dataclass
class Built:
    """A contender that is ready. other: the same with one more of each size that varies.

    load_seconds: from file to first answer. apart: seconds that saving and loading took, which are no part of building. chosen: what
    measuring found to be the fastest.
    """

    call: Call
    other: Call
    load_seconds: float | None = None
    apart: float = 0.0
    chosen: str = ""


@dataclass
class Job:
    """A row's network and inputs, as each contender wants them."""

    case: Case
    tiny: bool
    folder: Path  # for this row's files
    tuning_seconds: float = 300.0
    quantized: dict[str, object] = field(default_factory=dict)

    @cached_property
    def exact(self) -> nn.Module:
        """The network in float32."""
        return self.case.module(self.tiny)

    @cached_property
    def module(self) -> nn.Module:
        """The network in the row's precision; in int8 as torchao quantizes it for Inductor."""
        if self.case.precision == "int8":
            return self._quantized_for_inductor()
        if self.case.precision == "float32":
            return self.exact
        return self.case.module(self.tiny).to(getattr(torch, self.case.precision))

    def inputs(self, *, exact: bool = False, seed: int = 0, more: int = 0) -> Inputs:
        """Of the precision that `module` takes, or in float32."""
        found = self.case.inputs(self.tiny, seed, more)
        if exact or self.case.precision == "int8":
            return found
        dtype = getattr(torch, self.case.precision)
        return tuple(x.to(dtype) if x.is_floating_point() else x for x in found)

    def others(self, *, exact: bool = False) -> Inputs:
        """Sizes that a dynamic row has to take as well; the same as `inputs` for a static one."""
        return self.inputs(exact=exact, more=int(self.case.dynamic))

    def described(self) -> list[object]:
        """What torch_tensorrt.compile is told about the inputs."""
        inputs = self.inputs()
        return list(self.case.ranges(inputs) if self.case.dynamic else inputs)

    def samples(self) -> list[Inputs]:
        """To calibrate a quantizer with."""
        return [self.inputs(exact=True, seed=seed) for seed in range(max(4, SAMPLES // self.case.batch))]

    def exported(self, module: nn.Module, inputs: Inputs) -> ExportedProgram:
        """torch.export.export, with sizes that vary if they do. The example has sizes above 1, which export would fix."""
        if not self.case.dynamic:
            return torch.export.export(module, inputs, strict=False)
        shapes = self.case.dynamic_shapes(inputs)
        kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
        told = (tuple(shapes),) if inspect.Parameter.VAR_POSITIONAL in kinds else tuple(shapes)
        return torch.export.export(module, inputs, dynamic_shapes=told, strict=False)

    def _quantized_for_inductor(self) -> nn.Module:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(self.exported(self.exact, self.others(exact=True)).module(), quantizer)
        for sample in self.samples():
            prepared(*sample)
        converted: nn.Module = convert_pt2e(prepared)
        return converted


def eager(job: Job) -> Built:
    """PyTorch as it is."""
    module, inputs, others = job.module, job.inputs(), job.others()
    return Built(lambda: module(*inputs), lambda: module(*others))


def torch_compiled(job: Job) -> Built:
    """torch.compile(model); with freezing in int8, without which Inductor has no int8 kernels."""
    return _compiled(job, {"freezing": True} if job.case.precision == "int8" else {})


def max_autotune(job: Job) -> Built:
    """torch.compile with freezing and max-autotune."""
    return _compiled(job, {"freezing": True, "max_autotune": True})


def _compiled(job: Job, options: Mapping[str, bool]) -> Built:
    dynamic = True if job.case.dynamic else None
    run = torch.compile(job.module, dynamic=dynamic, options=dict(options) or None)
    inputs, others = job.inputs(), job.others()
    with torch._inductor.config.patch(dict(options)):  # Dynamo looks for freezing here, not among the options
        run(*inputs)
        run(*others)
    return Built(lambda: run(*inputs), lambda: run(*others))


def aotinductor(job: Job) -> Built:
    """AOTInductor's package, with freezing."""
    path, inputs, others = str(job.folder / "aotinductor.pt2"), job.inputs(), job.others()
    program = job.exported(job.module, others)
    torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs={"freezing": True})
    start = time.perf_counter()
    run = torch._inductor.aoti_load_package(path)
    run(*inputs)
    return Built(lambda: run(*inputs), lambda: run(*others), time.perf_counter() - start)


def openvino_direct(job: Job) -> Built:
    """OpenVINO from the float32 network, told the precision; a request that shares the memory of its inputs and outputs."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(openvino_model(job), "CPU", openvino_options(job.case))
    path, built = job.folder / "openvino.blob", time.perf_counter()
    path.write_bytes(compiled.export_model().getvalue())
    arrays, others = ([x.numpy() for x in given] for given in (job.inputs(exact=True), job.others(exact=True)))
    start = time.perf_counter()
    core.import_model(path.read_bytes(), "CPU").create_infer_request().infer(arrays)
    done = time.perf_counter()
    request = compiled.create_infer_request()
    return Built(
        lambda: request.infer(arrays, share_inputs=True, share_outputs=True),
        lambda: request.infer(others, share_inputs=True, share_outputs=True),
        done - start,
        done - built,
    )


def openvino_options(case: Case) -> dict[str, object]:
    """How OpenVINO is told the row's precision."""
    hint = {"bfloat16": "bf16"}.get(case.precision, "f32")
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}


def openvino_model(job: Job) -> object:
    """The network as OpenVINO converts it, in int8 as NNCF quantizes that."""
    import openvino

    if OPENVINO not in job.quantized:
        model = openvino.convert_model(job.exported(job.exact, job.others(exact=True)))
        if job.case.precision != "int8":
            return model
        job.quantized[OPENVINO] = _quantized_by_nncf(job, model)
    return job.quantized[OPENVINO]


def _quantized_by_nncf(job: Job, model: object) -> object:
    import nncf

    samples = [[x.numpy() for x in sample] for sample in job.samples()]
    kind = None if job.case.network.convolutional else nncf.ModelType.TRANSFORMER
    return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), model_type=kind)


def onnx_runtime(job: Job) -> Built:
    """ONNX Runtime from the float32 network through torch.onnx's exporter, or its own quantization of that."""
    import onnxruntime

    path = str(job.folder / "model.onnx")
    torch.onnx.export(
        job.exported(job.exact, job.others(exact=True)), f=path, dynamo=True, verbose=False, external_data=False
    )
    if job.case.precision == "int8":
        path = _quantized_by_onnxruntime(job, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def fed(inputs: Inputs) -> dict[str, object]:
        return {name: x.numpy() for name, x in zip(names, inputs, strict=True)}

    feed, other = fed(job.inputs(exact=True)), fed(job.others(exact=True))
    session.run(None, feed)
    loaded = time.perf_counter() - start
    return Built(lambda: session.run(None, feed), lambda: session.run(None, other), loaded)


def _quantized_by_onnxruntime(job: Job, path: str) -> str:
    import onnx
    from onnxruntime import InferenceSession
    from onnxruntime import quantization as ort

    new, prepared = (str(job.folder / f"{name}.onnx") for name in ("quantized", "prepared"))
    ort.quant_pre_process(path, prepared, skip_symbolic_shape=True)
    if not job.case.network.convolutional:
        model = onnx.load(prepared)
        del model.graph.value_info[:]  # of weights that the tool transposes, which it then takes for a contradiction
        ort.quantize_dynamic(model, new, weight_type=ort.QuantType.QInt8, per_channel=True)
        return new
    names = [given.name for given in InferenceSession(prepared, providers=["CPUExecutionProvider"]).get_inputs()]

    class Samples(ort.CalibrationDataReader):  # type: ignore[misc]
        """What the tool asks for the next sample."""

        def __init__(self) -> None:
            self.left: Iterator[Inputs] = iter(job.samples())

        def get_next(self) -> dict[str, object] | None:
            """None when there are no more."""
            with suppress(StopIteration):
                return {name: x.numpy() for name, x in zip(names, next(self.left), strict=True)}
            return None

    kinds = {"activation_type": ort.QuantType.QUInt8, "weight_type": ort.QuantType.QInt8}
    ort.quantize_static(prepared, new, Samples(), per_channel=True, **kinds)
    return new


def compiled(job: Job, **options: object) -> CompiledModule:
    """What torch_tensorrt.compile makes of the row's network."""
    if job.case.precision == "int8":
        if "ours" not in job.quantized:
            job.quantized["ours"] = torch_tensorrt.quantize(job.exact, job.samples(), inputs=job.described())
        model = job.quantized["ours"]
    else:
        model = job.module
    return torch_tensorrt.compile(model, arg_inputs=job.described(), min_block_size=1, **options)


def ours(job: Job, **options: object) -> Built:
    """torch_tensorrt.compile with its default options."""
    inputs, others, described = job.inputs(), job.others(), job.described()
    module = compiled(job, **options)
    path, built = str(job.folder / f"ours{len(options)}.ep"), time.perf_counter()
    torch_tensorrt.save(module, path, arg_inputs=described)
    start = time.perf_counter()
    torch_tensorrt.load(path).module()(*inputs)
    done = time.perf_counter()
    return Built(lambda: module(*inputs), lambda: module(*others), done - start, done - built, _chosen(module))


def _chosen(module: CompiledModule) -> str:
    trials = module.plan.trials if module.plan is not None else ()
    won = {trial.place: trial.label for trial in trials if trial.note == "chosen"}
    whole = won.pop("whole model", "as planned")
    return whole if whole != "as planned" else ", ".join(dict.fromkeys(won.values()))


def ours_measured(job: Job) -> Built:
    """torch_tensorrt.compile with optimization_level=5."""
    cache = str(job.folder / "timings.json")
    return ours(job, optimization_level=5, max_tuning_seconds=job.tuning_seconds, timing_cache_path=cache)


EAGER, OURS, MEASURED = "eager", "ours", "ours, level 5"
MAX_AUTOTUNE, OPENVINO = "max-autotune", "OpenVINO"
CONTENDERS: Mapping[str, Callable[[Job], Built]] = {
    EAGER: eager,
    OPENVINO: openvino_direct,
    OURS: ours,
    "ONNX Runtime": onnx_runtime,
    "torch.compile": torch_compiled,
    "AOTInductor": aotinductor,
    MAX_AUTOTUNE: max_autotune,
    MEASURED: ours_measured,
}


def contenders(case: Case) -> dict[str, Callable[[Job], Built]]:
    """Those of a row: ONNX Runtime has no bfloat16 kernels on a CPU; max-autotune would dominate the time of the plots."""
    absent = {"ONNX Runtime"} if case.precision == "bfloat16" else set()
    absent |= {MAX_AUTOTUNE} if case.grows else set()
    return {name: make for name, make in CONTENDERS.items() if name not in absent}
