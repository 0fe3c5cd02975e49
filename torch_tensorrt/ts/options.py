"""The documented options of the TorchScript door as those of CompilationSettings, which knows the other old names itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch_tensorrt.observe.log import logger

_log = logger("ts")


def translate_options(options: Mapping[str, object]) -> dict[str, object]:
    """The options that `CompilationSettings.from_options` takes."""
    given = dict(options)
    if "refit" in given:
        given["immutable_weights"] = not given.pop("refit")
    if given.pop("allow_shape_tensors", False):
        _log.info("allow_shape_tensors: sizes that vary are always followed; there is nothing to allow.")
    listed = given.get("torch_executed_ops")
    if isinstance(listed, (list, tuple, set, frozenset)):
        given["torch_executed_ops"] = {one.replace("::", ".") if isinstance(one, str) else one for one in listed}
    return given
