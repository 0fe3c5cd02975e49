"""The documented FX door, deprecated: `torch_tensorrt.fx.compile`, its options and its specs of inputs."""

from __future__ import annotations

from torch_tensorrt.fx.input_tensor_spec import InputTensorSpec, generate_input_specs
from torch_tensorrt.fx.lower import Lowerer, compile
from torch_tensorrt.fx.lower_setting import LowerSetting, LowerSettingBasic
from torch_tensorrt.fx.utils import LowerPrecision

__all__ = [
    "InputTensorSpec",
    "LowerPrecision",
    "LowerSetting",
    "LowerSettingBasic",
    "Lowerer",
    "compile",
    "generate_input_specs",
]
