"""The documented module that is called instead of a compiled one, and replays a CUDA graph of all of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from torch_tensorrt.observe.log import warn_once
from torch_tensorrt.runtime.calling import is_traced
from torch_tensorrt.runtime.cudagraphs import mode
from torch_tensorrt.runtime.cudagraphs.calls import Options
from torch_tensorrt.runtime.cudagraphs.whole import LoadedCalls, WholeCalls
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError, UnsupportedError


class CudaGraphsTorchTensorRTModule(nn.Module):
    """A compiled model in CUDA graphs: one for each combination of sizes that it is called with.

    compiled_module: what torch_tensorrt.compile or torch_tensorrt.load(...).module() gave. kept: how many graphs; None: as many
    as set_cudagraphs_mode says. Calls may come from several threads and on any stream. Raises InputError for another module,
    UnsupportedError, naming the operation, where the model can't be captured. A model for the CPU runs as ever, with a warning.
    """

    def __init__(self, compiled_module: nn.Module, *, kept: int | None = None) -> None:
        super().__init__()
        if not isinstance(compiled_module, fx.GraphModule):
            raise InputError(
                f"A {type(compiled_module).__name__} can't be captured in a CUDA graph; what torch_tensorrt.compile or "
                "torch_tensorrt.load(...).module() gave is needed. set_cudagraphs_mode also reaches engines within other modules."
            )
        self.compiled_module = compiled_module
        self._loaded = None if isinstance(compiled_module, CompiledModule) else LoadedCalls(compiled_module)
        self._known = (compiled_module,)  # past nn.Module's way of finding submodules, which takes longer
        self._closed = False
        calls = self._graphs.calls
        if not calls.contents.on_gpu:
            warn_once("CUDA graphs on the CPU", f"CUDA graphs: {calls.contents.refusal}; it runs as ever.")
            self._closed = True
        elif calls.contents.refusal:
            raise UnsupportedError(calls.refusal)
        self._graphs.options.kept = None if kept is None else mode.check_kept(kept)

    @property
    def _graphs(self) -> WholeCalls | LoadedCalls:
        """Of the module as it is now: refitting exchanges them."""
        compiled = self._known[0]
        if self._loaded is not None:
            return self._loaded
        assert isinstance(compiled, CompiledModule)
        return compiled.whole_calls()

    @property
    def options(self) -> Options:
        """How calls are replayed."""
        return self._graphs.options

    def forward(self, *args: object, **kwargs: object) -> object:
        """What the compiled module gives. Raises what it raises, and UnsupportedError for what can't be captured."""
        compiled = self._known[0]
        if self._closed or is_traced():
            return compiled(*args, **kwargs)
        if self._loaded is None and (compiled._forward_hooks or compiled._forward_pre_hooks):
            warn_once("CUDA graphs with hooks", "A compiled module with hooks runs without CUDA graphs.")
            return compiled(*args, **kwargs)
        return self._graphs(args, kwargs)

    def __deepcopy__(self, memo: dict[int, object]) -> CudaGraphsTorchTensorRTModule:
        """A copy with graphs of its own."""
        return CudaGraphsTorchTensorRTModule(copy.deepcopy(self.compiled_module, memo), kept=self.options.kept)

    def warm_up(self) -> None:
        """Captures the graph for the typical sizes (those of `opt_shape`), so that the first call is fast.

        Raises UnsupportedError for models whose arguments can't be made up.
        """
        if self._closed:
            return
        graphs = self._graphs
        if not isinstance(graphs, WholeCalls) or not isinstance(self.compiled_module, CompiledModule):
            raise UnsupportedError(
                "The arguments of a loaded program can't be made up; call it once with typical ones."
            )
        graphs.calls.prepare(graphs.typical(self.compiled_module.input_specs))

    def input_buffers(self, *args: object, **kwargs: object) -> Sequence[object]:
        """The inputs of the graph for calls like this one, flat and in order; it is captured when there is none.

        A call that passes these very tensors, filled in place, copies nothing. They are the graph's as long as that is kept. Without
        graphs they are the arguments themselves. Raises what a call raises.
        """
        if self._closed:
            return pytree.tree_leaves((args, kwargs))
        graphs = self._graphs
        if isinstance(graphs, WholeCalls):
            return graphs.calls.prepare(graphs.enter(args, kwargs))
        form, flat = graphs.form(args, kwargs)
        return form.calls.prepare(flat)

    def validate_input_shapes(self, inputs: Sequence[Tensor]) -> bool:
        """Whether a call with the arguments `inputs` would have to capture another graph. Raises InputError."""
        if self._closed:
            return False
        graphs = self._graphs
        if isinstance(graphs, WholeCalls):
            return not graphs.calls.has(graphs.enter(tuple(inputs), {}))
        form, flat = graphs.form(tuple(inputs), {})
        return not form.calls.has(flat)

    def set_use_output_allocator(self, enable: bool) -> None:
        """False is how it is. Raises UnsupportedError for True: memory that is asked for during a run can't be part of a graph."""
        if enable:
            raise UnsupportedError(
                "set_use_output_allocator(True) is not possible: a CUDA graph runs in memory that is known before. Run the compiled "
                "module itself, within torch_tensorrt.runtime.enable_output_allocator."
            )

    def forget(self) -> None:
        """Drops the graphs and their memory; later calls capture anew."""
        self._graphs.forget()

    def close(self) -> None:
        """Drops the graphs and their memory. Later calls run without."""
        self._closed = True
        self.forget()
        self._graphs.options.kept = None
