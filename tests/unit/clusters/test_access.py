"""From a kubeconfig to an address and a credential: what is refused, and what is read again."""

from __future__ import annotations

import base64
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from engine.clusters.access import AccessReader
from engine.clusters.plugin import AccessRefused
from engine.clusters.settings import ClusterSettings
from engine.resources.model import ClusterSpec
from tests.e2e.pki import Authority
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _write(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    config = {
        "clusters": [{"name": "it", "cluster": {"server": "https://it.example", **cluster}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def _reader(path: Path, clock: ManualClock | None = None, **changes: Any) -> AccessReader:
    given: dict[str, Any] = {"kubeconfig_roots": (str(path.parent),)} | changes
    spec = ClusterSpec(kubeconfig=str(path))
    return AccessReader(spec, ClusterSettings(**given), clock or ManualClock())


async def _refusal(reader: AccessReader) -> AccessRefused:
    with pytest.raises(AccessRefused) as caught:
        await reader.current()
    return caught.value


async def test_a_token_and_a_verifying_context_come_out_of_a_kubeconfig(tmp_path: Path) -> None:
    access = await _reader(_write(tmp_path, {}, {"token": "sesame"})).current()
    assert (access.server, access.authorization) == ("https://it.example", "Bearer sesame")
    assert access.ssl is not None
    assert access.ssl.check_hostname


async def test_a_kubeconfig_outside_the_roots_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, {}, {})
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(path)
    for name in (path, inside / "link", inside / ".." / "config"):
        refused = await _refusal(_reader(name, kubeconfig_roots=(str(inside),)))
        assert refused.code == "config"
        assert "kubeconfig_roots" in refused.message


async def test_verification_is_only_turned_off_with_leave(tmp_path: Path) -> None:
    path = _write(tmp_path, {"insecure-skip-tls-verify": True}, {})
    assert "insecure-skip-tls-verify" in (await _refusal(_reader(path))).message
    access = await _reader(path, allow_insecure_tls=True).current()
    assert access.ssl is not None
    assert not access.ssl.check_hostname


@pytest.mark.parametrize(
    "server",
    ["http://it.example", "ftp://127.0.0.1", "it.example", "https:", "https://[::1", "", 3, None],
)
async def test_a_server_beyond_this_machine_must_speak_tls(tmp_path: Path, server: Any) -> None:
    assert (await _refusal(_reader(_write(tmp_path, {"server": server}, {})))).code == "config"


async def test_plain_http_on_this_machine_is_taken(tmp_path: Path) -> None:
    access = await _reader(_write(tmp_path, {"server": "http://127.0.0.1:1/c/a"}, {})).current()
    assert (access.server, access.ssl) == ("http://127.0.0.1:1/c/a", None)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "a: &a [*a]", "contexts: 3", "current-context: it\ncontexts: [{name: it}]"],
)
async def test_a_kubeconfig_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    assert (await _refusal(_reader(path))).code == "config"


async def test_files_are_meant_from_where_the_kubeconfig_lies(tmp_path: Path) -> None:
    cluster = {
        "certificate-authority": "ca.crt",
        "tls-server-name": "inside",
        "proxy-url": "http://127.0.0.1:3128",
    }
    path = _write(tmp_path, cluster, {"tokenFile": "token", "token": "other"})
    (tmp_path / "token").write_text("of-the-file\n")
    assert str(tmp_path / "ca.crt") in (await _refusal(_reader(path))).message
    Authority(tmp_path / "pki").pair.certificate.replace(tmp_path / "ca.crt")
    access = await _reader(path).current()
    assert access.authorization == "Bearer of-the-file"
    assert (access.server_name, access.proxy) == ("inside", "http://127.0.0.1:3128")


async def test_an_inline_authority_is_the_only_one_that_counts(tmp_path: Path) -> None:
    one = base64.b64encode(Authority(tmp_path / "pki").pair.certificate.read_bytes()).decode()
    cluster = {"certificate-authority-data": one, "certificate-authority": "missing"}
    access = await _reader(_write(tmp_path, cluster, {})).current()
    assert access.ssl is not None
    assert len(access.ssl.get_ca_certs()) == 1


async def test_a_name_and_a_password_are_basic_authentication(tmp_path: Path) -> None:
    user = {"username": "ann", "password": 7}
    access = await _reader(_write(tmp_path, {}, user)).current()
    assert access.authorization == f"Basic {base64.b64encode(b'ann:7').decode()}"


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({"certificate-authority-data": "%"}, {}),
        ({"proxy-url": ["x"]}, {}),
        ({"tls-server-name": 3}, {}),
        ({}, {"token": {"a": 1}}),
        ({}, {"client-certificate": 3}),
        ({}, {"tokenFile": "not-there"}),
    ],
)
async def test_fields_that_cannot_be_used_are_refused(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any]
) -> None:
    assert (await _refusal(_reader(_write(tmp_path, cluster, user)))).code == "config"


