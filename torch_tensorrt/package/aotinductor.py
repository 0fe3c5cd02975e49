"""AOTInductor packages: native code for the graph, that PyTorch loads in Python and C++."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    OutputKind,
    SymBoolArgument,
    SymFloatArgument,
    SymIntArgument,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from torch_tensorrt.engines.inductor.cxx import compiler
from torch_tensorrt.graphs.predictions import fresh_predictions
from torch_tensorrt.observe.log import logger
from torch_tensorrt.package.confirming import disagreement, is_confirmed
from torch_tensorrt.package.describing import EXECUTE, METADATA, describe_program, input_specs, to_text
from torch_tensorrt.package.inlining import inline_engines
from torch_tensorrt.package.layouts import describe_layouts
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.assumptions import Assumptions, has_extreme_size
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, InputError, UnsupportedError
from torch_tensorrt.spec.tensor_spec import Dim, Json, TensorSpec

# The key under which a package's own get_metadata() says what it needs.
NEEDS = "torch_tensorrt"
_LAYOUTS = "layout_optimization"
_log = logger(__name__)
_OURS = ("aot_inductor.package", "aot_inductor.output_path")


def check_platform(configs: object) -> Mapping[str, object]:
    """The inductor_configs that were given.

    Raises InputError (a ValueError) when this isn't Linux or an option isn't Inductor's.
    """
    if not sys.platform.startswith("linux"):
        raise InputError(
            f"output_format='aot_inductor' needs Linux; this is {sys.platform}. Save as 'exported_program' here, load that on Linux "
            "and save it there."
        )
    if configs is not None and not isinstance(configs, Mapping):
        raise InputError(f"inductor_configs is a {type(configs).__name__}; a dict from option to value is needed.")
    known = torch._inductor.list_options()
    for name in configs or {}:
        if name in _OURS:
            raise InputError(f"inductor_configs[{name!r}] is set by save itself; leave it out.")
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"inductor_configs: Inductor has no option {name!r}.{hint} torch._inductor.list_options() names all."
            )
    return dict(configs or {})


def _compiler() -> str:
    try:
        return compiler()
    except EngineNotRunnable as error:
        raise BuildError(
            "output_format='aot_inductor' compiles C++, and no compiler was found. Install g++ or clang++, or name one in the "
            "environment variable CXX; or save as 'exported_program'."
        ) from error


def package(
    program: ExportedProgram,
    module: CompiledModule | None,
    extras: Mapping[str, bytes],
    configs: Mapping[str, object],
) -> bytes:
    """The package's bytes. Engines that keep their program are compiled into it; the others are called through our operator.

    Raises UnsupportedError for a result that a package can't give back and for sizes that AOTInductor fixes though they vary,
    BuildError with PyTorch's own words when AOTInductor can't compile the graph, or gets it wrong on a GPU.
    """
    command = _compiler()
    _check_results(program)
    plain = inline_engines(program)
    if plain is not program:
        plain.example_inputs = program.example_inputs
    if plain.example_inputs is None:
        plain.example_inputs = _example_inputs(plain)
    record = describe_program(plain, module)
    record.pop("plan", None)  # of the module; here what ran in PyTorch and in engines that could be opened is compiled
    record["needs"], record["layouts"] = _needs(record), describe_layouts(plain)
    told = configs.get("aot_inductor.metadata")
    metadata = {**(told if isinstance(told, Mapping) else {}), NEEDS: _told(record)}
    options = {"cpp.cxx": (command,), **_for_state(plain), **configs, "aot_inductor.metadata": metadata}
    assumptions = Assumptions(plain.graph)
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_") as folder:
        path = os.path.join(folder, "model.pt2")
        _compile(plain, path, options)
        _check_sizes(plain.graph, assumptions)
        _confirm(plain, path, options)
        _add(path, {**extras, METADATA: to_text(record).encode()})
        return Path(path).read_bytes()


def _compile(program: ExportedProgram, path: str, options: Mapping[str, object]) -> None:
    # Elsewhere names depend on the code only: a process that compiles it with other weights now would replace them.
    folder = os.path.dirname(path)
    own_files = importlib.import_module("torch._inductor.config").patch({"aot_inductor.output_path": folder})
    try:
        with own_files, fresh_predictions(program):
            torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=dict(options))
    except Exception as error:  # AOTInductor raises many classes
        raise BuildError(
            f"AOTInductor could not compile the graph: {type(error).__name__}: {error}\nSave as 'exported_program', which needs no "
            "compilation."
        ) from error


def _confirm(program: ExportedProgram, path: str, options: Mapping[str, object]) -> None:
    """Compiles once more, without moving tensors to other layouts, where the package's results are wrong.

    Raises BuildError where they still are.
    """
    if not is_confirmed(program):
        return
    error = disagreement(program, path)
    if error and _LAYOUTS not in options:
        _log.warning("AOTInductor's code was wrong (by %.2g): it is compiled again with %s=False.", error, _LAYOUTS)
        _compile(program, path, {**options, _LAYOUTS: False})
        error = disagreement(program, path)
    if error:
        raise BuildError(
            f"AOTInductor compiled the graph wrongly: its results are off by {error:.2g} of their size. Save as "
            "'exported_program', which isn't compiled, or compile all of the model into engines."
        )


def _check_results(program: ExportedProgram) -> None:
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT and isinstance(spec.arg, SymIntArgument):
            raise UnsupportedError(
                f"Input {spec.arg.name!r} is a number that varies; an AOTInductor package takes tensors only. Save as "
                "'exported_program'."
            )
    results = [spec.arg for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    for index, result in enumerate(results):
        constant = isinstance(result, ConstantArgument) and result.value is not None
        if constant or isinstance(result, (SymFloatArgument, SymBoolArgument)):
            shown = f"the constant {result.value!r}" if isinstance(result, ConstantArgument) else "a number"
            raise UnsupportedError(
                f"Result {index} (of the flattened results) is {shown}; an AOTInductor package gives back tensors, sizes and None "
                "only. Leave it out of the model's results, or save as 'exported_program'."
            )


def _for_state(program: ExportedProgram) -> dict[str, object]:
    """Inductor takes a buffer of equal values for a constant, even one that the model writes to (pytorch issue 165444)."""
    written = any(spec.kind == OutputKind.BUFFER_MUTATION for spec in program.graph_signature.output_specs)
    return {"joint_graph_constant_folding": False} if written else {}


def _check_sizes(graph: fx.Graph, assumptions: Assumptions) -> None:
    """What AOTInductor compiles itself: engines have checked theirs."""
    wrong = assumptions.wrong()
    wrong += [
        f"{node.name!r} ({node.target}) has the sizes that it has for the example"
        for node in graph.nodes
        if node.target is not EXECUTE and has_extreme_size(node)
    ]
    if wrong:
        raise UnsupportedError(
            f"AOTInductor made code that is right only where {' and '.join(wrong)}, and the sizes vary; it would give wrong numbers "
            "for others. Compile the model for fixed sizes, or save as 'exported_program'."
        )


def _needs(record: Mapping[str, Json]) -> Json:
    engines = record["engines"]
    assert isinstance(engines, list)
    backends = {str(engine["backend"]) for engine in engines if isinstance(engine, dict)}
    return ["torch_tensorrt", *sorted(backends)] if backends else []


def _told(record: Mapping[str, Json]) -> str:
    needs = record["needs"]
    assert isinstance(needs, list)
    if not needs:
        return "needs nothing but PyTorch"
    return f"needs `import torch_tensorrt` (or its C++ runtime) before it is loaded; engines: {', '.join(map(str, needs[1:]))}"


def _add(path: str, files: Mapping[str, bytes]) -> None:
    """Adds extra files where torch.export.save puts them."""
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        for name, content in files.items():
            archive.writestr(f"{root}/extra/{name}", content)


def _example_inputs(program: ExportedProgram) -> tuple[tuple[object, ...], dict[str, object]]:
    specs = input_specs(program)
    point = _point(specs)
    tensors = {s.name: torch.ones(s.shape_at(point), dtype=s.dtype, device=s.device) for s in specs}
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    leaves: list[object] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            continue
        if isinstance(spec.arg, TensorArgument):
            leaves.append(tensors[spec.arg.name])
        elif isinstance(spec.arg, ConstantArgument):
            leaves.append(spec.arg.value)
        else:
            leaves.append(int(values[spec.arg.name].node.hint or 2))
    args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return args, kwargs


def _point(specs: tuple[TensorSpec, ...]) -> str:
    """A point at which no varying size is 0 or 1, which Inductor would make constant."""
    for point in ("opt", "max"):
        sizes = [
            at for s in specs for at, size in zip(s.shape_at(point), s.shape, strict=True) if isinstance(size, Dim)
        ]
        if all(size > 1 for size in sizes):
            return point
    return "opt"
