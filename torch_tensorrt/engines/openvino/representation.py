"""A model as XML and one block of weights, with the place of every constant of the graph in it: what refitting fills anew.

OpenVINO can't change a compiled model's weights, and its own writer stores equal constants once, so that zeros in two biases
would be one place. Here each constant has a place of its own. The frontend may also compute with constants while it
converts; a graph where it does can't be refitted this way, and `represent` finds out by converting with other weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.spec.errors import InputError, InternalError, UnsupportedError
from torch_tensorrt.spec.tensor_spec import TensorSpec

_ALIGNMENT = 64
_SMALL = (
    2**18
)  # elements: of larger constants only the first is changed for the trial, so that it takes no time or memory
_CONSTANT = re.compile(
    rb'(<layer [^>]*name="([^"]*)" type="Const"[^>]*>\s*<data [^>]*?offset=")\d+("[^>]*?size=")(\d+)(")'
)


@dataclass(frozen=True)
class Place:
    """`constant` (the target of a get_attr node) has `size` bytes at `offset`; one constant may have several places."""

    constant: str
    offset: int
    size: int


@dataclass(frozen=True)
class Representation:
    """XML whose constants lie in `weights` (1-D uint8)."""

    xml: bytes
    weights: Tensor
    places: tuple[Place, ...]

    def with_weights(self, weights: Mapping[str, Tensor]) -> Representation:
        """The same with other constants. Raises InputError when one is missing or has another number of bytes."""
        block = torch.empty_like(self.weights)
        for start, end in self._literals():
            block[start:end] = self.weights[start:end]
        for place in self.places:
            tensor = weights.get(place.constant)
            if tensor is None or tensor.nbytes != place.size:
                found = "is missing" if tensor is None else f"has {tensor.nbytes} bytes"
                raise InputError(
                    f"Constant {place.constant!r} of an OpenVINO engine {found}; it needs {place.size} bytes."
                )
            _write(block, place, tensor)
        return Representation(self.xml, block, self.places)

    def _literals(self) -> Iterator[tuple[int, int]]:
        """What is between the places."""
        done = 0
        for place in sorted(self.places, key=lambda place: place.offset):
            yield done, place.offset
            done = place.offset + place.size
        yield done, len(self.weights)


def represent(
    module: fx.GraphModule, inputs: Sequence[TensorSpec], dtypes: Sequence[torch.dtype]
) -> tuple[Representation, tuple[str, ...]]:
    """What the frontend makes of `module`, and the names of its inputs (placeholders) in OpenVINO's order.

    Raises UnsupportedError when a constant of `module` doesn't come out as it is; what OpenVINO raises passes through.
    """
    constants = _separate(module)
    others = {name: _other(tensor) for name, tensor in constants.items()}
    model = sdk.convert(_with(module, constants), inputs, dtypes)
    found = _read(model, constants)
    tried = _read(sdk.convert(_with(module, others), inputs, dtypes), others)
    if found != tried:
        raise UnsupportedError(
            "OpenVINO computes with weights while it converts this graph, so that they can't be changed afterwards; compile with "
            "immutable_weights=True."
        )
    return _lay_out(found, constants), sdk.input_names(model)


@dataclass(frozen=True)
class _Found:
    xml: bytes  # offsets are 0: OpenVINO's writer chooses them by the constants' values
    named: dict[str, str]  # layer -> constant
    literals: dict[str, bytes]  # layer -> content


def _read(model: sdk.Model, constants: Mapping[str, Tensor]) -> _Found:
    by_address = {tensor.data_ptr(): name for name, tensor in constants.items() if tensor.numel()}
    named, literals = {}, {}
    for layer in sdk.number_nodes(model):
        name = by_address.get(layer.address)
        if name is None:
            literals[layer.name] = layer.content()
        else:
            named[layer.name] = name
    return _Found(_CONSTANT.sub(rb"\g<1>0\g<3>\g<4>\g<5>", sdk.write_xml(model)), named, literals)


def _lay_out(found: _Found, constants: Mapping[str, Tensor]) -> Representation:
    """Gives each constant layer in the XML a place of its own."""
    places: list[Place] = []
    literals: list[tuple[int, bytes]] = []
    end = 0

    def put(match: re.Match[bytes]) -> bytes:
        nonlocal end
        layer, size, offset = match[2].decode(), int(match[4]), end
        end += size + -size % _ALIGNMENT
        if layer in found.named:
            known = constants[found.named[layer]].nbytes
            places.append(Place(found.named[layer], offset, size))
        else:
            content = found.literals.get(layer, b"")
            known = len(content) or 1  # an empty constant is written as one byte
            literals.append((offset, content))
        if known != size:
            raise UnsupportedError(
                f"OpenVINO wrote constant {layer!r} with {size} bytes, not {known}; it can't be refitted."
            )
        return b"".join((match[1], str(offset).encode(), match[3], match[4], match[5]))

    xml = _CONSTANT.sub(put, found.xml)
    if len(places) + len(literals) != xml.count(b'type="Const"'):
        raise InternalError("A constant in OpenVINO's XML was not found; please report this.")
    weights = torch.zeros(end, dtype=torch.uint8, device="cpu")
    for offset, content in literals:
        if content:
            weights[offset : offset + len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    for place in places:
        _write(weights, place, constants[place.constant])
    return Representation(xml, weights, tuple(places))


def _write(block: Tensor, place: Place, tensor: Tensor) -> None:
    # As the tensor's own dtype and shape: PyTorch copies that with all cores, and bytes with one.
    block[place.offset : place.offset + place.size].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())


def _separate(module: fx.GraphModule) -> dict[str, Tensor]:
    """The constants of `module`, each in contiguous memory of its own, by which it is recognised in OpenVINO's model."""
    seen: set[int] = set()
    constants: dict[str, Tensor] = {}
    for name in sorted({str(node.target) for node in module.graph.find_nodes(op="get_attr")}):
        own = fx.graph_module._get_attr(module, name).detach().contiguous()
        constants[name] = own.clone() if own.data_ptr() in seen else own
        seen.add(constants[name].data_ptr())
    return constants


def _with(module: fx.GraphModule, constants: Mapping[str, Tensor]) -> fx.GraphModule:
    return fx.GraphModule(dict(constants), copy.deepcopy(module.graph))


def _other(tensor: Tensor) -> Tensor:
    """A tensor of the same kind with other values."""
    if tensor.numel() > _SMALL:
        other = torch.zeros_like(tensor)  # memory that the system provides when it is written to
        first = tensor.reshape(-1)[:1]
        other.view(-1)[:1] = ~first if first.dtype is torch.bool else first + 1
        return other
    return ~tensor if tensor.dtype is torch.bool else tensor + 1
