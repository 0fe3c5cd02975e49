"""Every kind of module through every `ir`: it works with any engine, or ends in the documented error."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

import torch_tensorrt
from torch_tensorrt import ENABLED_FEATURES, CompiledModule, InputError, UnsupportedError

IRS = ("default", "dynamo", "ts", "torchscript", "fx", "torch_compile")
ENGINES = ("openvino", "eager", pytest.param("inductor", marks=pytest.mark.slow))
IMAGES = torch.randn(2, 3, 8, 8)


class Network(nn.Module):
    """A convolution and a classifier: seven operations."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 5)

    # Without annotations: torch.jit.script can't read those that a GraphModule has.
    def forward(self, images):
        features = torch.relu(self.norm(self.convolution(images)))
        return torch.softmax(self.classifier(features.mean((2, 3))), 1)


KINDS: dict[str, Callable[[nn.Module], object]] = {
    "module": lambda model: model,
    "graph": fx.symbolic_trace,
    "script": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, (IMAGES,)),
    "program": lambda model: torch.export.export(model, (IMAGES,)),
}
# What is refused, and what its error says to use instead.
REFUSED = {
    **{(kind, ir): "use ir='ts'" for kind in ("script", "traced") for ir in ("dynamo", "fx", "torch_compile")},
    **{("program", ir): "leave `ir` out" for ir in ("ts", "torchscript", "fx", "torch_compile")},
}


def gives_script(kind: str, ir: str) -> bool:
    """Whether this pair goes through the TorchScript door."""
    return ir in ("ts", "torchscript") or (ir == "default" and kind in ("script", "traced"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ir", IRS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_of_every_kind_goes_through_every_ir_or_is_refused_by_name(kind: str, ir: str, engine: str) -> None:
    model = Network().eval()
    options = {"engine": engine, "min_acc_module_size" if ir == "fx" else "min_block_size": 1}
    given = KINDS[kind](model)

    def compiled() -> Callable[[Tensor], Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch_tensorrt.compile(given, ir=ir, inputs=[IMAGES], **options)

    if (kind, ir) in REFUSED:
        with pytest.raises(InputError, match=f"ir='{ir}' takes .*{REFUSED[kind, ir]}"):
            compiled()
        return
    if gives_script(kind, ir) and not ENABLED_FEATURES.torchscript_frontend:
        with pytest.raises(UnsupportedError, match=r"ts\.compile is not here"):
            compiled()
        return
    with torch.no_grad():
        run = compiled()
        torch.testing.assert_close(run(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    if gives_script(kind, ir):
        assert isinstance(run, torch.jit.ScriptModule)
    elif ir != "torch_compile":
        assert isinstance(run, CompiledModule)
        assert run.plan is not None
        assert run.plan.backend == engine
        assert len(run.plan.groups) == 1


def test_at_least_thirty_combinations_do_not_end_in_an_error() -> None:
    working = [(kind, ir) for kind in KINDS for ir in IRS if (kind, ir) not in REFUSED]
    assert len(working) * len(ENGINES) >= 30


def test_a_script_module_without_ir_is_compiled_as_torchscript_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    script = torch.jit.script(nn.ReLU())
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        try:
            torch_tensorrt.compile(script, inputs=[IMAGES], engine="eager", min_block_size=1)
        except UnsupportedError:
            assert not ENABLED_FEATURES.torchscript_frontend
    assert "is a RecursiveScriptModule" in caplog.text
    assert "ir='ts'" in caplog.text


VERBS = {
    "compile": lambda **given: torch_tensorrt.compile(**given),
    "convert_method_to_trt_engine": lambda **given: torch_tensorrt.convert_method_to_trt_engine(**given),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_ir_is_a_value_error_that_names_the_known_ones(verb: str) -> None:
    with pytest.raises(ValueError, match=r"ir='onnx' is not known; .*default, dynamo, ts, torchscript, fx, torch_comp"):
        VERBS[verb](module=nn.ReLU(), ir="onnx", inputs=[IMAGES])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("ir", ["default", "dynamo", "fx", "torch_compile"])
def test_what_is_no_module_is_an_input_error(verb: str, ir: str) -> None:
    with pytest.raises(InputError, match=r"takes an nn\.Module.*not a function"):
        VERBS[verb](module=torch_tensorrt.load, ir=ir, inputs=[IMAGES])


@pytest.mark.parametrize("ir", ["fx", "torch_compile"])
def test_two_doors_give_no_raw_engines(ir: str) -> None:
    with pytest.raises(UnsupportedError, match=f"ir='{ir}' gives no raw engines; .*ir='dynamo'"):
        torch_tensorrt.convert_method_to_trt_engine(nn.ReLU(), ir=ir, inputs=[IMAGES])


@pytest.mark.parametrize("ir", ["fx", "ts"])
def test_doors_of_positional_inputs_refuse_keyword_inputs(ir: str) -> None:
    with pytest.raises(InputError, match=f"ir='{ir}' takes positional inputs only"):
        torch_tensorrt.compile(nn.ReLU(), ir=ir, kwarg_inputs={"input": IMAGES})


@pytest.mark.parametrize("ir", ["default", "fx", "torch_compile"])
def test_a_misspelt_option_is_an_input_error_at_once_through_every_door(ir: str) -> None:
    with pytest.raises(InputError, match="min_blok_size"):
        torch_tensorrt.compile(nn.ReLU(), ir=ir, inputs=[IMAGES], min_blok_size=1)


def test_precisions_are_an_argument_of_every_door() -> None:
    with pytest.raises(InputError, match="enabled_precisions"):
        torch_tensorrt.compile(nn.ReLU(), ir="torch_compile", enabled_precisions={"f99"})
    with pytest.raises(InputError, match="enabled_precisions"):
        torch_tensorrt.compile(nn.ReLU(), ir="fx", inputs=[IMAGES], enabled_precisions={"f99"})


def test_the_table_of_features_has_the_documented_names() -> None:
    assert ENABLED_FEATURES._fields == (
        *("torchscript_frontend", "torch_tensorrt_runtime", "dynamo_frontend", "fx_frontend", "refit", "qdp_plugin"),
        *("windows_cross_compile", "tensorrt_rtx", "trtllm_for_nccl"),
    )
    assert all(isinstance(value, bool) for value in ENABLED_FEATURES)
    assert ENABLED_FEATURES.dynamo_frontend
    assert ENABLED_FEATURES.fx_frontend
