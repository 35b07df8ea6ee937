"""What can be looked up is true: of every code, every field, and the pages made of them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import msgspec
import pytest

from engine.cli.program import run
from engine.decide import compare
from engine.explain.errors import UnknownCode, entries, entry
from engine.explain.fields import KINDS, UnknownField, find, kind_of, walk
from engine.explain.pages import errors_page, resources_page
from engine.resources.parse import check_values
from events.vocabulary import Outcome
from tests.error_codes import ROOT, used

OTHERWISE = {
    # The outcome of a correction is its code.
    *(str(outcome) for outcome in Outcome if not outcome.is_success),
    # Given by a name, or by what made it.
    compare.NOT_LISTED,
    "correction-failed",
    "group-unavailable",
    "no-space",
}


def test_every_code_has_an_entry_and_every_entry_a_code() -> None:
    codes = used()
    assert set(codes) - set(entries()) == set(), "add these to engine/explain/errors.toml"
    assert set(entries()) - set(codes) - OTHERWISE == set(), "nothing gives these any more"


def test_codes_that_are_given_by_name_are_somewhere() -> None:
    sources = "\n".join(
        path.read_text() for path in (ROOT / "engine").rglob("*.py") if "simulator" not in str(path)
    )
    for code in ("correction-failed", "group-unavailable", "no-space"):
        assert f'"{code}"' in sources


def test_entries_are_whole() -> None:
    for code, found in entries().items():
        for text in (found.where, found.what, found.why, found.remedy):
            assert text.strip(), code
        for text in (found.what, found.why, found.remedy):
            assert text.endswith("."), (code, text)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_field_is_described(name: str) -> None:
    for field in walk(kind_of(name)):
        assert len(field.description) > 5, field.path
        assert field.description.endswith("."), field.path


def test_no_field_says_the_same_twice() -> None:
    """Where what it is for and what it holds begin alike, the longer one is enough."""
    for row in resources_page().splitlines():
        said = row.split(" | ")[-1].rstrip(" |")
        first, _, rest = said.partition(". ")
        assert not (first and rest.startswith(first)), said


def test_pages_are_as_the_code_is() -> None:
    for name, page in (("errors.md", errors_page()), ("resources.md", resources_page())):
        written = (ROOT / "docs" / name).read_text()
        assert written == page, f"docs/{name} is behind: run `python -m engine.explain docs`"


def test_fields_are_found_by_how_people_write_them() -> None:
    assert find("application.sync")[1].path == "spec.sync"
    assert find("app.spec.sync.selfHeal")[1].default == "true"
    assert find("Application.metadata.labels")[1].type == "mapping"
    assert find("repositories.spec.ref.commit")[1].rule == "fits ^[0-9a-f]{40}$"
    assert find("notification.events")[1].allowed
    assert find("cluster")[1].fields
    for words, near in (
        ("aplication", "application"),
        ("application.snyc", "sync"),
        ("application.metdata", "metadata"),
        ("application.sync.selfheal", "selfHeal"),
    ):
        with pytest.raises(UnknownField, match=f"did you mean {near}"):
            find(words)
    with pytest.raises(UnknownField, match="has no fields"):
        find("application.sync.mode.x")


def test_defaults_and_allowed_values_are_those_of_the_parser() -> None:
    document = {
        "apiVersion": "trueup.dev/v1",
        "kind": "Application",
        "metadata": {"name": "a"},
        "spec": {"source": {"repository": "r"}, "targets": {"clusters": ["c"]}},
    }
    (resource,) = check_values([document], "test")
    spec = resource.spec
    told = {field.path: field for field in walk(kind_of("Application"))}
    assert told["spec.sync.mode"].default == spec.sync.mode
    assert told["spec.targets.namespace"].default == spec.targets.namespace
    assert told["spec.source.path"].default == spec.source.path
    assert not told["spec.source"].default
    for word in told["spec.render.type"].allowed:
        document["spec"] = {**document["spec"], "render": {"type": word}}  # type: ignore[dict-item]
        check_values([document], "test")


def test_codes_are_found_as_they_are_met() -> None:
    assert entry("E-no-token")[0] == "no-token"
    assert entry("urn:trueup:problem:key-reused")[0] == "key-reused"
    with pytest.raises(UnknownCode, match="did you mean render-failed"):
        entry("render-faild")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["explain", *words]) == 0
    return capsys.readouterr().out


def test_the_command_prints_a_field_with_all_that_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = told(capsys, "application.sync.mode")
    for part in ("KIND:     Application", "spec.sync.mode <text>", "auto, manual", "DEFAULT"):
        assert part in text
    text = told(capsys, "application.sync")
    assert "selfHeal <true or false>" in text
    text = told(capsys, "application", "--recursive")
    assert "    selector <mapping>" in text
    assert "matchLabels <mapping> (required)" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_command_prints_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("error", "render-failed"), ("render-failed",), ("E-render-failed",)):
        text = told(capsys, *words)
        assert "What to do:" in text
        assert textwrap.shorten(entries()["render-failed"].why, 40, placeholder="") in text
    assert "render-failed" in told(capsys, "error")
    shown = msgspec.json.decode(told(capsys, "error", "no-token", "-o", "json"))
    assert shown["code"] == "no-token"


def test_without_a_word_it_lists_what_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys)
    for kind in KINDS:
        assert f"\n  {kind.lower()}\n" in text
    assert f"{len(entries())} codes" in text
    shown = msgspec.json.decode(told(capsys, "-o", "json"))
    assert list(shown["kinds"]) == sorted(kind.lower() for kind in KINDS)
    assert run(["explain", ""]) == 2
    assert "no kind is called" in capsys.readouterr().err


def test_what_is_unknown_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "application.snyc"]) == 2
    assert "did you mean sync?" in capsys.readouterr().err
    assert run(["explain", "error", "no-tokn"]) == 2
    assert "did you mean no-token?" in capsys.readouterr().err


def test_the_page_of_a_kind_has_its_fields(tmp_path: Path) -> None:
    page = resources_page()
    for name in KINDS:
        assert f"## {name}" in page
        for field in walk(kind_of(name)):
            assert f"| `{field.path}` |" in page
