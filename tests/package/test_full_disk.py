"""A file that the system doesn't take: a limit on the size of files fails in the middle of writing, as a full disk does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from saving_child import Weighted

import torch_tensorrt
from torch_tensorrt import InputError

resource = pytest.importorskip("resource", reason="Windows has no limits on the sizes of files")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's words differ")


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Files of this process that grow beyond `size` are refused."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("output_format", ["exported_program", "torchscript"])
@pytest.mark.parametrize("size", [100, 2**20, 2**22])  # at the start, in the weights, behind them
def test_the_system_s_reason_is_told_and_the_old_file_stays(tmp_path: Path, output_format: str, size: int) -> None:
    x = torch.ones(1, 1024)
    old, new = (
        torch_tensorrt.compile(Weighted(factor).eval(), inputs=[x], engine="eager", min_block_size=1)
        for factor in (1.0, 2.0)
    )
    path = tmp_path / "model"
    torch_tensorrt.save(old, path, output_format=output_format, retrace=False)
    before = path.read_bytes()
    with files_up_to(size), pytest.raises(InputError, match=r"File too large\. Nothing was changed"):
        torch_tensorrt.save(new, path, output_format=output_format, retrace=False)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before
    torch_tensorrt.save(new, path, output_format=output_format, retrace=False)
    assert torch.equal(
        torch_tensorrt.load(path).module()(x) if output_format == "exported_program" else torch_tensorrt.load(path)(x),
        new(x),
    )
