"""Saved files taken apart and put together again, members, seal, engine and all, for tests that change them."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

SEAL = b"torch_tensorrt 1 sha256 "
END = b"PK\5\6"


@dataclass
class Archive:
    """Members by name, in order. `compressed` names members that are written deflated."""

    members: dict[str, bytes]
    compressed: set[str] = field(default_factory=set)
    again: list[tuple[str, bytes]] = field(default_factory=list)  # members written after the others, duplicates too

    @classmethod
    def read(cls, data: bytes) -> Archive:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return cls({name: archive.read(name) for name in archive.namelist()})

    def write(self, *, sealed: bool = True) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in [*self.members.items(), *self.again]:
                method = zipfile.ZIP_DEFLATED if name in self.compressed else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(name), data, method)
        return reseal(buffer.getvalue()) if sealed else buffer.getvalue()

    def find(self, ending: str) -> str:
        return next(name for name in self.members if name.endswith(ending))

    def edit(self, ending: str, change: Callable[[dict], object]) -> Archive:
        """Changes the JSON member whose name ends so."""
        name = self.find(ending)
        document = json.loads(self.members[name])
        changed = change(document)
        self.members[name] = json.dumps(document if changed is None else changed).encode()
        return self

    @property
    def engine(self) -> bytes:
        return next(data for data in self.members.values() if data.startswith(b"TRTANYWH"))

    def with_engine(self, engine: bytes, *, described: bool = True) -> Archive:
        """Another engine in place of the first one; its length and (if `described`) its spec are told to the graph."""
        name = next(name for name, data in self.members.items() if data.startswith(b"TRTANYWH"))
        self.members[name] = engine
        sizes = [{"as_int": len(engine)}]

        def weights(document: dict) -> None:
            for record in document["config"].values():
                if record["path_name"] == name.rpartition("/")[2]:
                    record["tensor_meta"]["sizes"] = sizes

        def graph(document: dict) -> None:
            inner = document["graph_module"]["graph"]
            inner["tensor_values"][inner["inputs"][0]["as_tensor"]["name"]]["sizes"] = sizes
            if described:
                spec = json.dumps(Engine.read(engine).header["spec"], sort_keys=True, separators=(",", ":"))
                node = next(node for node in inner["nodes"] if "execute_engine" in node["target"])
                node["inputs"][2]["arg"]["as_string"] = spec

        return self.edit("weights_config.json", weights).edit("models/model.json", graph)


@dataclass
class Engine:
    """An engine's header and payload, and the program of a portable one."""

    header: dict
    payload: bytes
    version: int = 1
    program: bytes = b""

    @classmethod
    def read(cls, data: bytes) -> Engine:
        _, version, length = struct.unpack_from("<8sII", data)
        start = 16 + length
        header, rest = json.loads(data[16:start]), data[start + -start % 64 :]
        if "program" not in header:
            return cls(header, rest, version)
        size = header["payload_bytes"]
        return cls(header, rest[:size], version, rest[size + -size % 64 :])

    def write(self, *, hashed: bool = True) -> bytes:
        """`hashed`: the header's length and SHA-256 are those of the payload."""
        header = dict(self.header)
        if hashed:
            header |= {"payload_bytes": len(self.payload), "sha256": hashlib.sha256(self.payload).hexdigest()}
        if hashed and isinstance(header.get("program"), dict):
            about = {"bytes": len(self.program), "sha256": hashlib.sha256(self.program).hexdigest()}
            header["program"] = header["program"] | about
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        start = struct.pack("<8sII", b"TRTANYWH", self.version, len(text)) + text
        rest = bytes(-len(self.payload) % 64) + self.program if "program" in header else b""
        return start + bytes(-len(start) % 64) + self.payload + rest

    def split(self) -> tuple[dict, bytes]:
        """The index of an OpenVINO payload, and what follows it."""
        length = struct.unpack_from("<I", self.payload)[0]
        return json.loads(self.payload[4 : 4 + length]), self.payload[4 + length :]

    def with_index(self, index: object, rest: bytes) -> Engine:
        text = json.dumps(index).encode()
        return Engine(self.header, struct.pack("<I", len(text)) + text + rest, self.version, self.program)


def reseal(data: bytes) -> bytes:
    """The same archive with a right seal in place of its comment; unchanged where no archive's end is found."""
    place = data.rfind(END)
    if place < 0 or place + 22 > len(data):
        return data
    digest = hashlib.sha256(data[:place]).hexdigest().encode()
    return data[: place + 20] + struct.pack("<H", len(SEAL) + 64) + SEAL + digest
