"""JSON that somebody else may have written: json.loads(not_deep(text))."""

from __future__ import annotations

import re
import sys
from itertools import accumulate

_DEEPEST = 1000  # levels, as Python's own limit is unless it is raised; what is written here has a few dozen
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def not_deep(text: str | bytes) -> str:
    """`text`, from UTF-8 where it is bytes. Raises ValueError where it is nested so deeply that json.loads could end the process.

    CPython up to 3.11 protects the stack of its JSON reader with the recursion limit alone, which a program may have raised. While it
    is the usual one, json.loads raises RecursionError itself.
    """
    if isinstance(text, bytes):
        text = text.decode()
    if not isinstance(text, str):  # part of a file that was read from JSON itself
        raise TypeError(f"JSON is text, not {type(text).__name__}")
    if sys.getrecursionlimit() > _DEEPEST and _depth(text) > _DEEPEST:
        raise ValueError(f"JSON nested more than {_DEEPEST} levels deep")
    return text


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= _DEEPEST:
        return 0  # enough to know
    brackets = re.findall(r"[][{}]", _STRING.sub("", text))
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)
