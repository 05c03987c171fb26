"""The table of what `measure.py` found, in `README.md` beside it.

    python benchmarks/negatives/report.py [results.jsonl]

Prints the table; without a file of its own it also fills it into the README.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from results import fill, markdown, read_rows

RESULTS = Path(__file__).with_name("results.jsonl")
COMPARED = RESULTS.with_name("comparisons.jsonl")
README = Path(__file__).with_name("README.md")

NONE, UNTRAINED = "none", "untrained"
"""What negatives are compared with: an empty negative prompt, and vectors before training."""

KEPT = "of those right without"

Rows = Sequence[Mapping[str, Any]]


def report(rows: Rows) -> str:
    """A table for each defect, with what it was measured on."""
    parts = []
    for defect in dict.fromkeys(row["defect"] for row in rows):
        own = [row for row in rows if row["defect"] == defect]
        first, seeds = own[0], {row["seed"] for row in own}
        parts.append(
            f"Defect: {defect}. Seeds: {len(seeds)}, with {first['count']} pictures each, guidance "
            f"{first['guidance']:g}; {first['steps']} steps, {first['lesson']} pictures to learn "
            f"from, {first['vectors']} vectors; weights {first['model'][:12]}.\n\n{table(own)}"
        )
    return "\n\n".join(parts)


def table(rows: Rows) -> str:
    """A line for each negative: means over the seeds, with the smallest and the largest."""
    plain = {row["seed"]: row for row in rows if row["negative"] == NONE}
    heads = ["negative", "with the defect", "repaired : spoiled", "all right"]
    lines = []
    for negative in sorted({row["negative"] for row in rows}, key=_order):
        own = [row for row in rows if row["negative"] == negative and row["seed"] in plain]
        pairs = [(row, plain[row["seed"]]) for row in own]
        cells = [
            negative,
            _share([len(row["bad"]) / row["count"] for row in own]),
            "" if negative == NONE else _repairs(pairs),
            _share([len(row["right"]) / row["count"] for row in own]),
            _share([_kept(row["right"], without["right"]) for row, without in pairs]),
        ]
        lines.append(cells)
    return markdown([*heads, KEPT], lines)


def fill_readme() -> None:
    """Put the tables of `RESULTS` and `COMPARED` into the README."""
    parts = [report(read_rows(RESULTS)), compared_report(read_rows(COMPARED))]
    fill(README, "\n\n".join(filter(None, parts)))


def compared_report(rows: Rows) -> str:
    """A table of words from comparisons for each taste: a line for each kind of word."""
    parts = []
    for taste in dict.fromkeys(row["taste"] for row in rows):
        own = [row for row in rows if row["taste"] == taste]
        first = own[0]
        parts.append(
            f"From comparisons. Taste: {taste}; {first['count']} pictures for each seed, drawn at "
            f"guidance {first['guidance']:g}.\n\n{compared_table(own)}"
        )
    return "\n\n".join(parts)


def compared_table(rows: Rows) -> str:
    """A line for each kind of word, and one for no word: means over the seeds, and the range.

    Changed is the mean difference, in 0..1, of pictures that nobody disliked without a word.
    """
    plain = {row["seed"]: row for row in rows if not row["pairs"]}
    heads = ["pairs", "word for the", "vectors", "wrong clicks", "seeds", "steps", "disliked"]
    heads += ["repaired : spoiled", "all right", KEPT, "changed"]
    lines = []
    for kind in sorted(dict.fromkeys(_kind(row) for row in rows)):
        same = [row for row in rows if _kind(row) == kind and row["seed"] in plain]
        pairs = [(row, plain[row["seed"]]) for row in same]
        count, place, vectors, wrong = kind
        with_word = [
            place,
            f"{vectors}",
            f"{wrong:.0%}",
            f"{len(same)}",
            " ".join(f"{row['steps']}" for row in same),
        ]
        without = ["none", "", "", f"{len(same)}", ""]
        cells = [
            _found(count, same),
            *(with_word if count else without),
            _share([len(row["bad"]) / row["count"] for row in same]),
            _repairs(pairs) if count else "",
            _share([len(row["right"]) / row["count"] for row in same]),
            _share([_kept(row["right"], before["right"]) for row, before in pairs]),
            f"{statistics.mean(_change(*both) for both in pairs):.3f}",
        ]
        lines.append(cells)
    return markdown(heads, lines)


def _kind(row: Mapping[str, Any]) -> tuple[int, str, int, float]:
    return row["pairs"], row["word_for"], row["vectors"], row["wrong"]


def _found(count: int, rows: Rows) -> str:
    fewest = min(row["found"] for row in rows)
    return f"{count}" if fewest == count else f"{count} ({fewest} found)"


def _change(row: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """The mean change of the pictures that were fine before."""
    return statistics.mean(c for i, c in enumerate(row["change"]) if i not in {*before["bad"]})


def _order(negative: str) -> tuple[int, str]:
    return (NONE, UNTRAINED, negative).index(negative), negative


def _share(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.0%} ({min(values):.0%} to {max(values):.0%})"


def _kept(right: Sequence[int], right_without: Sequence[int]) -> float:
    return len({*right} & {*right_without}) / max(1, len(right_without))


def _repairs(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """How many pictures lost the defect and how many got it, with a two-sided sign test."""
    repaired = sum(len({*without["bad"]} - {*row["bad"]}) for row, without in pairs)
    spoiled = sum(len({*row["bad"]} - {*without["bad"]}) for row, without in pairs)
    changed = repaired + spoiled
    tail = sum(math.comb(changed, i) for i in range(min(repaired, spoiled) + 1))
    return f"{repaired} : {spoiled} (p {min(1.0, 2 * tail / 2**changed):.2g})"


def main() -> None:
    """Print the table."""
    given = [Path(argument) for argument in sys.argv[1:]]
    print(report(read_rows(given[0] if given else RESULTS)))
    if not given:
        fill_readme()


if __name__ == "__main__":
    main()
