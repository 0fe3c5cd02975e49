"""How a model whose weights can change was made: enough to bring new weights the same way, also after it was saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.tensor_spec import Json


@dataclass(frozen=True)
class Origin:
    """The options of a compilation, and its lowered graph in words.

    options: the options that were not at their defaults, as JSON. names, texts: one entry per node, in order; a text holds
    what the node computes, on which other nodes (by their place: %3), and what comes out. constants: the attributes that
    the graph's get_attr nodes read, in order.
    """

    options: Mapping[str, Json]
    names: tuple[str, ...]
    texts: tuple[str, ...]
    constants: tuple[str, ...]

    def to_record(self) -> dict[str, Json]:
        """The origin as JSON values."""
        return {
            "options": dict(self.options),
            "names": list(self.names),
            "texts": list(self.texts),
            "constants": list(self.constants),
        }

    @classmethod
    def from_record(cls, record: Json) -> Origin:
        """The inverse of `to_record`. Raises FileFormatError on anything else."""
        if not isinstance(record, dict) or set(record) != {"options", "names", "texts", "constants"}:
            raise FileFormatError(
                f"Field 'origin' of an engine's header needs exactly the fields constants, names, options, texts: {record!r:.200}."
            )
        options, names = record["options"], _strings(record, "names")
        if not isinstance(options, dict):
            raise FileFormatError(f"The options in an engine's origin are {options!r:.80}, not an object.")
        texts = _strings(record, "texts")
        if len(names) != len(texts):
            raise FileFormatError(f"An engine's origin names {len(names)} nodes and describes {len(texts)}.")
        return cls(options, names, texts, _strings(record, "constants"))


def _strings(record: Mapping[str, Json], key: str) -> tuple[str, ...]:
    found = record[key]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise FileFormatError(f"Field {key!r} of an engine's origin is {found!r:.80}, not a list of texts.")
    return tuple(str(text) for text in found)
