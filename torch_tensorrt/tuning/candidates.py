"""What is tried: the variants of the engines that are here, and a partition made fit for another engine than its own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from torch_tensorrt import engines
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.lowering.pipeline import lower_decomposed
from torch_tensorrt.partition.nodes import is_operation
from torch_tensorrt.partition.refusal import KEEP_IN_TORCH, common_refusal
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

EAGER = "eager"
_OF_THE_ENGINE = ("engine_options", "disabled_passes")


@dataclass(frozen=True)
class Candidate:
    """An engine with the settings to build it with. relowered: these settings change what is built, not only how."""

    label: str
    backend: EngineBackend
    settings: CompilationSettings
    relowered: bool = False


def candidates_of(
    backend: EngineBackend, settings: CompilationSettings, device: torch.device, *, own: bool = True
) -> Iterator[Candidate]:
    """The variants of one engine. `own`: it is the engine that the user's engine_options and disabled_passes are for.

    Variants that change an engine option that the user has set are left out.
    """
    base = settings if own else dataclasses.replace(settings, engine_options=(), disabled_passes=frozenset())
    given = dict(base.engine_options)
    lowers = bool(backend.passes(base)) or backend.strongly_typed
    for label, changes in backend.variants(base, device).items():
        options = changes.get("engine_options", {})
        assert isinstance(options, Mapping)
        if all(given.get(name, value) == value for name, value in options.items()):
            changed = changed_settings(base, changes)
            relowered = lowers and bool(changes.keys() - {"engine_options"})
            yield Candidate(f"{backend.name}: {label}", backend, changed, relowered)


def changed_settings(settings: CompilationSettings, changes: Mapping[str, object]) -> CompilationSettings:
    """`settings` with `changes`, which add to the engine's options and to the passes that are left out."""
    made = {name: value for name, value in changes.items() if name not in _OF_THE_ENGINE}
    options, passes = (changes.get(name, ()) for name in _OF_THE_ENGINE)
    assert isinstance(passes, (frozenset, set, tuple, list))
    made["engine_options"] = {**dict(settings.engine_options), **dict(options or {})}  # type: ignore[call-overload]
    made["disabled_passes"] = settings.disabled_passes | frozenset(passes)
    return dataclasses.replace(settings, **made)  # type: ignore[arg-type]


def all_candidates(
    backend: EngineBackend, settings: CompilationSettings, device: torch.device, *, every_engine: bool
) -> list[Candidate]:
    """Those of `backend` and, with every_engine, of the others that are here for `device`.

    The usual way comes first, then PyTorch itself, then what is built soon: the time allowed may not suffice for all.
    """
    own = list(candidates_of(backend, settings, device))
    others = [
        candidate
        for name in (EAGER, *(name for name in engines.names() if name != EAGER))
        if every_engine and name != backend.name and (other := engines.backend(name)).available(device)
        for candidate in candidates_of(other, settings, device, own=False)
    ]
    eager = [candidate for candidate in others if candidate.backend.name == EAGER]
    further = [*own[1:], *(candidate for candidate in others if candidate not in eager)]
    return [*own[:1], *eager, *sorted(further, key=lambda candidate: candidate.backend.builds_slowly)]


def adapt(partition: Partition, candidate: Candidate, device: torch.device) -> Partition:
    """`partition` as the candidate's engine takes it: lowered again by that engine's own passes, where it has some.

    Raises UnsupportedError with the engine's reason when it doesn't take all of it, or when weights that are to be exchanged
    would no longer be found.
    """
    backend, settings = candidate.backend, candidate.settings
    if backend.name == partition.backend:
        return partition
    module = partition.module
    if backend.passes(settings) or backend.strongly_typed:
        if not settings.immutable_weights:
            raise UnsupportedError("it would lower the graph again, and immutable_weights=False needs it as it is")
        module = _lower_again(module, backend, settings)
    for node in filter(is_operation, module.graph.nodes):
        support = backend.supports(node, settings)
        reason = common_refusal(node, settings, device) or ("" if support else support.reason or "it is not supported")
        if reason:
            raise UnsupportedError(f"{node.name} ({node.target}): {reason}")
    return dataclasses.replace(partition, backend=backend.name, module=module)


def _lower_again(module: fx.GraphModule, backend: EngineBackend, settings: CompilationSettings) -> fx.GraphModule:
    """A copy of the graph, with the same weights, after the backend's passes."""
    made = lower_decomposed(
        fx.GraphModule(_attributes(module), copy.deepcopy(module.graph)), backend, settings, own=False
    )
    output = made.graph.output_node()
    for node in output.all_input_nodes:  # strides of results are a matter of the graph around the engine
        if KEEP_IN_TORCH in node.meta:
            inner = node.args[0]
            assert isinstance(inner, fx.Node)
            source = inner.args[0]
            assert isinstance(source, fx.Node)
            output.replace_input_with(node, source)
            made.graph.erase_node(node)
            made.graph.erase_node(inner)
    made.recompile()
    return made


def _attributes(module: fx.GraphModule) -> dict[str, object]:
    targets: Sequence[str] = [str(node.target) for node in module.graph.find_nodes(op="get_attr")]
    return {target: fx.graph_module._get_attr(module, target) for target in targets}
