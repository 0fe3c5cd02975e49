"""Weights of four bits: PyTorch has no such type, so that they come as int8, and are packed once they are OpenVINO's."""

from __future__ import annotations

import numpy

from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.engines.openvino.quantized import FOUR_BITS


def pack_four_bits(model: sdk.Model) -> None:
    """convert(reshape(constant of int8))  ->  convert(constant of i4), two numbers in a byte, where rewriting has named it so."""
    ov = sdk.openvino()
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convert" or not node.get_friendly_name().startswith(FOUR_BITS):
            continue
        port = node.input_value(0)
        source = port.get_node()
        if source.get_type_name() == "Reshape":
            source = source.input_value(0).get_node()
        if source.get_type_name() != "Constant" or source.data.size % 2:
            continue
        halves = source.data.reshape(-1).astype(numpy.uint8) & 15
        packed = numpy.ascontiguousarray(halves[0::2] | (halves[1::2] << 4))
        shown = ov.Tensor(packed, [int(str(size)) for size in port.get_partial_shape()], ov.Type.i4)
        held = ov.op.Constant(shown, False)  # a copy: a shown array isn't kept alive
        node.input(0).replace_source_output(held.output(0))  # type: ignore[attr-defined]
    model.validate_nodes_and_infer_types()  # type: ignore[attr-defined]
