"""Whole models in CUDA graphs: the calls of a compiled module, and the documented module that is called instead of it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import fx
from torch.utils import _pytree as pytree

from torch_tensorrt.runtime.calling import Door
from torch_tensorrt.runtime.cudagraphs.calls import GraphCalls, Options
from torch_tensorrt.runtime.cudagraphs.refusals import contents_of_graph
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

_NAME = "The compiled model"
Run = Callable[[Sequence[object]], Sequence[object]]


class WholeCalls:
    """Calls of a compiled module with its own arguments and results, replayed from CUDA graphs.

    module: what `run`, from flat inputs to flat results, runs.
    """

    def __init__(self, door: Door, run: Run, module: fx.GraphModule) -> None:
        self.options = Options()
        self._door, self._run, self._module = door, run, module
        self._calls: GraphCalls | None = None

    @property
    def calls(self) -> GraphCalls:
        """The graphs, and what is known about them."""
        if self._calls is None:
            self._calls = GraphCalls(_NAME, self._run, contents_of_graph(self._module), self.options)
        return self._calls

    def __deepcopy__(self, memo: dict[int, object]) -> WholeCalls:
        return self  # like a function: a copied module makes calls of its own

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Raises InputError as the compiled module does, UnsupportedError for what can't be captured."""
        calls = self._calls or self.calls
        return self._door.result(calls(self._door.enter(args, kwargs)))

    def or_run(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """The same; a model that can't be captured runs without a graph, after one warning that says why."""
        return self._door.result(self.calls.or_run(self._door.enter(args, kwargs)))

    def adopt(self, options: Options) -> None:
        """Replays as `options`, of the calls that these take the place of, say."""
        self.options = options
        if self._calls is not None:
            self._calls.options = options

    def forget(self) -> None:
        """Drops all graphs."""
        if self._calls is not None:
            self._calls.forget()

    def typical(self, specs: Sequence[TensorSpec | None]) -> list[object]:
        """Flat inputs of the typical sizes, with zeros in them. Raises UnsupportedError for numbers that may be any."""
        made: list[object] = []
        for spec, node in zip(specs, self._module.graph.find_nodes(op="placeholder"), strict=True):
            value = node.meta.get("val")
            if spec is not None:
                sizes = [size.opt if isinstance(size, Dim) else size for size in spec.shape]
                made.append(torch.zeros(sizes, dtype=spec.dtype, device=spec.device))
            elif isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
                raise UnsupportedError(
                    f"The argument {node.name!r} can be any number; call the model once with a typical one."
                )
            else:
                made.append(value)
        return made

    def enter(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Sequence[object]:
        """The flat inputs. Raises InputError."""
        return self._door.enter(args, kwargs)


class LoadedCalls:
    """The same for any other graph with engines: a module of a loaded program, whose engines may be exchanged one by one."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.options = Options()
        self._module = module
        self._contents = contents_of_graph(module)
        self._forms: dict[pytree.TreeSpec, _Form] = {}
        names = list(dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "get_attr"))
        self._read = operator.attrgetter(*names, "training") if names else lambda module: ()
        self._held = self._read(module)

    @property
    def calls(self) -> GraphCalls:
        """What is known about all calls, without a graph."""
        return GraphCalls(_NAME, lambda flat: flat, self._contents, self.options)

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Raises what the module raises, UnsupportedError for what can't be captured."""
        form, flat = self.form(args, kwargs)
        results = form.calls(flat)
        assert form.out_spec is not None
        return pytree.tree_unflatten(list(results), form.out_spec)

    def form(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[_Form, list[object]]:
        """What replays calls with such arguments, and the flat ones."""
        held = self._read(self._module)
        if not all(map(operator.is_, held, self._held)):  # engines or weights were exchanged
            self.forget()
            self._held = held
        flat, spec = pytree.tree_flatten((args, dict(kwargs)))
        form = self._forms.get(spec)
        if form is None:
            form = self._forms[spec] = _Form(self._module, spec)
            form.calls = GraphCalls(_NAME, form.run, self._contents, self.options)
        return form, flat

    def forget(self) -> None:
        """Drops all graphs."""
        forms, self._forms = self._forms, {}
        for form in forms.values():
            form.calls.forget()


class _Form:
    """Calls of a module whose arguments have one structure."""

    calls: GraphCalls

    def __init__(self, module: fx.GraphModule, spec: pytree.TreeSpec) -> None:
        self._module, self._spec = module, spec
        self.out_spec: pytree.TreeSpec | None = None

    def run(self, flat: Sequence[object]) -> Sequence[object]:
        args, kwargs = pytree.tree_unflatten(list(flat), self._spec)
        results, self.out_spec = pytree.tree_flatten(self._module(*args, **kwargs))
        return results
