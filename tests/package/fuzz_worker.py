"""The child of fuzzing.py: loads and runs files, watches itself, and prints one line of JSON per file."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import warnings
from pathlib import Path

import torch
from archives import Archive
from attacks import ATTACKS
from mutations import GOLDEN, Made, golden, make, names
from torch import Tensor

import torch_tensorrt
from torch_tensorrt import TorchTensorRTError

BASE, SECONDS = 256 * 2**20, 5.0  # as in fuzzing.py
_WATCHED = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.remove", "os.rename", "os.mkdir",
    "os.rmdir", "os.chmod", "os.symlink", "os.link", "os.truncate", "os.putenv", "os.kill", "shutil.move", "shutil.rmtree",
    "shutil.copyfile", "socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "pickle.find_class",
    "webbrowser.open", "urllib.Request", "pty.spawn",
}  # fmt: skip


class Watch:
    """An audit hook: what is started, written or unpickled while `events` is a list."""

    def __init__(self) -> None:
        self.events: list[str] | None = None
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[object, ...]) -> None:
        if self.events is None:
            return
        if event in _WATCHED:
            self.events.append(f"{event} {args!r:.120}")
        elif event == "open":
            path, mode, flags = args[0], args[1], args[2]
            written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if (isinstance(mode, str) and set(mode) & set("wax+")) or written:
                self.events.append(f"open {path!r:.120} {mode!r} {flags!r}")


class Rules:
    """Loads one file after the other, and says what became of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        expected = json.loads((GOLDEN / "expected.json").read_text())
        self.shift = torch.tensor(expected["shift"])
        self.rows = {
            int(n): (torch.tensor(case["x"]), torch.tensor(case["scores"])) for n, case in expected["rows"].items()
        }
        os.chdir(folder)
        for name in names():  # imports what is imported late, before anything is measured
            assert self._try(golden(name), name)[0] == "right", f"golden file {name} isn't right"
            path = folder / "file.ep"
            torch_tensorrt.inspect_file(path)
        self.watch = Watch()

    def judge(self, made: Made) -> tuple[str, str, float, int, list[str]]:
        """(outcome, detail, seconds, bytes of memory, watched events)."""
        _reset_peak()
        before, began = _peak(), time.process_time()
        self.watch.events = events = []
        try:
            outcome, detail = self._try(made.data, made.source)
        finally:
            self.watch.events = None
        seconds, memory = time.process_time() - began, _peak() - before
        left = sorted(path.name for path in self.folder.iterdir() if path.name != "file.ep")
        left += [path.name for path in self.folder.parent.iterdir() if path.name not in {"faults", "work"}]
        events = [event for event in events if "file.ep" not in event]
        if outcome in {"another model", "failed when run"} and not made.sealed:
            outcome = "changed unnoticed"
        if left:
            outcome, detail = "left files", f"{left} {detail}"
        elif events:
            outcome, detail = "acted", f"{events} {detail}"
        elif seconds > SECONDS:
            outcome, detail = "slow", f"{seconds:.1f} s: {outcome} {detail}"
        elif memory > 4 * len(made.data) + BASE:
            outcome, detail = "memory", f"{memory} bytes for a file of {len(made.data)}: {outcome} {detail}"
        return outcome, detail, seconds, memory, events

    def _try(self, data: bytes, source: str) -> tuple[str, str]:
        path = self.folder / "file.ep"
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        try:
            torch_tensorrt.inspect_file(path)
        except TorchTensorRTError:
            pass
        except Exception as error:
            return "foreign error of inspect_file", _words(error)
        try:
            module = torch_tensorrt.load(path).module()
        except TorchTensorRTError as error:
            return "refused", _words(error)
        except Exception as error:
            return "foreign error", _words(error)
        try:
            return self._run(module, "static" in source)
        except TorchTensorRTError as error:
            return "refused when run", _words(error)
        except (
            RuntimeError
        ) as error:  # PyTorch's or OpenVINO's words about a model that was made up: its tensors don't fit
            return "failed when run", _words(error)
        except Exception as error:
            return "foreign error when run", _words(error)

    def _run(self, module: torch.nn.Module, fixed: bool) -> tuple[str, str]:
        right = True
        for rows in (3,) if fixed else self.rows:
            x, scores = self.rows[rows]
            given = module(x, shift=self.shift)
            value = given.get("scores") if isinstance(given, dict) else given
            right &= (
                isinstance(value, Tensor)
                and value.shape == scores.shape
                and bool(torch.allclose(value.to(scores.dtype), scores, 1e-5, 1e-5))
            )
        return ("right", "") if right else ("another model", "")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def show(number: int, keep: Path | None) -> None:
    """Makes, loads and runs one file, and lets its error through."""
    made = make(number)
    print(number, made.how, made.source, len(made.data), "bytes", "sealed" if made.sealed else "")
    path = keep or Path("file.ep")
    path.write_bytes(made.data)
    module = torch_tensorrt.load(path).module()
    expected = json.loads((GOLDEN / "expected.json").read_text())
    case = expected["rows"]["3"]
    print(module(torch.tensor(case["x"]), shift=torch.tensor(expected["shift"])), case["scores"])


def tell(number: int, how: str, outcome: str, **more: object) -> None:
    """One line for the parent."""
    print(json.dumps({"number": number, "how": how, "outcome": outcome, **more}), flush=True)


def main() -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    rules = Rules(folder)
    named = arguments[0] == "--attacks"
    for number in arguments[1:] if named else range(int(arguments[0]), int(arguments[1])):
        if named:
            source, change = ATTACKS[number]
            made = Made(source, number, change(Archive.read(golden(source)), str(folder / "marker")), sealed=True)
        else:
            made = make(number)
        index, how = (-1, made.how) if named else (number, f"{made.how} ({made.source})")
        tell(index, how, "started")
        outcome, detail, seconds, memory, events = rules.judge(made)
        tell(index, how, outcome, detail=detail, seconds=round(seconds, 3), memory=memory, events=events)
        for place in (folder, folder.parent):
            for path in place.iterdir():
                if path.name not in {"file.ep", "work", "faults"}:
                    path.unlink()


if __name__ == "__main__":
    main()
