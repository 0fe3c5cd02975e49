"""What a model is called with while a tool looks at its values."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import InputError

_log = logger("quantization")


@dataclass(frozen=True)
class Sample:
    """The arguments of one call."""

    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def describe(self) -> str:
        """The shapes and dtypes of its tensors."""
        given = [*self.args, *(self.kwargs[name] for name in sorted(self.kwargs))]
        said = [
            f"{list(each.shape)} {each.dtype}" if isinstance(each, Tensor) else type(each).__name__ for each in given
        ]
        return ", ".join(said) or "nothing"


def read_samples(calibration_data: object) -> list[Sample]:
    """Each entry of `calibration_data`: a tensor, a tuple or list of positional arguments, or a dict of keyword arguments.

    Raises InputError when there is none, or one is something else.
    """
    if isinstance(calibration_data, (Tensor, Mapping)) or not isinstance(calibration_data, Iterable):
        raise InputError(
            f"calibration_data is a {type(calibration_data).__name__}; an iterable of samples is needed, each a tensor, a tuple of "
            "positional arguments or a dict of keyword arguments: calibration_data=[batch1, batch2, ...]."
        )
    samples = [_sample(place, each) for place, each in enumerate(calibration_data)]
    if not samples:
        raise InputError(
            "calibration_data is empty: scales are found by running the model on typical inputs. Give some (100 images are "
            "usual), or weight_only=True, which needs none."
        )
    return samples


def _sample(place: int, given: object) -> Sample:
    if isinstance(given, Tensor):
        return Sample((given,), {})
    if isinstance(given, Mapping):
        return Sample((), {str(name): value for name, value in given.items()})
    if isinstance(given, (tuple, list)):
        return Sample(tuple(given), {})
    raise InputError(
        f"calibration_data[{place}] is a {type(given).__name__}; a tensor, a tuple of positional arguments or a dict of keyword "
        "arguments is needed."
    )


def in_order(samples: Sequence[Sample], model: nn.Module) -> list[Sample]:
    """The same with arguments that were given by name in the places where `inputs` have them. Raises InputError for unknown names."""
    signature = inspect.signature(model.forward)
    found = []
    for place, sample in enumerate(samples):
        try:
            bound = signature.bind(*sample.args, **sample.kwargs)
        except TypeError as error:
            raise InputError(
                f"calibration_data[{place}] ({sample.describe()}) doesn't fit forward{signature}: {error}. A sample is what the model is "
                "called with, without labels."
            ) from error
        found.append(Sample(bound.args, bound.kwargs))
    return found


def warn_of_sizes(samples: Sequence[Sample]) -> None:
    """Where samples differ in form: without `inputs`, the program has the sizes of the first."""
    first = samples[0].describe()
    other = next((sample for sample in samples if sample.describe() != first), None)
    if other is not None:
        _log.warning(
            "The samples differ in form (%s; %s), and the program is for the first: give inputs=[torch_tensorrt.Input(min_shape=..., "
            "opt_shape=..., max_shape=...)] for sizes that vary.",
            first, other.describe(),
        )  # fmt: skip


def run_on(module: nn.Module, samples: Iterable[Sample], what: str) -> None:
    """Runs `module` on each. Raises InputError with the sample's place and form where the model refuses it."""
    with torch.no_grad():
        for place, sample in enumerate(samples):
            _run(module, sample, f"{what} fails on calibration_data[{place}]")


def _run(module: nn.Module, sample: Sample, what: str) -> None:
    try:
        module(*sample.args, **sample.kwargs)
    except Exception as error:
        raise InputError(
            f"{what} ({sample.describe()}): {type(error).__name__}: {error}\n"
            "A sample is what the model is called with: no labels, and the dtypes and sizes that `inputs` allow."
        ) from error
