"""Declared resources: taken whole, or refused with every problem, its place and a hint."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.resources import duration
from engine.resources.meaning import url_scheme
from engine.resources.model import Application, Cluster, Duration, Repository, Resource
from engine.resources.parse import (
    MAX_PROBLEMS,
    Refused,
    check_values,
    field_name,
    parse,
    parse_files,
    path_of,
)
from engine.resources.record import declared, plain, resource_of, stream_of
from engine.resources.spelling import nearest

GOOD = b"""\
apiVersion: trueup.dev/v1
kind: Repository
metadata:
  name: shop
  labels: {team: sales}
spec:
  url: https://git.example.org/shop.git
  ref: {branch: main}
  credentials: {tokenFile: /run/secrets/git}
---
apiVersion: trueup.dev/v1
kind: Cluster
metadata: {name: prod-eu, labels: {tier: prod}}
spec: {inCluster: true}
---
apiVersion: trueup.dev/v1
kind: Application
metadata: {name: shop, project: web}
spec:
  source: {repository: shop, path: deploy/overlays/prod}
  render: {type: kustomize}
  targets:
    selector: {matchLabels: {tier: prod}}
    namespace: shop
  sync: {mode: manual, prune: false}
"""


def refused(data: bytes, filename: str = "shop.yaml") -> list[tuple[int, str, str, str]]:
    with pytest.raises(Refused) as error:
        parse(data, filename)
    assert all(problem.file == filename for problem in error.value.problems)
    return [(each.line, each.field, each.message, each.hint) for each in error.value.problems]


def test_good_files_are_taken_with_their_defaults() -> None:
    repository, cluster, application = parse(GOOD, "shop.yaml")
    assert isinstance(repository, Repository)
    assert (repository.spec.ref.branch, repository.spec.interval) == ("main", "60s")
    assert isinstance(cluster, Cluster)
    assert cluster.metadata.labels == {"tier": "prod"}
    assert isinstance(application, Application)
    assert application.spec.sync.self_heal is True
    assert stream_of(application) == "app/web/shop"


def test_json_is_taken_as_well() -> None:
    data = msgspec.json.encode(plain(parse(GOOD, "x")[0]))
    assert parse(data, "shop.json") == [parse(GOOD, "x")[0]]


def test_every_problem_of_every_document_is_reported_with_line_field_and_hint() -> None:
    data = b"""\
apiVersion: trueup.dev/v1
kind: Application
metadata:
  nmae: shop
  labels:
    a b: c
spec:
  source:
    repo: shop
    path: 5
  targets:
    clusters: dev
  sync:
    mode: automatic
    selfheal: true
