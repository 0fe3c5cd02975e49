"""What a whole compilation depends on, as text: equal texts, interchangeable compiled modules.

Beyond what the key of one engine holds there are here the names of inputs and weights, the model's calling convention, every
option but those of the cache itself, the lines of code that reports quote, and the source of this whole package.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.caching.key import (
    GraphDescription,
    Key,
    UndescribableError,
    digests_of,
    kind_of,
    own_version,
    source_digest,
)
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.partition.boundary import tensor_spec
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Json
from torch_tensorrt.trace.symbols import SymbolRange, tensor_inputs

# Ledger: 1, 2026-11: first.
DESCRIPTION_VERSION = 1
# They change where a compilation looks and what it says, not what comes out.
_WITHOUT_EFFECT = frozenset(
    {
        "cache_built_engines",
        "custom_engine_cache",
        "debug",
        "engine_cache_dir",
        "engine_cache_size",
        "reuse_cached_engines",
    }
)


def program_key(
    program: ExportedProgram,
    ranges: Mapping[str, SymbolRange],
    backend: EngineBackend,
    settings: CompilationSettings,
) -> Key:
    """The key of what compiling `program` for sizes `ranges` gives.

    Raises UndescribableError naming what stands in the way of being certain.
    """
    inputs = tuple(tensor_spec(node.name, node.meta["val"], ranges) for node in tensor_inputs(program))
    whole = Partition("program", backend.name, program.graph_module, inputs, ())
    fingerprint = backend.fingerprint(whole, settings)
    if fingerprint is None:
        raise UndescribableError(f"the {backend.name!r} backend doesn't say what its engines depend on")
    record: dict[str, Json] = {
        "program_description_version": DESCRIPTION_VERSION,
        "backend": backend.name,
        "format_version": backend.format_version,
        "fingerprint": dict(fingerprint),
        "source": [source_digest(type(backend).__module__), source_digest("torch_tensorrt.compiler")],
        "versions": {"torch": torch.__version__, "torch_tensorrt": own_version()},
        "options": _options(settings),
        "ranges of symbols": [
            [name, one.min, one.opt, one.max, [[*points] for points in one.profiles]]
            for name, one in sorted(ranges.items())
        ],
        "signature": _signature(program),
        "state": _state(program),
        "lines": _lines(program),
        **GraphDescription(program.graph_module, names=True).record(),
        "names": [node.name for node in program.graph.nodes],
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return Key(text, hashlib.sha256(text).hexdigest())


def _options(settings: CompilationSettings) -> dict[str, Json]:
    known = {declared.name: getattr(settings, declared.name) for declared in dataclasses.fields(settings)}
    return {name: _shown(value) for name, value in known.items() if name not in _WITHOUT_EFFECT}


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(repr, value)))
    return repr(value)


def _signature(program: ExportedProgram) -> Json:
    """Which input is what, which output is what, and the form of the arguments and results."""
    inputs: list[Json] = [
        [spec.kind.name, str(spec.arg), spec.target, spec.persistent] for spec in program.graph_signature.input_specs
    ]
    outputs: list[Json] = [
        [spec.kind.name, str(spec.arg), spec.target] for spec in program.graph_signature.output_specs
    ]
    calls: list[Json] = []
    for entry in program.module_call_graph:
        if entry.fqn == "" and entry.signature is not None:
            names = entry.signature.forward_arg_names
            calls.append([_form(entry.signature.in_spec), _form(entry.signature.out_spec), list(names or [])])
    return [inputs, outputs, calls]


def _form(spec: pytree.TreeSpec) -> str:
    try:
        return pytree.treespec_dumps(spec)
    except Exception as error:  # of a class that nobody registered for serialising: NotImplementedError and others
        raise UndescribableError(f"the form of the arguments or results can't be written down: {error}") from error


def _state(program: ExportedProgram) -> Json:
    """Kind, hash and place in memory of each weight, buffer and constant: two names of one tensor are not two tensors."""
    tensors: dict[str, Tensor] = {}
    for name, value in {**program.state_dict, **program.constants}.items():
        if type(value) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise UndescribableError(f"constant {name!r} is a {type(value).__name__}")
        tensors[name] = value
    kinds = [kind_of(tensor) for tensor in tensors.values()]
    storages: dict[int, int] = {}
    rows: list[Json] = []
    for name, kind, digest in zip(tensors, kinds, digests_of(list(tensors.values())), strict=True):
        tensor = tensors[name]
        shared = storages.setdefault(tensor.untyped_storage()._cdata, len(storages))
        rows.append([name, kind, digest, shared, int(tensor.storage_offset())])
    return rows


def _lines(program: ExportedProgram) -> str:
    """A hash of the lines of the user's code that the operations come from, which a plan quotes."""
    digest = hashlib.sha256()
    for node in program.graph.nodes:
        digest.update(f"{node.meta.get('stack_trace')}\0{node.meta.get('nn_module_stack')}\0".encode())
    return digest.hexdigest()
