"""Records what `inspect --json` says of the community's files: `python -m tools.golden`."""

from __future__ import annotations

import contextlib
import io
import json

from support.golden import shortened
from support.paths import ROOT
from support.wild import WILD
from textual_inversion.trainer.cli.main import main

RECORDED = ROOT / "tests" / "trainer" / "cli" / "inspected.json"

if __name__ == "__main__":
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main(["inspect", str(WILD), "--json"])
    words = shortened(json.loads(output.getvalue()))
    lines = ",\n".join(json.dumps(word, ensure_ascii=False) for word in words)
    RECORDED.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