---
apiVersion: trueup.dev/v2
kind: Cluster
metadata: {name: Prod}
spec: {kubeconfig: /k}
---
kind: Aplication
"""
    assert refused(data) == [
        (4, "metadata.nmae", "unknown field", "did you mean name?"),
        (3, "metadata.name", "is missing", ""),
        (9, "spec.source.repo", "unknown field", "did you mean repository?"),
        (10, "spec.source.path", "must be text, and is 5", 'in quotes: "5"'),
        (8, "spec.source.repository", "is missing", ""),
        (12, "spec.targets.clusters", "must be a list, and is 'dev'", ""),
        (14, "spec.sync.mode", "must be auto or manual, and is 'automatic'", "did you mean auto?"),
        (15, "spec.sync.selfheal", "unknown field", "did you mean selfHeal?"),
        (17, "apiVersion", "must be trueup.dev/v1, and is 'trueup.dev/v2'", ""),
        (
            19,
            "metadata.name",
            "'Prod' does not fit ^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
            "write lower-case letters, digits, - and ., at most 63, no - or . at the ends",
        ),
        (22, "kind", "'Aplication' is no kind of Trueup's", "did you mean Application?"),
    ]


def test_what_yaml_reads_as_true_or_false_is_told_to_go_in_quotes() -> None:
    """The word itself is lost: `y` and `on` are both true by then."""
    data = (
        b"apiVersion: trueup.dev/v1\nkind: Cluster\nmetadata: {name: y}\nspec: {kubeconfig: /k}\n"
    )
    assert refused(data) == [
        (3, "metadata.name", "must be text, and is true", "put it in quotes"),
    ]


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("spec", "url"),
        ("spec", "clusters", 0),
        ("metadata", "labels", "a.b/c"),
        ("a", "b.c", 1),
    ],
)
def test_the_name_of_a_field_leads_back_to_it(path: tuple[str | int, ...]) -> None:
    assert path_of(field_name(path)) == path


def test_a_file_that_is_no_yaml_is_refused_with_its_line() -> None:
    ((line, field, message, _),) = refused(b"kind: Cluster\nspec: [\n")
    assert (line > 0, field) == (True, "")
    assert "not YAML" in message


def test_problems_of_all_files_are_reported_together() -> None:
    with pytest.raises(Refused) as error:
        parse_files({"a.yaml": b"kind: [", "b.yaml": b"kind: Nope", "c.yaml": GOOD})
    assert [problem.file for problem in error.value.problems] == ["a.yaml", "b.yaml"]
    assert "b.yaml:1: kind 'Nope' is no kind" in str(error.value)


def test_a_resource_that_is_there_twice_is_refused_with_both_places() -> None:
    with pytest.raises(Refused) as error:
        parse_files({"a.yaml": GOOD, "b.yaml": GOOD})
    first = error.value.problems[0]
    assert (first.file, first.message) == ("b.yaml", "Repository shop is there twice")
    assert first.hint == "the first is at a.yaml:1"
    assert len(error.value.problems) == 3


def test_the_same_name_in_another_project_or_of_another_kind_is_another_resource() -> None:
    other = GOOD.replace(b"name: shop\n", b"name: shop\n  project: web\n", 1)
    assert len(parse_files({"a": GOOD.split(b"---")[0], "b": other})) == 4


def test_a_flood_of_problems_is_cut_short() -> None:
    many = b"---\n".join([b"kind: Nope\n"] * 500)
    assert len(refused_all(many)) == MAX_PROBLEMS + 1


def refused_all(data: bytes) -> tuple[Any, ...]:
    with pytest.raises(Refused) as error:
        parse(data, "x")
    return error.value.problems


def resource(kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trueup.dev/v1",
        "kind": kind,
        "metadata": {"name": "x", **metadata},
        "spec": spec,
    }


def fields(value: dict[str, Any]) -> list[str]:
    try:
        check_values([value], "here")
    except Refused as error:
        return [problem.field for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.org/a.git",
        "https://git.example.org:8443/a",
        "https://[2001:db8::1]/a",
        "file:///srv/git/a",
        "file://localhost/srv/a",
    ],
)
def test_good_urls_pass(url: str) -> None:
    assert fields(resource("Repository", {"url": url})) == []


SSH = {"credentials": {"sshKeyFile": "/k", "knownHostsFile": "/h"}}


@pytest.mark.parametrize("url", ["ssh://git@example.org:22/a", "git@example.org:a/b.git"])
def test_ssh_urls_need_a_key_and_known_hosts(url: str) -> None:
    assert fields(resource("Repository", {"url": url, **SSH})) == []
    assert fields(resource("Repository", {"url": url})) == ["spec.credentials"]
    half = {"credentials": {"sshKeyFile": "/k"}}
    assert fields(resource("Repository", {"url": url, **half})) == [
        "spec.credentials.knownHostsFile"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/git",
        "../x",
        "http://example.org/a",
        "git://example.org/a",
        "ext::sh -c id",
        "https://me:pw@example.org/a",
        "https://me@example.org/a",
        "https://example.org/a?x=1",
        "https://example.org/a#x",
        "https:///a",
        "https://-x/a",
        "https://exa mple.org/a",
        "https://example.org:99999/a",
        "file://other/srv",
        "file://srv/../x",
        "https://example.org/\n",
        "-oProxyCommand=x@host:a",
    ],
)
def test_bad_urls_are_refused(url: str) -> None:
    assert "spec.url" in fields(resource("Repository", {"url": url}))


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(Refused) as error:
        check_values([resource("Repository", {"url": "https://me:hunter2@h/a"})], "here")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"ref": {"branch": "main", "tag": "v1"}}, ["spec.ref"]),
        ({"ref": {"branch": "refs/heads/main"}}, ["spec.ref.branch"]),
        ({"ref": {"tag": "a..b"}}, ["spec.ref.tag"]),
        ({"ref": {"branch": ""}}, ["spec.ref.branch"]),
        ({"ref": {"branch": "a b"}}, ["spec.ref.branch"]),
        ({"ref": {"branch": "-x"}}, ["spec.ref.branch"]),
        ({"ref": {"commit": "abc"}}, ["spec.ref.commit"]),
        ({"ref": {"branch": "feature/a-1.2"}}, []),
        ({"ref": {}}, []),
        ({"interval": "10ms"}, ["spec.interval"]),
        ({"interval": "25h"}, ["spec.interval"]),
        ({"interval": "60"}, ["spec.interval"]),
        ({"interval": "1h30m"}, []),
        ({"credentials": {}}, ["spec.credentials.tokenFile"]),
        ({"credentials": {"tokenFile": "rel"}}, ["spec.credentials.tokenFile"]),
        ({"credentials": {"tokenFile": "/a/../b"}}, ["spec.credentials.tokenFile"]),
        ({"credentials": {"tokenFile": "/t", "username": "a b"}}, ["spec.credentials.username"]),
        ({"credentials": {"tokenFile": "/t", "sshKeyFile": "/k"}}, ["spec.credentials"]),
    ],
)
def test_a_repository_must_make_sense(spec: dict[str, Any], expected: list[str]) -> None:
    assert fields(resource("Repository", {"url": "https://h/a", **spec})) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kubeconfig": "/k", "context": "dev"}, []),
        ({"inCluster": True}, []),
        ({}, ["spec"]),
        ({"kubeconfig": "/k", "inCluster": True}, ["spec"]),
        ({"inCluster": True, "context": "dev"}, ["spec.context"]),
        ({"kubeconfig": "k"}, ["spec.kubeconfig"]),
        ({"kubeconfig": "/k", "context": ""}, ["spec.context"]),
    ],
)
def test_a_cluster_must_make_sense(spec: dict[str, Any], expected: list[str]) -> None:
    assert fields(resource("Cluster", spec)) == expected


@pytest.mark.parametrize(
    ("path", "good"),
    [
        (".", True),
        ("deploy/overlays/dev", True),
        ("deploy/", True),
        ("/deploy", False),
        ("../x", False),
        ("a/../../b", False),
        ("a\\b", False),
        ("", False),
        (".git/hooks", False),
        ("a/.GIT", False),
        ("a\nb", False),
    ],
)
def test_a_source_path_stays_inside_of_the_repository(path: str, good: bool) -> None:
    spec = {"source": {"repository": "r", "path": path}, "targets": {"clusters": ["a"]}}
    assert fields(resource("Application", spec)) == ([] if good else ["spec.source.path"])


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ({"clusters": ["a"]}, []),
        ({"clusters": ["a"], "selector": {"matchLabels": {"a": "b"}}}, []),
        ({}, ["spec.targets"]),
        ({"clusters": []}, ["spec.targets"]),
        ({"clusters": ["a", "b", "a"]}, ["spec.targets.clusters[2]"]),
        ({"selector": {"matchLabels": {}}}, ["spec.targets.selector.matchLabels"]),
        ({"selector": {"matchLabels": {"x": "a b"}}}, ["spec.targets.selector.matchLabels.x"]),
        ({"clusters": ["a"], "namespace": "Kube"}, ["spec.targets.namespace"]),
        ({"clusters": ["a"], "namespace": "a.b"}, ["spec.targets.namespace"]),
    ],
)
def test_targets_must_make_sense(targets: dict[str, Any], expected: list[str]) -> None:
    spec = {"source": {"repository": "r"}, "targets": targets}
    assert fields(resource("Application", spec)) == expected


@pytest.mark.parametrize(
    ("labels", "good"),
    [
        ({"a": ""}, True),
        ({"example.org/tier": "Prod_1.x"}, True),
        ({"": "x"}, False),
        ({"/x": "x"}, False),
        ({"a/b/c": "x"}, False),
        ({"-a": "x"}, False),
        ({"a": "x" * 64}, False),
        ({"a": "-"}, False),
    ],
)
def test_labels_have_the_syntax_of_kubernetes(labels: dict[str, str], good: bool) -> None:
    found = fields(resource("Cluster", {"inCluster": True}, labels=labels))
    assert (found == []) is good


def test_a_name_with_a_line_break_is_another_name_and_refused() -> None:
    assert fields(resource("Cluster", {"inCluster": True}, name="a\n")) == ["metadata.name"]


names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
resources: st.SearchStrategy[Resource] = st.builds(
    lambda kind, name, project, labels, namespace, prune: {
        "Cluster": lambda: resource("Cluster", {"inCluster": True}, name=name, labels=labels),
        "Application": lambda: resource(
            "Application",
            {
                "source": {"repository": name},
                "targets": {"clusters": [name], "namespace": namespace},
                "sync": {"prune": prune},
            },
            name=name,
            project=project,
        ),
    }[kind](),
    st.sampled_from(["Cluster", "Application"]),
    names,
    names,
    st.dictionaries(names, names, max_size=3),
    st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True),
    st.booleans(),
).map(lambda value: check_values([value], "here")[0])


@given(resources)
def test_what_is_recorded_reads_back_as_what_was_declared(given_one: Resource) -> None:
    fact = declared(given_one)
    metadata = given_one.metadata
    read = resource_of(fact.kind, metadata.project, metadata.name, fact.spec, fact.labels)
    assert read == given_one
    assert declared(read) == fact
    assert msgspec.json.decode(msgspec.json.encode(fact.spec)) == fact.spec


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "spec", "metadata", "name", "source", "targets", "url", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(junk, st.sampled_from(["Repository", "Cluster", "Application"]))
def test_anything_at_all_is_taken_or_refused_with_reasons(value: object, kind: str) -> None:
    if isinstance(value, dict):
        value = {"apiVersion": "trueup.dev/v1", **value, "kind": kind}
    assert reasons(value) != [""]


def reasons(value: object) -> list[str]:
    """Why a value is refused; nothing where it is taken. An empty refusal shows as one of ""."""
    try:
        check_values([value], "here")
    except Refused as error:
        return [problem.message for problem in error.problems] or [""]
    return []


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("https://a/b", "https"), ("git@a:b", "ssh"), ("a:b", "ssh"), ("http://a", ""), ("x", "")],
)
def test_schemes_are_told(url: str, scheme: str) -> None:
    assert url_scheme(url) == scheme


def test_the_nearest_name_is_one_that_is_like_it() -> None:
    assert nearest("selfheal", ["prune", "selfHeal"]) == "selfHeal"
    assert nearest("repo", ["repository", "path"]) == "repository"
    assert nearest("zzz", ["repository", "path"]) == ""


@given(st.from_regex(r"\A([0-9]{1,9}(ms|s|m|h))+\Z"))
def test_every_length_of_time_that_has_the_form_has_a_meaning(text: str) -> None:
    assert msgspec.json.schema(Duration)["pattern"] == r"^([0-9]{1,9}(ms|s|m|h))+$"
    assert duration.seconds(text) >= 0


def test_a_number_that_is_too_long_is_refused_in_its_place() -> None:
    document = plain(parse(GOOD, "x")[0])
    document["spec"]["interval"] = "3275553652382054978594s"
    with pytest.raises(Refused) as error:
        check_values([document], "x")
    assert [problem.field for problem in error.value.problems] == ["spec.interval"]
