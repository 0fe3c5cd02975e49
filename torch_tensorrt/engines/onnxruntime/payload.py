"""The bytes of an ONNX Runtime engine: an ONNX model with its weights inside, and the options that its session is opened with.

    u32 little-endian   length of the index
    index               JSON: {"options": {name: number}}
    model               the rest: an ONNX model

ONNX can keep weights in other files. A model from a file of ours never does, and one that says where such a file is isn't read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from torch_tensorrt.engines.onnxruntime.knobs import KNOBS
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep

_FOREIGN = b"location"  # the key of another file's name; our own models have numbers for names


def write_payload(options: Mapping[str, int], model: bytes) -> bytes:
    """The bytes that `read_payload` reads."""
    index = json.dumps({"options": dict(options)}, sort_keys=True, separators=(",", ":")).encode()
    return struct.pack("<I", len(index)) + index + model


def read_payload(data: memoryview) -> tuple[dict[str, int], bytes]:
    """Options and model. Raises FileFormatError on anything else."""
    if len(data) < 4:
        raise FileFormatError(f"An ONNX Runtime engine of {len(data)} bytes is too short to be one.")
    length = struct.unpack_from("<I", data)[0]
    if length > len(data) - 4:
        raise FileFormatError(f"An ONNX Runtime engine of {len(data)} bytes announces an index of {length}.")
    try:
        index = json.loads(not_deep(bytes(data[4 : 4 + length])))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"The index of an ONNX Runtime engine is not JSON: {error}") from error
    options = index.get("options") if isinstance(index, dict) and set(index) == {"options"} else None
    if not isinstance(options, dict) or not all(
        name in KNOBS and KNOBS[name].accepts(value) for name, value in options.items()
    ):
        raise FileFormatError(f"The index of an ONNX Runtime engine is {index!r:.200}.")
    model = bytes(data[4 + length :])
    if _FOREIGN in model:
        raise FileFormatError("The model of an ONNX Runtime engine refers to another file.")
    return options, model
