"""The only file that imports NNCF and torchao, on first use: each finds scales for a program's graph by running it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import fx, nn

from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.quantization.attention import annotate_attention, has_attention
from torch_tensorrt.quantization.samples import Sample, run_on
from torch_tensorrt.quantization.sources import name_sources
from torch_tensorrt.spec.errors import EngineNotRunnable, UnsupportedError


def installed(name: str) -> bool:
    """Whether the package can be imported here."""
    return importlib.util.find_spec(name) is not None


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Errors only, of these loggers: the tools remark on parts of themselves that aren't used here."""
    logs = [logging.getLogger(name) for name in names]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _imported(package: str, module: str) -> ModuleType:
    try:
        with quiet_torch(), _silent("torchao", "torch.utils._pytree"):
            return importlib.import_module(module)
    except ImportError as error:
        raise EngineNotRunnable(
            f"method={package!r} needs the package {package}, which can't be imported here ({error}). Install it with: "
            f"pip install {package}"
        ) from error


def quantize_with_nncf(module: fx.GraphModule, samples: Sequence[Sample]) -> nn.Module:
    """NNCF's post-training quantization, with its settings for transformers where the graph has attention in it.

    Raises UnsupportedError with NNCF's own words, EngineNotRunnable when it isn't installed.
    """
    nncf = _imported("nncf", "nncf")
    try:
        with _silent("nncf", "torchao", "torch.utils._pytree"):
            made = nncf.quantize(
                module,
                nncf.Dataset([sample.args or dict(sample.kwargs) for sample in samples]),
                subset_size=len(samples),
                model_type=nncf.ModelType.TRANSFORMER if has_attention(module.graph) else None,
            )
    except Exception as error:
        raise UnsupportedError(
            f"NNCF can't quantize this model: {type(error).__name__}: {error}\nTry method='torchao'."
        ) from error
    assert isinstance(made, nn.Module)
    return made


def quantize_with_torchao(
    module: fx.GraphModule, samples: Sequence[Sample], *, symmetric: bool, attention: bool
) -> nn.Module:
    """torchao's PT2E flow with its quantizer for x86.

    symmetric: all values are int8 around 0, where those that layers read are uint8 otherwise. attention: queries and keys too.

    Raises UnsupportedError with torchao's own words, EngineNotRunnable when it isn't installed.
    """
    flow = _imported("torchao", "torchao.quantization.pt2e.quantize_pt2e")
    x86 = _imported("torchao", "torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    default = x86.get_default_x86_inductor_quantization_config()
    values = _values_around_zero()
    config = type(default)(values, values, default.weight, default.bias, False) if symmetric else default
    name_sources(module.graph)
    try:
        with quiet_torch():
            prepared = flow.prepare_pt2e(module, _quantizer(x86, values if attention else None).set_global(config))
    except Exception as error:
        raise UnsupportedError(
            f"torchao can't quantize this model: {type(error).__name__}: {error}\nTry method='nncf'."
        ) from error
    run_on(prepared, samples, "The model that torchao prepared")
    with quiet_torch():
        made = flow.convert_pt2e(prepared)
    assert isinstance(made, nn.Module)
    return made


def _quantizer(x86: ModuleType, queries_and_keys: object):  # type: ignore[no-untyped-def]
    """torchao's for x86 without its rounding of elementwise products, and with what `annotate_attention` adds.

    Elementwise products of two tensors are in GELU and SiLU where these are written out, and in gates: OpenVINO computes some linear
    layers before a rounded one twice, once for each way that their results are read.
    """
    quantizers = _imported("torchao", "torchao.quantization.pt2e.quantizer")

    def annotate(node: fx.Node, inputs: Mapping[fx.Node, object]) -> None:
        if "quantization_annotation" not in node.meta:
            node.meta["quantization_annotation"] = quantizers.QuantizationAnnotation(dict(inputs), _annotated=True)

    class _ForEngines(x86.X86InductorQuantizer):  # type: ignore[misc, name-defined]
        def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
            model = super().annotate(model)
            if queries_and_keys is not None:
                annotate_attention(model.graph, queries_and_keys, annotate)
            return model

    made = _ForEngines()
    if torch.mul in made.module_function_to_aten_operator_type:  # older ones leave products alone
        made.set_function_type_qconfig(torch.mul, None)
    return made


def _values_around_zero() -> object:
    """int8 with a zero point of 0."""
    quantizers = _imported("torchao", "torchao.quantization.pt2e.quantizer")
    observers = _imported("torchao", "torchao.quantization.pt2e.observer")
    return quantizers.QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric,
        is_dynamic=False,
        observer_or_fake_quant_ctr=observers.HistogramObserver.with_args(eps=2**-12),
    )


# In the order of preference: torchao searches ranges that leave the least error, NNCF takes the extremes (docs/quantization.md).
METHODS = ("torchao", "nncf")
