"""The documented view of what converters there are. It is read only: dynamo_tensorrt_converter adds to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from torch import fx
from torch._ops import OpOverload, OpOverloadPacket

from torch_tensorrt.engines.tensorrt.converters import converts
from torch_tensorrt.engines.tensorrt.converters.registry import Converter
from torch_tensorrt.engines.tensorrt.converters.sizes import size_refusal
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings

Validator: TypeAlias = "Callable[[fx.Node, CompilationSettings], bool]"


def _always(node: fx.Node, compilation_settings: CompilationSettings) -> bool:
    return True


class CallingConvention(Enum):
    """How converters are called. LEGACY: (network, target, args, kwargs, name); CTX, the only one here, with a context instead."""

    LEGACY = auto()
    CTX = auto()


@dataclass(frozen=True)
class ConverterSupport:
    """A converter, and what it takes.

    converter_implementation: the function; one of this package has the operator's own argument names, one of a user five
    arguments. capability_validator: whether it takes a node, its sizes included. supports_dynamic_shapes: whether sizes may vary.
    """

    converter_implementation: Callable[..., object]
    capability_validator: Validator = _always
    supports_dynamic_shapes: bool = False
    requires_output_allocator: bool = False
    requires_native_multidevice: bool = False


Rows: TypeAlias = "ConverterSupport | Callable[..., object] | Sequence[ConverterSupport]"
Registry: TypeAlias = "Mapping[object, Rows]"


class ConverterRegistry:
    """Converters of several registries, asked in order: `node in registry`, `registry[node]`, `registry.get(node)`.

    A question about a node takes its sizes and the options into account; one about an operator doesn't. `get_unvalidated` and
    the questions about operators know packets (torch.ops.aten.gelu) as well as overloads.

    Args:
        registries: each maps operators to a converter, a ConverterSupport or a sequence of these.
        registry_names: as many names.
        registry_calling_conventions: only CallingConvention.CTX.

    Raises InputError for what does not go together.
    """

    def __init__(
        self,
        registries: Sequence[Registry],
        registry_names: Sequence[str] | None = None,
        registry_calling_conventions: Sequence[CallingConvention] | None = None,
    ) -> None:
        self.registries = [*registries]
        self.registry_names = [
            *(registry_names or (f"Registry {place}" for place in range(1, len(self.registries) + 1)))
        ]
        self.registry_calling_conventions = [
            *(registry_calling_conventions or [CallingConvention.CTX] * len(self.registries))
        ]
        self.compilation_settings = CompilationSettings()
        self.disallowed_targets: frozenset[str] = frozenset()
        self.validate_invariants()

    def set_compilation_settings(self, compilation_settings: CompilationSettings) -> None:
        """The options that questions about nodes are answered for, from now on."""
        if not isinstance(compilation_settings, CompilationSettings):
            raise InputError(f"{compilation_settings!r:.100} is no CompilationSettings.")
        self.compilation_settings = compilation_settings
        self.set_disallowed_targets(compilation_settings.torch_executed_ops)

    def set_disallowed_targets(self, torch_executed_ops: Iterable[object]) -> None:
        """Operators, or their names, that questions about nodes are answered with no for."""
        self.disallowed_targets = self.get_disallowed_targets(torch_executed_ops)

    def get_disallowed_targets(self, torch_executed_ops: Iterable[object]) -> frozenset[str]:
        """The names of these operators, as options name them: "aten.relu.default"."""
        settings = CompilationSettings.from_options(torch_executed_ops=set(torch_executed_ops))
        return settings.torch_executed_ops

    def validate_invariants(self) -> None:
        """Raises InputError unless there are as many names and conventions as registries, and each row is a converter."""
        counts = {len(self.registries), len(self.registry_names), len(self.registry_calling_conventions)}
        if len(counts) != 1:
            raise InputError(
                f"{len(self.registries)} registries came with {len(self.registry_names)} names and "
                f"{len(self.registry_calling_conventions)} calling conventions."
            )
        if CallingConvention.LEGACY in self.registry_calling_conventions:
            raise InputError(
                "CallingConvention.LEGACY is not here; converters get a context, as CallingConvention.CTX says."
            )
        for name, registry in zip(self.registry_names, self.registries, strict=True):
            for key, rows in registry.items():
                given = rows if isinstance(rows, (list, tuple)) else [rows]
                if not given or not all(isinstance(row, ConverterSupport) or callable(row) for row in given):
                    raise InputError(
                        f"{name} has {rows!r:.100} for {key}; a converter or ConverterSupports are needed."
                    )

    def __getitem__(self, node: fx.Node) -> ConverterSupport:
        """The converter that takes `node`. Raises KeyError where none does."""
        found = self.get(node)
        if found is None:
            raise KeyError(f"None of the converters takes {node.format_node()}.")
        return found

    def __contains__(self, key: object) -> bool:
        """Whether a converter takes a node, or is there for an operator."""
        return (self.get(key) if isinstance(key, fx.Node) else self.get_unvalidated(key)) is not None

    def keys(self) -> list[str]:
        """The names of all operators with a converter."""
        return sorted(map(self.qualified_name_or_str, self.unique_targets()))

    def get_unvalidated(self, key: object, value: ConverterSupport | None = None) -> ConverterSupport | None:
        """The first converter for an operator, whatever it takes; `value` without one."""
        found = self.get_all_converters_with_target(key)
        return found[0] if isinstance(found, list) and found else value

    def get(self, node: fx.Node, value: ConverterSupport | None = None) -> ConverterSupport | None:
        """The first converter that takes `node`, with the options and the sizes that it has; `value` without one."""
        if not isinstance(node, fx.Node):
            raise InputError(f"{node!r:.100} is no node of a graph; ask get_unvalidated about an operator.")
        name = str(node.target)
        if self.disallowed_targets & {name, name.removesuffix(".default"), name.rpartition(".")[0]}:
            return value
        found = [support for _, support in self._supports(node.target)]
        return next((s for s in found if s.capability_validator(node, self.compilation_settings)), value)

    def get_all_converters_with_target(
        self, key: object, return_registry_info: bool = False
    ) -> list[ConverterSupport] | tuple[list[ConverterSupport], dict[str, int]]:
        """All converters for an operator; with `return_registry_info` also how many of them each registry has."""
        found = [pair for target in _overloads(key) for pair in self._supports(target)]
        supports = [support for _, support in found]
        return (supports, dict(Counter(name for name, _ in found))) if return_registry_info else supports

    def unique_targets(self) -> set[object]:
        """All operators with a converter; those of packages that need not be installed by name."""
        return {key for registry in self.registries for key in registry}

    @staticmethod
    def qualified_name_or_str(target: object) -> str:
        """The name of an operator or function: "torch.ops.aten.relu.default"."""
        if isinstance(target, (OpOverload, OpOverloadPacket)):
            return f"torch.ops.{target}"
        if isinstance(target, str) or not hasattr(target, "__name__"):
            return str(target)
        return f"{getattr(target, '__module__', '')}.{target.__name__}".lstrip(".")

    def get_converter_support_info(self) -> dict[str, dict[str, int]]:
        """Name of an operator -> registry -> how many converters it has there."""
        info: dict[str, dict[str, int]] = {}
        for target in self.unique_targets():
            _, counts = self.get_all_converters_with_target(target, return_registry_info=True)
            assert isinstance(counts, dict)
            info[self.qualified_name_or_str(target)] = counts
        return dict(sorted(info.items()))

    def display_all_available_converters(self) -> str:
        """A table of all operators with a converter, as text."""
        info = self.get_converter_support_info()
        lines = [f"{len(info)} operators have converters:", ""]
        lines += [
            f"{name}: {', '.join(f'{count} in {registry}' for registry, count in counts.items())}"
            for name, counts in info.items()
        ]
        return "\n".join(lines)

    def _supports(self, target: object) -> Iterator[tuple[str, ConverterSupport]]:
        for name, registry in zip(self.registry_names, self.registries, strict=True):
            for key in dict.fromkeys((target, str(target))):
                rows = registry.get(key)
                for row in rows if isinstance(rows, (list, tuple)) else [rows]:
                    if isinstance(row, ConverterSupport):
                        yield name, row
                    elif callable(row):
                        yield name, ConverterSupport(row)


def _overloads(key: object) -> list[object]:
    if isinstance(key, OpOverloadPacket):
        return [getattr(key, name) for name in key.overloads()]
    return [key]


class _Own(Mapping[object, tuple[ConverterSupport, ...]]):
    """The converters that compiling uses, as they are now."""

    def __getitem__(self, key: object) -> tuple[ConverterSupport, ...]:
        rows = converts.converters(key)
        if not rows:
            raise KeyError(key)
        return tuple(map(_support, rows))

    def __iter__(self) -> Iterator[object]:
        return iter(converts.operators())

    def __len__(self) -> int:
        return len(converts.operators())


def _support(converter: Converter) -> ConverterSupport:
    def takes(node: fx.Node, compilation_settings: CompilationSettings) -> bool:
        return not (size_refusal(node) or converter.refusal(node, compilation_settings))

    return ConverterSupport(converter.convert, takes, supports_dynamic_shapes=converter.dynamic)


DYNAMO_CONVERTERS = ConverterRegistry([_Own()], ["TensorRT converters"])
