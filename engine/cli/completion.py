"""`completion`: a script for a shell; and the names that it completes, asked of the server."""

from __future__ import annotations

from typing import Literal

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection
from engine.cli.errors import CliError
from engine.cli.output import safe, say

SUBJECTS = (
    "accept",
    "adopt",
    "approve",
    "describe",
    "diff",
    "drift",
    "plan",
    "resume",
    "rollback",
    "suspend",
    "sync",
    "timeline",
    "wait",
)
"""Commands whose first word is a target or an application."""
MOST = 1000

_BASH = """
# Names come from the server: of targets and applications, where a command takes one.
COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}
_trueup_names() {
  _trueup "$@"
  local cur="${COMP_WORDS[COMP_CWORD]}"
  if [[ $COMP_CWORD -eq 2 && $cur != -* ]]; then
    case "${COMP_WORDS[1]}" in
      %s)
        COMPREPLY+=($(compgen -W "$(trueup names 2>/dev/null)" -- "$cur"))
        ;;
    esac
  fi
}
complete -F _trueup_names trueup"""
_FISH = """
# Names come from the server: of targets and applications, where a command takes one.
complete -c trueup -n '__fish_seen_subcommand_from %s' -f -a '(trueup names 2>/dev/null)'"""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print a completion script for a shell.

    It completes commands and their flags; in bash and fish also the names of targets and
    applications, which it asks the server for.

    For example:

        source <(trueup completion bash)
        trueup completion fish > ~/.config/fish/completions/trueup.fish
    """
    from engine.cli.program import make_app

    say(make_app().generate_completion(prog_name="trueup", shell=shell).rstrip())
    if shell == "bash":
        say(_BASH % "|".join(SUBJECTS))
    elif shell == "fish":
        say(_FISH % " ".join(SUBJECTS))
    return 0


async def names(*, at: Connection = HERE) -> int:
    """Print the names of applications and targets, one a line: for completion.

    For example:

        trueup names
    """
    try:
        async with connect(at) as client:
            page = await client.get(f"/v1/targets/{client.project}", {"limit": MOST})
    except CliError:
        # Whoever presses Tab has no use for an error.
        return 1
    found = {item["target"] for item in page["items"]}
    found |= {item["application"] for item in page["items"]}
    for name in sorted(found):
        say(safe(name))
    return 0
