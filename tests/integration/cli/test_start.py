"""What keeps the engine from starting is told in a line, with its code and without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.program import run
from engine.explain.errors import EXIT_CODES, entries
from tests.error_codes import exit_codes


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> object:
    monkeypatch.setenv("TRUEUP_DATA_DIR", str(tmp_path / "data"))

    def started(*flags: str) -> tuple[int, str]:
        code = run(["run", "--listen", "127.0.0.1:0", "--allow-unconfined", *flags])
        return code, capsys.readouterr().err

    return started


def test_a_database_that_is_not_there(start) -> None:
    code, said = start("--database-url", "postgresql://u:s3cr3t@127.0.0.1:1/x")
    assert code == 2
    assert "the engine cannot run: the database cannot be reached" in said
    assert "trueup explain error log-unavailable" in said
    assert "s3cr3t" not in said
    assert "Traceback" not in said


def test_a_data_folder_that_is_a_file(start, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    code, said = start()
    assert (code, "Traceback" in said) == (2, False)
    assert "the engine cannot run" in said


def test_a_setting_that_is_none(start) -> None:
    code, said = start("--retry-base", "soon")
    assert (code, "Traceback" in said) == (2, False)
    assert "retry" in said


def test_every_exit_code_is_explained() -> None:
    assert exit_codes() <= set(EXIT_CODES)
    assert "log-unavailable" in entries()
