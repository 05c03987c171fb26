"""Tables and a plot of what `run.py` found.

    python benchmarks/learning/report.py [results.jsonl]

Prints Markdown; without a file of its own it also fills it into the README beside it and draws
`likeness.svg`: for every method and number of samples the likeness error (0 is the concept, 1 a
random look of its class) and the share of prompts that were followed, over all concepts and seeds,
with the standard error; seconds as a share of the baseline's; then the bars, single changes to the
defaults, and the ablation.
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

from methods import BASELINE, CHANGES, ENDING, FIXED, GRID, METHODS, OURS, WITH_CAPTIONS

sys.path.append(str(Path(__file__).resolve().parents[1]))
from results import fill, markdown, read_rows

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"

Rows = Sequence[Mapping[str, Any]]

Groups = Mapping[tuple[str, int], Rows]
"""Rows by method and samples."""

FEWER_SAMPLES = 10
"""Ours are to reach the baseline with this share of its samples."""


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    if len(values) < 2:
        return values[0], 0.0
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def following(row: Mapping[str, Any]) -> float:
    """Mean share of backgrounds and places that are as asked."""
    return float(row["background"] + row["place"]) / 2


def grouped(rows: Rows) -> Groups:
    """Put rows together that have method and samples in common."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["samples"]].append(row)
    return groups


def by_place(rows: Rows) -> dict[tuple[str, int], Mapping[str, Any]]:
    """The rows of one method and number of samples by concept and seed."""
    return {(row["concept"], row["seed"]): row for row in rows}


def table(rows: Rows) -> str:
    """A line for each method and number of samples, the best likeness of each number first."""
    apart = {*GRID, *CHANGES, *ENDING}  # which have tables of their own
    groups = {key: found for key, found in grouped(rows).items() if key[0] not in apart}
    longest = max((samples for _, samples in groups), default=0)
    base = groups.get((BASELINE, longest))
    base_seconds = statistics.mean(row["seconds"] for row in base) if base else None
    heads = ["method", "samples", "runs", "likeness error", "prompts followed", "seconds"]
    lines = []

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
        lines.append(cells)
    return markdown([*heads, "of baseline's"], lines)


def paired(
    groups: Groups, ours: tuple[str, int], theirs: tuple[str, int], value: str
) -> tuple[float, float] | None:
    """Mean and standard error of ours minus theirs, over the same concepts and seeds."""
    first, second = (by_place(groups.get(key, [])) for key in (ours, theirs))
    shared = sorted(first.keys() & second.keys())

    def of(row: Mapping[str, Any]) -> float:
        return following(row) if value == "following" else row[value]

    return mean_and_error([of(first[k]) - of(second[k]) for k in shared]) if shared else None


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
                paired(groups, (name, mine), (base, theirs), value)
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


def ending(rows: Rows) -> str:
    """Runs that end by themselves, beside those along a cosine of the same concepts and seeds."""
    groups = grouped(rows)
    heads = ["method", "limit", "runs", "samples seen", "likeness error", "prompts followed"]
    lines = []
    for key in sorted(groups, key=lambda key: (list(METHODS).index(key[0]), key[1])
                      if key[0] in ENDING else (len(METHODS), key[1])):  # fmt: skip
        if key[0] not in ENDING:
            continue
        found = by_place(groups[key])
        fixed = FIXED + ", no captions" * key[0].endswith("no captions")
        beside = {
            samples: {k: row for k, row in by_place(groups[fixed, samples]).items() if k in found}
            for samples in (500, 2000)
            if (fixed, samples) in groups
        }
        sets = [(key[0], str(key[1]), found)]
        sets += [
            (fixed, str(samples), rows)
            for samples, rows in beside.items()
            if len(rows) == len(found)
        ]
        for name, limit, one in sets:
            error, spread = mean_and_error([row["likeness_error"] for row in one.values()])
            share, share_spread = mean_and_error([following(row) for row in one.values()])
            seen = [4 * row["steps"] if "steps" in row else row["samples"] for row in one.values()]
            cells = [name, limit, str(len(one))]
            cells.append(f"{statistics.mean(seen):.0f} ({min(seen)} to {max(seen)})")
            cells += [f"{error:.3f} ± {spread:.3f}", f"{share:.1%} ± {share_spread:.1%}"]
            lines.append(cells)
    return markdown(heads, lines)


