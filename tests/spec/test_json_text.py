"""JSON that somebody else may have written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from torch_tensorrt.spec.json_text import not_deep


@pytest.fixture(params=[1000, 100_000])
def limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Python's usual limit, and that of a program that has raised it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, request.param))
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null, "[[[\\"{"]}', b"[]", "[" + "[], " * 5000 + "0]"])
def test_what_is_read_is_what_json_reads(text: str | bytes, limit: None) -> None:
    assert json.loads(not_deep(text)) == json.loads(text)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "[" * 1200 + "]" * 1200]
)
def test_what_is_nested_too_deeply_is_an_error(text: str, limit: None) -> None:
    with pytest.raises((ValueError, RecursionError), match=r"deep|recursion"):
        json.loads(not_deep(text))


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe", "[1] 2", '"'])
def test_what_is_no_json_is_a_value_error(text: str | bytes, limit: None) -> None:
    with pytest.raises(ValueError, match=r"."):
        json.loads(not_deep(text))


def test_what_is_not_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="not dict"):
        not_deep({})  # type: ignore[arg-type]
