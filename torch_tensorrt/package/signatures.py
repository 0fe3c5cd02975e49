"""What a file is, by its first bytes or by the names in its zip directory."""

from __future__ import annotations

from collections.abc import Sequence

_STARTS = (
    (
        b"\x80",
        "a pickle (torch.save before 1.6, or another program's); it was not opened, because a pickle can run code",
    ),
    (
        b"vtrt",
        "a raw TensorRT-RTX engine, which tensorrt_rtx.Runtime(logger).deserialize_cuda_engine(bytes) reads on an NVIDIA RTX GPU",
    ),
    (
        b"ftrt",
        "probably a raw TensorRT engine, which tensorrt.Runtime(logger).deserialize_cuda_engine(bytes) reads on such a GPU",
    ),
    (b"RR_UPCVO", "a compiled OpenVINO model, which openvino.Core().import_model(bytes, 'CPU') reads"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x7fELF", "a Linux library or program"),
    (b"MZ", "a Windows library or program"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"<?xml", "an XML file (OpenVINO writes models so)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
)


def name_content(start: bytes) -> str:
    """What a file that is no zip archive looks like; `start` is its first 512 bytes."""
    if not start:
        return "an empty file"
    for magic, name in _STARTS:
        if start.startswith(magic):
            return name
    if start[257:262] == b"ustar":
        return "a tar archive"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 2**40:
        return "a safetensors file"
    if start[:1] == b"\x08" and start[2:3] in {b"\x12", b"\x3a"}:
        return "probably an ONNX model"
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not merely a character that was cut in two
            return f"an unknown kind of file: it starts with {start[:8]!r}"
        text = start[: error.start].decode()
    if text.lstrip().startswith(("{", "[")):
        return "probably a JSON file"
    if text.isprintable() or all(character.isprintable() or character.isspace() for character in text):
        return f"a text file: it starts with {text[:30]!r}"
    return f"an unknown kind of file: it starts with {start[:8]!r}"


def name_archive(members: Sequence[str]) -> tuple[str, str]:
    """(kind, words) of a zip archive: "aot_inductor", "torchscript", "exported_program" or "foreign"."""

    def any_with(part: str, ending: str = "") -> bool:
        return any(part in member and member.endswith(ending) for member in members)

    if any_with("/aotinductor/"):
        return "aot_inductor", "an AOTInductor package"
    if any_with("/code/") and any_with("/", "data.pkl"):
        return "torchscript", "a TorchScript module"
    if any_with("/models/", ".json"):
        return "exported_program", "an ExportedProgram"
    if any_with("serialized_exported_program.json"):
        return "exported_program", "an ExportedProgram in the format of PyTorch before 2.8"
    return "foreign", _name_foreign(members)


def _name_foreign(members: Sequence[str]) -> str:
    if not members:
        return "an empty zip archive"
    if any(member.endswith("/data.pkl") for member in members):
        return "weights or objects that torch.save wrote; load them with torch.load"
    if all(member.endswith(".npy") for member in members):
        return "NumPy arrays (.npz)"
    if "[Content_Types].xml" in members:
        return "an Office document"
    if any(member.startswith("META-INF/") for member in members):
        return "a Java archive"
    if any(".dist-info/" in member for member in members):
        return "a Python wheel"
    return f"a zip archive of something else; its first members are {[member[:60] for member in members[:3]]}"
