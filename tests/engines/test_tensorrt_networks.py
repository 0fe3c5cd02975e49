"""Whole convolutional networks as one TensorRT-RTX engine each: defined, run by the reference interpreter, built for sm_89."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("tensorrt_rtx")

from zoo.models import ROWS, Row, pixels  # it finds the examples, too

from efficientnet_lite0 import preprocess  # isort: skip

from engines.whole_networks import compile_whole, errors

TRAINED = "efficientnet_lite0 (ImageNet weights)"
NAMES = ("resnet", "mobilenet_v2", "convnext", "unet", TRAINED)
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}
CLASSES = {"chelsea": 285, "coffee": 967}  # ImageNet's Egyptian cat and espresso


class VideoNet(nn.Module):
    """Convolutions and pools of three dimensions, with a residual, over short clips."""

    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, width, 3, (1, 2, 2), 1), nn.BatchNorm3d(width), nn.ReLU())
        self.apart = nn.Sequential(
            nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), groups=2),
        )
        self.wide = nn.Conv3d(width, 2 * width, 3, padding=2, dilation=2)
        self.classify = nn.Linear(16 * width, classes)

    def forward(self, clip: Tensor) -> Tensor:
        """clip: [batch, 3, frames, height, width]."""
        x = self.stem(clip)
        x = F.max_pool3d(F.relu(x + self.apart(x)), 3, 2, 1, ceil_mode=True)
        x = F.adaptive_avg_pool3d(F.relu(self.wide(x)), 2)
        result: Tensor = self.classify(x.flatten(1))
        return result


class Painter(nn.Module):
    """An encoder, and a decoder of transposed convolutions, resizing of every kind, pixel shuffle and a warp by a grid."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, width, 4, 2, 1, padding_mode="reflect")
        self.deep = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.norm = nn.GroupNorm(4, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1)
        self.finer = nn.ConvTranspose2d(2 * width, 4 * width, 4, 2, 1, groups=2)
        self.flow, self.paint = nn.Conv2d(width, 2, 1), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """image: [batch, 3, height, width], sides that 4 divides."""
        first = F.leaky_relu(self.down(image), 0.1)
        second = F.silu(self.norm(self.deep(first)))
        coarse = F.adaptive_max_pool2d(second, 2)
        second = second + F.interpolate(coarse, size=second.shape[-2:], mode="bicubic", align_corners=True)
        x = F.relu(self.finer(torch.cat([self.up(second), first], 1)))
        x = F.pixel_shuffle(x, 2)
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        move = F.interpolate(torch.tanh(self.flow(x)), scale_factor=1.0, mode="nearest").permute(0, 2, 3, 1)
        result: Tensor = self.paint(F.grid_sample(x, move, align_corners=False, padding_mode="border"))
        return result


def clips(batch: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Clips of 6 frames."""
    return (torch.randn(batch, 3, 6, 18, 22),), {}


OWN = (
    Row("cnn_3d", "cnn", VideoNet, clips, 1e-5),
    Row("painter", "cnn", Painter, pixels(32), 1e-5),
)
MODELS = (*(row for row in ROWS if row.name in NAMES), *OWN)
FAST = (("resnet", False, torch.float32), ("painter", True, torch.float16))


def _rows() -> Iterator[object]:
    for row in MODELS:
        for dynamic in (False, True):
            for dtype in TOLERANCES:
                marks = [] if (row.name, dynamic, dtype) in FAST else [pytest.mark.slow]
                name = f"{row.name}-{'dynamic' if dynamic else 'static'}-{dtype}"
                yield pytest.param(row, dynamic, dtype, id=name, marks=marks)


@pytest.mark.parametrize(("row", "dynamic", "dtype"), _rows())
def test_a_network_is_one_engine_that_agrees_with_pytorch(row: Row, dynamic: bool, dtype: torch.dtype) -> None:
    assert max(errors(row, dynamic, dtype)) <= TOLERANCES[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_trained_network_sees_what_is_on_a_photo(dtype: torch.dtype) -> None:
    (row,) = (row for row in MODELS if row.name == TRAINED)
    photos = {name: preprocess(getattr(skimage.data, name)()) for name in CLASSES}
    network = compile_whole(row.build(), [photos["chelsea"]], {}, dtype)
    seen = {name: int(network.answer(photo)[0].argmax()) for name, photo in photos.items()}
    assert seen == CLASSES
