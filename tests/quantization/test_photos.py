"""EfficientNet-Lite0 with its real weights in int8: two photos keep their names."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from quantization.models import relative
from skimage import data
from torch import Tensor

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.quantization import tools

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOS = {"chelsea": 285, "coffee": 967}  # an Egyptian cat, an espresso
OTHERS = (
    "astronaut",
    "rocket",
    "retina",
    "hubble_deep_field",
    "immunohistochemistry",
    "camera",
    "coins",
    "brick",
    "grass",
)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("efficientnet_lite0", EXAMPLES / "efficientnet_lite0.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def typical(network: ModuleType) -> list[Tensor]:
    """Other photos than the two, and parts of them, some of them mirrored."""
    found = []
    for place, name in enumerate(OTHERS):
        photo = getattr(data, name)()
        photo = np.stack([photo] * 3, -1) if photo.ndim == 2 else photo[..., :3]
        height, width = photo.shape[:2]
        part = network.preprocess(photo[height // 5 :, : width * 4 // 5].copy())
        found.append(torch.cat([network.preprocess(photo.copy()), part.flip(3) if place % 2 else part]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("method", "limit"), [("torchao", 0.2), ("nncf", 1.0)])
def test_photos_keep_their_names_in_int8(method: str, limit: float) -> None:
    if not tools.installed(method):
        pytest.skip(f"{method} is not installed")
    network = example()
    model = network.load_efficientnet()
    images = [torch_tensorrt.Input(min_shape=(1, 3, 224, 224), opt_shape=(1, 3, 224, 224), max_shape=(4, 3, 224, 224))]
    program = torch_tensorrt.quantize(model, typical(network), inputs=images, method=method)
    for engine in ("openvino", "onnxruntime"):
        if not engines.backend(engine).available(torch.device("cpu")):
            continue
        compiled = torch_tensorrt.compile(program, engine=engine, require_full_compilation=True)
        for photo, label in PHOTOS.items():
            x = network.preprocess(getattr(data, photo)())
            with torch.no_grad():
                wanted, got = model(x), compiled(x)
            error = relative(got, wanted)
            print(f"\n{engine}, {method}, {photo}: relative error of the logits {error:.3f}")
            assert int(wanted.argmax()) == label
            assert int(got.argmax()) == label
            assert error < limit
