"""Loads and runs thousands of damaged files in child processes: python tests/package/fuzzing.py --files 10000

Every file has to give the right numbers (or, where its seal and hashes are right again, those of another model), or be refused by an
error of ours. Counted as failures are: a crash, more than 5 seconds of processor time, more memory than 4 times the file's size and a
fixed base, an error of another class, a program or file that was started, opened for writing or left behind.

One file again, with the whole traceback: python tests/package/fuzzing.py --only NUMBER [--keep FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
SECONDS, PATIENCE = 5.0, 60.0  # of processor time per file; of waiting, on a busy machine
BASE = 256 * 2**20  # bytes of memory that any file may take: OpenVINO's compiler, buffers of the allocator
# "another model" and "failed when run" are counted so only where the seal and the hashes were made right again: such a file is what
# somebody chose to write, and running it is like running any other model whose tensors don't fit.
GOOD = {"right", "another model", "refused", "refused when run", "failed when run"}


@dataclass
class Outcome:
    """What became of one file."""

    number: int
    how: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    memory: int = 0
    events: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.outcome not in GOOD


def run(numbers: range) -> Iterator[Outcome]:
    """The outcome of each file, in order; a child that dies is replaced and goes on with the next file."""
    left = numbers
    while left:
        done = 0
        for outcome in _batch([str(left.start), str(left.stop)]):
            done += 1
            yield outcome
        left = left[done:]


def attack(names: list[str]) -> Iterator[Outcome]:
    """The outcome of each of these rows of attacks.py."""
    left = names
    while left:
        done = 0
        for outcome in _batch(["--attacks", *left]):
            done += 1
            yield outcome
        left = left[done:]


def _batch(arguments: list[str]) -> Iterator[Outcome]:
    with TemporaryDirectory(prefix="fuzzing-") as folder:
        log = Path(folder) / "faults"
        work = Path(folder) / "work"
        work.mkdir()
        command = [sys.executable, str(HERE / "fuzz_worker.py"), str(work), *arguments]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TORCH_TENSORRT_ENGINE": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with (
            log.open("wb") as faults,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=faults, env=environment) as child,
        ):
            assert child.stdout is not None
            current: Outcome | None = None
            try:
                for line in _lines(child):
                    told = json.loads(line)
                    current = Outcome(**told) if told["outcome"] == "started" else None
                    if current is None:
                        yield Outcome(**told)
                code = child.wait()
                reason = f"exit code {code}" if code >= 0 else f"signal {-code}"
            except TimeoutError as error:
                reason = str(error)
            finally:
                child.kill()
        tail = log.read_text(errors="replace")[-1500:]
    if current is not None:
        kind = "hang" if "seconds" in reason else "crash"
        yield Outcome(current.number, current.how, kind, f"{reason}\n{tail}")
    elif reason != "exit code 0":
        raise RuntimeError(f"The child that loads files ended with {reason} outside of a file:\n{tail}")


def _lines(child: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of the child; TimeoutError when it works on one file for too long."""
    assert child.stdout is not None
    pending, began, used = b"", time.monotonic(), _processor_time(child.pid)
    started = False
    while True:
        ready, _, _ = select.select([child.stdout], [], [], 0.5)
        if ready:
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                yield line.decode()
            began, used, started = time.monotonic(), _processor_time(child.pid), True
        elif started and _processor_time(child.pid) - used > SECONDS:
            raise TimeoutError(f"more than {SECONDS:g} seconds of processor time")
        elif time.monotonic() - began > PATIENCE * (1 if started else 3):
            raise TimeoutError(f"no answer for {PATIENCE:g} seconds")


def _processor_time(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(outcomes: list[Outcome]) -> str:
    """Counts per kind of damage and outcome, and the heaviest and slowest files."""
    kinds = sorted({outcome.how.rpartition(" (")[0] for outcome in outcomes})
    columns = sorted({outcome.outcome for outcome in outcomes}, key=lambda name: (name not in GOOD, name))
    table = Counter((outcome.how.rpartition(" (")[0], outcome.outcome) for outcome in outcomes)
    width = max(len(kind) for kind in [*kinds, "all"]) + 2
    lines = ["".ljust(width) + "  ".join(columns)]
    lines += [kind.ljust(width) + "  ".join(str(table[kind, c]).rjust(len(c)) for c in columns) for kind in kinds]
    totals = Counter(outcome.outcome for outcome in outcomes)
    lines.append("all".ljust(width) + "  ".join(str(totals[c]).rjust(len(c)) for c in columns))
    slow = max(outcomes, key=lambda outcome: outcome.seconds)
    heavy = max(outcomes, key=lambda outcome: outcome.memory)
    lines.append(f"slowest: number {slow.number}, {slow.seconds:.2f} s of processor time")
    lines.append(f"heaviest: number {heavy.number}, {heavy.memory / 2**20:.0f} MiB above the memory before it")
    failed = [outcome for outcome in outcomes if outcome.failed]
    lines.append(f"{len(outcomes)} files, {len(failed)} failures")
    lines += [f"  number {bad.number}: {bad.how}: {bad.outcome}: {bad.detail[:300]}" for bad in failed[:40]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    parser.add_argument("--only", type=int, help="one file, in this process, with its traceback")
    parser.add_argument("--keep", type=Path, help="with --only: write the file here")
    parser.add_argument("--write", type=Path, help="write every outcome here, a JSON object per line")
    given = parser.parse_args()
    if given.only is not None:
        from fuzz_worker import show

        show(given.only, given.keep)
        return
    outcomes = []
    for outcome in run(range(given.first, given.first + given.files)):
        outcomes.append(outcome)
        if outcome.failed or len(outcomes) % 500 == 0:
            print(len(outcomes), outcome.number, outcome.how, outcome.outcome, outcome.detail[:200], flush=True)
    if given.write:
        given.write.write_text("".join(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes))
    print(summary(outcomes))
    sys.exit(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    main()
