"""Calls per second as clients are added: 1 to 16 threads that call one compiled module, or submit to a pool in front of it.

Each client has an input of its own and compares every result with what the module gave for it before, bit by bit. `call` is
`compiled(x)` from each thread; `submit` is `Throughput(compiled).submit(x).result()`; `throughput` is the same for a module compiled
with engine_options={"performance_hint": "throughput"}. All numbers of clients take turns, for several rounds, and the median counts.
A pool keeps at most `requests` runs under way, so that more clients wait in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from against_openvino import CASES
from measuring import Row, write_results
from torch import Tensor, nn

import torch_tensorrt

CLIENTS = (1, 2, 4, 8, 16)
MODELS = ("mlp", "mobilenet_v2", "resnet50", "bert_base")
LIMIT = 0.95  # of the most with fewer clients: less is a fall
Call = Callable[[tuple[Tensor, ...]], Tensor]
THROUGHPUT = {"engine_options": {"performance_hint": "throughput"}}


@dataclass
class Count:
    """What one client did."""

    right: int = 0
    wrong: int = 0


def client(call: Call, inputs: tuple[Tensor, ...], expected: Tensor, until: float, count: Count) -> None:
    """Calls until the time is over."""
    while time.perf_counter() < until:
        if torch.equal(call(inputs), expected):
            count.right += 1
        else:
            count.wrong += 1


def per_second(call: Call, cases: Sequence[tuple[tuple[Tensor, ...], Tensor]], seconds: float) -> tuple[float, int]:
    """Calls per second of all clients together, and how many results were wrong."""
    counts = [Count() for _ in cases]
    start = time.perf_counter()
    threads = [
        threading.Thread(target=client, args=(call, *case, start + seconds, count))
        for case, count in zip(cases, counts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(count.right + count.wrong for count in counts)
    return total / (time.perf_counter() - start), sum(count.wrong for count in counts)


@contextlib.contextmanager
def ways(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[dict[str, Call]]:
    """The ways to call a model that are compared."""
    plain = torch_tensorrt.compile(model, arg_inputs=inputs, engine="openvino", min_block_size=1)
    many = torch_tensorrt.compile(model, arg_inputs=inputs, engine="openvino", min_block_size=1, **THROUGHPUT)
    with torch_tensorrt.runtime.Throughput(plain) as pool, torch_tensorrt.runtime.Throughput(many) as streams:
        yield {
            "call": lambda given: plain(*given),
            "submit": lambda given: pool.submit(*given).result(),
            "throughput": lambda given: streams.submit(*given).result(),
        }


def measure(name: str, chosen: argparse.Namespace) -> list[Row]:
    """One model, a row for each way."""
    torch.manual_seed(0)
    model = CASES[name].make(chosen.tiny).eval()
    samples = [CASES[name].sample(chosen.tiny) for _ in range(max(CLIENTS))]
    rows: list[Row] = []
    with ways(model, samples[0]) as calls:
        for way, call in calls.items():
            cases = [(inputs, call(inputs)) for inputs in samples]
            found: dict[int, list[float]] = {count: [] for count in CLIENTS}
            wrong = 0
            for _ in range(chosen.rounds):
                for count in random.Random(0).sample(CLIENTS, len(CLIENTS)):
                    rate, mistakes = per_second(call, cases[:count], chosen.seconds)
                    found[count].append(rate)
                    wrong += mistakes
            rates = {count: statistics.median(values) for count, values in found.items()}
            least = min(rates[count] / max(rates[n] for n in CLIENTS if n < count) for count in CLIENTS[1:])
            shown = {f"{count} client{'s' * (count > 1)} /s": rate for count, rate in rates.items()}
            rows.append({"model": name, "way": way, **shown, "least / most before": least, "wrong": wrong})
    return rows


def judge(rows: Sequence[Row]) -> list[str]:
    """What went wrong, or fell."""
    missed = [f"{row['model']}, {row['way']}: {row['wrong']} wrong results" for row in rows if row["wrong"]]
    missed += [
        f"{row['model']}, {row['way']}: {row['least / most before']:.2f} of what fewer clients reach"
        for row in rows
        if float(row["least / most before"] or 0) < LIMIT
    ]
    return missed


def main() -> int:
    """The exit code is 1 when throughput falls or a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(MODELS))
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="how long each number of clients is measured at a time"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tiny", action="store_true", help="tiny networks: shows that everything runs, measures nothing"
    )
    parser.add_argument("--dry", action="store_true", help="write no results")
    chosen = parser.parse_args()
    rows = [row for name in chosen.only for row in measure(name, chosen)]
    if chosen.dry:
        print("\n".join(map(str, rows)))
    else:
        print(write_results("concurrency", "Calls per second as clients are added: float32, batch 1, medians", rows))
    missed = judge(rows)
    print("\n".join(missed) or "throughput never falls, and no result is wrong")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
