"""What `load` gives for an exported program: PyTorch's own class, whose module checks its arguments as a compiled one does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from torch_tensorrt.package.describing import input_specs
from torch_tensorrt.runtime.calling import Door, is_traced
from torch_tensorrt.runtime.short_way import take_short_way
from torch_tensorrt.spec.errors import FileFormatError


class LoadedProgram(ExportedProgram):
    """An ExportedProgram from a file. It is made by `adopt`, never called."""

    _file: str  # what errors call the file
    _checks: bool

    @classmethod
    def adopt(cls, program: ExportedProgram, file: str, *, checks: bool) -> LoadedProgram:
        """`program` itself, as one of this class. `checks`: torch_tensorrt wrote it, for arguments of the sizes that it tells."""
        program.__class__ = cls
        assert isinstance(program, cls)
        program._file, program._checks = file, checks
        return program

    def module(self, check_guards: bool = True) -> fx.GraphModule:
        """As ExportedProgram.module, except that wrong arguments are an InputError that says which and what is needed.

        check_guards=False leaves that check out, too. Raises FileFormatError when PyTorch can't make a module of the program.
        """
        try:
            module = super().module(check_guards=check_guards)
        except Exception as error:  # what PyTorch's code makes of a program that was written by hand
            raise FileFormatError(
                f"{self._file}: PyTorch can't make a module of this program: {type(error).__name__}: {error}"
            ) from error
        assert isinstance(module, fx.GraphModule)
        if self._checks and check_guards:
            door = self._door(module)
            module.register_forward_pre_hook(ArgumentCheck(door), prepend=True, with_kwargs=True)
            take_short_way(module, door)
        return module

    def _door(self, module: fx.GraphModule) -> Door:
        known = {spec.name: spec for spec in input_specs(self)}
        given = [spec.arg.name for spec in self.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
        return Door(module.graph, [known.get(name) for name in given])


class ArgumentCheck:
    """A hook that runs before the module's own checks, whose errors don't say which argument is wrong."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def __call__(self, module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Raises InputError when the arguments are not what the model was compiled for."""
        if not is_traced():
            self._door.enter(args, kwargs)

    def __deepcopy__(self, memo: dict[int, object]) -> ArgumentCheck:
        return self  # it holds nothing of the module's
