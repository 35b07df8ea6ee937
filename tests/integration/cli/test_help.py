"""Help: every command has examples, they are true, and it fits a terminal of 80 columns."""

from __future__ import annotations

import inspect
import io
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from cyclopts import App, CycloptsError
from rich.console import Console

from engine.cli.completion import SUBJECTS
from engine.cli.program import COMMAND_NAMES, COMMANDS, make_app
from tests.integration.cli.conftest import Trueup
from tests.serving import Bench

LONGEST = 80


def commands() -> Iterator[tuple[list[str], Any]]:
    """Yield every command's words, and its function or group."""
    for name, place, _, _ in COMMANDS:
        module, attribute = place.split(":")
        found = getattr(import_module(module), attribute)
        # A group that was shown in an overview has that line for its help.
        yield [name], import_module(module).HELP if isinstance(found, App) else found
        if isinstance(found, App):
            for word in found:
                if not word.startswith("-"):
                    yield [name, word], found[word].default_command


EVERY = list(commands())
NAMES = [" ".join(words) for words, _ in EVERY]


def help_of(words: list[str]) -> str:
    said = io.StringIO()
    console = Console(file=said, width=LONGEST, color_system=None)
    make_app(words[0] if words else "").help_print(words, console=console)
    return said.getvalue()


def doc_of(found: Any) -> str:
    return found if isinstance(found, str) else inspect.getdoc(found) or ""


def examples(doc: str) -> list[str]:
    _, marker, rest = doc.partition("For example:\n")
    lines = rest.split("\n")
    found = []
    for line in lines[1:]:
        if line and not line.startswith("    "):
            break
        if line.strip():
            found.append(line.strip())
    return found if marker else []


def called(line: str) -> Iterator[list[str]]:
    """Yield the words of each call of ours in a line of shell."""
    for piece in re.split(r"\|\||&&|\||<\(|\$\(|\)|>", line):
        try:
            words = shlex.split(piece, comments=True)
        except ValueError:
            # A piece of what was in quotes: they are not its own.
            words = piece.replace('"', " ").replace("'", " ").split()
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:1] == ["trueup"]:
            yield words[1:]


@pytest.mark.parametrize(("words", "found"), EVERY, ids=NAMES)
def test_every_command_has_examples_of_itself(words: list[str], found: Any) -> None:
    lines = examples(doc_of(found))
    assert lines, "write 'For example:' with an indented block into its docstring"
    assert any(" ".join(["trueup", *words]) in line for line in lines), lines
    told = help_of(words)
    for line in lines:
        assert line[:60] in " ".join(told.split()) or line.split()[0] in told


@pytest.mark.parametrize(("words", "found"), EVERY, ids=NAMES)
def test_examples_are_calls_that_would_be_taken(words: list[str], found: Any) -> None:
    taken = 0
    for line in examples(doc_of(found)):
        for call in called(line):
            taken += 1
            try:
                make_app(call[0]).parse_args(
                    call, print_error=False, exit_on_error=False, help_on_error=False
                )
            except CycloptsError as error:
                pytest.fail(f"{line}: {error}")
    assert taken


@pytest.mark.parametrize("words", [[], *(words for words, _ in EVERY)], ids=["", *NAMES])
def test_help_fits_a_terminal(words: list[str]) -> None:
    told = help_of(words)
    assert told.strip()
    assert [line for line in told.splitlines() if len(line.rstrip()) > LONGEST] == []


def test_the_overview_names_every_command() -> None:
    told = help_of([])
    for name in COMMAND_NAMES:
        assert re.search(rf"\b{name}\b", told), name


@pytest.mark.anyio
async def test_names_are_completed_from_the_server(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    assert (await trueup("names")).out.split() == ["shop", "shop@dev", "shop@prod"]
    away = await trueup("names", "--server", "http://127.0.0.1:9", "--token", "x")
    assert (away.code, away.out, away.err) == (1, "", "")
    for shell in ("bash", "fish"):
        script = (await trueup("completion", shell)).out
        assert "trueup names" in script
        assert all(word in script for word in SUBJECTS)
    assert set(SUBJECTS) <= COMMAND_NAMES


@pytest.mark.anyio
async def test_the_script_works_in_bash(api: Bench, trueup: Trueup, tmp_path: Any) -> None:
    import subprocess

    import anyio

    script = tmp_path / "trueup.bash"
    script.write_text((await trueup("completion", "bash")).out)
    ask = (
        f"source {script}; trueup() {{ echo shop@dev shop; }}; "
        "COMP_WORDS=(trueup sync shop@); COMP_CWORD=2; COMP_LINE='trueup sync shop@'; "
        '_trueup_names; echo "${COMPREPLY[@]}"'
    )
    done = await anyio.run_process(["bash", "-c", ask], stderr=subprocess.STDOUT, check=False)
    assert done.stdout.decode().strip() == "shop@dev"
