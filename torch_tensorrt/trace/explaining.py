"""What torch.export couldn't do, where in the caller's code, and what helps."""

from __future__ import annotations

import linecache
import os
import traceback
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

import torch_tensorrt.spec.errors as errors

_OWN = (
    *(str(folder) + os.sep for folder in (Path(torch.__file__).parent, Path(errors.__file__).parent.parent)),
    "<",  # code without a file
)
_UNROLLED = (
    "Layers like LSTM and GRU are unrolled step by step while they are traced, so that their length has to be fixed."
)
_NO_VALUES = (
    "While a model is traced its tensors have no values: what leaves PyTorch (numpy, files, other libraries) has to be written "
    "with PyTorch's operators, or left out of the part that is compiled. Check that the model runs on these inputs in PyTorch."
)
_DEPENDS = (
    "which depends on values that are known only when the model runs. To choose between results, compute both: "
    "torch.where(condition, one, other). For a size, promise its range with torch._check. (torch.cond can be traced as well; its "
    "branches run in PyTorch, not in an engine.) Or leave this part out of what is compiled."
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
            + f" {_UNROLLED}"
            * unrolled
        )
    place = _place(error)
    if isinstance(error, GuardOnDataDependentSymNode):
        said = words.split("\n")[0]
        return errors.UnsupportedError(
            f"{name} can't be traced: {place or 'its code'} needs to know {error.cond}, {_DEPENDS} ({said})"
        )
    return errors.UnsupportedError(
        f"torch.export can't trace {name} on these inputs: {type(error).__name__}: {words}\n"
        + f"It was raised in {place}.\n" * bool(place)
        + _NO_VALUES
    )


def _place(error: Exception) -> str:
    """File, line, function and code of the innermost frame that is neither PyTorch's nor ours; "" where there is none."""
    frames = [
        (frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _file(frame).startswith(_OWN)
    ]
    if not frames:
        return ""
    frame, line = frames[-1]
    code = linecache.getline(_file(frame), line).strip()
    return f"{_file(frame)}:{line}, in {frame.f_code.co_name}" + f": `{code}`" * bool(code)


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename
