"""ENABLED_FEATURES: what this installation has, for programs that ask before they use it."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

from torch_tensorrt import ts
from torch_tensorrt.spec.absent import Absent
from torch_tensorrt.spec.enums import Platform


class FeatureSet(NamedTuple):
    """The documented names. Nothing is imported to find them out; an SDK counts when it could be imported."""

    torchscript_frontend: bool
    torch_tensorrt_runtime: bool  # in Python; `python -m torch_tensorrt build-runtime` makes one without it
    dynamo_frontend: bool
    fx_frontend: bool
    refit: bool
    qdp_plugin: bool
    windows_cross_compile: bool
    tensorrt_rtx: bool
    trtllm_for_nccl: bool


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


ENABLED_FEATURES = FeatureSet(
    torchscript_frontend=not isinstance(ts.compile, Absent),
    torch_tensorrt_runtime=True,
    dynamo_frontend=True,
    fx_frontend=True,
    refit=True,
    qdp_plugin=False,
    windows_cross_compile=Platform.current_platform() is Platform.LINUX_X86_64,
    tensorrt_rtx=_installed("tensorrt_rtx"),
    trtllm_for_nccl=False,
)
