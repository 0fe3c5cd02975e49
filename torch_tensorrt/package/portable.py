"""`save(..., portable=True)`: beside each engine the program that it computes, so that another machine can build its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.export import ExportedProgram

from torch_tensorrt import engines
from torch_tensorrt.contracts.engine_bytes import read_program, with_program
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.package.describing import engine_calls
from torch_tensorrt.refitting.swapping import engine_constants, swap_attributes
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import verified
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings_record import record_settings


def with_programs(module: object) -> object:
    """`module` with a program in each of its engines.

    Raises InputError for engines whose program isn't known any more: those of a file that wasn't portable, and refitted ones.
    """
    if isinstance(module, CompiledModule):
        constants = engine_constants(module)
        made = {name: _portable(name, constant, module) for name, constant in constants.items()}
        return swap_attributes(
            module, {name: constant for name, constant in made.items() if constant is not constants[name]}
        )
    if not isinstance(module, ExportedProgram) or not all(_has_program(tensor) for tensor in _engines(module)):
        raise InputError(
            f"portable=True needs the module that compile returned, or a program loaded from a portable file, not this "
            f"{type(module).__name__}: what its engines compute is not known any more. Compile the model again and save that."
        )
    return module


def _engines(program: ExportedProgram) -> list[Tensor]:
    holders = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    targets = [holders.get(str(node.args[1])) or "" for node in engine_calls(program.graph)]
    found = [program.state_dict.get(target, program.constants.get(target)) for target in targets]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _has_program(constant: Tensor) -> bool:
    return read_program(memoryview(constant.detach().numpy())) is not None  # type: ignore[arg-type]


def _portable(name: str, constant: Tensor, module: CompiledModule) -> Tensor:
    if _has_program(constant):
        return constant
    partition = module.partitions.get(name)
    if partition is None:
        raise InputError(
            f"portable=True: what engine {name!r} computes is not known any more, because its weights were changed or the module "
            "was copied. Compile the model again and save that."
        )
    eager = engines.backend("eager")
    inner = Partition(partition.name, eager.name, partition.module, partition.inputs, partition.outputs)
    program = eager.build(inner, module.settings).to_bytes()
    data = with_program(memoryview(constant.numpy()), program, record_settings(module.settings))  # type: ignore[arg-type]
    made = torch.frombuffer(data, dtype=torch.uint8)
    verified(made)
    return made
