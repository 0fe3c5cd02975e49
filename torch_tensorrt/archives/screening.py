"""What is looked at in a saved program before PyTorch reads it, so that a file can't run code or exhaust memory.

`torch.export.load` trusts its file: it unpickles members, evaluates the expressions of sizes, and makes Python source of names
and guards. Here each of those is held to the form that `torch.export.save` writes; anything else is a FileFormatError that
names the member and what stands there. FORMAT.md lists the rules.
"""

from __future__ import annotations

import io
import json
import keyword
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping

import torch

from torch_tensorrt.archives.expressions import check_expression, check_guard
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json

_TARGET = re.compile(
    r"torch\.ops\.\w+\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+|torch\._sym_\w+|#[\w:.]+", re.ASCII
)
# Operators that touch the file system.
_REFUSED_TARGETS = re.compile(r"torch\.ops\.(aten\.from_file|image\.\w*file|torchvision\.\w*file)\b")
_EXTRA = re.compile(r"^([^/]+/)?extra(_files)?/")
_UNQUOTED = re.compile(r"[^\"'\\\n\r()]*")
# Names that become part of Python source, unlike those of weights, which are looked up.
_IDENTIFIERS = {"tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values", "range_constraints"}
_MODULES_OF_FACTORIES = {"builtins", "collections"}
_DEEPEST = 200


def screen_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Raises FileFormatError when the zip archive `archive` of `size` bytes is not as `torch.export.save` writes it."""
    members = archive.infolist()
    _check_directory(members, size)
    for member in members:
        if _EXTRA.search(member.filename):
            continue  # given to the user as text
        if member.filename.endswith(".json"):
            document = _read_json(archive, member.filename)
            if member.filename.endswith("_config.json"):
                _check_payloads(document, member.filename, archive)
            else:
                _check_document(document, member.filename)
        elif member.filename.endswith(".pt"):
            check_pickle(archive.read(member), member.filename)


def check_pickle(content: bytes, name: str) -> None:
    """Raises FileFormatError unless `content` is empty or a torch.save file that needs no code but PyTorch's own."""
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileFormatError(
            f"Member {name!r} is a pickle that holds more than tensors and plain values, so that reading it could run code: "
            f"{reason} If you trust the file, read it with torch.export.load."
        ) from error


def _check_directory(members: list[zipfile.ZipInfo], size: int) -> None:
    seen: set[str] = set()
    for member in members:
        name = member.filename
        parts = name.split("/")
        if name.startswith("/") or "\\" in name or ".." in parts or ":" in name:
            raise FileFormatError(f"Member {name!r} is named after a place outside of the archive.")
        if name.lower() in seen:
            raise FileFormatError(f"Member {name!r} is there twice.")
        seen.add(name.lower())
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise FileFormatError(f"Member {name!r} is compressed, which saved programs never are.")
    if sum(member.file_size for member in members) > size:
        raise FileFormatError("The members of the archive overlap.")


def _read_json(archive: zipfile.ZipFile, name: str) -> Json:
    try:
        return json.loads(not_deep(archive.read(name)))  # type: ignore[no-any-return]
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"Member {name!r} is not JSON: {error}") from error


def _check_payloads(document: Json, name: str, archive: zipfile.ZipFile) -> None:
    """Weights and constants: tensors no larger than their bytes, and pickles of tensors only."""
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise FileFormatError(f"Member {name!r} has no 'config'.")
    folder = name.rpartition("/")[0]
    for key, record in config.items():
        _check_text(key, f"{name}: the name of a tensor")
        path = record.get("path_name") if isinstance(record, dict) else None
        if not isinstance(path, str) or f"{folder}/{path}" not in archive.NameToInfo:
            raise FileFormatError(f"{name}: tensor {key!r} is said to be in member {path!r}, which isn't there.")
        assert isinstance(record, dict)
        content = f"{folder}/{path}"
        if "custom_obj" in path or "opaque_obj" in path:
            raise FileFormatError(
                f"{name}: {key!r} is an object of a custom class, and reading it runs that class's code. If you trust the file, "
                "read it with torch.export.load."
            )
        if record.get("use_pickle"):
            check_pickle(archive.read(content), content)
        elif archive.NameToInfo[content].file_size == 0 and _count(record.get("tensor_meta")) != 0:
            raise FileFormatError(f"{name}: tensor {key!r} has no bytes, but is not empty.")


