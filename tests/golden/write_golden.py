"""Writes the golden files of the present formats: python tests/golden/write_golden.py

A file that is there is left alone: what once was written must stay readable. New formats get files of their own.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import torch
from networks import DYNAMIC, SHIFT, STATIC, Golden, sample

import torch_tensorrt
from torch_tensorrt.contracts.engine_bytes import MAGIC
from torch_tensorrt.package.sealing import seal

FOLDER = Path(__file__).parent / "v1"
FORMATS = {"exported_program": ".ep", "torchscript": ".ts"}
CASES = [
    ("openvino", "portable", "exported_program"),  # of varying sizes, with the program that the engine computes
    ("openvino", "static", "exported_program"),
    ("openvino", "dynamic", "exported_program"),
    ("openvino", "dynamic", "torchscript"),
    ("eager", "dynamic", "exported_program"),
    ("eager", "dynamic", "torchscript"),
]


def write(engine: str, sizes: str, output_format: str, path: Path) -> None:
    """Writes one saved program, and beside it the bare engine in it."""
    given = STATIC if sizes == "static" else DYNAMIC
    module = torch_tensorrt.compile(
        Golden().eval(), inputs=[given], kwarg_inputs={"shift": SHIFT}, engine=engine, min_block_size=1
    )
    for node in module.graph.nodes:
        node.meta.pop("stack_trace", None)  # where the source was on the machine that wrote the file
    torch_tensorrt.save(module, path, output_format=output_format, retrace=False, portable=sizes == "portable")
    if output_format == "torchscript":
        remove_sources(path)
    bare = path.with_name(f"{engine}.engine")
    if not bare.exists():
        (constant,) = (value for value in module.state_dict().values() if bytes(value[:8].numpy()) == MAGIC)
        bare.write_bytes(constant.numpy().tobytes())


def remove_sources(path: Path) -> None:
    """Takes out what TorchScript keeps for error messages: places of sources on the machine that wrote the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            if not info.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(info.filename), old.read(info))
    seal(buffer)
    path.write_bytes(buffer.getvalue())


def main() -> None:
    """Writes what is missing, and the numbers that the files should give."""
    FOLDER.mkdir(exist_ok=True)
    for engine, sizes, output_format in CASES:
        path = FOLDER / f"{engine}-{sizes}{FORMATS[output_format]}"
        if path.exists():
            print(f"{path.name} is there and stays as it is")
            continue
        try:
            write(engine, sizes, output_format, path)
        except torch_tensorrt.UnsupportedError as error:
            print(f"{path.name} is not written: {error}")
            continue
        print(f"{path.name}: {path.stat().st_size} bytes")
    expected = FOLDER / "expected.json"
    if not expected.exists():
        model = Golden().eval()
        with torch.no_grad():
            rows = {
                str(n): {"x": sample(n).tolist(), "scores": model(sample(n), shift=SHIFT)["scores"].tolist()}
                for n in (2, 3, 8)
            }
        expected.write_text(json.dumps({"shift": SHIFT.tolist(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
