"""Operators to TensorRT layers, a file per family; importing this package registers them all.

To add an operator: write a function in its family's file, with the operator's own argument names after `net`:

    @converts(aten.gelu.default, whole=True)          # whole: not to be decomposed before it gets here
    def gelu(net: Net, self: ITensor, approximate: str) -> ITensor:
        return net.activation(self, "GELU_TANH" if approximate == "tanh" else "GELU_ERF")

- Arguments are bound by schema name, defaults filled in. All have to be named, but those of registry.UNUSED.
- Tensors come as ITensors; a weight too, unless raw={"weight"} asks for its torch.Tensor (see `net.raw_weights`).
- A size (int or SymInt in the schema) is an int, or a Scalar where only a run knows it: annotate `Size`, and compute with
  `net.size(x, axis)`, `net.sizes(x)`, `net.compute_size(a, b, "PROD")`. Never use `net.shape(x)[i]` without looking for -1.
- `net.result` is the dtype of PyTorch's result, `net.common` what it promotes the operands to: cast with `net.cast(x, dtype)`.
- What can't be done is said at partition time: `refuse=why`, a function `why(node, settings) -> str` from metadata ("" is yes;
  `bind(node)` gives the arguments); `dynamic=False` where sizes must be fixed; `also={dtype}` for a dtype beyond the usual.
- Several results: a tuple, None in the place of one that `refuse` made sure nobody uses (see `registry.is_used`).
- What can never be converted is `converts.refuse(reason, "aten.rand.default", ...)`, in refusals.py or its family.
- Same-shaped operators are rows of a table. A new file: one import below. One row in tests/suite for each operator and form;
  `pytest tests/suite -k tensorrt` builds each network, runs it with tests/interpret, and lets the SDK build it.
"""

from __future__ import annotations

from torch_tensorrt.engines.tensorrt.converters import activations as activations
from torch_tensorrt.engines.tensorrt.converters import adaptive as adaptive
from torch_tensorrt.engines.tensorrt.converters import attention as attention
from torch_tensorrt.engines.tensorrt.converters import casting as casting
from torch_tensorrt.engines.tensorrt.converters import composed as composed
from torch_tensorrt.engines.tensorrt.converters import constructors as constructors
from torch_tensorrt.engines.tensorrt.converters import convolution as convolution
from torch_tensorrt.engines.tensorrt.converters import distances as distances
from torch_tensorrt.engines.tensorrt.converters import dropping as dropping
from torch_tensorrt.engines.tensorrt.converters import elementwise as elementwise
from torch_tensorrt.engines.tensorrt.converters import indexing as indexing
from torch_tensorrt.engines.tensorrt.converters import lookup as lookup
from torch_tensorrt.engines.tensorrt.converters import matrices as matrices
from torch_tensorrt.engines.tensorrt.converters import movement as movement
from torch_tensorrt.engines.tensorrt.converters import normalisation as normalisation
from torch_tensorrt.engines.tensorrt.converters import ordering as ordering
from torch_tensorrt.engines.tensorrt.converters import padding as padding
from torch_tensorrt.engines.tensorrt.converters import pooling as pooling
from torch_tensorrt.engines.tensorrt.converters import quantisation as quantisation
from torch_tensorrt.engines.tensorrt.converters import reduction as reduction
from torch_tensorrt.engines.tensorrt.converters import refusals as refusals
from torch_tensorrt.engines.tensorrt.converters import resizing as resizing
from torch_tensorrt.engines.tensorrt.converters import sampling as sampling
from torch_tensorrt.engines.tensorrt.converters import scattering as scattering
from torch_tensorrt.engines.tensorrt.converters import transformers as transformers
from torch_tensorrt.engines.tensorrt.converters import windows as windows
from torch_tensorrt.engines.tensorrt.converters.registry import convert_node, converts

__all__ = ["convert_node", "converts"]
