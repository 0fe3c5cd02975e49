"""What the setting `engine_options` may hold for this engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings


@dataclass(frozen=True)
class Knobs:
    """The options of the inductor engine.

    max_autotune: Inductor measures kernels for products and convolutions of its own against those of the libraries, which takes
    minutes for large models. coordinate_descent_tuning: it measures the block sizes of all its kernels. approximate_gelu: GELU
    may be computed with tanh, which a product can do before it writes; the result differs by some 1e-3. freezing: on a CPU,
    weights become part of the code, packed for its library; None: where that was found to pay.
    float8_tensorwise: where float8 is enabled, one scale for a whole matrix instead of one for each row and column.
    """

    max_autotune: bool = False
    coordinate_descent_tuning: bool = False
    approximate_gelu: bool = False
    freezing: bool | None = None
    float8_tensorwise: bool = False


def variants(passes: Sequence[str], *, on_cpu: bool) -> Mapping[str, Mapping[str, object]]:
    """Ways of building that are worth measuring, `passes` being what can be left out; the one that takes minutes comes last."""
    ways: dict[str, Mapping[str, object]] = {"default": {}}
    if on_cpu:
        ways["weights in the code"] = {"engine_options": {"freezing": True}}
        ways["weights apart"] = {"engine_options": {"freezing": False}}
    else:
        ways |= {f"without {name}": {"disabled_passes": {name}} for name in passes}
    autotuned = {"max_autotune": True, **({"freezing": True} if on_cpu else {})}
    return {**ways, "max-autotune": {"engine_options": autotuned}}


def read_knobs(settings: CompilationSettings) -> Knobs:
    """The options as given. Raises InputError for a name that is none of them or a value that isn't True or False."""
    known = [field.name for field in dataclasses.fields(Knobs)]
    for name, value in settings.engine_options:
        if name not in known:
            raise InputError(f"engine_options has {name!r}; engine 'inductor' knows {', '.join(known)}.")
        if not isinstance(value, bool):
            raise InputError(f"engine_options[{name!r}]={value!r}: True or False is needed.")
    return Knobs(**dict(settings.engine_options))  # type: ignore[arg-type]
