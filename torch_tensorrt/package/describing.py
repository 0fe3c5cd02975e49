"""What a saved file says about itself: `torch_tensorrt.json`, an extra file that can be read without unpacking anything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.partition.boundary import tensor_spec
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Json, TensorSpec, specs_to_json
from torch_tensorrt.spec.version import VERSION
from torch_tensorrt.trace.symbols import symbol_ranges, tensor_inputs

METADATA = "torch_tensorrt.json"
PLATFORM = "platform"  # a field of files that are for another platform than the one that wrote them
FORMAT = 1
EXECUTE = torch.ops.tensorrt.execute_engine.default


def describe_program(program: ExportedProgram, module: CompiledModule | None) -> dict[str, Json]:
    """The record for `program`, made of `module`: versions, engines, changed options, what stays in PyTorch, inputs with their
    ranges, calling convention.
    """
    specs = [str(node.args[2]) for node in engine_calls(program.graph)]
    record = _record(specs, None if module is None else module.settings, input_specs(program), _signature(program))
    if module is None or module.plan is None or module.settings.dryrun:  # a dry run's plan wasn't followed
        return record
    return {**record, "plan": _coverage(module.plan)}


def _coverage(plan: Plan) -> dict[str, Json]:
    stay: dict[str, Json] = {
        name: {"operator": plan.operators[name], "why": why} for name, why in plan.refusals.items()
    }
    return {"operations": plan.total, "in_engines": plan.in_engines, "in_pytorch": stay}


def describe_script(module: torch.jit.ScriptModule) -> dict[str, Json]:
    """The record for a ScriptModule of somebody's own: its engines and argument names are all that it tells."""
    if not hasattr(module, "forward"):
        return _record([], None, (), {})
    calls = module.inlined_graph.findAllNodes("tensorrt::execute_engine")  # type: ignore[attr-defined]
    specs = [str(list(call.inputs())[2].toIValue()) for call in calls]
    arguments = module.forward.schema.arguments  # type: ignore[attr-defined]
    names: list[Json] = [argument.name for argument in arguments if argument.name != "self"]
    return _record(specs, None, (), {"arguments": names})


def to_text(record: Mapping[str, Json]) -> str:
    """The record as JSON."""
    return json.dumps(record, sort_keys=True, indent=1)


def from_text(text: str | bytes, name: str) -> dict[str, Json]:
    """The inverse of `to_text`. Raises FileFormatError when it isn't the record of a format that this version reads."""
    try:
        record = json.loads(not_deep(text))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name}: {METADATA} is not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise FileFormatError(
            f"{name}: {METADATA} has format {found!r:.40}; this version of torch_tensorrt reads format {FORMAT}. Load it with the "
            "version that wrote it, or save the model again."
        )
    return record


def input_specs(program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """The tensors that the program takes, in flattening order."""
    ranges = symbol_ranges(program, None)
    return tuple(tensor_spec(node.name, node.meta["val"], ranges) for node in tensor_inputs(program))


def engine_calls(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that call engines."""
    return [node for node in graph.nodes if node.target is EXECUTE]


def _record(
    specs: Iterable[str], settings: CompilationSettings | None, inputs: Sequence[TensorSpec], signature: dict[str, Json]
) -> dict[str, Json]:
    engines: list[Json] = []
    for spec in dict.fromkeys(specs):
        EngineSpec.from_json(spec)
        engines.append(json.loads(not_deep(spec)))
    windows = settings is not None and settings.enable_cross_compile_for_windows
    return {
        **({PLATFORM: Platform.WIN_X86_64.value} if windows else {}),
        "format": FORMAT,
        "package": VERSION,
        "torch": torch.__version__,
        "engines": engines,
        "settings": {} if settings is None else _changed(settings),
        "inputs": specs_to_json(inputs),
        "signature": signature,
    }


def _changed(settings: CompilationSettings) -> dict[str, Json]:
    return {name: _as_json(getattr(settings, name)) for name in sorted(settings.given())}


def _as_json(value: object) -> Json:
    if isinstance(value, (frozenset, set, tuple, list)):
        return [_as_json(part) for part in sorted(value, key=str)]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _signature(program: ExportedProgram) -> dict[str, Json]:
    """arguments: names of forward's parameters. constants: flattened arguments that are no tensors, with the value that was
    compiled in ("int" for a size). results: what each flattened result is. call, result: both forms in words.
    """
    kinds, constants = [], {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            kinds.append(_kind(spec.arg))
            if not isinstance(spec.arg, TensorArgument):
                value = spec.arg.value if isinstance(spec.arg, ConstantArgument) else kinds[-1]
                constants[spec.arg.name] = _as_json(value)
    results = [_kind(s.arg) for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    in_spec, out_spec = program.call_spec.in_spec, program.call_spec.out_spec
    positional, keyword = in_spec.children()
    call = program.module_call_graph[0].signature
    listed: list[str] = list((call.forward_arg_names if call is not None else None) or [])[: positional.num_children]
    names = [*listed, *map(str, keyword.context or [])]
    return {
        "arguments": list[Json](names),
        "constants": constants,
        "results": list[Json](results),
        "call": _form(in_spec, iter(kinds)),
        "result": _form(out_spec, iter(results)),
    }


def _kind(argument: object) -> str:
    if isinstance(argument, ConstantArgument):
        return "None" if argument.value is None else type(argument.value).__name__
    return {
        "TensorArgument": "tensor",
        "SymIntArgument": "int",
        "SymFloatArgument": "float",
        "SymBoolArgument": "bool",
    }.get(type(argument).__name__, type(argument).__name__)


def _form(spec: pytree.TreeSpec, kinds: Iterable[str]) -> str:
    """`{'y': tensor, 'n': int}`: a tree with its leaves' kinds."""
    leaves = iter(kinds)

    def form(part: pytree.TreeSpec) -> str:
        if part.is_leaf():
            return next(leaves)
        inner = [form(child) for child in part.children()]
        if part.type is dict:
            return "{" + ", ".join(f"{key!r}: {value}" for key, value in zip(part.context, inner, strict=True)) + "}"
        if part.type is list:
            return f"[{', '.join(inner)}]"
        text = f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
        return text if part.type is tuple else f"{part.type.__name__}{text}"

    return form(spec)
