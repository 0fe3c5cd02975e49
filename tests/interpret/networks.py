"""What is mutated: three networks that use many kinds of layers, and rows of the operator suite.

All values that matter are outputs: a wrong causal mask is invisible to the last token alone.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from suite import elementwise, forms, placing, products, reducing, shaping
from suite.case import Case
from suite.flows.tensorrt import REFUSED, WRONG
from suite.programs import make_partition
from torch import Tensor, nn
from torch._ops import OpOverload

from torch_tensorrt.engines import backend
from torch_tensorrt.spec.settings import CompilationSettings

TOLERANCE = 1e-4  # of ||out - ref|| / ||ref||


@dataclass(frozen=True)
class Subject:
    """A function that TensorRT takes whole, with inputs."""

    name: str
    function: Callable[..., object]
    inputs: Sequence[Tensor]


def subjects(rows: int) -> Iterator[Subject]:
    """The networks, then about one of `rows` rows of the suite, of those that TensorRT takes."""
    torch.manual_seed(0)
    yield Subject("convolutions", _Convolutions().eval(), [torch.randn(2, 3, 13, 11)])
    yield Subject("transformer", _Transformer().eval(), [torch.randint(0, 19, (2, 6))])
    yield Subject("shapes and indices", _shapes_and_indices, [torch.randn(3, 4, 6), torch.tensor([2, 0, 1])])
    for case in _cases():
        if zlib.crc32(case.name.encode()) % rows == 0 and _is_taken(case):  # the same ones when rows are added
            yield Subject(f"row: {case.name}", case.function, case.inputs)


def random_subjects(seed: int, count: int) -> Iterator[Subject]:
    """Rows of the suite that TensorRT takes, at random."""
    cases = {case.name: case for case in _cases()}
    names = sorted(cases)
    random.Random(seed).shuffle(names)
    taken = (cases[name] for name in names if _is_taken(cases[name]))
    for case in itertools.islice(taken, count):
        yield Subject(f"row: {case.name}", case.function, case.inputs)


class _Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8, eps=0.1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=(1, 2), dilation=(1, 2), groups=4, bias=False)
        self.last = nn.Linear(8, 5)
        with torch.no_grad():
            for buffer in (self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias):
                assert buffer is not None
                buffer.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = F.relu(self.norm(self.first(x)))
        second = F.leaky_relu(self.grouped(first), 0.2) + first
        pooled = F.max_pool2d(second, 3, 2, 1)
        mean = F.avg_pool2d(second, (2, 3), (2, 1), (1, 0))
        classes = self.last(pooled.mean((2, 3))).softmax(-1)
        return first, second, pooled, mean, classes


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(19, 12)
        self.mix = nn.Linear(12, 36)
        self.out = nn.Linear(12, 12)
        self.wide, self.narrow = nn.Linear(12, 20), nn.Linear(20, 12)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        x = self.tokens(tokens) + torch.arange(6).float()[:, None] / 5
        query, key, value = (
            part.reshape(2, 6, 3, 4).transpose(1, 2) for part in self.mix(_normalized(x)).split(12, -1)
        )
        scores = (query @ key.transpose(2, 3)) / 2
        mask = torch.ones(6, 6, dtype=torch.bool).tril()
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(2, 6, 12))
        y = x + self.narrow(F.gelu(self.wide(_normalized(x))))
        fused = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        best, places = y.topk(3, -1)
        return x, y, fused, best, places, y.argmax(-1)


def _normalized(x: Tensor) -> Tensor:
    middle = x - x.mean(-1, keepdim=True)
    return middle * torch.rsqrt(middle.square().mean(-1, keepdim=True) + 0.1)


def _shapes_and_indices(x: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    picked = x.index_select(0, index)[:, 1:4, ::2]
    moved = picked.permute(2, 0, 1).reshape(3, 9)
    padded = F.pad(x, (1, 2, 0, 1), value=0.5)
    reflected = F.pad(x, (2, 1), mode="reflect")
    joined = torch.cat([moved, moved.flip(1)], 1)
    summed = x.cumsum(1) - x.clamp(-0.5, 0.75)
    chosen = torch.where(x > 0.1, torch.exp(x), x.abs().sqrt())
    gathered = x.gather(2, index[:, None, None] + torch.arange(4)[None, :, None])
    scattered = x.scatter(1, index.reshape(1, 3, 1).expand(3, 3, 2), 7.0)
    whole = (x * 10).to(torch.int64) // 3
    extremes = torch.stack([x.amax(1), x.amin(1), x.prod(1), x.sum(1)])
    return picked, moved, padded, reflected, joined, summed, chosen, gathered, scattered, whole, extremes


def _cases() -> list[Case]:
    tables = (elementwise, shaping, placing, reducing, forms, products)
    every = [case for table in tables for case in table.rows()]
    plain = [case for case in every if case.name not in REFUSED and case.name not in WRONG and case.again is None]
    return [case for case in plain if case.tolerance <= TOLERANCE]  # no mutant hides in the rounding of float16


def _is_taken(case: Case) -> bool:
    settings = CompilationSettings.from_options()
    partition = make_partition(case.function, case.inputs, backend("tensorrt_rtx"), None, settings)
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    return bool(nodes) and all(backend("tensorrt_rtx").supports(node, settings) for node in nodes)
