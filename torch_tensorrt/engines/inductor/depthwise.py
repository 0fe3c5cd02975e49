"""A depthwise convolution as a Triton kernel, which reads each row of its input once for four rows of its output.

cuDNN's kernel for channels-last half floats is several times slower than the memory. The kernel here becomes part of the native
code that an engine is. This file is imported where there is a GPU to compile for, since it needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.library import triton_op, wrap_triton

ROWS = 4  # of the output, per program: the kernel below has a sum for each
# Four numbers per thread: the best of nine forms on an H200 at the shapes of EfficientNet and ConvNeXt; eight spill registers.
COLUMNS, CHANNELS, WARPS = 8, 32, 2


@triton.jit  # type: ignore[untyped-decorator]
def depthwise_rows(  # type: ignore[no-untyped-def]
    x, weight, bias, out, height, width, channels, out_height, out_width, row_blocks,
    down: tl.constexpr, right: tl.constexpr, above: tl.constexpr, left: tl.constexpr,
    kernel_height: tl.constexpr, kernel_width: tl.constexpr,
    columns_per_program: tl.constexpr, channels_per_program: tl.constexpr, silu: tl.constexpr = False,
):  # fmt: skip
    """x: (n, height, width, channels); weight: (kernel_height, kernel_width, channels) float32; out: (n, rows, columns, channels)."""
    image = (tl.program_id(0) // row_blocks).to(tl.int64)
    first = (tl.program_id(0) % row_blocks) * 4
    column = tl.program_id(1) * columns_per_program + tl.arange(0, columns_per_program)
    channel = tl.program_id(2) * channels_per_program + tl.arange(0, channels_per_program)
    inside = channel < channels
    start = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    sum0 = tl.zeros((columns_per_program, channels_per_program), tl.float32) + start
    sum1 = sum0
    sum2 = sum0
    sum3 = sum0
    for i in tl.static_range(kernel_height + 3 * down):
        row = first * down - above + i
        for j in tl.static_range(kernel_width):
            at = column * right - left + j
            there = (row >= 0) & (row < height) & (at >= 0) & (at < width)
            place = x + (image * height + row) * width * channels + at[:, None] * channels + channel[None, :]
            value = tl.load(place, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)
            if i < kernel_height:
                factor = tl.load(weight + (i * kernel_width + j) * channels + channel, mask=inside, other=0.0)
                sum0 += value * factor[None, :]
            if i >= down and i < kernel_height + down:
                factor = tl.load(weight + ((i - down) * kernel_width + j) * channels + channel, mask=inside, other=0.0)
                sum1 += value * factor[None, :]
            if i >= 2 * down and i < kernel_height + 2 * down:
                factor = tl.load(
                    weight + ((i - 2 * down) * kernel_width + j) * channels + channel, mask=inside, other=0.0
                )
                sum2 += value * factor[None, :]
            if i >= 3 * down and i < kernel_height + 3 * down:
                factor = tl.load(
                    weight + ((i - 3 * down) * kernel_width + j) * channels + channel, mask=inside, other=0.0
                )
                sum3 += value * factor[None, :]
    if silu:
        sum0 = sum0 * tl.sigmoid(sum0)
        sum1 = sum1 * tl.sigmoid(sum1)
        sum2 = sum2 * tl.sigmoid(sum2)
        sum3 = sum3 * tl.sigmoid(sum3)
    kept = (column < out_width)[:, None] & inside[None, :]
    place = out + (image * out_height + first) * out_width * channels + column[:, None] * channels + channel[None, :]
    step = out_width * channels
    tl.store(place, sum0.to(out.dtype.element_ty), mask=kept)
    tl.store(place + step, sum1.to(out.dtype.element_ty), mask=kept & (first + 1 < out_height))
    tl.store(place + 2 * step, sum2.to(out.dtype.element_ty), mask=kept & (first + 2 < out_height))
    tl.store(place + 3 * step, sum3.to(out.dtype.element_ty), mask=kept & (first + 3 < out_height))


@triton_op("torch_tensorrt_inductor::depthwise", mutates_args={})
def depthwise(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: list[int], padding: list[int], silu: bool = False
) -> torch.Tensor:
    """convolution(x, weight, bias, stride, padding, groups=channels), and SiLU of it, in float32 up to the result.

    x: (n, channels, height, width), channels-last; weight: (channels, 1, kernel height, kernel width) float32, the channels
    innermost in memory; bias: (channels,).
    """
    n, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).contiguous()  # nothing, where the layouts are as promised
    weight = weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    kernel_height, kernel_width = weight.shape[2:]
    out_height = (height + 2 * padding[0] - kernel_height) // stride[0] + 1
    out_width = (width + 2 * padding[1] - kernel_width) // stride[1] + 1
    out = torch.empty((n, out_height, out_width, channels), dtype=x.dtype, device=x.device)
    row_blocks = (out_height + ROWS - 1) // ROWS
    grid = (n * row_blocks, (out_width + COLUMNS - 1) // COLUMNS, (channels + CHANNELS - 1) // CHANNELS)
    wrap_triton(depthwise_rows)[grid](
        x, weight, bias, out, height, width, channels, out_height, out_width, row_blocks,
        stride[0], stride[1], padding[0], padding[1], kernel_height, kernel_width, COLUMNS, CHANNELS, silu,
        num_warps=WARPS,
    )  # fmt: skip
    return out.permute(0, 3, 1, 2)
