"""Decides which nodes go into engines. A value comes out; nothing is changed and nothing is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import fx

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Group, Plan
from torch_tensorrt.graphs.editing import FUSED
from torch_tensorrt.observe.log import logger
from torch_tensorrt.partition.grouping import group_nodes
from torch_tensorrt.partition.nodes import describe, is_operation, is_write
from torch_tensorrt.partition.refusal import KEEP_IN_TORCH, common_refusal, forced_names
from torch_tensorrt.partition.untold_sizes import untold_sizes
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

_log = logger("partition")


def plan(
    graph_module: fx.GraphModule,
    backend: EngineBackend,
    settings: CompilationSettings,
    *,
    device: torch.device,
    reason: str = "",
) -> Plan:
    """The groups for `backend`, and a reason for every operation that stays in PyTorch.

    `reason` says why this backend was chosen; it is part of the report.
    """
    operations = [node for node in graph_module.graph.nodes if is_operation(node) and KEEP_IN_TORCH not in node.meta]
    _warn_of_unmatched(graph_module, settings)
    refusals = {node.name: why for node in operations if (why := _refusal(node, backend, settings, device))}
    groups: list[Group] = []
    for members in _groups_of(graph_module, operations, refusals):
        group = _as_group(f"part_{len(groups)}", backend.name, members)
        small = _counted(members) < settings.min_block_size
        if small and not settings.require_full_compilation:
            refusals.update(_too_small(members, settings))
        else:
            groups.append(group)
    return Plan(
        groups=tuple(groups),
        refusals={node.name: refusals[node.name] for node in operations if node.name in refusals},
        operators={node.name: describe(node) for node in operations},
        total=len(operations),
        backend=backend.name,
        backend_reason=reason,
        notes=tuple(_write_note(node) for node in graph_module.graph.nodes if is_write(node) and node.all_input_nodes),
    )


def require_everything_in_engines(plan: Plan) -> None:
    """Raises UnsupportedError listing every operation outside an engine, its reason and the user's line of code."""
    if not plan.refusals:
        return
    rows = "\n".join(f"  {name}: {why} ({plan.operators[name]})" for name, why in plan.refusals.items())
    raise UnsupportedError(
        f"require_full_compilation=True, but {len(plan.refusals)} of {plan.total} operations can't go into a {plan.backend!r} "
        f"engine:\n{rows}\nCompile with require_full_compilation=False to run these in PyTorch."
    )


def _groups_of(
    graph_module: fx.GraphModule, operations: Sequence[fx.Node], refusals: dict[str, str]
) -> Sequence[Sequence[fx.Node]]:
    """The groups of what isn't refused; operations whose sizes can't be told are refused, until none is left."""
    while True:
        supported = [node for node in operations if node.name not in refusals]
        groups = list(group_nodes(graph_module.graph, supported))
        untold = {name: why for members in groups for name, why in untold_sizes(members).items()}
        if not untold.keys() - refusals.keys():
            return groups
        refusals.update(untold)


def _warn_of_unmatched(graph_module: fx.GraphModule, settings: CompilationSettings) -> None:
    """Names in options that stand for nothing in the graph: what they should keep in PyTorch may run in an engine."""
    matched = {name for node in graph_module.graph.nodes for name in forced_names(node, settings)}
    for option in ("torch_executed_ops", "torch_executed_modules"):
        for name in sorted(getattr(settings, option) - matched):
            _log.warning(
                "%s lists %r, which is nowhere in the lowered model, so that it has no effect. dryrun=True shows what there is.",
                option, name,
            )  # fmt: skip


def _refusal(node: fx.Node, backend: EngineBackend, settings: CompilationSettings, device: torch.device) -> str:
    common = common_refusal(node, settings, device)
    if common:
        return common
    support = backend.supports(node, settings)
    return "" if support else support.reason or f"the {backend.name!r} engine does not support it"


def _as_group(name: str, backend: str, nodes: Sequence[fx.Node]) -> Group:
    counts = Counter(str(node.target) for node in nodes if is_operation(node))
    return Group(name, backend, tuple(node.name for node in nodes), counts)


def _counted(members: Sequence[fx.Node]) -> int:
    """How many operations a block has; a fused one counts as those of the model that it does: fusing makes no block too small."""
    return sum(node.meta.get(FUSED, 1) for node in members if is_operation(node))


def _too_small(members: Sequence[fx.Node], settings: CompilationSettings) -> dict[str, str]:
    why = f"its block of {_counted(members)} operation(s) is smaller than min_block_size={settings.min_block_size}"
    return {node.name: why for node in members if is_operation(node)}


def _write_note(node: fx.Node) -> str:
    if not node.target._schema.is_mutable:  # type: ignore[union-attr]
        return f"{node.name} ({node.target}) checks {node.all_input_nodes[0].name!r} in PyTorch"
    return f"{node.name} ({node.target}) writes {node.all_input_nodes[0].name!r} in PyTorch after the engines have run"
