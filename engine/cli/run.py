"""`trueup run`: the engine itself."""

from __future__ import annotations

import sys
from pathlib import Path


def run(
    *,
    config: Path | None = None,
    database_url: str | None = None,
    data_dir: Path | None = None,
    listen: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    allowed_hosts: tuple[str, ...] | None = None,
    repository_roots: tuple[Path, ...] | None = None,
    kubeconfig_roots: tuple[Path, ...] | None = None,
    secret_roots: tuple[Path, ...] | None = None,
    exec_plugins: tuple[str, ...] | None = None,
    allow_unconfined: bool | None = None,
    log_level: str | None = None,
    log_format: str | None = None,
) -> None:
    """Run the engine: follow repositories, observe clusters, correct, serve the API.

    Without --database-url, Postgres is embedded in --data-dir. SIGTERM stops it in order. Every
    setting is described in docs/settings.md.

    Examples
    --------
    trueup run --kubeconfig-roots ~/.kube --repository-roots /srv/git
    """
    given = {name: value for name, value in locals().items() if name != "config"}
    import anyio

    from engine.compose import serve
    from engine.logs import configure
    from engine.settings import SettingsRefused, load

    try:
        settings = load(given, config=config)
    except SettingsRefused as refused:
        for problem in refused.problems:
            sys.stderr.write(f"trueup run: {problem}\n")
        raise SystemExit(2) from None
    configure(settings.log_level, settings.log_format)
    anyio.run(lambda: serve(settings))
