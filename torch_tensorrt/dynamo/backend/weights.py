"""Weights inside engines: a graph with its weights as constants, built anew when one of them has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter, is_, itemgetter

import torch
from torch import Tensor, fx

from torch_tensorrt.observe.log import logger
from torch_tensorrt.runtime.direct import direct_function

_log = logger("dynamo.backend")
_version = attrgetter("_version")  # faster than the property's own getter
# A weight that has changed this often is an input of the engines from then on, so that no further change costs a build.
MOST_BUILDS = 8

Run = Callable[[Sequence[object]], Sequence[object]]


class WeightedGraph:
    """Runs a graph whose weights are constants of its engines; takes all of its inputs, weights included, in a list.

    A change is seen when PyTorch counts it (`load_state_dict`, `copy_`, any other writing operator) or when another tensor or
    other memory stands where the weight stood. Writing through `weight.data` is not counted.
    """

    def __init__(
        self, template: fx.GraphModule, weights: Mapping[int, Tensor], build: Callable[[fx.GraphModule], fx.GraphModule]
    ) -> None:
        self._template = template
        self._build = build
        self._builds = 0
        self._lock = threading.RLock()
        self._now = self._built(weights)

    def __call__(self, args: list[object]) -> Sequence[object]:
        """The graph's results; empties `args`."""
        now = self._now
        if not now.watch.unchanged(args):
            now = self._renewed(args)
        inputs = now.pick(args)
        args.clear()
        return list(now.run(inputs))

    def _renewed(self, args: list[object]) -> _Built:
        with self._lock:
            changed = self._now.watch.changed(args)
            if changed:
                weights = {place: args[place] for place in self._now.watch.places}
                if self._builds >= MOST_BUILDS:
                    _log.warning(
                        "%d weight(s) have changed again after %d builds; they are inputs of the engines from now on, which may "
                        "be slower.", len(changed), self._builds,
                    )  # fmt: skip
                    weights = {place: tensor for place, tensor in weights.items() if place not in changed}
                else:
                    _log.info("%d weight(s) have changed: the engines that hold them are built again", len(changed))
                self._now = self._built(weights)  # type: ignore[arg-type]
            return self._now

    def _built(self, weights: Mapping[int, Tensor]) -> _Built:
        self._builds += 1
        watch = Watch(weights)  # before the weights are read: a change meanwhile is a change
        frozen = freeze(self._template, weights)
        return _Built(watch, self._build(frozen), len(self._template.graph.find_nodes(op="placeholder")))


class _Built:
    """What is run until a weight changes."""

    def __init__(self, watch: Watch, module: fx.GraphModule, inputs: int) -> None:
        self.watch = watch
        self.run: Run = direct_function(module)
        self.pick = _picker([place for place in range(inputs) if place not in set(watch.places)])


class Watch:
    """Whether the tensors at some places of an argument list are the ones, with the contents, that they were."""

    def __init__(self, weights: Mapping[int, Tensor]) -> None:
        self.places = tuple(weights)
        self._pick = _picker(self.places)
        self._tensors = tuple(weights.values())
        self._versions = [_version(tensor) for tensor in self._tensors]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]

    def unchanged(self, args: Sequence[object]) -> bool:
        """In C loops only: this is asked before every call."""
        given = self._pick(args)
        return (
            all(map(is_, given, self._tensors))
            and list(map(_version, given)) == self._versions
            and list(map(Tensor.data_ptr, given)) == self._addresses  # type: ignore[arg-type]
        )

    def changed(self, args: Sequence[object]) -> Collection[int]:
        """The places whose tensor is another one, or has other contents."""
        known = zip(self.places, self._tensors, self._versions, self._addresses, strict=True)
        return {
            place
            for place, tensor, version, address in known
            if args[place] is not tensor or _version(tensor) != version or tensor.data_ptr() != address
        }


def _picker(places: Sequence[int]) -> Callable[[Sequence[object]], Sequence[object]]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda args: [args[place] for place in places]


def freeze(template: fx.GraphModule, weights: Mapping[int, Tensor]) -> fx.GraphModule:
    """f(x, weight)  ->  f(x), with the tensors in `weights` (place of an input -> tensor) as the graph's own buffers."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    owned: dict[str, Tensor] = {}
    placeholders = template.graph.find_nodes(op="placeholder")
    for place, node in enumerate(placeholders):
        if place not in weights:
            copies[node] = graph.node_copy(node)
    for place, tensor in weights.items():
        copies[placeholders[place]] = graph.get_attr(f"frozen_{place}")
        copies[placeholders[place]].meta = dict(placeholders[place].meta)
        owned[f"frozen_{place}"] = tensor.detach()
    results = graph.graph_copy(template.graph, copies)
    graph.output(tuple(results) if isinstance(results, (tuple, list)) else (results,))
    holder = torch.nn.Module()
    for node in graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if name not in owned and "." not in name:
            setattr(holder, name, getattr(template, name))
    for name, tensor in owned.items():
        holder.register_buffer(name, tensor)
    return fx.GraphModule(holder, graph, "CapturedGraph")