def _count(meta: Json) -> int | None:
    sizes = meta.get("sizes") if isinstance(meta, dict) else None
    if not isinstance(sizes, list):
        return None
    numbers = [size.get("as_int") if isinstance(size, dict) else None for size in sizes]
    if any(type(number) is not int for number in numbers):
        return None
    return math.prod(int(str(number)) for number in numbers)


def _check_document(document: Json, name: str) -> None:
    for key, value, depth in _walk(document):
        where = f"{name}: {key!r}"
        if depth > _DEEPEST:
            raise FileFormatError(f"{name} is nested more than {_DEEPEST} deep.")
        if key in _IDENTIFIERS and isinstance(value, dict):
            for found in value:
                _check_identifier(found, where)
        elif key == "forward_arg_names" and isinstance(value, list):
            _check_names(value, where)
        elif key == "module_call_graph" and value == []:
            raise FileFormatError(f"{where} is empty: the program has no calling convention.")
        elif key == "custom_obj_values" and value:
            raise FileFormatError(f"{where}: objects of custom classes can't be loaded.")
        elif key == "constant_input" and isinstance(value, dict):
            given = value.get("value")
            text = given.get("as_string") if isinstance(given, dict) else None
            if isinstance(text, str):  # PyTorch puts it between quotes, as it stands, into a guard
                _check_text(text, where)
        elif isinstance(value, str):
            check = _TEXT_CHECKS.get(key, _check_name_of_weight if key.endswith(("_name", "fqn")) else None)
            if check is not None:
                check(value, where)


def _walk(document: Json) -> Iterator[tuple[str, Json, int]]:
    """Every value with the key it stands under; entries of a list have the list's key."""
    waiting: list[tuple[str, Json, int]] = [("", document, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        yield key, value, depth
        if isinstance(value, dict):
            # What is said about a node beside its operation is text for people; PyTorch makes no code of it.
            waiting += [(inner, item, depth + 1) for inner, item in value.items() if inner != "metadata"]
        elif isinstance(value, list):
            waiting += [(key, item, depth + 1) for item in value]


def _check_identifier(text: str, where: str) -> None:
    if text and not (text.isidentifier() and not keyword.iskeyword(text)):
        raise FileFormatError(f"{where} holds {text!r:.80}, which is not a name.")


def _check_text(text: str, where: str) -> None:
    if not _UNQUOTED.fullmatch(text):
        raise FileFormatError(f"{where} holds {text!r:.80}, which is not a name.")


_check_name_of_weight = _check_text


def _check_target(text: str, where: str) -> None:
    if not _TARGET.fullmatch(text) or _REFUSED_TARGETS.match(text):
        raise FileFormatError(f"{where} calls {text!r:.80}, which is no operator that a saved program may call.")


def _check_tree(text: str, where: str) -> None:
    """The form of arguments or results: default_factory of a defaultdict is imported by name."""
    try:
        tree = json.loads(not_deep(text)) if text else None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where} is not JSON: {error}") from error
    for key, value, _ in _walk(tree):
        if key == "context" and isinstance(value, str) and "default_factory" in value:
            _check_tree(value, where)
        if key == "default_factory_module" and value not in _MODULES_OF_FACTORIES:
            raise FileFormatError(f"{where} imports {value!r:.80}.")


def _check_arguments(text: str, where: str) -> None:
    """The form of arguments; names of keyword arguments become part of source."""
    _check_tree(text, where)
    try:
        form = json.loads(not_deep(text))[1] if text else {}
        children = form["children_spec"] if form else []
        names = (
            json.loads(not_deep(children[1]["context"]))
            if len(children) == 2 and children[1]["type"] == "builtins.dict"
            else []
        )
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{where} is not the form of arguments: {type(error).__name__}: {error}") from error
    _check_names(names, where)


def _check_names(names: Json, where: str) -> None:
    """Names of arguments of one function."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"{where} holds {names!r:.80}, which is not a list of names.")
    for name in names:
        _check_identifier(str(name), where)
    if len(set(map(str, names))) < len(names):
        raise FileFormatError(f"{where} names an argument twice: {names!r:.80}.")


_TEXT_CHECKS: Mapping[str, Callable[[str, str], None]] = {
    "target": _check_target,
    "as_operator": _check_target,
    "expr_str": check_expression,
    "guards_code": check_guard,
    "name": _check_identifier,
    "forward_arg_names": _check_identifier,
    "in_spec": _check_arguments,
    "out_spec": _check_tree,
    "as_string": lambda text, where: None,  # put into source by repr()
}
