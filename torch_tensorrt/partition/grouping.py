"""Puts supported nodes into groups that can each run as one call: no path may leave a group and come back to it."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence

from torch import fx

from torch_tensorrt.partition.nodes import is_size, tensor_sources


def group_nodes(graph: fx.Graph, supported: Collection[fx.Node]) -> Sequence[Sequence[fx.Node]]:
    """Convex groups of `supported`, in the order of their first nodes, each in graph order.

    Greedy, in topological order: a node joins the newest group that it can join without closing a cycle between groups
    (checked on the graph of units, where each group and each node left to PyTorch is one unit).
    """
    grouping = _Grouping(supported)
    for node in graph.nodes:
        if node.op in {"call_function", "call_module", "call_method"} and not is_size(node):
            grouping.place(node)
    return [members for _, members in sorted(grouping.groups.items())]


class _Grouping:
    def __init__(self, supported: Collection[fx.Node]) -> None:
        self.supported = set(supported)
        self.groups: dict[int, list[fx.Node]] = {}
        self.unit_of: dict[fx.Node, int] = {}
        self.needs: dict[int, set[int]] = {}  # unit -> units whose results it takes
        self.units = 0

    def place(self, node: fx.Node) -> None:
        needed = {self.unit_of[source] for source in tensor_sources(node) if source in self.unit_of}
        unit = self._unit_for(node, needed)
        self.unit_of[node] = unit
        self.needs.setdefault(unit, set()).update(needed - {unit})
        if unit in self.groups:
            self.groups[unit].append(node)

    def _unit_for(self, node: fx.Node, needed: set[int]) -> int:
        if node.target is operator.getitem:  # picks from a tuple: always where the tuple is
            source = node.args[0]
            assert isinstance(source, fx.Node)
            if source in self.unit_of and self.unit_of[source] in self.groups:
                return self.unit_of[source]
        elif node in self.supported:
            for unit in reversed(self.groups):
                if not self._would_close_cycle(unit, needed):
                    return unit
            self.groups[self._new_unit()] = []
            return self.units
        return self._new_unit()

    def _new_unit(self) -> int:
        self.units += 1
        return self.units

    def _would_close_cycle(self, unit: int, needed: set[int]) -> bool:
        """Whether some unit that the node takes a result from, other than `unit`, itself depends on `unit`."""
        seen: set[int] = set()
        waiting = [other for other in needed if other != unit]
        while waiting:
            current = waiting.pop()
            if current == unit:
                return True
            if current not in seen:
                seen.add(current)
                waiting.extend(self.needs.get(current, ()))
        return False
