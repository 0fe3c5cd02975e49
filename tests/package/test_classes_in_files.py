"""Models whose arguments or results are objects of a class: a process that doesn't know the class is told what to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torch_tensorrt

transformers = pytest.importorskip("transformers")
RUN = "import torch, torch_tensorrt; torch_tensorrt.load('bert.ep').module()(torch.ones(1, 4, dtype=torch.int64))"


def test_a_process_without_the_class_is_told_what_to_import(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 50,
    }
    model = transformers.BertModel(transformers.BertConfig(**sizes)).eval()
    compiled = torch_tensorrt.compile(model, inputs=[torch.ones(1, 4, dtype=torch.int64)])
    torch_tensorrt.save(compiled, tmp_path / "bert.ep")
    told, done = (
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        for code in (RUN, f"import transformers.modeling_outputs; {RUN}")
    )
    assert told.returncode == 1
    assert "InputError" in told.stderr
    assert "import transformers.modeling_outputs" in told.stderr
    assert done.returncode == 0, done.stderr
