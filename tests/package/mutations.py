"""Bad files made from good ones: `make(seed)` is (how, bytes, sealed). The same seed gives the same file.

"sealed" files have a right seal again, so that what lies behind the seal is reached; many have right hashes further inside too.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from archives import Archive, Engine, reseal

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
ODD_NUMBERS = (0, 1, 2, 3, 7, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD_VALUES: tuple[object, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 99, 2**31, 2**63 - 1, 2**63, 2**70, -(2**63), 1.5, 1e400, "", "x", "s0", "../../x", "\0",
    "a" * 3000, "é", [], {}, [[]], [0], {"": 0}, {"as_int": -1}, {"as_int": 2**62}, {"as_none": True}, {"as_expr": {}},
    {"name": "x"}, "9**9**9**9", "x; import os", "__import__('os').system('touch planted')", "s77 // 0", "1 % 0", "-" * 900 + "1",
    "torch.ops.aten.relu.default", "torch.os.system", "Symbol('s77', positive=True, integer=True)",
)  # fmt: skip
PICKLE = b"\x80\x04cposix\nsystem\n(X\x0d\0\0\0touch plantedtR."
SLIPS = (
    "../planted",
    "../../planted",
    "/tmp/planted-by-fuzzing",
    "archive/../../planted",
    "archive/extra/../../planted",
    "archive\\..\\planted",
    "C:planted",
    "archive/data/weights/../../../planted",
    "archive/data/aotinductor/model/planted.so",
    "archive/data/sample_inputs/model.pt",
    "archive/data/constants/custom_obj_0",
    "archive/extra/torch_tensorrt.json",
    "archive/archive_format",
)


@dataclass(frozen=True)
class Made:
    """One file. source: the golden file it was made from. how: what was done. sealed: whether its seal is right."""

    source: str
    how: str
    data: bytes
    sealed: bool


@cache
def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


@cache
def names() -> tuple[str, ...]:
    return tuple(sorted(path.name for path in GOLDEN.glob("*.ep")))


def make(seed: int) -> Made:
    """File number `seed`."""
    dice = random.Random(seed)
    source = dice.choice(names())
    how = dice.choice(KINDS)
    data, sealed = MUTATIONS[how](golden(source), dice)
    return Made(source, how, data, sealed)


Mutation = Callable[[bytes, random.Random], "tuple[bytes, bool]"]


def truncate(data: bytes, dice: random.Random) -> tuple[bytes, bool]:
    return data[: dice.randrange(len(data))], False


def flip(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def splice(data: bytes, dice: random.Random) -> bytes:
    other = dice.choice((data, golden(dice.choice(names()))))
    start = dice.randrange(len(other))
    piece = other[start : start + dice.choice((1, 4, 16, 64, 1000, 10_000))]
    place = dice.randrange(len(data))
    kind = dice.randrange(4)
    if kind == 0:  # over
        return data[:place] + piece + data[place + len(piece) :]
    if kind == 1:  # in between
        return data[:place] + piece + data[place:]
    if kind == 2:  # out
        return data[:place] + data[place + len(piece) :]
    return data[:place] + bytes(len(piece)) + data[place + len(piece) :]


def set_zip_fields(data: bytes, dice: random.Random) -> bytes:
    """Numbers in the local headers, in the directory and in the last record."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2))):
        kind, widths = dice.choice(
            ((b"PK\3\4", "<HHHHHIIIHH"), (b"PK\1\2", "<HHHHHHIIIHHHHHII"), (b"PK\5\6", "<HHHHIIH"))
        )
        places = [i for i in range(len(data) - 60) if data[i : i + 4] == kind] or [data.rfind(kind)]
        place = dice.choice(places) + 4
        fields = list(struct.unpack_from(widths, changed, place))
        which = dice.randrange(len(fields))
        width = 16 if widths[1 + which] == "H" else 32
        odd = dice.choice(
            (dice.choice(ODD_NUMBERS), fields[which] + dice.choice((-1, 1, 64, -64)), dice.getrandbits(32))
        )
        fields[which] = odd % 2**width
        struct.pack_into(widths, changed, place, *fields)
    return bytes(changed)


