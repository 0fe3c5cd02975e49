"""Files made on purpose to run code, to leave files behind, or to take memory or time without end. Each row makes one file from a
good one; `marker` is a path that must not come to be.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping

from archives import Archive, Engine

Attack = Callable[[Archive, str], bytes]


def _code(marker: str) -> str:
    return f"__import__('os').system('touch {marker}')"


def pickle_that_touches(marker: str) -> bytes:
    command = f"touch {marker}".encode()
    return b"\x80\x04cposix\nsystem\n(X" + len(command).to_bytes(4, "little") + command + b"tR."


def _in_program(change: Callable[[dict, str], object]) -> Attack:
    return lambda archive, marker: archive.edit("models/model.json", lambda document: change(document, marker)).write()


def _graph(document: dict) -> dict:
    return document["graph_module"]["graph"]


def _signature(document: dict) -> dict:
    return document["graph_module"]["module_call_graph"][0]["signature"]


def guards(document: dict, marker: str) -> None:
    document["guards_code"] = [_code(marker)]


def size_expression(document: dict, marker: str) -> None:
    _tensor(document)["sizes"][0] = {"as_expr": {"expr_str": _code(marker), "hint": {"as_int": 4}}}


def size_without_end(document: dict, marker: str) -> None:
    _tensor(document)["sizes"][0] = {"as_expr": {"expr_str": "Integer(9)**9**9**9", "hint": {"as_int": 4}}}


def argument_name(document: dict, marker: str) -> None:
    _signature(document)["forward_arg_names"] = [f"x={_code(marker)}", "shift"]


def argument_twice(document: dict, marker: str) -> None:
    _signature(document)["forward_arg_names"] = ["x", "x"]


def argument_that_is_a_list(document: dict, marker: str) -> None:
    _signature(document)["forward_arg_names"] = ["x", []]


def keyword(document: dict, marker: str) -> None:
    signature = _signature(document)
    version, form = json.loads(signature["in_spec"])
    form["children_spec"][1]["context"] = json.dumps([f"x': {_code(marker)}, 'shift"])
    signature["in_spec"] = json.dumps([version, form])


def input_name(document: dict, marker: str) -> None:
    text = json.dumps(document).replace('"name": "x"', json.dumps({"name": f"x={_code(marker)}"})[1:-1])
    document.clear()
    document.update(json.loads(text))


def call_of_a_function(document: dict, marker: str) -> None:
    node = copy.deepcopy(_graph(document)["nodes"][0])
    node |= {
        "target": "torch.os.system",
        "name": "planted",
        "inputs": [{"name": "", "arg": {"as_string": f"touch {marker}"}, "kind": 1}],
    }
    _graph(document)["nodes"].insert(0, node)


def tree_of_another_module(document: dict, marker: str) -> None:
    _signature(document)["out_spec"] = json.dumps(
        [1, {"type": "collections.defaultdict", "children_spec": [],
             "context": json.dumps({"default_factory_module": "antigravity", "default_factory_name": "fly", "dict_context": []})}]
    )  # fmt: skip


def _tensor(document: dict) -> dict:
    values = _graph(document)["tensor_values"]
    return next(value for value in values.values() if len(value["sizes"]) == 2)


def pickled_engine(archive: Archive, marker: str) -> bytes:
    name = next(name for name, data in archive.members.items() if data.startswith(b"TRTANYWH"))
    archive.members[name] = pickle_that_touches(marker)

    def unpickled(document: dict) -> None:
        for record in document["config"].values():
            record["use_pickle"] = True

    return archive.edit("weights_config.json", unpickled).write()


def pickled_sample_inputs(archive: Archive, marker: str) -> bytes:
    archive.members[archive.find("sample_inputs/model.pt")] = pickle_that_touches(marker)
    return archive.write()


def pickled_object(archive: Archive, marker: str) -> bytes:
    record = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    archive.edit("constants_config.json", lambda document: document["config"].update(planted=record))
    archive.members["archive/data/constants/opaque_obj_0"] = pickle_that_touches(marker)
    return archive.write()


def library(archive: Archive, marker: str) -> bytes:
    archive.members["archive/data/aotinductor/model/planted.so"] = b"\x7fELF" + bytes(100)
    archive.members["archive/data/aotinductor/model/planted_metadata.json"] = b"{}"
    return archive.write()


def _slip(name: str) -> Attack:
    def attack(archive: Archive, marker: str) -> bytes:
        archive.members[name.format(marker=marker)] = b"planted"
        return archive.write()

    return attack


def bomb(archive: Archive, marker: str) -> bytes:
    """A member that is a thousand times as large as its bytes in the file."""
    archive.members["archive/data/weights/weight_9"] = bytes(2**30)
    archive.compressed.add("archive/data/weights/weight_9")
    return archive.write()


def overlapping_name(archive: Archive, marker: str) -> bytes:
    """Two members of one name: one reader checks the first, another reads the second."""
    name = archive.find("models/model.json")
    document = json.loads(archive.members[name])
    guards(document, marker)
    archive.again.append((name, json.dumps(document).encode()))
    return archive.write()


def deep_json(archive: Archive, marker: str) -> bytes:
    archive.members[archive.find("models/model.json")] = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return archive.write()


def huge_tensor(archive: Archive, marker: str) -> bytes:
    """Told sizes far beyond the bytes that are there."""

    def sizes(document: dict) -> None:
        for record in document["config"].values():
            record["tensor_meta"]["sizes"] = [{"as_int": 2**40}]

    return archive.edit("weights_config.json", sizes).write()


def strided_engine(archive: Archive, marker: str) -> bytes:
    def strides(document: dict) -> None:
        for record in document["config"].values():
            record["tensor_meta"]["sizes"] = [{"as_int": 16}]
            record["tensor_meta"]["strides"] = [{"as_int": 8}]

    return archive.edit("weights_config.json", strides).write()


def _in_spec(change: Callable[[dict, str], object]) -> Attack:
    def attack(archive: Archive, marker: str) -> bytes:
        engine = Engine.read(archive.engine)
        change(engine.header["spec"], marker)
        return archive.with_engine(engine.write()).write()

    return attack


def backend_elsewhere(spec: dict, marker: str) -> None:
    spec["backend"] = "../../os"


def output_size_without_end(spec: dict, marker: str) -> None:
    spec["outputs"][0]["shape"][0] = {"expr": "9**9**9**9", "min": 2, "opt": 4, "max": 8}


def input_size_without_end(spec: dict, marker: str) -> None:
    spec["inputs"][0]["shape"][0] = {"expr": "s77*9**9**9**9", "min": 2, "opt": 4, "max": 8}


def output_size_that_is_huge(spec: dict, marker: str) -> None:
    spec["outputs"][0]["shape"][0] = 2**45


def output_size_that_is_code(spec: dict, marker: str) -> None:
    spec["outputs"][0]["shape"][0] = {"expr": _code(marker), "min": 2, "opt": 4, "max": 8}


def output_size_of_nothing(spec: dict, marker: str) -> None:
    spec["outputs"][0]["shape"][0] = {"expr": "s99", "min": 2, "opt": 4, "max": 8}


def output_size_that_is_deep(spec: dict, marker: str) -> None:
    spec["outputs"][0]["shape"][0] = {"expr": "-" * 1800 + "s77", "min": 2, "opt": 4, "max": 8}


def long_header(archive: Archive, marker: str) -> bytes:
    engine = archive.engine
    return archive.with_engine(engine[:12] + b"\xff\xff\xff\xff" + engine[16:], described=False).write()


def weights_without_end(archive: Archive, marker: str) -> bytes:
    """OpenVINO: pieces of weights that repeat the whole engine again and again."""
    engine = Engine.read(archive.engine)
    index, rest = engine.split()
    index["weights"] = [[0, 0, index["blob"]]] * 100_000
    changed = engine.with_index(index, rest)
    changed.header["spec"]["target"] = "cpu;another;FP32"
    return archive.with_engine(changed.write()).write()


def entities(archive: Archive, marker: str) -> bytes:
    """OpenVINO: a representation whose entities expand to gigabytes."""
    engine = Engine.read(archive.engine)
    index, rest = engine.split()
    levels = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    xml = f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a0 "aaaaaaaaaa">{levels}]><net name="&a11;"/>'.encode()
    start = index["blob"] + index["literal"]
    index["xml"] = len(xml)
    changed = engine.with_index(index, rest[:start] + xml)
    changed.header["spec"]["target"] = "cpu;another;FP32"
    return archive.with_engine(changed.write()).write()


def _inside(attack: Attack) -> Attack:
    """The same in the archive that is the payload of an eager engine."""

    def inside(archive: Archive, marker: str) -> bytes:
        engine = Engine.read(archive.engine)
        inner = Archive.read(engine.payload)
        return archive.with_engine(Engine(engine.header, attack(inner, marker)).write()).write()

    return inside


PROGRAM: Mapping[str, Attack] = {
    "guards that are code": _in_program(guards),
    "a size that is code": _in_program(size_expression),
    "a size without end": _in_program(size_without_end),
    "an argument's name that is code": _in_program(argument_name),
    "a keyword that is code": _in_program(keyword),
    "an input's name that is code": _in_program(input_name),
    "a call of a function of Python": _in_program(call_of_a_function),
    "results that import a module": _in_program(tree_of_another_module),
    "one name for two arguments": _in_program(argument_twice),
    "an argument without a name": _in_program(argument_that_is_a_list),
    "a pickle as example inputs": pickled_sample_inputs,
    "a pickled object": pickled_object,
    "a library": library,
    "a member in the folder above": _slip("../planted"),
    "a member at an absolute place": _slip("{marker}"),
    "a member whose path goes up and down": _slip("archive/extra/../../../planted"),
    "a member with backslashes": _slip("archive\\..\\..\\planted"),
    "a compressed gigabyte": bomb,
    "two programs of one name": overlapping_name,
    "JSON that is deep": deep_json,
}
ENGINE: Mapping[str, Attack] = {
    "a pickle in place of the engine": pickled_engine,
    "an engine said to be a terabyte": huge_tensor,
    "an engine with gaps": strided_engine,
    "a backend that is a path": _in_spec(backend_elsewhere),
    "an output size without end": _in_spec(output_size_without_end),
    "an input size without end": _in_spec(input_size_without_end),
    "an output size that is huge": _in_spec(output_size_that_is_huge),
    "an output size that is code": _in_spec(output_size_that_is_code),
    "an output size of a symbol that no input has": _in_spec(output_size_of_nothing),
    "an output size that is deep": _in_spec(output_size_that_is_deep),
    "a header of four gigabytes": long_header,
}
# (golden file, attack)
ATTACKS: Mapping[str, tuple[str, Attack]] = {
    **{name: ("openvino-dynamic.ep", attack) for name, attack in {**PROGRAM, **ENGINE}.items()},
    "weights without end": ("openvino-dynamic.ep", weights_without_end),
    "entities in a representation": ("openvino-dynamic.ep", entities),
    **{
        f"in an eager engine: {name}": ("eager-dynamic.ep", _inside(attack))
        for name, attack in PROGRAM.items()
        if name not in {"a keyword that is code", "one name for two arguments", "an argument without a name"}
    },
}
