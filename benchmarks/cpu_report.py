"""What benchmarks/cpu.py measured, as ratios, Markdown and plots. Nothing here measures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from plots import Line, line_plot

Row: TypeAlias = "dict[str, Any]"
EAGER, OURS, MEASURED = "eager", "ours", "ours, level 5"
TARGET, BUILD_TARGET = 0.98, 1.2


def judged(row: Row) -> Row:
    """The row with its best peer, and best peer / ours: by the measured choice, and at the default level; None where one is missing.

    Each contender's milliseconds stand under its name, as in the GPU's results.
    """
    times: Mapping[str, float] = row.get("milliseconds") or {}
    peers = {name: time for name, time in times.items() if not name.startswith(OURS)}
    best = min(peers, key=peers.__getitem__) if peers else None

    def ratio(mine: str) -> float | None:
        return peers[best] / times[mine] if best is not None and mine in times else None

    return {
        **row,
        **times,
        "best_peer": best,
        "ratio_to_best_peer": ratio(MEASURED),
        "ratio_at_default_level": ratio(OURS),
        "build_to_openvino": _build(row, OURS, "OpenVINO"),
    }


def _build(row: Row, mine: str, peer: str) -> float | None:
    facts = row.get("facts") or {}
    if mine not in facts or peer not in facts:
        return None
    return float(facts[mine]["build"]) / float(facts[peer]["build"])


def markdown(record: Mapping[str, Any]) -> str:
    """All tables, what misses its target, and what failed."""
    rows: list[Row] = record["rows"]
    names = _contenders(rows)
    lines = [
        f"# {record['cpu']}, {record['cores']} cores, {record['threads']} threads of PyTorch",
        "",
        _made(record),
        "",
    ]
    table = [row for row in rows if not row.get("grows")]
    if table:
        lines += ["## Milliseconds per call", "", *_times(table, names), "", *means(table), ""]
    growing = [row for row in rows if row.get("grows")]
    if growing:
        lines += [
            "## As work grows: milliseconds per call, float32",
            "",
            *_times(growing, names),
            "",
            *means(growing),
            "",
        ]
    for fact, title in (
        ("build", "Seconds to build, to the first answer"),
        ("load", "Seconds to load, from file to the first answer"),
        ("peak_mb", "Memory while building: its peak above what the process held before, MB"),
        ("error", "Relative error, against float32"),
    ):
        lines += [f"## {title}", "", *_facts(rows, names, fact), ""]
    lines += [
        "## Under target",
        "",
        *(missed(rows) or ["Nothing."]),
        "",
        "## Failed",
        "",
        *(_failed(rows) or ["Nothing."]),
    ]
    return "\n".join(lines) + "\n"


def _made(record: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    commits = ", ".join(dict.fromkeys(str(row.get("commit")) for row in record["rows"]))
    loads = [load for row in record["rows"] for load in row.get("load", [])]
    busiest = f" Load average at most {max(loads):.1f}." if loads else ""
    return f"{versions}; commit {commits}.{busiest} Medians, all contenders of a row called in turns."


def _contenders(rows: Sequence[Row]) -> list[str]:
    found = [name for row in rows for part in ("milliseconds", "failed") for name in row.get(part) or {}]
    first = [EAGER, "torch.compile", "max-autotune", "AOTInductor", "OpenVINO", "ONNX Runtime", OURS, MEASURED]
    return [*(name for name in first if name in found), *sorted({*found} - {*first, "row"})]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]


def _times(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    head = ["row", *names, "best peer", "best peer / ours", "at level 5", "chosen at level 5", "build / OpenVINO's"]
    body = [
        [
            row["row"],
            *(_cell(row, name, row.get(name)) for name in names),
            row.get("best_peer") or "-",
            *(_number(row.get(key)) for key in ("ratio_at_default_level", "ratio_to_best_peer")),
            row.get("chosen") or "-",
            _number(row.get("build_to_openvino")),
        ]
        for row in rows
    ]
    return _table(head, body)


def _facts(rows: Sequence[Row], names: Sequence[str], fact: str) -> list[str]:
    shown = [name for name in names if any(_fact(row, name, fact) is not None for row in rows)]
    body = [[row["row"], *(_cell(row, name, _fact(row, name, fact)) for name in shown)] for row in rows]
    return _table(["row", *shown], body)


def _fact(row: Row, name: str, fact: str) -> object:
    return ((row.get("facts") or {}).get(name) or {}).get(fact)


def _cell(row: Row, name: str, value: object) -> str:
    failed = row.get("failed") or {}
    return "failed" if name in failed or "row" in failed else _number(value)


def _number(value: object) -> str:
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def means(rows: Sequence[Row]) -> list[str]:
    """The geometric mean of best peer / ours per precision, and the smallest."""
    lines = []
    for precision in dict.fromkeys(str(row.get("precision")) for row in rows):
        for key, label in (("ratio_at_default_level", "default level"), ("ratio_to_best_peer", "level 5")):
            ratios = [row[key] for row in rows if str(row.get("precision")) == precision and row.get(key)]
            if ratios:
                mean, least = statistics.geometric_mean(ratios), min(ratios)
                lines.append(
                    f"- {precision}, {label}: best peer / ours {mean:.2f} (geometric mean of {len(ratios)} rows), least {least:.2f}"
                )
    return lines


def missed(rows: Sequence[Row]) -> list[str]:
    """One line per row that misses a target; a row without our figure does."""
    lines = []
    for row in rows:
        ratio, build = row.get("ratio_to_best_peer"), row.get("build_to_openvino")
        if ratio is None:
            lines.append(f"- {row['row']}: no figure of {MEASURED}, or of any peer")
        elif ratio < TARGET:
            lines.append(
                f"- {row['row']}: {ratio:.2f} times as fast as {row['best_peer']} at level 5 (target {TARGET})"
            )
        if build is not None and build > BUILD_TARGET:
            lines.append(f"- {row['row']}: built in {build:.2f} times OpenVINO's time (target {BUILD_TARGET})")
    return lines


def _failed(rows: Sequence[Row]) -> list[str]:
    return [f"- {row['row']}: {name}: {why}" for row in rows for name, why in (row.get("failed") or {}).items()]


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """Model -> SVG, for each that has two points: milliseconds as batch or tokens grow, of eager, the best peer and ours."""
    found = {}
    for model in dict.fromkeys(row["model"] for row in rows if row.get("grows")):
        points = sorted(
            (row for row in rows if row.get("grows") and row["model"] == model), key=lambda row: row["size"]
        )
        lines = [
            Line(EAGER, [(row["size"], row[EAGER]) for row in points if row.get(EAGER)]),
            Line("best peer", [(row["size"], row[row["best_peer"]]) for row in points if row.get("best_peer")]),
            Line(OURS, [(row["size"], row[OURS]) for row in points if row.get(OURS)]),
            Line(MEASURED, [(row["size"], row[MEASURED]) for row in points if row.get(MEASURED)]),
        ]
        if sum(len(line.points) > 1 for line in lines):
            axis = "tokens, batch 1" if points[0]["grows"] == "tokens" else "batch"
            found[model] = line_plot(f"{model}, float32", axis, "milliseconds per call", lines)
    return found