async def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = ClusterSpec(kubeconfig=str(_write(tmp_path, {}, {})), context="other")
    settings = ClusterSettings(kubeconfig_roots=(str(tmp_path),))
    assert "'other'" in (await _refusal(AccessReader(spec, settings, ManualClock()))).message


async def test_inline_keys_leave_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    data = base64.b64encode(b"not a certificate").decode()
    user = {"client-certificate-data": data, "client-key-data": data}
    assert (await _refusal(_reader(_write(tmp_path, {}, user)))).code == "config"
    assert list(scratch.iterdir()) == []


def _plugin(folder: Path, script: str) -> str:
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def _exec(command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, **more}}


def _credential(**status: Any) -> str:
    document = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    return f"print({orjson.dumps(document | {'status': status}).decode()!r})"


async def test_a_plugin_that_is_not_on_the_list_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    command = _plugin(tmp_path, f"open({str(mark)!r}, 'w')")
    refused = await _refusal(_reader(_write(tmp_path, {}, _exec(command))))
    assert refused.code == "exec-refused"
    assert "exec_plugins" in refused.message
    assert not mark.exists()


async def test_a_plugin_gets_its_own_variables_and_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEUP_DATABASE_URL", "postgres://secret")
    script = (
        "import json, os\n"
        "given = os.environ['MINE'], 'TRUEUP_DATABASE_URL' in os.environ\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "print(json.dumps({'apiVersion': info['apiVersion'], 'kind': 'ExecCredential',\n"
        "  'status': {'token': f'{given[0]}-{given[1]}'}}))\n"
    )
    command = _plugin(tmp_path, script)
    user = _exec(command, env=[{"name": "MINE", "value": "yes"}])
    access = await _reader(_write(tmp_path, {}, user), exec_plugins=(command,)).current()
    assert access.authorization == "Bearer yes-False"


async def test_a_plugins_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    expires = datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(minutes=10)
    count = tmp_path / "count"
    script = f"open({str(count)!r}, 'a').write('x')\n" + _credential(
        token="t", expirationTimestamp=expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    command = _plugin(tmp_path, script)
    reader = _reader(_write(tmp_path, {}, _exec(command)), clock, exec_plugins=(command,))
    await reader.current()
    await clock.advance(8 * 60)
    await reader.current()
    assert count.read_text() == "x"
    await clock.advance(1.5 * 60)
    await reader.current()
    assert count.read_text() == "xx"
    await reader.current()
    assert count.read_text() == "xx", "not again for each request, however little is left"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('{}')", "ExecCredential"),
        ("print('not json')", "ExecCredential"),
        (_credential(), "ExecCredential"),
        (_credential(token=3), "ExecCredential"),
        ("import sys; sys.exit('a secret')", "status 1"),
        ("import time; time.sleep(60)", "did not end"),
        ("while True: print('x' * 100000)", "over"),
    ],
)
async def test_a_plugin_that_fails_says_how_and_nothing_of_what_it_wrote(
    tmp_path: Path, script: str, said: str
) -> None:
    command = _plugin(tmp_path, script)
    path = _write(tmp_path, {}, _exec(command))
    refused = await _refusal(_reader(path, exec_plugins=(command,), exec_timeout=1.0))
    assert refused.code == "exec-failed"
    assert said in refused.message
    assert "secret" not in refused.message


async def test_refused_credentials_are_read_again_but_not_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    reader = _reader(_write(tmp_path, {}, {"token": "old"}), clock)
    access = await reader.current()
    _write(tmp_path, {}, {"token": "new"})
    assert await reader.renewed(access) is None
    await clock.advance(11)
    renewed = await reader.renewed(access)
    assert renewed is not None
    assert renewed.authorization == "Bearer new"
    assert await reader.renewed(access) is renewed


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "token").write_text("one\n")
    reader = _reader(_write(tmp_path, {}, {"tokenFile": "token"}), clock)
    assert (await reader.current()).authorization == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert (await reader.current()).authorization == "Bearer one"
    await clock.advance(61)
    assert (await reader.current()).authorization == "Bearer two"


async def test_a_token_cannot_add_a_header(tmp_path: Path) -> None:
    user = {"token": "a\r\nX-Remote-User: admin"}
    assert (await _refusal(_reader(_write(tmp_path, {}, user)))).code == "config"


async def test_an_auth_provider_is_refused(tmp_path: Path) -> None:
    user = {"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sh", "cmd-args": "-c"}}}
    assert "auth-provider" in (await _refusal(_reader(_write(tmp_path, {}, user)))).message


async def test_in_cluster_needs_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    reader = AccessReader(ClusterSpec(in_cluster=True), ClusterSettings(), ManualClock())
    assert "inCluster" in (await _refusal(reader)).message
