"""Write the pages that are made of the code: `python -m engine.explain docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.explain.pages import errors_page, resources_page

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    (folder / "errors.md").write_text(errors_page(), encoding="utf-8")
    (folder / "resources.md").write_text(resources_page(), encoding="utf-8")