def edit_json(text: bytes, dice: random.Random) -> bytes:
    """One to three values or keys changed, removed, copied or put in."""
    document = json.loads(text)
    for _ in range(dice.choice((1, 1, 2, 3))):
        places: list[tuple[dict | list, object]] = []
        waiting = [document]
        while waiting:
            item = waiting.pop()
            if isinstance(item, (dict, list)):
                keys = list(item) if isinstance(item, dict) else list(range(len(item)))
                places += [(item, key) for key in keys]
                waiting += [item[key] for key in keys]
        if not places:
            break
        holder, key = dice.choice(places)
        _edit_one(holder, key, dice.choice(places), dice)
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):  # a value was put into itself
        return text[: len(text) // 2]


def _edit_one(holder: dict | list, key: object, other: tuple[dict | list, object], dice: random.Random) -> None:
    value = holder[key]
    kind = dice.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(dice.choice(ODD_VALUES))] = holder.pop(key)
    elif kind == 1:
        holder.insert(key, value)
    elif kind == 2:
        try:
            holder[key] = json.loads(json.dumps(other[0][other[1]]))
        except (KeyError, IndexError, ValueError, RecursionError):
            holder[key] = None
    elif kind == 3 and type(value) is int:
        holder[key] = value + dice.choice((-1, 1, 2, 64, 2**20, 2**40))
    elif kind == 4 and isinstance(value, str) and value:
        place = dice.randrange(len(value))
        holder[key] = value[:place] + dice.choice(("", "x", "'", '"', "\n", ")", "(", "0", "**")) + value[place + 1 :]
    else:
        holder[key] = dice.choice(ODD_VALUES)


def edit_json_member(data: bytes, dice: random.Random) -> bytes:
    archive = Archive.read(data)
    name = dice.choice([name for name in archive.members if name.endswith(".json")])
    archive.members[name] = edit_json(archive.members[name], dice)
    return archive.write(sealed=False)


def edit_members(data: bytes, dice: random.Random) -> bytes:
    """Members dropped, renamed, doubled, emptied, compressed, exchanged or added."""
    archive = Archive.read(data)
    name, other = dice.sample(list(archive.members), 2)
    kind = dice.randrange(9)
    if kind == 0:
        del archive.members[name]
    elif kind == 1:
        archive.members[dice.choice(SLIPS)] = archive.members.pop(name)
    elif kind == 2:
        archive.again.append((name, dice.choice((b"", PICKLE, archive.members[other]))))
    elif kind == 3:
        archive.members[name] = b""
    elif kind == 4:
        archive.compressed.add(name)
    elif kind == 5:
        archive.members[name], archive.members[other] = archive.members[other], archive.members[name]
    elif kind == 6:
        archive.members[dice.choice(SLIPS)] = dice.choice((b"", b"x", PICKLE, archive.members[name]))
    elif kind == 7:
        archive.members[name] = dice.choice((PICKLE, b"\0" * 100, b"[" * 20_000, b'{"a":' * 20_000))
    else:
        archive.members["archive/extra/big"] = bytes(50_000_000)
        archive.compressed.add("archive/extra/big")
    return archive.write(sealed=False)


def plant_pickle(data: bytes, dice: random.Random) -> bytes:
    """A pickle that would leave a file behind, where the archive says that a pickle is."""
    archive = Archive.read(data)
    kind = dice.randrange(3)
    if kind == 0:
        archive.members[archive.find("model.pt")] = PICKLE
    else:
        name = next(name for name, value in archive.members.items() if value.startswith(b"TRTANYWH"))
        if kind == 1:
            archive.members[name] = PICKLE

        def unpickled(document: dict) -> None:
            for record in document["config"].values():
                record["use_pickle"] = True

        archive.edit("weights_config.json", unpickled)
    return archive.write(sealed=False)


