"""Warnings of PyTorch about itself, which a user of this package can do nothing about."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Hides torch.export's own use of what PyTorch deprecates (copying a LeafSpec, in 2.13); all other warnings pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        yield
