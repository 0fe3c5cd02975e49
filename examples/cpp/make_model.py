"""Compiles a small model, saves it as an AOTInductor package and prints what run_model.cpp should print.

python make_model.py model.pt2 1 4 9
"""

from __future__ import annotations

import sys

import torch
from torch import nn

import torch_tensorrt
from torch_tensorrt import Input


def main(path: str, batches: list[int]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 4), nn.Softmax(dim=-1)).eval()
    given = Input(min_shape=(1, 64), opt_shape=(4, 64), max_shape=(16, 64))
    if len(batches) == 1:  # sizes that don't vary
        given = Input((batches[0], 64))
    compiled = torch_tensorrt.compile(model, inputs=[given], engine="openvino", min_block_size=1)
    torch_tensorrt.save(compiled, path, output_format="aot_inductor", inputs=[given])
    for batch in batches:
        y = compiled(torch.arange(batch * 64).div(64 * batch).reshape(batch, 64))
        print(f"batch {batch}:", *(f"{number:.5f}" for number in y[-1].tolist()))


if __name__ == "__main__":
    main(sys.argv[1], [int(batch) for batch in sys.argv[2:]])
