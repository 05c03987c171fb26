"""What is recorded of the output of `inspect --json`."""

from __future__ import annotations

from typing import Any


def shortened(words: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but what says nothing to whoever compares: long notes, and likenesses of each pair."""
    for word in words:
        word["notes"] = {key: value[:200] for key, value in word["notes"].items()}
        for encoder in word["encoders"]:
            for row in encoder["rows"]:
                assert len(row["likeness"]) == len(encoder["rows"])
                row["likeness"] = [round(value, 3) + 0.0 for value in row["likeness"][:4]]
                row["length"] = round(row["length"], 3)
    return words
