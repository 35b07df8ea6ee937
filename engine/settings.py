"""Settings: one frozen struct, and the only reader of the environment.

A value is taken from the flag, else from its `TRUEUP_…` variable, else from the file (TOML), else
it is the default. Unknown names are refused wherever they stand: a misspelt setting that is
silently ignored is a setting that somebody believes in.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct

from engine.resources.spelling import did_you_mean
from engine.setting_exports import Exports, read_exports
from engine.setting_values import Field, Seconds, field

PREFIX = "TRUEUP_"
OTHER_VARIABLES = {
    "TRUEUP_CONFIG": "the settings file (TOML), as `--config`",
    "TRUEUP_SERVER": "the server that the command line talks to, as `--server`",
    "TRUEUP_TOKEN": "the token that the command line shows, as `--token`",
    "TRUEUP_PROJECT": "the project that commands mean, as `--project`",
    "TRUEUP_TEST_DATA": "a folder of Git bundles for the tests on real histories",
}
_OTHER_PREFIXES = ("TRUEUP_E2E_",)


class SettingsRefused(Exception):
    """Settings cannot be used as they are; `problems` has one line for each thing to mend."""

    code = "settings"

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def _about(description: str) -> Meta:
    return Meta(description=description)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an engine runs. Made by `load`; durations are in seconds."""

    database_url: Annotated[
        str | None,
        _about("the Postgres to keep the log in; without it one is embedded in `data_dir`"),
    ] = None
    data_dir: Annotated[
        Path | None,
        _about("what the engine keeps on disk: mirrors, keys, the embedded Postgres"),
    ] = None
    listen: Annotated[str, _about("address and port of the HTTP API")] = "127.0.0.1:8484"
    tls_cert: Annotated[Path | None, _about("certificate chain (PEM) to serve TLS with")] = None
    tls_key: Annotated[Path | None, _about("private key (PEM) of `tls_cert`")] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        _about("further host names that a request's Host header may name"),
    ] = ()
    repository_roots: Annotated[
        tuple[Path, ...],
        _about("folders below which a repository's `file:` URL may lead; none: no such URL"),
    ] = ()
    kubeconfig_roots: Annotated[
        tuple[Path, ...],
        _about("folders below which a cluster's kubeconfig may lie; none: in-cluster only"),
    ] = ()
    secret_roots: Annotated[
        tuple[Path, ...],
        _about("folders below which credential files of repositories and notifications may lie"),
    ] = ()
    exec_plugins: Annotated[
        tuple[str, ...],
        _about("credential plugins that a kubeconfig may run, by command; none: none"),
    ] = ()
    control: Annotated[
        str | None,
        _about("the control repository to start with: its URL, or the name of a declared one"),
    ] = None
    control_path: Annotated[
        str | None, _about("the folder of `control` that the declared resources lie below")
    ] = None
    control_branch: Annotated[str | None, _about("the branch of `control` that is followed")] = None
    external_url: Annotated[
        str | None, _about("where people reach this server, for links in alerts")
    ] = None
    notification_hosts: Annotated[
        tuple[str, ...],
        _about(
            "the only hosts that alerts may be sent to, private ones and http too; "
            "none: any public host, https"
        ),
    ] = ()
    redaction_key_file: Annotated[
        Path | None,
        _about("the key that Secret values are hashed with; default `redaction.key` in `data_dir`"),
    ] = None
    signing_key_file: Annotated[
        Path | None,
        _about("the key that checkpoints are signed with"),
    ] = None
    signing: Annotated[
        Literal["engine", "external"],
        _about("who signs checkpoints: this engine, or `trueup signer`, and it needs no key"),
    ] = "engine"
    checkpoint_interval: Annotated[
        Seconds, Meta(ge=0.05, description="how often a log that grew is signed")
    ] = 1.0
    checkpoint_url: Annotated[
        str | None,
        _about("an object in an S3-like store that keeps the last signed head too (path style)"),
    ] = None
    checkpoint_region: Annotated[str, _about("the region of `checkpoint_url`")] = "us-east-1"
    checkpoint_credentials_file: Annotated[
        Path | None,
        _about("the credentials for `checkpoint_url`, as AWS's tools keep them, profile `default`"),
    ] = None
    allow_unconfined: Annotated[
        bool,
        _about("run renderers without namespaces where the kernel refuses them"),
    ] = False
    concurrency_total: Annotated[
        int, Meta(ge=1, le=10_000, description="corrections at a time, over all clusters")
    ] = 256
    concurrency_per_cluster: Annotated[
        int, Meta(ge=1, le=1000, description="corrections at a time, in one cluster")
    ] = 32
    concurrency_per_application: Annotated[
        int, Meta(ge=1, le=10_000, description="corrections at a time, of one application")
    ] = 16
    requests_total: Annotated[
        int, Meta(ge=1, le=10_000, description="applies and deletes at a time, over all clusters")
    ] = 64
    requests_per_target: Annotated[
        int, Meta(ge=1, le=1000, description="applies and deletes at a time, of one correction")
    ] = 8
    retry_base: Annotated[
        Seconds, Meta(ge=0.01, description="the wait before the first retry of a correction")
    ] = 2.0
    retry_cap: Annotated[
        Seconds, Meta(ge=0.01, description="the longest wait between retries of a correction")
    ] = 300.0
    shards: Annotated[
        int,
        Meta(ge=1, le=64, description="in how many parts the views are folded; another: rebuilt"),
    ] = 1
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="processes of this machine that fold the shards; 0: this one takes part",
        ),
    ] = 0
    resync_interval: Annotated[
        Seconds, Meta(ge=1, description="how often each cluster is listed afresh, with jitter")
    ] = 3600.0
    kept_forms_memory: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description="MiB for what objects were applied as; what does not fit is read again",
        ),
    ] = 24
    metrics_listen: Annotated[
        str | None,
        _about("address and port of a page of metrics that needs no token; none: only with one"),
    ] = None
    metrics_labels: Annotated[
        tuple[Literal["cluster", "application"], ...],
        _about("name clusters or applications in metrics: a time series for each of them"),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _about("the least that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"], _about("how log lines are written on standard error")
    ] = "json"

    @property
    def directory(self) -> Path:
        """`data_dir`, which `load` always sets."""
        if self.data_dir is None:
            raise SettingsRefused(["data_dir is not set: make settings with engine.settings.load"])
        return self.data_dir

    @property
    def redaction_key(self) -> Path:
        """The file with the redaction key."""
        return self.redaction_key_file or self.directory / "redaction.key"

    @property
    def signing_key(self) -> Path:
        """The file with the keys that checkpoints are signed with."""
        return self.signing_key_file or self.directory / "signing.key"

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as host and port."""
        return split_listen(self.listen)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["database_url"] = without_password(self.database_url)
        return list(shown.items())


class ClientSettings(Struct, frozen=True, kw_only=True):
    """What a command that talks to a server needs of the environment."""

    server: str | None
    token: str | None
    project: str
    data_dir: Path
    state_dir: Path
    traceparent: str = ""
    """The trace that a command is part of, where whoever started it says so (W3C)."""

    def __repr__(self) -> str:
        return f"ClientSettings(server={self.server!r}, project={self.project!r})"


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Make the settings out of flags (by field name), the environment and the file.

    Flags whose value is None count as not given. `environ` is the process's own where None.
    Raises `SettingsRefused` with every problem found.
    """
    env = os.environ if environ is None else environ
    problems: list[str] = []
    values: dict[str, object] = {}
    layers = [
        _of_file(_config_path(config, env), problems),
        _of_environment(env, problems),
        _of_flags(flags or {}, problems),
    ]
    for layer in layers:
        values.update(layer)
    values.setdefault("data_dir", data_home(env))
    if not problems:
        try:
            settings = Settings(**values)  # type: ignore[arg-type]
        except TypeError as error:
            problems.append(str(error))
        else:
            problems.extend(_contradictions(settings))
    if problems:
        raise SettingsRefused(problems)
    return settings


