"""Operators of PyTorch's prims, which a graph of a user's own may hold and torch.export does not give."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tensorrt_rtx")

from suite.flows import tensorrt
from suite.programs import make_partition

from torch_tensorrt import engines
from torch_tensorrt.spec.settings import CompilationSettings


def test_broadcast_in_dim_puts_each_dimension_where_it_is_told() -> None:
    settings, x = CompilationSettings.from_options(), torch.randn(2, 4)
    backend = engines.backend(tensorrt.BACKEND)
    partition = make_partition(lambda x: x[:, None].expand(2, 3, 4) + 0, [x], backend, None, settings)
    graph = partition.module.graph
    (expand,) = graph.find_nodes(op="call_function", target=torch.ops.aten.expand.default)
    expand.target = torch.ops.prims.broadcast_in_dim.default
    expand.args = (graph.find_nodes(op="placeholder")[0], (2, 3, 4), (0, 2))
    graph.eliminate_dead_code()
    partition.module.recompile()
    assert backend.supports(expand, settings)
    (given,) = tensorrt.build(partition, settings).run([x])
    assert torch.equal(given, x[:, None].expand(2, 3, 4))
