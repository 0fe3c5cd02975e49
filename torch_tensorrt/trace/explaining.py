"""What torch.export couldn't do, where in the caller's code, and what helps."""

from __future__ import annotations

import linecache
import os
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

import torch_tensorrt.spec.errors as errors

_PACKAGES = (Path(torch.__file__).parent, Path(errors.__file__).parent.parent)
_OWN = (*(f"{folder}{os.sep}" for folder in _PACKAGES), "<frozen ", "<eval_with_key>")
_PYTHON = f"{sysconfig.get_path('stdlib')}{os.sep}"
_ADDED = f"{os.sep}site-packages{os.sep}"  # a folder inside of Python's
_UNROLLED = (
    " If it is the length for an LSTM, GRU or RNN layer: these are unrolled step by step while they are traced, so it has to "
    "be fixed."
)
_NO_VALUES = (
    "Check that the model runs on these inputs in PyTorch. While it is traced its tensors have no values: what leaves PyTorch "
    "(numpy, files, other libraries) has to be written with PyTorch's operators, or left out of the part that is compiled."
)
_REMEDY = (
    "To choose between results, compute both: torch.where(condition, one, other). For a size, promise its range with "
    "torch._check. (torch.cond can be traced as well; its branches run in PyTorch, not in an engine.) Or leave this part out of what is "
    "compiled."
)


def explained(model: nn.Module, error: Exception) -> errors.InputError | errors.UnsupportedError:
    """The error to raise in place of torch.export's: InputError where the ranges of sizes are at fault, else UnsupportedError."""
    name = type(model).__name__
    words = str(error).strip().split("\n\nThe error above occurred")[0]
    if "specialized it to be a constant" in words or "Constraints violated" in words:
        unrolled = any(isinstance(each, nn.RNNBase) for each in model.modules())
        return errors.InputError(
            f"{name} does not work at every size that the Inputs allow. torch.export says:\n{words}\n"
            "Give that size one value in its Input (min = opt = max), or change the model's code that fixes it."
            + _UNROLLED
            * unrolled
        )
    place = _place(error)
    if isinstance(error, GuardOnDataDependentSymNode):
        said = words.split("\n")[0]
        return errors.UnsupportedError(
            f"{name} can't be traced: {place or 'its code'} needs to know {error.cond}, which depends on values that are known only "
            f"when the model runs. {_REMEDY} ({said})"
        )
    return errors.UnsupportedError(
        f"torch.export can't trace {name} on these inputs: {type(error).__name__}: {words}\n"
        + f"It was raised in {place}.\n" * bool(place)
        + (f"Where it depends on values: {_REMEDY}" if "data-dependent" in words.lower() else _NO_VALUES)
    )


def _place(error: Exception) -> str:
    """File, line, function and code of the innermost frame that is neither PyTorch's, Python's nor ours; "" where there is none."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_own(_file(frame))]
    if not frames:
        return ""
    frame, line = frames[-1]
    code = linecache.getline(_file(frame), line).strip()
    return f"{_file(frame)}:{line}, in {frame.f_code.co_name}" + f": `{code}`" * bool(code)


def _is_own(file: str) -> bool:
    return file.startswith(_OWN) or (file.startswith(_PYTHON) and _ADDED not in file)


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename
