"""The names under which torch.compile finds the backend, also where the package is imported without being installed."""

from __future__ import annotations

from importlib.metadata import entry_points

from torch_tensorrt.dynamo.backend.entry import torch_tensorrt_backend

NAMES = ("torch_tensorrt", "tensorrt")


def register_backends() -> None:
    """Registers the names that the installed packages don't declare (entry points `torch_dynamo_backends`).

    Declared ones are left to torch.compile, which imports this package for them: registering them here as well would be a second
    registration, and importing torch.compile's machinery takes longer than importing this package.
    """
    missing = set(NAMES) - set(entry_points(group="torch_dynamo_backends").names)
    if not missing:
        return
    from torch._dynamo.backends import registry

    for name in sorted(missing - set(registry._BACKENDS)):
        registry.register_backend(torch_tensorrt_backend, name=name)  # type: ignore[arg-type]
