"""An OpenVINO engine whose weights can change: it keeps its representation, and compiles it again with others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO

import torch
from torch import Tensor

from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.engines.openvino.engine import OpenVINOEngine
from torch_tensorrt.engines.openvino.payload import Facts, Payload, write_refittable
from torch_tensorrt.engines.openvino.representation import Place, Representation
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.spec.errors import FileFormatError

_ALIGNMENT = 16  # bytes: weights in a file may lie at any address


@dataclass(frozen=True)
class Recipe:
    """All that an engine is compiled from."""

    representation: Representation
    wiring: Wiring
    precision: torch.dtype
    snippets: bool
    knobs: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> sdk.Config:
        """What it is compiled with."""
        return sdk.config(self.precision, snippets=self.snippets, knobs=self.knobs)

    def compile(self) -> sdk.Compiled:
        """The compiled model, which goes on using the representation's weights. What OpenVINO raises passes through."""
        block = memoryview(self.representation.weights.numpy())  # type: ignore[arg-type]
        model = sdk.read_ir(self.representation.xml, block)
        return sdk.compile_model(model, self.options)

    def write(self, file: BytesIO) -> None:
        """Writes the payload."""
        write_refittable(file, Facts(self.precision, self.wiring, self.snippets, self.knobs), self.representation)


class RefittableEngine(OpenVINOEngine):
    """Runs what `recipe` compiles to."""

    def __init__(self, spec: EngineSpec, recipe: Recipe) -> None:
        compiled = recipe.compile()
        recipe.wiring.check(len(compiled.inputs), len(compiled.outputs))
        super().__init__(spec, compiled, recipe.options, recipe.wiring, recipe.write, keep=recipe)
        self._recipe = recipe

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        """A new engine: the frontend is skipped, OpenVINO's compiler is not. Raises InputError for constants that don't fit."""
        representation = self._recipe.representation.with_weights(weights)
        return RefittableEngine(self.spec, replace(self._recipe, representation=representation))


def recipe_from(payload: Payload) -> Recipe:
    """The recipe in a payload that has constants; its weights are the payload's memory. Raises FileFormatError."""
    xml = safe_xml(payload.xml)
    literal = bytearray(payload.literal) if payload.literal.readonly else payload.literal
    weights = (
        torch.frombuffer(literal, dtype=torch.uint8)
        if len(literal)
        else torch.zeros(0, dtype=torch.uint8, device="cpu")
    )
    if weights.data_ptr() % _ALIGNMENT:
        weights = weights.clone()
    places = tuple(Place(*place) for place in payload.constants or ())
    return Recipe(
        Representation(xml, weights, places), payload.wiring, payload.precision, payload.snippets, payload.knobs
    )


def safe_xml(xml: memoryview) -> bytes:
    """The XML of a file. Raises FileFormatError for a document type or CDATA: OpenVINO writes neither, and entities can blow up."""
    text = bytes(xml)
    if b"<!" in text:
        raise FileFormatError("The representation in an OpenVINO engine holds a document type declaration.")
    return text
