"""What the demo starts is ours, whatever lies in the folder that it is called from."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.demo_stage import Stage

pytestmark = pytest.mark.anyio


async def test_modules_in_the_current_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    for name in ("grp", "tarfile", "engine"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    said = await Stage(tmp_path / "stage", ["dev"]).trueup("--version")
    assert said.strip()
    assert not marker.exists()
