"""What a built engine is to the rest of the package: a spec, a function on tensors, and bytes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from torch import Tensor
from torch.export import ExportedProgram

from torch_tensorrt.spec.errors import FileFormatError, UnsupportedError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json, TensorSpec, specs_from_json, specs_to_json


@dataclass(frozen=True)
class EngineSpec:
    """All that a saved engine says about itself; written as JSON.

    name: the partition's name. backend: which backend reads the payload. format_version: of that payload.
    target: the device or CPU that it was built for, in the backend's words. settings_key: hash of the settings that change
    the engine. versions: package -> version it was built with (the SDK and torch). inputs, outputs: the boundary tensors,
    in call order.
    """

    name: str
    backend: str
    format_version: int
    target: str
    settings_key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The spec as one line of JSON with sorted keys (equal specs give equal text)."""
        record: dict[str, Json] = {
            "name": self.name,
            "backend": self.backend,
            "format_version": self.format_version,
            "target": self.target,
            "settings_key": self.settings_key,
            "inputs": specs_to_json(self.inputs),
            "outputs": specs_to_json(self.outputs),
            "versions": dict(self.versions),
        }
        return json.dumps(record, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> EngineSpec:
        """The inverse of `to_json`. Raises FileFormatError when a field is missing, unknown or of the wrong type."""
        try:
            record = json.loads(not_deep(text))
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"An engine's description is not JSON: {error}") from error
        return cls.from_record(record)

    @classmethod
    def from_record(cls, record: Json) -> EngineSpec:
        """The spec from parsed JSON. Raises FileFormatError as `from_json` does."""
        if not isinstance(record, dict) or set(record) != set(_FIELDS):
            found = sorted(record) if isinstance(record, dict) else type(record).__name__
            raise FileFormatError(f"An engine's description needs exactly the fields {sorted(_FIELDS)}, not {found}.")
        for key, kind in _FIELDS.items():
            if type(record[key]) is not kind:
                raise FileFormatError(
                    f"Field {key!r} of an engine's description is {record[key]!r:.80}, not a {kind.__name__}."
                )
        versions = record["versions"]
        assert isinstance(versions, dict)
        if not all(isinstance(value, str) for value in versions.values()):
            raise FileFormatError(
                f"Field 'versions' of an engine's description holds something other than text: {versions!r:.200}."
            )
        return cls(
            name=str(record["name"]),
            backend=str(record["backend"]),
            format_version=int(str(record["format_version"])),
            target=str(record["target"]),
            settings_key=str(record["settings_key"]),
            inputs=specs_from_json(record["inputs"]),
            outputs=specs_from_json(record["outputs"]),
            versions={key: str(value) for key, value in versions.items()},
        )


_FIELDS: Mapping[str, type] = {
    "name": str,
    "backend": str,
    "format_version": int,
    "target": str,
    "settings_key": str,
    "inputs": list,
    "outputs": list,
    "versions": dict,
}


class Engine(ABC):
    """A built engine. Knows tensors and bytes, nothing of FX or nn.Module. Safe to call from several threads."""

    spec: EngineSpec

    @abstractmethod
    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for `inputs`, which the caller has checked against `spec`; fresh tensors, never reused between calls."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The payload that the backend's `from_bytes` reads. No pickle."""

    def program(self) -> ExportedProgram | None:
        """What the engine computes, for formats that compile it themselves; None where an engine doesn't keep it.

        Takes the tensors of `spec.inputs` by position and returns a tuple of those of `spec.outputs`.
        """
        return None

    def raw_bytes(self) -> bytes:
        """What the engine's SDK itself reads, with nothing of this package's; for most engines that is the payload.

        Raises UnsupportedError where the SDK has no such form of this engine.
        """
        return self.to_bytes()

    def write_payload(self, file: BytesIO) -> None:
        """Writes the payload from where `file` is on; for engines that can spare their weights a copy."""
        file.write(self.to_bytes())

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        """A new engine like this one with other weights; this one goes on as it was, also in threads that run it meanwhile.

        `weights` holds every constant of the engine under the name that the partition's graph gave it (the target of its
        get_attr node), in the same dtype and shape; names that the engine doesn't know are not its own and are passed over.
        The new engine owns copies: later changes of the tensors don't reach it, and its `to_bytes` holds the new weights.
        Only engines built with `immutable_weights=False` need to be able to do this.

        Raises UnsupportedError where the engine can't, InputError when a constant is missing or of another dtype or shape.
        """
        raise UnsupportedError(
            f"Engines of the {self.spec.backend!r} backend can't be refitted; compile the model again."
        )
