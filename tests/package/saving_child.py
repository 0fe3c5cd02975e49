"""Saves one of two models again and again over the same file until it is killed, for test_kill.py: a process for each line that is read
from standard input, whose number is printed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

import torch_tensorrt


class Weighted(torch.nn.Module):
    """Multiplies by a constant that fills a few megabytes, so that writing takes a while."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.full((1024, 1024), factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.factor


def main() -> None:
    torch.set_num_threads(1)
    path = Path(sys.argv[1])
    x = torch.ones(1, 1024)
    modules = [
        torch_tensorrt.compile(Weighted(factor).eval(), inputs=[x], engine="eager", min_block_size=1)
        for factor in (1.0, 2.0)
    ]
    torch_tensorrt.save(modules[0], path, retrace=False)
    for _ in sys.stdin:
        process = os.fork()
        while process == 0:
            for module in reversed(modules):
                torch_tensorrt.save(module, path, retrace=False)
        print(process, flush=True)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()
