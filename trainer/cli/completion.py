"""The command `completion`: a script by which a shell completes commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from .commands import Command, CommandParser

PROGRAM = "textual-inversion"


def describe_completion(parser: CommandParser) -> None:
    """Describe the command `completion`."""
    parser.description = (
        "Print a script that completes commands, options and their values. For bash: "
        f"{PROGRAM} completion bash > ~/.local/share/bash-completion/completions/{PROGRAM}. For "
        f"zsh: into a file _{PROGRAM} in a folder of $fpath. For fish: into "
        f"~/.config/fish/completions/{PROGRAM}.fish."
    )
    parser.set_defaults(run=_run_completion)
    parser.add_argument("shell", choices=SCRIPTS, help="For which shell.")


def _run_completion(options: argparse.Namespace) -> int:
    commands: Sequence[Command] = options.commands
    print(SCRIPTS[options.shell]({one.name: _options_of(one) for one in commands}, commands))
    return 0


Options = Mapping[str, Sequence[str]]
"""Option -> the values to choose from, none where it takes files or anything else."""


def _options_of(command: Command) -> Options:
    parser = CommandParser()
    command.fill(parser)
    parser.add_common()
    found: dict[str, Sequence[str]] = {}
    for action in parser._actions:
        for option in action.option_strings:
            found[option] = [str(choice) for choice in action.choices or ()]
    return found


def _bash(options: Mapping[str, Options], commands: Sequence[Command]) -> str:
    cases = []
    for name, known in options.items():
        chosen = "".join(
            f'{name}:{option}) words="{" ".join(values)}" ;;\n      '
            for option, values in known.items()
            if values and not any(" " in value for value in values)
        )
        cases.append(f'{chosen}{name}:*) words="{" ".join(known)}" ;;')
    joined = "\n      ".join(cases)
    return f"""\
_textual_inversion() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" words
  if [ "$COMP_CWORD" = 1 ]; then
    words="{" ".join(options)} --help --version"
  else
    case "${{COMP_WORDS[1]}}:$previous" in
      {joined}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _textual_inversion {PROGRAM}"""


def _zsh(options: Mapping[str, Options], commands: Sequence[Command]) -> str:
    # zsh reads scripts for bash; so both complete the same.
    return f"#compdef {PROGRAM}\nautoload -U +X bashcompinit && bashcompinit\n" + _bash(
        options, commands
    )


def _fish(options: Mapping[str, Options], commands: Sequence[Command]) -> str:
    lines = []
    for command in commands:
        lines.append(
            f"complete -c {PROGRAM} -n __fish_use_subcommand -a {command.name} "
            f"-d {_quoted(command.help)}"
        )
        for option, values in options[command.name].items():
            form = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            line = f'complete -c {PROGRAM} -n "__fish_seen_subcommand_from {command.name}" {form}'
            lines.append(line + (f" -x -a {_quoted(' '.join(values))}" if values else ""))
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""Shell -> what makes its script."""
