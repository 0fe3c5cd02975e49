"""The suite with the eager engine: everything works."""

from __future__ import annotations

from collections.abc import Mapping

BACKEND = "eager"
REFUSED: frozenset[str] = frozenset()
WRONG: Mapping[str, str] = {}
