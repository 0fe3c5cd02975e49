"""Other weights for an engine: what a build has to note for it, and the SDK's Refitter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from torch_tensorrt.engines.tensorrt.network import Definition
from torch_tensorrt.engines.tensorrt.payload import Payload, Weight, digest_of
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk, listen
from torch_tensorrt.spec.errors import BuildError, InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings


def changeable(net: Definition) -> Mapping[str, str]:
    """Attribute of the module -> the SDK's name, for the weights that may change: floats that are in the network as they are.

    Whole numbers are what shapes and indices are made of, which the SDK may have to know when it builds.
    """
    named = net.named_weights()
    return {name: known_as for name, known_as in named.items() if net.attributes[name].is_floating_point()}


def with_facts(plan: bytes, net: Definition, settings: CompilationSettings) -> Payload:
    """The payload of a plan that was built of `net`."""
    core = settings.device.dla_core if settings.device is not None else -1
    payload = Payload(plan, host_code=settings.version_compatible, dla_core=core)
    if settings.immutable_weights:
        return payload
    names = changeable(net)
    weights = {name: Weight.of(value, names.get(name)) for name, value in net.attributes.items()}
    same, bare = settings.refit_identical_engine_weights, settings.strip_engine_weights
    return replace(payload, refittable=True, weights=weights, stripped=bare, identical=same)


def put_weights(sdk: Sdk, engine: Native, payload: Payload, weights: Mapping[str, Tensor], name: str) -> Payload:
    """Puts `weights` into a live engine that nobody runs, and gives its new payload.

    Raises InputError for a constant that is missing or of another dtype or shape, UnsupportedError for one that can't change,
    BuildError with the SDK's words. After an error the engine is in no state to be used.
    """
    kept = {known: _checked(known, fact, weights, name) for known, fact in payload.weights.items()}
    new = {known: replace(fact, digest=digest_of(kept[known])) for known, fact in payload.weights.items()}
    _require_ties(payload, new, name)
    changed = [known for known, fact in payload.weights.items() if fact.digest != new[known].digest]
    if payload.identical and changed:
        raise InputError(
            f"Engine {name!r} was built with refit_identical_engine_weights=True, for the weights of compile time only; "
            f"{changed[0]!r} and {len(changed) - 1} more have other values. Compile without that option."
        )
    with listen() as words:
        refitter = sdk.refitter(engine)
        offered = set(refitter.get_all_weights())
        for known, fact in payload.weights.items():
            if fact.name is None or fact.name not in offered:
                _require_same(known, fact, new[known], name)
            elif not refitter.set_named_weights(fact.name, sdk.weights(kept[known])):
                raise BuildError(f"{sdk.title} refused the weight {known!r} of engine {name!r}: {words}")
        missing = [known for known in refitter.get_missing_weights() if known]
        if missing or not refitter.refit_cuda_engine():
            more = f" (it also wants {missing})" if missing else ""
            raise BuildError(f"{sdk.title} could not refit engine {name!r}{more}: {words}. Compile the model again.")
        plan = sdk.serialize(engine)
    del kept  # until here: the SDK reads the tensors' memory
    return replace(payload, plan=plan, weights=new, stripped=False)


def _checked(known: str, fact: Weight, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A copy that nobody else can change, on the CPU."""
    value = weights.get(known)
    if value is None:
        raise InputError(f"Engine {name!r} needs a value for its constant {known!r} to be refitted; there is none.")
    if (value.dtype, tuple(value.shape)) != (fact.dtype, fact.shape):
        raise InputError(
            f"Constant {known!r} of engine {name!r} is {fact.dtype} {list(fact.shape)}; the new one is {value.dtype} "
            f"{list(value.shape)}. Compile the new model."
        )
    return value.detach().resolve_conj().resolve_neg().cpu().clone(memory_format=torch.contiguous_format)


def _require_ties(payload: Payload, new: Mapping[str, Weight], name: str) -> None:
    """Constants that were one tensor at compile time are one weight in the engine."""
    digests: dict[str, str] = {}
    for known, fact in payload.weights.items():
        if fact.name is not None and digests.setdefault(fact.name, new[known].digest) != new[known].digest:
            raise InputError(
                f"Constants {fact.name!r} and {known!r} of engine {name!r} were one tensor when it was compiled, and differ now. "
                "Compile the new model."
            )


def _require_same(known: str, fact: Weight, new: Weight, name: str) -> None:
    if new.digest != fact.digest:
        raise UnsupportedError(
            f"Constant {known!r} of engine {name!r} has another value now, and this engine can't take it: what the SDK keeps is "
            "computed from it, or it is a whole number. Compile the new model."
        )
