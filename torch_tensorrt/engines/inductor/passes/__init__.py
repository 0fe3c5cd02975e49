"""The passes that the inductor engine has of its own, in their order: what Inductor leaves undone on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.engines.inductor.passes.average_whole import average_whole
from torch_tensorrt.engines.inductor.passes.choose_attention import choose_attention
from torch_tensorrt.engines.inductor.passes.expand_gelu import expand_gelu
from torch_tensorrt.engines.inductor.passes.fuse_attention import fuse_attention
from torch_tensorrt.engines.inductor.passes.fuse_convolutions import fuse_convolutions
from torch_tensorrt.engines.inductor.passes.fuse_linear_activation import fuse_linear_activation
from torch_tensorrt.engines.inductor.passes.merge_linears import merge_linears
from torch_tensorrt.engines.inductor.passes.multiply_pointwise import multiply_pointwise
from torch_tensorrt.engines.inductor.passes.pad_linears import pad_linears
from torch_tensorrt.engines.inductor.passes.quantize_linears import quantize_linears
from torch_tensorrt.engines.inductor.passes.recognise_gelu import recognise_gelu
from torch_tensorrt.engines.inductor.passes.shift_to_uint8 import shift_to_uint8
from torch_tensorrt.engines.inductor.passes.simplify_attention_masks import simplify_attention_masks
from torch_tensorrt.engines.inductor.passes.use_channels_last import use_channels_last
from torch_tensorrt.engines.inductor.passes.widen_inputs import widen_inputs
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings

PASSES: Sequence[LoweringPass] = (
    average_whole,
    fuse_attention,
    simplify_attention_masks,  # after fuse_attention, before all that casts, moves or reads masks
    merge_linears,  # before fuse_linear_activation, whose operator it doesn't know
    recognise_gelu,
    pad_linears,  # before quantize_linears, which wants sizes that this one makes
    quantize_linears,  # before fuse_linear_activation, which takes its layers; does nothing unless float8 is enabled
    fuse_linear_activation,
    expand_gelu,  # after fuse_linear_activation and recognise_gelu, which make and take GELUs
    choose_attention,  # after simplify_attention_masks and merge_linears, which decide masks and layouts
    multiply_pointwise,
    widen_inputs,  # before use_channels_last, whose copy of the input pads it too
    use_channels_last,  # before fuse_convolutions, which looks at layouts
    fuse_convolutions,
    shift_to_uint8,  # for CPUs, where the others do nothing
)


def chosen_passes(settings: CompilationSettings) -> tuple[LoweringPass, ...]:
    """Those of PASSES that the settings want. Raises InputError for a name in `disabled_passes` that none has."""
    known = [each.name for each in PASSES]
    unknown = sorted(settings.disabled_passes - set(known))
    if unknown:
        raise InputError(
            f"disabled_passes has {', '.join(map(repr, unknown))}; the passes of engine 'inductor' are {', '.join(known)}."
        )
    return tuple(each for each in PASSES if each.name not in settings.disabled_passes)