def edit_header(data: bytes, dice: random.Random) -> bytes:
    """The engine's header; the graph says the same in half of the cases, so that it is believed."""
    archive = Archive.read(data)
    engine = Engine.read(archive.engine)
    header = json.loads(edit_json(json.dumps(engine.header).encode(), dice))
    if not isinstance(header, dict):
        header = {}
    changed = Engine(header, engine.payload, dice.choice((1, 1, 1, 1, 0, 2, 2**32 - 1)), engine.program)
    described = "spec" in header and dice.random() < 0.6
    return archive.with_engine(changed.write(hashed=dice.random() < 0.8), described=described).write(sealed=False)


def edit_payload(data: bytes, dice: random.Random) -> bytes:
    """Bytes of the payload, with right lengths and hashes all around."""
    archive = Archive.read(data)
    engine = Engine.read(archive.engine)
    change = dice.choice((flip, splice, lambda old, _: truncate(old, dice)[0]))
    if engine.program and dice.random() < 0.5:
        changed = _rebuilt(Engine(engine.header, engine.payload, program=change(engine.program, dice)))
    else:
        changed = Engine(engine.header, change(engine.payload, dice), program=engine.program)
    return archive.with_engine(changed.write()).write(sealed=False)


def _rebuilt(engine: Engine) -> Engine:
    """A portable engine whose payload is of a format that nobody reads: another is built from its program."""
    engine.header["spec"]["format_version"] = 99
    return engine


def edit_inside(data: bytes, dice: random.Random) -> bytes:
    """An OpenVINO payload's index or representation, or the archive in an eager payload or behind a portable engine's, with right
    hashes all around.
    """
    archive = Archive.read(data)
    engine = Engine.read(archive.engine)
    archives = (edit_json_member, edit_members, set_zip_fields, plant_pickle_inside)
    if engine.program and dice.random() < 0.6:
        changed = _rebuilt(Engine(engine.header, engine.payload, program=dice.choice(archives)(engine.program, dice)))
    elif engine.header["spec"]["backend"] == "openvino":
        index, rest = engine.split()
        kind = dice.randrange(3)
        if kind < 2:
            changed = engine.with_index(json.loads(edit_json(json.dumps(index).encode(), dice)), rest)
        else:
            start = index["blob"] + index["literal"]
            xml = flip(rest[start:], dice) if dice.random() < 0.5 else splice(rest[start:], dice)
            index["xml"] = len(xml)
            changed = engine.with_index(index, rest[:start] + xml)
        if kind == 2 or dice.random() < 0.3:  # of another machine: compiled again from the representation
            changed.header["spec"]["target"] = "cpu;another;FP32"
    else:
        changed = Engine(engine.header, dice.choice(archives)(engine.payload, dice))
    return archive.with_engine(changed.write()).write(sealed=False)


def plant_pickle_inside(data: bytes, dice: random.Random) -> bytes:
    archive = Archive.read(data)
    archive.members[archive.find("model.pt")] = PICKLE
    return archive.write(sealed=False)


def _sealed(change: Callable[[bytes, random.Random], bytes]) -> Mutation:
    def mutate(data: bytes, dice: random.Random) -> tuple[bytes, bool]:
        return reseal(change(data, dice)), True

    return mutate


def _unsealed(change: Callable[[bytes, random.Random], bytes]) -> Mutation:
    return lambda data, dice: (change(data, dice), False)


MUTATIONS: dict[str, Mutation] = {
    "truncated": truncate,
    "flipped": _unsealed(flip),
    "spliced": _unsealed(splice),
    "zip fields": _unsealed(set_zip_fields),
    "flipped, sealed": _sealed(flip),
    "spliced, sealed": _sealed(splice),
    "zip fields, sealed": _sealed(set_zip_fields),
    "JSON, sealed": _sealed(edit_json_member),
    "members, sealed": _sealed(edit_members),
    "pickle, sealed": _sealed(plant_pickle),
    "header, sealed": _sealed(edit_header),
    "payload, hashed and sealed": _sealed(edit_payload),
    "inside the payload, hashed and sealed": _sealed(edit_inside),
}
KINDS: Sequence[str] = (*MUTATIONS, "JSON, sealed", "JSON, sealed", "header, sealed", "payload, hashed and sealed",
                        "inside the payload, hashed and sealed", "inside the payload, hashed and sealed")  # fmt: skip
