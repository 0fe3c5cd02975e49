"""Plans for Windows that are built on Linux.

TensorRT-RTX: plans run on both systems as they are, by its documentation ("portable across GPUs and OS"), and its builder takes no
other runtime platform. TensorRT: the builder is told the platform that the plan is for.
"""

from __future__ import annotations

from torch_tensorrt.contracts.backend import Support
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk, listen
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import UnsupportedError


def portable_to(platform: Platform) -> Support:
    """Whether plans that are built on Linux x86-64 can be for `platform`: Windows x86-64."""
    there = (Platform.current_platform(), platform)
    return Support(
        there == (Platform.LINUX_X86_64, Platform.WIN_X86_64),
        f"it builds for Windows x86-64 on Linux x86-64, not for {there[1].value} on {there[0].value}",
    )


def aim_at_windows(sdk: Sdk, config: Native) -> None:
    """Makes `config` one for Windows. Raises UnsupportedError with the SDK's words when it refuses."""
    if sdk.is_portable:
        return
    wanted = sdk.member("RuntimePlatform", "WINDOWS_AMD64")
    with listen() as words:
        config.runtime_platform = wanted
        if words.errors or config.runtime_platform != wanted:
            raise UnsupportedError(f"{sdk.title} {sdk.version} can't build for Windows here: {words}.")


def target_on_windows(target: str) -> str:
    """The words for a target whose plan is for Windows."""
    return f"{target} on {Platform.WIN_X86_64.value}"
