"""Tables and a plot of what `run.py` found.

    python benchmarks/learning/report.py [results.jsonl]

Prints Markdown; without a file of its own it also fills it into the README beside it and draws
`likeness.svg`: for every method and number of samples the likeness error (0 is the concept, 1 a
random look of its class) and the share of prompts that were followed, over all concepts and seeds,
with the standard error; seconds as a share of the baseline's; then the bars.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from methods import BASELINE, METHODS, OURS, WITH_CAPTIONS

sys.path.append(str(Path(__file__).resolve().parents[1]))
from results import fill, read_rows

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"

Rows = Sequence[Mapping[str, Any]]

FEWER_SAMPLES = 10
"""The defaults are to reach the baseline with this share of its samples."""

WIDTH, HEIGHT, LEFT, TOP = 860, 420, 60, 20
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#edae49", "#6a4c93", "#00798c", "#8d6a9f", "#444444")


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    if len(values) < 2:
        return values[0], 0.0
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def following(row: Mapping[str, Any]) -> float:
    """Mean share of backgrounds and places that are as asked."""
    return float(row["background"] + row["place"]) / 2


def grouped(rows: Rows) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    """Rows by method and samples."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["samples"]].append(row)
    return groups


def table(rows: Rows) -> str:
    """A line for each method and number of samples, the best likeness of each number first."""
    groups = grouped(rows)
    longest = max((samples for _, samples in groups), default=0)
    base = groups.get((BASELINE, longest))
    base_seconds = statistics.mean(row["seconds"] for row in base) if base else None
    lines = [
        "| method | samples | runs | likeness error | prompts followed | seconds | of baseline's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]

    def order(key: tuple[str, int]) -> tuple[int, float]:
        return key[1], statistics.mean(row["likeness_error"] for row in groups[key])

    for key in sorted(groups, key=order):
        method, samples = key
        likeness, error = mean_and_error([row["likeness_error"] for row in groups[key]])
        cells = [method, str(samples), str(len(groups[key])), f"{likeness:.3f} ± {error:.3f}"]
        if all("background" in row for row in groups[key]):
            share, spread = mean_and_error([following(row) for row in groups[key]])
            cells.append(f"{share:.1%} ± {spread:.1%}")
        else:
            cells.append("")
        if all("seconds" in row for row in groups[key]):
            seconds = statistics.mean(row["seconds"] for row in groups[key])
            ratio = f"{seconds / base_seconds:.2f}" if base_seconds else ""
            cells += [f"{seconds:.1f}", ratio]
        else:
            cells += ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paired(
    rows: Rows, ours: tuple[str, int], theirs: tuple[str, int], value: str
) -> tuple[float, float] | None:
    """Mean and standard error of ours minus theirs, over the same concepts and seeds."""
    groups = grouped(rows)

    def by_place(key: tuple[str, int]) -> dict[tuple[str, int], float]:
        return {
            (r["concept"], r["seed"]): following(r) if value == "following" else r[value]
            for r in groups.get(key, [])
        }

    first, second = by_place(ours), by_place(theirs)
    shared = sorted(first.keys() & second.keys())
    return mean_and_error([first[k] - second[k] for k in shared]) if shared else None


def bars(rows: Rows) -> str:
    """Whether each of ours reaches the baseline with fewer samples, and is better with as many."""
    groups = grouped(rows)
    lines = []
    for name, base in itertools.product(OURS, (BASELINE, WITH_CAPTIONS)):
        if METHODS[base].captions and not METHODS[name].captions:
            continue
        numbers = sorted({samples for method, samples in groups if method == base})
        for theirs, fewer in itertools.product(numbers, (FEWER_SAMPLES, 1)):
            mine = theirs // fewer
            found = [
                paired(rows, (name, mine), (base, theirs), value)
                for value in ("likeness_error", "following")
            ]
            if None in found:
                continue
            (error, error_spread), (share, share_spread) = found  # type: ignore[misc]
            seconds = [
                statistics.mean(row["seconds"] for row in groups[key])
                for key in ((name, mine), (base, theirs))
            ]
            held = error <= 0 and share >= 0
            lines.append(
                f"- {name}, {mine} samples against {theirs} of {base}: likeness error "
                f"{error:+.3f} ± {error_spread:.3f}, prompts followed {share:+.1%} ± "
                f"{share_spread:.1%}, {seconds[1] / seconds[0]:.1f} times as fast: "
                f"{'reached' if held else 'not reached'}"
            )
    return "\n".join(lines) or "No runs of ours and the baseline yet."


def plot(rows: Rows, methods: Sequence[str]) -> str:
    """The likeness error against samples seen, as SVG; samples in a logarithmic scale."""
    import math

    groups = grouped(rows)
    curves = {
        method: sorted(
            (samples, *mean_and_error([row["likeness_error"] for row in found]))
            for (name, samples), found in groups.items()
            if name == method and samples
        )
        for method in methods
    }
    curves = {method: curve for method, curve in curves.items() if curve}
    points = [point for curve in curves.values() for point in curve]
    low, high = min(p[0] for p in points), max(p[0] for p in points)
    top = max(p[1] + p[2] for p in points) * 1.05
    right = WIDTH - 270

    def x(samples: float) -> float:
        share = math.log(samples / low) / math.log(high / low) if high > low else 0.5
        return LEFT + share * (right - LEFT)

    def y(value: float) -> float:
        return HEIGHT - 50 - value / top * (HEIGHT - 50 - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="{HEIGHT - 10}">samples seen (steps × pictures per step)</text>',
        f'<text x="14" y="{HEIGHT // 2}" transform="rotate(-90 14 {HEIGHT // 2})" '
        'text-anchor="middle">likeness error</text>',
    ]
    for samples in sorted({p[0] for p in points}):
        parts.append(
            f'<line x1="{x(samples):.1f}" x2="{x(samples):.1f}" y1="{TOP}" y2="{y(0):.1f}" '
            f'stroke="#e5e5e5"/><text x="{x(samples):.1f}" y="{y(0) + 16:.1f}" '
            f'text-anchor="middle">{samples}</text>'
        )
    for tick in range(5):
        value = top * tick / 4
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#e5e5e5"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.2f}</text>'
        )
    for number, (method, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v, _ in curve)
        dashes = ' stroke-dasharray="5 4"' if number >= len(COLOURS) else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        )
        parts += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"/>'
                  for s, v, _ in curve]  # fmt: skip
        line = TOP + 14 + 18 * number
        parts.append(
            f'<line x1="{right + 15}" x2="{right + 40}" y1="{line - 4}" y2="{line - 4}" '
            f'stroke="{colour}" stroke-width="2"{dashes}/>'
            f'<text x="{right + 46}" y="{line}">{method}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Print the tables and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="?")
    options = parser.parse_args()
    rows = read_rows(options.results or RESULTS)
    figures = f"{table(rows)}\n\n{bars(rows)}"
    print(figures)
    if not options.results:
        fill(HERE / "README.md", figures)
        shown = [name for name in METHODS if "ours" in name or "recipe" in name]
        (HERE / "likeness.svg").write_text(plot(rows, shown))


if __name__ == "__main__":
    main()
