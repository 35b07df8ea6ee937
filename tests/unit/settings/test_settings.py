"""Settings: precedence, refusals with the nearest name, and nothing secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import settings as module
from engine.resources import duration
from engine.settings import (
    FIELDS,
    Settings,
    SettingsRefused,
    is_inside,
    is_loopback,
    load,
    load_client,
    markdown,
    without_password,
)

DOCS = Path(__file__).parents[3] / "docs" / "settings.md"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return path


def problems(**kwargs: object) -> tuple[str, ...]:
    with pytest.raises(SettingsRefused) as refused:
        load(**kwargs)  # type: ignore[arg-type]
    return refused.value.problems


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    config = write(tmp_path, 'log_level = "error"\nlisten = "127.0.0.1:1"\nretry_base = "7s"\n')
    environ = {"HOME": "/h", "TRUEUP_LISTEN": "127.0.0.1:2", "TRUEUP_LOG_LEVEL": "warning"}
    settings = load({"log_level": "debug", "tls_key": None}, environ, config)
    assert settings.log_level == "debug"
    assert settings.listen == "127.0.0.1:2"
    assert settings.retry_base == 7.0
    assert settings.retry_cap == 300.0


def test_the_file_is_found_through_the_variable_and_through_xdg(tmp_path: Path) -> None:
    config = write(tmp_path, "concurrency_total = 9\n")
    assert load({}, {"HOME": "/h", "TRUEUP_CONFIG": str(config)}).concurrency_total == 9
    (tmp_path / "trueup").mkdir()
    (tmp_path / "trueup" / "config.toml").write_text("concurrency_total = 10\n", "utf-8")
    environ = {"HOME": "/h", "XDG_CONFIG_HOME": str(tmp_path)}
    assert load({}, environ).concurrency_total == 10


def test_a_named_file_that_is_missing_is_refused_and_the_default_one_may_be_missing(
    tmp_path: Path,
) -> None:
    assert load({}, {"HOME": str(tmp_path)}).directory == tmp_path / ".local/share/trueup"
    assert "no such settings file" in problems(config=tmp_path / "no.toml", environ={})[0]


def test_unknown_names_are_refused_everywhere_with_the_nearest_one(tmp_path: Path) -> None:
    config = write(tmp_path, 'log_levle = "info"\n')
    found = problems(
        flags={"concurency_total": 1},
        environ={"TRUEUP_LISTN": "x", "TRUEUP_SERVRE": "y", "TRUEUP_QQQQQQQQQ": "z"},
        config=config,
    )
    assert found == (
        f"{config}: no setting is called log_levle; did you mean log_level?",
        "TRUEUP_LISTN: no setting is called so; did you mean TRUEUP_LISTEN?",
        "TRUEUP_QQQQQQQQQ: no setting is called so",
        "TRUEUP_SERVRE: no setting is called so; did you mean TRUEUP_SERVER?",
        "no setting is called concurency_total; did you mean concurrency_total?",
    )


def test_the_variables_of_the_client_and_the_tests_are_known() -> None:
    environ = {
        "HOME": "/h",
        "TRUEUP_SERVER": "http://x",
        "TRUEUP_TOKEN": "t",
        "TRUEUP_TEST_DATA": "/d",
        "TRUEUP_E2E_KUBECONFIG": "/k",
    }
    assert load({}, environ).log_level == "info"


def test_every_bad_value_is_reported_with_its_place(tmp_path: Path) -> None:
    config = write(tmp_path, 'concurrency_total = 0\nrepository_roots = "a,b"\ntls_key = 5\n')
    found = problems(
        flags={"log_format": "xml"},
        environ={"TRUEUP_RETRY_BASE": "5 parsecs", "TRUEUP_ALLOW_UNCONFINED": "perhaps"},
        config=config,
    )
    assert [line.split(": ")[0] for line in found] == [
        str(config),
        str(config),
        "TRUEUP_ALLOW_UNCONFINED",
        "TRUEUP_RETRY_BASE",
        "--log-format",
    ]
    assert "concurrency_total" in found[0]
    assert "tls_key" in found[1]


@pytest.mark.parametrize("listen", ["0.0.0.0:8484", "[::]:8484", "example.org:1", "10.0.0.1:80"])
def test_listening_beyond_loopback_without_tls_is_refused(listen: str) -> None:
    found = problems(flags={"listen": listen}, environ={})
    assert "tls_cert and tls_key" in found[0]
    assert load({"listen": listen, "tls_cert": "/c", "tls_key": "/k"}, {}).listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:8484", "[::1]:8484", "localhost:0", "127.9.9.9:1"])
def test_listening_on_loopback_needs_no_tls(listen: str) -> None:
    assert load({"listen": listen}, {}).listen == listen


@pytest.mark.parametrize("listen", ["8484", "127.0.0.1", "127.0.0.1:99999", "::1:8484", "a b:1"])
def test_a_listen_address_that_is_none_is_refused(listen: str) -> None:
    assert "write host:port" in problems(flags={"listen": listen}, environ={})[0]


def test_settings_that_contradict_each_other_are_refused() -> None:
    flags = {"tls_cert": "/c", "retry_base": "1m", "retry_cap": "1s"}
    assert len(problems(flags=flags, environ={})) == 2


def test_lists_come_from_repeated_flags_comma_separated_variables_and_arrays(
    tmp_path: Path,
) -> None:
    assert load({"exec_plugins": ["a", "b"]}, {}).exec_plugins == ("a", "b")
    environ = {"TRUEUP_REPOSITORY_ROOTS": "/srv/git,/srv/other"}
    assert load({}, environ).repository_roots == (Path("/srv/git"), Path("/srv/other"))
    config = write(tmp_path, 'kubeconfig_roots = ["kube", "/etc/kube"]\n')
    expected = (tmp_path / "kube", Path("/etc/kube"))
    assert load({}, {}, config).kubeconfig_roots == expected


def test_the_database_password_is_in_no_repr() -> None:
    for url in (
        "postgresql://me:hunter2@db:5432/trueup?sslmode=require",
        "postgresql://me@db/trueup?password=hunter2&sslmode=require",
        "host=db user=me password=hunter2 dbname=trueup",
        "host=db password = 'hunter2 x' dbname=trueup",
    ):
        settings = load({"database_url": url}, {})
        assert settings.database_url == url
        assert "hunter2" not in repr(settings)
        assert "hunter2" not in str(settings.__rich_repr__())
        assert "db" in str(without_password(url))


def test_client_settings_do_not_show_the_token_and_prefer_flags() -> None:
    environ = {"HOME": "/h", "TRUEUP_TOKEN": "hunter2", "TRUEUP_SERVER": "http://a"}
    client = load_client(server="http://b", environ=environ)
    assert client.server == "http://b"
    assert client.token == "hunter2"
    assert client.project == "default"
    assert client.state_dir == Path("/h/.local/state/trueup")
    assert "hunter2" not in repr(client)


def test_the_documentation_has_the_table_as_it_is() -> None:
    assert markdown() in DOCS.read_text("utf-8"), (
        "docs/settings.md is behind: put engine.settings.markdown() in the place of its table"
    )
    for variable in module.OTHER_VARIABLES:
        if variable != "TRUEUP_TEST_DATA":
            assert variable in DOCS.read_text("utf-8")


def test_every_setting_says_what_it_is() -> None:
    assert set(FIELDS) == set(Settings.__struct_fields__)
    assert all(field.description for field in FIELDS.values())


def test_symbolic_links_do_not_lead_out_of_a_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    assert is_inside(root / "a" / "b", [root])
    assert not is_inside(root / "link" / "a", [root])
    assert not is_inside(root / ".." / "outside", [root])
    assert not is_inside(tmp_path / "root-not", [root])
    assert not is_inside(root, [])


@given(st.integers(min_value=0, max_value=10**12))
def test_a_spelt_duration_reads_back(milliseconds: int) -> None:
    assert duration.seconds(duration.spell(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000
    )


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "1.5h", "5S", "9999999999h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration.seconds(text)


@given(st.text(max_size=20))
def test_only_names_of_this_machine_are_loopback(host: str) -> None:
    if is_loopback(host):
        assert host == "localhost" or host.startswith("127.") or ":" in host


def test_what_is_none_of_the_values_is_refused_and_told_which_there_are() -> None:
    (label,) = problems(environ={"TRUEUP_METRICS_LABELS": "cluster,aplication"})
    assert label == (
        "TRUEUP_METRICS_LABELS: expected one of cluster, application, got 'aplication'; "
        "did you mean application?"
    )
    (level,) = problems(flags={"log_level": "loud"})
    assert level == "--log-level: expected one of debug, info, warning, error, got 'loud'"