def exports(environ: Mapping[str, str] | None = None) -> Exports:
    """Return what the standard variables of OpenTelemetry ask for.

    Raises `SettingsRefused` where they ask for what is not there.
    """
    env = os.environ if environ is None else environ
    problems: list[str] = []
    found = read_exports(env, problems)
    if problems:
        raise SettingsRefused(problems)
    return found


def load_client(
    server: str | None = None,
    token: str | None = None,
    project: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> ClientSettings:
    """Make what a client command needs; flags go before `TRUEUP_…` variables.

    Raises `SettingsRefused` for an unknown `TRUEUP_…` variable.
    """
    env = os.environ if environ is None else environ
    problems: list[str] = []
    of_environment = _of_environment(env, problems)
    if problems:
        raise SettingsRefused(problems)
    data_dir = of_environment.get("data_dir", data_home(env))
    return ClientSettings(
        server=server or env.get("TRUEUP_SERVER") or None,
        token=token or env.get("TRUEUP_TOKEN") or None,
        project=project or env.get("TRUEUP_PROJECT") or "default",
        data_dir=Path(str(data_dir)),
        state_dir=state_home(env),
        traceparent=env.get("TRACEPARENT", "") if _is_traceparent(env) else "",
    )


def _is_traceparent(env: Mapping[str, str]) -> bool:
    # What somebody else left there is no reason to refuse a command.
    form = r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
    return re.fullmatch(form, env.get("TRACEPARENT", "")) is not None


def data_home(environ: Mapping[str, str] | None = None) -> Path:
    """Return where data is kept by default: `trueup` in XDG's data home."""
    return _xdg("XDG_DATA_HOME", ".local/share", environ)


def state_home(environ: Mapping[str, str] | None = None) -> Path:
    """Return where the command line keeps its state: `trueup` in XDG's state home."""
    return _xdg("XDG_STATE_HOME", ".local/state", environ)


def plain_output(environ: Mapping[str, str] | None = None) -> bool:
    """Say whether NO_COLOR asks for output without colours (any value but "")."""
    env = os.environ if environ is None else environ
    return bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"


def is_inside(path: Path | str, roots: Iterable[Path]) -> bool:
    """Say whether a path, its symbolic links followed, lies below one of these folders."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)


def without_password(url: str | None) -> str | None:
    """Return a database URL that can be shown: the password, wherever it stands, as `***`."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    userinfo, at, place = parts.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    netloc = f"{user}{':***' if colon else ''}{at}{place}"
    query = re.sub(r"(?i)((?:ssl)?password=)[^&]*", r"\1***", parts.query)
    shown = urlunsplit((parts.scheme, netloc, parts.path, query, ""))
    return re.sub(r"(?i)((?:ssl)?password\s*=\s*)(?!\*\*\*)('[^']*'|[^\s&]+)", r"\1***", shown)


def split_listen(listen: str, name: str = "listen") -> tuple[str, int]:
    """Split a setting's `host:port` or `[address]:port`. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\s\[\]]+)):([0-9]{1,5})", listen)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{name} is {listen!r}: write host:port, for example 127.0.0.1:8484")
    return match[1] or match[2], int(match[3])


def is_loopback(host: str) -> bool:
    """Say whether a host can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _xdg(variable: str, fallback: str, environ: Mapping[str, str] | None) -> Path:
    env = os.environ if environ is None else environ
    base = env.get(variable, "")
    # The XDG specification has relative paths ignored.
    if not os.path.isabs(base):
        base = os.path.join(env.get("HOME") or os.path.expanduser("~"), fallback)
    return Path(base) / "trueup"


def _config_path(config: Path | None, env: Mapping[str, str]) -> tuple[Path, bool]:
    if config is not None:
        return config, True
    if named := env.get("TRUEUP_CONFIG"):
        return Path(named), True
    return _xdg("XDG_CONFIG_HOME", ".config", env) / "config.toml", False


def _of_file(place: tuple[Path, bool], problems: list[str]) -> dict[str, object]:
    path, must_exist = place
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if must_exist:
            problems.append(f"{path}: there is no such settings file")
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: the settings file cannot be read: {error}")
        return {}
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: not TOML: {error}")
        return {}
    values: dict[str, object] = {}
    for key, value in document.items():
        if key not in FIELDS:
            problems.append(f"{path}: no setting is called {key}{did_you_mean(key, FIELDS)}")
        else:
            _take(values, key, _below(path.parent, key, value), f"{path}: {key}", problems)
    return values


def _below(folder: Path, key: str, value: object) -> object:
    # A relative path in a file is meant from where the file lies, not from where we were started.
    if FIELDS[key].kind == "path" and isinstance(value, str) and value:
        return folder / os.path.expanduser(value)
    if FIELDS[key].kind == "list of paths" and isinstance(value, list):
        return [folder / os.path.expanduser(str(item)) for item in value]
    return value


def _of_environment(env: Mapping[str, str], problems: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    known = [PREFIX + name.upper() for name in FIELDS] + list(OTHER_VARIABLES)
    for variable, text in sorted(env.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if variable.startswith(_OTHER_PREFIXES):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in FIELDS or variable != variable.upper():
            problems.append(f"{variable}: no setting is called so{did_you_mean(variable, known)}")
        else:
            _take(values, name, text, variable, problems)
    return values


def _of_flags(flags: Mapping[str, object], problems: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in flags.items():
        if name not in FIELDS:
            problems.append(f"no setting is called {name}{did_you_mean(name, FIELDS)}")
        elif value is not None:
            _take(values, name, value, flag_of(name), problems)
    return values


def _take(
    values: dict[str, object], name: str, value: object, where: str, problems: list[str]
) -> None:
    try:
        values[name] = FIELDS[name].read(value)
    except (ValueError, TypeError, msgspec.ValidationError) as error:
        problems.append(f"{where}: {error}")


def _contradictions(settings: Settings) -> list[str]:
    problems: list[str] = []
    try:
        host, _ = settings.address
        if settings.metrics_listen is not None:
            split_listen(settings.metrics_listen, "metrics_listen")
    except ValueError as error:
        return [str(error)]
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.append("tls_cert and tls_key go together: set both or neither")
    if not is_loopback(host) and (settings.tls_cert is None or settings.tls_key is None):
        problems.append(
            f"listen is {settings.listen}, which other machines can reach: tokens would travel in "
            "the clear; set tls_cert and tls_key, or listen on 127.0.0.1"
        )
    if (settings.checkpoint_url is None) != (settings.checkpoint_credentials_file is None):
        problems.append("checkpoint_url and checkpoint_credentials_file go together")
    if settings.checkpoint_url is not None:
        problems += _not_an_object(settings.checkpoint_url)
    if settings.control is None and (settings.control_path or settings.control_branch):
        problems.append("control_path and control_branch say more of control, which is not set")
    if settings.external_url is not None and not re.fullmatch(
        r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", settings.external_url
    ):
        problems.append("external_url must be like https://trueup.example.com, without a query")
    if settings.workers > 0 and settings.shards == 1:
        problems.append("workers fold shards, and shards is 1, which the engine folds itself")
    if settings.retry_cap < settings.retry_base:
        problems.append("retry_cap is less than retry_base")
    return problems


def _not_an_object(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        return [f"checkpoint_url is no URL: {error}"]
    if parts.scheme not in ("http", "https") or not host or parts.query or "@" in parts.netloc:
        return ["checkpoint_url is not like https://s3.example.com/bucket/head"]
    if parts.scheme == "http" and not is_loopback(host):
        return ["checkpoint_url must be https:// where it leads to another machine"]
    return []


def flag_of(name: str) -> str:
    """Return a setting's flag."""
    return "--" + name.replace("_", "-")


def markdown() -> str:
    """Return the table of all settings, as `docs/settings.md` has it."""
    lines = [
        "| setting | flag | variable | kind | default | what it is |",
        "|---|---|---|---|---|---|",
    ]
    for name, about in FIELDS.items():
        default = f"`{about.default}`" if about.default else "none"
        lines.append(
            f"| `{name}` | `{flag_of(name)}` | `{PREFIX}{name.upper()}` | {about.kind} "
            f"| {default} | {about.description} |"
        )
    return "\n".join(lines) + "\n"


FIELDS: dict[str, Field] = {info.name: field(info) for info in msgspec.structs.fields(Settings)}
"""Every setting by name."""
