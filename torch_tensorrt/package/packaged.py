"""A loaded AOTInductor package: native code that is called like the model."""

from __future__ import annotations

import platform
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import torch
from torch.utils import _pytree as pytree

from torch_tensorrt.package.describing import METADATA, from_text
from torch_tensorrt.package.layouts import Layout, read_layouts
from torch_tensorrt.runtime.input_check import InputCheck
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError
from torch_tensorrt.spec.tensor_spec import Json, specs_from_json

# What Inductor calls the instruction sets it compiles for -> whether this CPU has them.
_INSTRUCTIONS = {
    "AVX2": "_is_avx2_supported",
    "AVX512": "_is_avx512_supported",
    "AVX512_VNNI": "_is_vnni_supported",
    "AVX512_BF16": "_is_avx512_bf16_supported",
    "AMX_TILE": "_is_amx_tile_supported",
    "AMX_FP16": "_is_amx_fp16_supported",
}


class PackagedModel:
    """A callable that runs the code of an AOTInductor package; arguments and results have the model's form.

    record: what `save` wrote about the model; empty for a package that it didn't write. metadata: what AOTInductor wrote.
    Inputs are checked against the record's ranges, and copied where their memory is ordered otherwise than the code reads it;
    torch._inductor.aoti_load_package does neither. Raises InputError.
    """

    def __init__(
        self, loader: torch._C._aoti.AOTIModelPackageLoader, record: Mapping[str, Json], layouts: Sequence[Layout]
    ) -> None:
        self.record = record
        self._layouts = layouts
        self.metadata: Mapping[str, str] = dict(loader.get_metadata())
        self._loader = loader
        in_text, out_text = loader.get_call_spec()
        self._in_spec, self._out_spec = pytree.treespec_loads(in_text), pytree.treespec_loads(out_text)
        self._check = InputCheck("The packaged model", specs_from_json(record["inputs"])) if record else None
        signature = record.get("signature")
        described = signature if isinstance(signature, dict) else {}
        results, constants = described.get("results"), described.get("constants")
        self._results: list[Json] = results if isinstance(results, list) else []
        self._constants: dict[str, Json] = constants if isinstance(constants, dict) else {}

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Results for the model's own arguments. Raises InputError when they are not what the package was made for."""
        tensors = [leaf for leaf in self._leaves(args, kwargs) if isinstance(leaf, torch.Tensor)]
        if self._check is not None:
            self._check(tensors)
        outputs: list[object] = [*self._run(tensors)]
        for at, kind in enumerate(self._results[: len(outputs)]):
            size = outputs[at]
            if kind == "int" and isinstance(size, torch.Tensor):
                outputs[at] = int(size)  # a package gives a size as a tensor
        return pytree.tree_unflatten(outputs, self._out_spec)

    def _run(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        if not self._layouts:
            return self._loader.boxed_run(tensors)
        given = [layout.dense(tensor) for tensor, layout in zip(tensors, self._layouts, strict=True)]
        outputs = self._loader.boxed_run([*given])  # empties its list
        for tensor, copy, layout in zip(tensors, given, self._layouts, strict=True):
            if layout.written and copy is not tensor:
                tensor.copy_(copy)
        return outputs

    def get_metadata(self) -> dict[str, str]:
        """What AOTInductor wrote about the package, as its own loaded model tells it."""
        return dict(self.metadata)

    def _leaves(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> list[object]:
        wanted = list(self._in_spec.children()[1].context or [])
        missing, extra = [name for name in wanted if name not in kwargs], sorted(set(kwargs) - set(wanted))
        if missing or extra:
            raise InputError(
                f"The packaged model takes the keyword arguments {wanted}; missing: {missing or 'none'}, not known: {extra or 'none'}."
            )
        try:
            leaves = self._in_spec.flatten_up_to((args, {name: kwargs[name] for name in wanted}))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"The packaged model takes arguments of the form {self._in_spec}, which these don't have: {error}"
            ) from error
        given = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        fixed = list(self._constants.items())
        for value, (name, compiled) in zip(given, fixed, strict=False) if len(given) == len(fixed) else ():
            if compiled != "int" and (type(value) is not type(compiled) or value != compiled):
                raise InputError(
                    f"The packaged model: input {name!r} is {value!r}, but it was compiled with {compiled!r}, which is part of its code."
                )
        return list(leaves)


def load_package(path: str, name: str, record: Mapping[str, Json], options: Mapping[str, object]) -> PackagedModel:
    """Loads, and so runs, the native code in the package at `path`; `name` is what errors call the file.

    options: model_name, run_single_threaded, device_index. Raises FileFormatError when there is no such model in it or it
    can't be loaded, EngineNotRunnable when it was compiled for another machine or an engine's operator isn't registered.
    """
    model = str(options.get("model_name", "model"))
    loader = torch._C._aoti.AOTIModelPackageLoader
    layouts = read_layouts(record, name)
    try:
        _check_machine(loader.load_metadata_from_package(path, model), name)  # type: ignore[attr-defined]
        loaded = loader(
            path,
            model,
            bool(options.get("run_single_threaded", False)),
            1,
            int(options.get("device_index", -1)),  # type: ignore[call-overload]
        )
    except RuntimeError as error:
        if isinstance(error, EngineNotRunnable):
            raise
        raise FileFormatError(f"{name}: PyTorch can't load this AOTInductor package: {error}") from error
    return PackagedModel(loaded, record, layouts)


def check_members(archive: zipfile.ZipFile, name: str) -> None:
    """Raises FileFormatError for a member that would be unpacked outside of its folder: the loader unpacks the code."""
    for member in archive.namelist():
        if member.startswith("/") or "\\" in member or ".." in member.split("/"):
            raise FileFormatError(f"{name}: member {member!r} is named after a place outside of the archive.")


def _check_machine(metadata: Mapping[str, str], name: str) -> None:
    """Code for other instructions would end the process, without a word."""
    for key, here in (("AOTI_PLATFORM", sys.platform), ("AOTI_MACHINE", platform.machine())):
        if metadata.get(key, here) != here:
            raise EngineNotRunnable(
                f"{name} holds code for {metadata[key]!r}; this machine is {here!r}. Save the model again on a machine like this one."
            )
    needed = metadata.get("AOTI_CPU_ISA", "").split()
    missing = [word for word in needed if word in _INSTRUCTIONS and not getattr(torch.cpu, _INSTRUCTIONS[word])()]
    if missing:
        raise EngineNotRunnable(
            f"{name} holds code that uses {', '.join(missing)}, which this CPU doesn't have. Save the model again on a machine like "
            "this one."
        )


def read_record(file: BinaryIO, name: str) -> dict[str, Json]:
    """What `save` wrote about the model; empty when it didn't write the file. Raises FileFormatError when it is damaged."""
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        ours = [member for member in archive.infolist() if member.filename.endswith(f"/extra/{METADATA}")]
        return from_text(read_stored(archive, ours[0], name), name) if ours else {}


def read_stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    """A member's bytes. Raises FileFormatError when it is compressed (`save` compresses none, so no small file fills memory)
    or damaged.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise FileFormatError(f"{name}: member {member.filename!r} is compressed, which extra files never are.")
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
        raise FileFormatError(f"{name}: member {member.filename!r} was cut off or changed: {error}") from error
