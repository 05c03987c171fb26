"""The list of commands, their help, and what completes them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import textual_inversion
from support.paths import ROOT
from textual_inversion.__main__ import main as whole
from textual_inversion.demo.command import DEMO
from textual_inversion.trainer.cli import main as cli
from textual_inversion.trainer.cli.commands import COMMANDS
from textual_inversion.trainer.settings import NegativeSettings, Settings, described_fields


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_the_version_stands_in_three_places(capsys) -> None:
    written = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{textual_inversion.__version__}"\n' in written
    assert shown(capsys, "--version").strip().endswith(f" {textual_inversion.__version__}")


def test_help_is_there_at_once() -> None:
    """A python that imports torch takes two seconds; this one has nothing to wait for."""
    times = []
    for _ in range(3):
        before = time.monotonic()
        command = [sys.executable, "-m", "textual_inversion", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.monotonic() - before)
        assert all(command.name in done.stdout for command in (*COMMANDS, DEMO))
    assert min(times) < 1


@pytest.mark.parametrize("command", ["train", "train-negative", "train-list"])
def test_short_help_and_all_of_it(command: str, capsys) -> None:
    short, full = (shown(capsys, command, option) for option in ("--help", "--help-all"))
    places = [
        full.index(f"\n{title}:\n") for title in ("learning", "pictures", "prompts", "output")
    ]
    assert places == sorted(places)
    assert "--help-all" in short
    kind = NegativeSettings if command == "train-negative" else Settings
    for field, choice in described_fields(kind):
        option = f"--{field.name.replace('_', '-')}"
        if field.name == "name" and command == "train-list":
            continue
        assert f"{option} " in full or f"{option}\n" in full or f"{option}," in full
        assert (f"  {option} " in short) <= (not choice.advanced)


@pytest.mark.parametrize("command", [one.name for one in COMMANDS])
def test_every_option_is_described(command: str, capsys) -> None:
    for line in shown(capsys, command, "--help").split("\n\n"):
        assert not line.endswith("\n  --")
    parser = cli.parser_of([command], COMMANDS)
    one = parser._subparsers._group_actions[0].choices[command]
    assert one.description
    for action in one._actions:
        assert action.help, action.option_strings


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys, tmp_path: Path) -> None:
    assert cli.main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True)
    for part in ("train-negative", "num-vectors", "overwrite"):
        assert part in script.read_text()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("tr", ["train", "train-list", "train-negative", "train-ratings"]),
        ("train --num", ["--num-vectors"]),
        ("train --optimizer ad", ["adamw"]),
        ("convert --dtype ", ["float16", "float32"]),
    ],
)
def test_what_bash_completes(typed: str, expected: list[str], capsys, tmp_path: Path) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    words = ["textual-inversion", *typed.split(" ")]
    asking = (
        f"source {script}; COMP_WORDS=({' '.join(repr(w) for w in words)}); "
        f'COMP_CWORD={len(words) - 1}; _textual_inversion; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", asking], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == expected


def test_an_unknown_command(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["trian"])
    assert stopped.value.code == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_quiet_and_verbose(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["textual-inversion", "inspect", str(tmp_path / "no.pt")])
    assert whole() == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--verbose"])
    assert whole() == 2
    assert "Traceback" in capsys.readouterr().err