def changes(rows: Rows) -> str:
    """What one change to the cosine does, over the same concepts and seeds; the best first."""
    heads = ["change", "runs", "likeness error", "prompts followed", "seconds"]
    parts = []
    groups = grouped(rows)
    for samples in sorted({samples for method, samples in groups if method in CHANGES}):
        lines = []
        for name in CHANGES:
            found = [
                paired(groups, (name, samples), (FIXED, samples), value)
                for value in ("likeness_error", "following", "seconds")
            ]
            if None in found:
                continue
            (error, spread), (share, share_spread), (seconds, _) = found  # type: ignore[misc]
            cells = [
                name.removeprefix("cosine, "),
                str(len(groups[name, samples])),
                f"{error:+.3f} ± {spread:.3f}",
                f"{share:+.1%} ± {share_spread:.1%}",
                f"{seconds:+.1f}",
            ]
            lines.append((error, cells))
        parts += [
            f"One change to the cosine at a time, with {samples} samples: what it adds to the "
            "likeness error, to the prompts followed and to the seconds.",
            "",
            markdown(heads, [cells for _, cells in sorted(lines)]),
            "",
        ]
    return "\n".join(parts).rstrip()


def ablation(rows: Rows) -> str:
    """The grid: a line for each optimiser and choice of timesteps, a column for each number of
    vectors; likeness error and share of prompts that were followed.
    """
    parts = []
    groups = grouped(rows)
    for samples in sorted({samples for method, samples in groups if method in GRID}):
        places = {n: by_place(groups[n, samples]) for n in GRID if (n, samples) in groups}
        # Concepts are harder and easier: only those count that every method has learned.
        shared = set.intersection(*map(set, places.values()))
        cells: dict[str, dict[str, str]] = defaultdict(dict)
        for name, found in places.items():
            line, _, column = name.rpartition(", ")
            if shared:
                error = statistics.mean(found[place]["likeness_error"] for place in shared)
                share = statistics.mean(following(found[place]) for place in shared)
                cells[line][column] = f"{error:.3f}, {share:.1%}"
        columns = list(dict.fromkeys(name.rpartition(", ")[2] for name in GRID))
        parts += [
            f"The ablation, with {samples} samples: likeness error and prompts followed, each the "
            f"mean of {len(shared)} runs.",
            "",
            markdown(
                ["optimiser, timesteps", *columns],
                [[line, *(found.get(n, "") for n in columns)] for line, found in cells.items()],
            ),
            "",
        ]
    return "\n".join(parts).rstrip()


def plot(rows: Rows, methods: Sequence[str], path: Path) -> None:
    """Draw the likeness error against samples seen, with its standard error.

    Methods that never come nearer than the nearest words are left out.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    groups = grouped(rows)
    numbers = sorted({samples for method, samples in groups if method in methods})
    words, _ = mean_and_error([row["likeness_error"] for row in groups["nearest words", 0]])
    # Text stays text, and the same rows give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "likeness"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        colours = matplotlib.color_sequences["tab10"]
        axes.set_prop_cycle(cycler(linestyle=["-", "--"]) * cycler(color=colours))
        axes.axhline(words, color="grey", linestyle=":", label="nearest words")
        for method in methods:
            found = {
                n: mean_and_error([row["likeness_error"] for row in groups[method, n]])
                for n in numbers
                if (method, n) in groups
            }
            if any(error < words for error, _ in found.values()):
                means, spreads = zip(*found.values(), strict=True)
                axes.errorbar([*found], means, spreads, marker="o", capsize=3, label=method)
        axes.set(xscale="log", xlabel="samples seen (steps × pictures per step)")
        axes.set(ylabel="likeness error", ylim=(0, 1.05 * words))
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right center", frameon=False)
        figure.savefig(path, metadata={"Date": None})


def others() -> list[str]:
    """The tables of the other scripts, of those that have results."""
    import drawing
    import ends
    import noisy

    titles = {
        ends: "Where each `patience` ends a run, beside the step at which its word was nearest of "
        "all that were looked at (the ratio is a median; a run that had not ended counts at its "
        "last step). The best step was chosen by 10 pictures; 10 others tell both errors again.",
        noisy: "Noise added to gradients: the share of the way to the word of a long run without "
        "it, the same along the way alone, what the run itself took that share for, in how many "
        "runs that is right within a factor of 1.5 of what is left, and the limit of averages.",
        drawing: "How a word is drawn (`drawing.py`): likeness error by guidance and by how far "
        "guided predictions are rescaled; 8 pictures each.",
    }
    return [
        f"{title}\n\n{module.table(rows)}"
        for module, title in titles.items()
        if (rows := read_rows(module.RESULTS))
    ]


def main() -> None:
    """Print the tables and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="?")
    options = parser.parse_args()
    rows = read_rows(options.results or RESULTS)
    parts = [part(rows) for part in (table, ending, bars, changes, ablation)]
    figures = "\n\n".join([*parts, *others()])
    print(figures)
    if not options.results:
        fill(HERE / "README.md", figures)
        shown = [name for name in METHODS if name in OURS or "recipe" in name]
        plot(rows, shown, HERE / "likeness.svg")


if __name__ == "__main__":
    main()
