"""A reader of saved files written from FORMAT.md alone, with the standard library only: python tests/package/independent_reader.py FILE

It shows that the page says enough; test_format.py compares what it reads with what the package reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

MAGIC = b"TRTANYWH"
SEAL = b"torch_tensorrt 1 sha256 "


class Engine(NamedTuple):
    """An engine as it stands in a file; program: what a portable one has behind its payload."""

    header: dict
    payload: bytes
    program: bytes


class Saved(NamedTuple):
    """A file, taken apart. sealed: None without a seal. called: the spec of each call in the graph, with its engine."""

    sealed: bool | None
    description: dict
    engines: list[Engine]
    called: list[tuple[dict, Engine]]


class FormatError(ValueError):
    """The file is not as FORMAT.md says."""


def read_engine(data: bytes) -> Engine:
    """Engine bytes."""
    magic, version, length = struct.unpack_from("<8sII", data)
    if magic != MAGIC or version != 1 or length > 16 * 2**20:
        raise FormatError("not an engine of format 1")
    header = json.loads(data[16 : 16 + length])
    start = -(-(16 + length) // 64) * 64
    fields = {"spec", "python", "torch", "payload_bytes", "sha256"}
    if set(header) - {"origin", "program"} != fields or any(data[16 + length : start]):
        raise FormatError("header or padding")
    end = start + header["payload_bytes"]
    payload, program = data[start:end], b""
    if len(payload) != header["payload_bytes"] or hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise FormatError("payload")
    if "program" in header:
        end = -(-end // 64) * 64
        about, program = header["program"], data[end:]
        if len(program) != about["bytes"] or hashlib.sha256(program).hexdigest() != about["sha256"]:
            raise FormatError("program")
    elif end != len(data):
        raise FormatError("something behind the payload")
    return Engine(header, payload, program)


def read_saved(data: bytes) -> Saved:
    """A saved ExportedProgram or TorchScript file, or a bare engine."""
    if data.startswith(MAGIC):
        return Saved(None, {}, [read_engine(data)], [])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        comment = archive.comment
        members = {name: archive.read(name) for name in archive.namelist()}
    sealed = None
    if comment.startswith(SEAL):
        end = len(data) - len(comment) - 22
        sealed = hashlib.sha256(data[:end]).hexdigest().encode() == comment[len(SEAL) :]
    description = next(
        (json.loads(text) for name, text in members.items() if name.endswith("extra/torch_tensorrt.json")), {}
    )
    engines = [read_engine(content) for content in members.values() if content.startswith(MAGIC)]
    model = next((json.loads(text) for name, text in members.items() if name.endswith("models/model.json")), None)
    called = [] if model is None else list(_calls(model, members))
    return Saved(sealed, description, engines, called)


def _calls(model: dict, members: dict[str, bytes]) -> list[tuple[dict, Engine]]:
    name = next(name for name in members if name.endswith("data/weights/model_weights_config.json"))
    folder, config = name.rpartition("/")[0], json.loads(members[name])["config"]
    buffers = {
        spec["buffer"]["arg"]["name"]: spec["buffer"]["buffer_name"]
        for spec in model["graph_module"]["signature"]["input_specs"]
        if "buffer" in spec
    }
    found = []
    for node in model["graph_module"]["graph"]["nodes"]:
        if node["target"] == "torch.ops.tensorrt.execute_engine.default":
            _, engine, spec = (given["arg"] for given in node["inputs"])
            member = config[buffers[engine["as_tensor"]["name"]]]["path_name"]
            found.append((json.loads(spec["as_string"]), read_engine(members[f"{folder}/{member}"])))
    return found


def read_openvino(payload: bytes) -> tuple[dict, bytes, bytes, bytes, bytes]:
    """Index, blob, literal, XML and the weights that go with the XML."""
    (length,) = struct.unpack_from("<I", payload)
    index = json.loads(payload[4 : 4 + length])
    ends, sections = 4 + length, []
    for part in ("blob", "literal", "xml"):
        sections.append(payload[ends : ends + index[part]])
        ends += index[part]
    if ends != len(payload):
        raise FormatError("the sections don't fill the payload")
    weights = b"".join(sections[source][offset : offset + count] for source, offset, count in index["weights"])
    return index, sections[0], sections[1], sections[2], weights


if __name__ == "__main__":
    saved = read_saved(Path(sys.argv[1]).read_bytes())
    print("sealed:", saved.sealed)
    print("described:", json.dumps(saved.description)[:400])
    for engine in saved.engines:
        print("engine:", json.dumps(engine.header)[:400])
