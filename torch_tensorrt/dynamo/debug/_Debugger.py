"""The documented context manager that writes down what compiling does."""

from __future__ import annotations

import difflib
import getpass
import itertools
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from torch import fx

from torch_tensorrt import engines
from torch_tensorrt.dynamo.debug._EngineFiles import EngineFiles
from torch_tensorrt.lowering.passes.cast_precision import cast_precision
from torch_tensorrt.lowering.pipeline import LAST, SHARED
from torch_tensorrt.observe.capture import Moment, viewing
from torch_tensorrt.observe.log import GRAPHS, ROOT, AtLevel, logger
from torch_tensorrt.observe.progress import monitoring
from torch_tensorrt.runtime.watching import watching
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

_LEVELS: Mapping[str, int] = {
    "graphs": GRAPHS,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "internal_errors": logging.CRITICAL,
}
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Debugger:
    """`with Debugger(capture_fx_graph_after=["fold_constants"], logging_dir="debug"): torch_tensorrt.compile(...)`.

    Everything that is compiled in the block, in any thread, is logged into `logging_dir/torch_tensorrt.log`, and the graph before and
    after the named lowering passes is written to `logging_dir/lowering_passes_visualization/NUMBER_MOMENT_PASS.txt`. While the
    block lasts, a program that has not set up logging sees nothing on stderr. What is compiled is the same as without it.

    Args:
        log_level: "graphs", "debug", "info", "warning", "error" or "internal_errors".
        capture_fx_graph_before: names of passes (`Debugger.passes()` lists them).
        capture_fx_graph_after: names of passes.
        save_engine_profile: engines that run in the block are timed layer by layer, and `logging_dir/engine_profiles/ENGINE.FORMAT.json`
            is written at its end. They run slower meanwhile, and their first run may take as long as building them did.
        profile_format: "perfetto" (trace events: open the file at ui.perfetto.dev) or "trex" (means and medians, in the form of
            TensorRT's own tools).
        engine_builder_monitor: while engines are built, their phases are shown on a terminal, and logged with their times at the
            level "info". False: no progress is shown, however long it takes.
        logging_dir: where to write; made when the block is entered. None: torch_tensorrt_USER/debug_logs in the folder for
            temporary files.
        save_layer_info: what `torch_tensorrt.runtime.get_layer_info` tells is written for each engine that is built or loaded, to
            `logging_dir/engine_layer_information/ENGINE.json`.

    Raises InputError for an unknown level, pass or format, UnsupportedError for what isn't here.
    """

    def __init__(  # the documented signature
        self,
        log_level: str = "debug",
        capture_fx_graph_before: Sequence[str] | None = None,
        capture_fx_graph_after: Sequence[str] | None = None,
        save_engine_profile: bool = False,
        profile_format: str = "perfetto",
        engine_builder_monitor: bool = True,
        logging_dir: str | os.PathLike[str] | None = None,
        save_layer_info: bool = False,
    ) -> None:
        if profile_format not in ("perfetto", "trex"):
            raise InputError(f"profile_format={profile_format!r} is not known; it is 'perfetto' or 'trex'.")
        self._profiles = profile_format if save_engine_profile else None
        self._layers, self._monitor = save_layer_info, engine_builder_monitor
        self._level = _level(log_level)
        self._wanted: Mapping[Moment, frozenset[str]] = {
            "before": _checked("capture_fx_graph_before", capture_fx_graph_before or ()),
            "after": _checked("capture_fx_graph_after", capture_fx_graph_after or ()),
        }
        self._folder = Path(logging_dir) if logging_dir is not None else _default_folder()
        self._numbers = itertools.count()
        self._open = ExitStack()

    @staticmethod
    def passes() -> list[str]:
        """The names of all lowering passes, those of every engine's own included."""
        settings = CompilationSettings()
        own = itertools.chain.from_iterable(engines.backend(name).passes(settings) for name in engines.names())
        return list(dict.fromkeys(known.name for known in (*SHARED, *own, cast_precision, *LAST)))

    def __enter__(self) -> Debugger:  # noqa: PYI034 - Self is not in Python 3.10
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            handler = logging.FileHandler(self._folder / "torch_tensorrt.log", encoding="utf-8")
            stack.callback(handler.close)
            handler.setFormatter(logging.Formatter(_FORMAT))
            logger(ROOT).addHandler(handler)
            stack.callback(logger(ROOT).removeHandler, handler)
            stack.enter_context(AtLevel(self._level))
            stack.enter_context(viewing(self._view))
            stack.enter_context(monitoring(self._monitor))
            if self._profiles or self._layers:
                files = EngineFiles(self._folder, profiles=self._profiles, layers=self._layers)
                stack.callback(files.close)
                stack.enter_context(watching(files))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _view(self, pass_name: str, moment: Moment, graph_module: fx.GraphModule) -> None:
        if pass_name not in self._wanted[moment]:
            return
        folder = self._folder / "lowering_passes_visualization"
        folder.mkdir(exist_ok=True)
        path = folder / f"{next(self._numbers):03}_{moment}_{pass_name}.txt"
        path.write_text(f"{graph_module.graph}\n", encoding="utf-8")

    def get_logging_config(self, log_level: int | str | None = None) -> dict[str, object]:
        """What this block does with the log, in the form of `logging.config.dictConfig`. `log_level`: in place of its own."""
        level = self._level if log_level is None else log_level if isinstance(log_level, int) else _level(log_level)
        file = str(self._folder / "torch_tensorrt.log")
        return {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"standard": {"format": _FORMAT}},
            "handlers": {"file": {"class": "logging.FileHandler", "filename": file, "formatter": "standard"}},
            "loggers": {ROOT: {"handlers": ["file"], "level": level}},
        }

    def set_capture_tensorrt_api_recording_json_file(self) -> None:
        """Raises UnsupportedError: calls of TensorRT's builder aren't recorded."""
        raise UnsupportedError(
            "Calls of TensorRT's builder are not recorded in this version; log_level='debug' tells its layers."
        )


def _level(name: object) -> int:
    if not isinstance(name, str) or name not in _LEVELS:
        raise InputError(f"log_level={name!r} is not known; the levels are {', '.join(_LEVELS)}.")
    return _LEVELS[name]


def _checked(argument: str, names: Sequence[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise InputError(f"{argument}={names!r} is text; a list of names is needed: [{names!r}].")
    known = Debugger.passes() if names else []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{argument}: there is no pass {name!r}; the passes are {', '.join(known)}.{hint}")
    return frozenset(names)


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"torch_tensorrt_{getpass.getuser()}" / "debug_logs"
