"""The Debugger writes down what was asked for, changes nothing, and leaves logging as it was."""

from __future__ import annotations

import logging
import logging.config
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torch_tensorrt
from torch_tensorrt import InputError
from torch_tensorrt.dynamo import Debugger

X = torch.randn(1, 3, 8, 8)


def compiled() -> torch_tensorrt.CompiledModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    return torch_tensorrt.dynamo.compile(torch.export.export(model, (X,)), engine="eager", min_block_size=1)


def test_graphs_and_log_are_written_and_the_result_is_the_same(tmp_path: Path) -> None:
    plain, before = (
        compiled()(X),
        (logging.getLogger("torch_tensorrt").level, logging.getLogger("torch_tensorrt").handlers[:]),
    )
    with Debugger(
        capture_fx_graph_before=["fold_batch_norm"], capture_fx_graph_after=["fold_batch_norm"], logging_dir=tmp_path
    ):
        assert torch.equal(compiled()(X), plain)
    first, second = sorted((tmp_path / "lowering_passes_visualization").iterdir())
    assert (first.name, second.name) == ("000_before_fold_batch_norm.txt", "001_after_fold_batch_norm.txt")
    assert "batch_norm" in first.read_text()
    assert "batch_norm.default" not in second.read_text()
    log = (tmp_path / "torch_tensorrt.log").read_text()
    assert "pass fold_batch_norm: changed the graph" in log
    after = logging.getLogger("torch_tensorrt")
    assert after.level == before[0]
    assert not any(isinstance(handler, logging.FileHandler) for handler in after.handlers)
    compiled()
    assert (tmp_path / "torch_tensorrt.log").read_text() == log


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"capture_fx_graph_after": ["fold_constant"]}, InputError, "Did you mean 'fold_constants'"),
        ({"capture_fx_graph_before": "fold_constants"}, InputError, "a list of names"),
        ({"log_level": "loud"}, InputError, "the levels are"),
        ({"profile_format": "xml"}, InputError, "perfetto"),
    ],
)
def test_what_it_does_not_know_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Debugger(**options)


def test_the_logging_config_is_one(tmp_path: Path) -> None:
    config = Debugger("info", logging_dir=tmp_path).get_logging_config()
    logging.config.DictConfigurator(config)  # type: ignore[arg-type]
    assert config["loggers"] == {"torch_tensorrt": {"handlers": ["file"], "level": logging.INFO}}
