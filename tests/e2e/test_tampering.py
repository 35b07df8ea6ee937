"""Whatever kubectl does to what is declared is put right, and the record says who did what."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e import shop
from tests.e2e.cluster import Cluster
from tests.e2e.product import Product, manifests

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Shop:
    """The application, synced, in a namespace of its own."""

    cluster: Cluster
    product: Product
    namespace: str
    target: str

    @property
    def stream(self) -> str:
        return f"target/default/{self.target}"

    async def kubectl(self, *words: str, **options: Any) -> str:
        return (await self.cluster.kubectl("-n", self.namespace, *words, **options)).stdout

    async def live(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.cluster.get(kind, name, "-n", self.namespace)
        return found

    def declared(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object as it stands in Git."""
        for each in shop.objects(self.namespace):
            if (each["kind"], each["metadata"]["name"]) == (kind, name):
                return each
        raise LookupError(f"{kind}/{name}")

    async def differences(self) -> list[dict[str, Any]]:
        diff = await self.product.call("GET", f"/v1/targets/default/{self.target}/diff")
        found: list[dict[str, Any]] = diff["differences"]
        return found


@pytest.fixture(scope="module")
async def it(cluster: Cluster, product: Product) -> AsyncIterator[Shop]:
    namespace = f"tampering-{secrets.token_hex(4)}"
    await cluster.kubectl("create", "namespace", namespace)
    repository = product.repository(namespace)
    repository.commit({"all.yaml": manifests(*shop.objects(namespace))})
    target = await product.application(namespace, repository, namespace=namespace)
    await product.wait(target)
    yield Shop(cluster, product, namespace, target)
    # The engine is told to let go first: else it would put right what is deleted here.
    await product.call("DELETE", f"/v1/resources/applications/default/{namespace}")
    await cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    await cluster.kubectl("delete", "crd", f"{shop.PLURAL}.{shop.group(namespace)}", "--wait=false")


@dataclass(frozen=True)
class Deed:
    """One way to tamper: what kubectl is told, and what the record has to say about it.

    `words` may have {namespace} and {parcel}. `change` makes the body for -f out of the declared
    one. `path` None stands for "any path": what is checked then is that it is put right.
    """

    kind: str
    name: str
    words: str
    path: str | None = None
    difference: str = "changed"
    before: Any = None
    after: Any = None
    manager: str = ""
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    editor: str = ""
    rest: tuple[str, ...] = ()
    may_fail: bool = False


def with_image(body: dict[str, Any]) -> dict[str, Any]:
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/web:bad"
    return body


def with_data(**data: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: body | {"data": data}


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: body | {"data": {k: v for k, v in body["data"].items() if k != key}}


IMAGE = '.spec.template.spec.containers[name="web"].image'
GOOD, BAD = "registry.example.com/web:1.0", "registry.example.com/web:bad"
WEB = ("Deployment", "web")
SETTINGS = ("ConfigMap", "settings")
LOGIN = ("Secret", "login")
COLOUR = {"path": ".data.colour", "before": "blue"}
REPLICAS = {"path": ".spec.replicas", "before": 0}

DEEDS = {
    "edit": Deed(
        *WEB,
        "edit deployment/web",
        **REPLICAS,
        after=3,
        manager="kubectl-edit",
        editor="sed -i 's/replicas: 0/replicas: 3/'",
    ),
    "edit a text": Deed(
        *SETTINGS,
        "edit configmap/settings",
        path=".data.text",
        before="one\ntwo\n",
        after="one\nthree\n",
        manager="kubectl-edit",
        editor="sed -i 's/    two/    three/'",
    ),
    "strategic patch": Deed(
        *WEB,
        "patch deployment web --type strategic -p",
        path=IMAGE,
        before=GOOD,
        after=BAD,
        manager="kubectl-patch",
        rest=(
            '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"' + BAD + '"}]}}}}',
        ),
    ),
    "strategic patch that deletes an item": Deed(
        *WEB,
        "patch deployment web --type strategic -p",
        path='.spec.template.spec.containers[name="side"]',
        difference="removed",
        rest=('{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}',),
    ),
    "strategic patch of the order": Deed(
        *WEB,
        "patch deployment web --type json -p",
        difference="reordered",
        rest=(
            '[{"op":"move","from":"/spec/template/spec/containers/0/env/0",'
            '"path":"/spec/template/spec/containers/0/env/1"}]',
        ),
    ),
    "merge patch": Deed(
        *SETTINGS,
        "patch configmap settings --type merge -p",
        **COLOUR,
        after="red",
        manager="kubectl-patch",
        rest=('{"data":{"colour":"red"}}',),
    ),
    "merge patch that removes": Deed(
        *SETTINGS,
        "patch configmap settings --type merge -p",
        **COLOUR,
        difference="removed",
        rest=('{"data":{"colour":null}}',),
    ),
    "merge patch of all data": Deed(
        *SETTINGS,
        "patch configmap settings --type merge -p",
        difference="removed",
        rest=('{"data":null}',),
    ),
    "json patch": Deed(
        *SETTINGS,
        "patch configmap settings --type json -p",
        **COLOUR,
        after="red",
        manager="kubectl-patch",
        rest=('[{"op":"replace","path":"/data/colour","value":"red"}]',),
    ),
    "json patch that removes": Deed(
        *SETTINGS,
        "patch configmap settings --type json -p",
        **COLOUR,
        difference="removed",
        rest=('[{"op":"remove","path":"/data/colour"}]',),
    ),
    "client-side apply": Deed(
        *WEB,
        "apply -f -",
        path=IMAGE,
        before=GOOD,
        after=BAD,
        manager="kubectl-client-side-apply",
        change=with_image,
    ),
    "client-side apply again": Deed(
        *SETTINGS,
        "apply -f -",
        **COLOUR,
        after="green",
        manager="kubectl-client-side-apply",
        change=with_data(colour="green", shape="round", text="one\ntwo\n"),
    ),
    "server-side apply": Deed(
        *WEB,
        "apply --server-side --force-conflicts --field-manager rival -f -",
        path=IMAGE,
        before=GOOD,
        after=BAD,
        manager="rival",
        change=with_image,
    ),
    "server-side apply of a part": Deed(
        *SETTINGS,
        "apply --server-side --force-conflicts --field-manager rival -f -",
        **COLOUR,
        after="green",
        manager="rival",
        change=with_data(colour="green"),
    ),
    "server-side apply in our name": Deed(
        *SETTINGS,
        "apply --server-side --force-conflicts --field-manager trueup -f -",
        difference="removed",
        change=with_data(colour="blue"),
    ),
    "set image": Deed(
        *WEB,
        f"set image deployment/web web={BAD}",
        path=IMAGE,
        before=GOOD,
        after=BAD,
        manager="kubectl-set",
    ),
    "set env": Deed(
        *WEB,
        "set env deployment/web -c web LEVEL=debug",
        path='.spec.template.spec.containers[name="web"].env[name="LEVEL"].value',
        before="info",
        after="debug",
        manager="kubectl-set",
    ),
    "set env away": Deed(
        *WEB,
        "set env deployment/web -c web REGION-",
        path='.spec.template.spec.containers[name="web"].env[name="REGION"]',
        difference="removed",
    ),
    "a value that becomes a reference": Deed(
        *WEB,
        # Ours beside theirs is refused: a value or a reference, not both.
        "patch deployment web --type strategic -p",
        path='.spec.template.spec.containers[name="web"].env[name="LEVEL"].value',
        difference="removed",
        rest=(
            '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"LEVEL",'
            '"value":null,"valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}]}}}}',
        ),
    ),
    "set resources": Deed(
        *WEB,
        "set resources deployment/web -c web --limits cpu=2",
        path='.spec.template.spec.containers[name="web"].resources.limits.cpu',
        before="500m",
        after="2",
        manager="kubectl-set",
    ),
    "scale": Deed(
        *WEB, "scale deployment/web --replicas 4", **REPLICAS, after=4, manager="kubectl"
    ),
    "label": Deed(
        *WEB,
        "label deployment/web --overwrite tier=back",
        path=".metadata.labels.tier",
        before="front",
        after="back",
        manager="kubectl-label",
    ),
    "label away": Deed(
        *WEB,
        "label deployment/web tier-",
        path=".metadata.labels.tier",
        before="front",
        difference="removed",
    ),
    "annotate": Deed(
        *WEB,
        "annotate deployment/web --overwrite example.com/team=rivals",
        path=".metadata.annotations.example.com/team",
        before="shop",
        after="rivals",
        manager="kubectl-annotate",
    ),
    "annotate away": Deed(
        *WEB,
        "annotate deployment/web example.com/team-",
        path=".metadata.annotations.example.com/team",
        before="shop",
        difference="removed",
    ),
    "owner annotation away": Deed(
        *SETTINGS,
        "annotate configmap/settings trueup.dev/owner-",
        path=".metadata.annotations",
        difference="removed",
    ),
    "owner annotation to another": Deed(
        *SETTINGS,
        "annotate configmap/settings --overwrite trueup.dev/owner=somebody/default/else",
        path=".metadata.annotations.trueup.dev/owner",
        after="somebody/default/else",
        manager="kubectl-annotate",
    ),
    "owner label away": Deed(
        *SETTINGS,
        "label configmap/settings trueup.dev/owner-",
        path=".metadata.labels",
        difference="removed",
    ),
    "owner label to another": Deed(
        *SETTINGS,
        "label configmap/settings --overwrite trueup.dev/owner=0123456789abcdef",
        path=".metadata.labels.trueup.dev/owner",
        after="0123456789abcdef",
        manager="kubectl-label",
    ),
    "delete": Deed(*SETTINGS, "delete configmap settings", path="", difference="missing"),
    "delete with its pods": Deed(
        *WEB,
        "delete deployment web --cascade=foreground",
        path="",
        difference="missing",
    ),
    "delete and orphan": Deed(
        *WEB, "delete deployment web --cascade=orphan", path="", difference="missing"
    ),
    "delete a service": Deed("Service", "web", "delete service web", path="", difference="missing"),
    "delete a service account": Deed(
        "ServiceAccount", "web", "delete serviceaccount web", path="", difference="missing"
    ),
    "replace": Deed(
        *SETTINGS,
        "replace -f -",
        **COLOUR,
        after="red",
        manager="kubectl-replace",
        change=with_data(colour="red", shape="round", text="one\ntwo\n"),
    ),
    "replace without a field": Deed(
        *SETTINGS, "replace -f -", path=".data.shape", difference="removed", change=without("shape")
    ),
    "replace by force": Deed(
        *WEB,
        # It deletes and creates; that we are often quicker than its second step is no fault.
        "replace --force -f -",
        difference="",
        change=with_image,
        may_fail=True,
    ),
    "a service's port": Deed(
        "Service",
        "web",
        "patch service web --type json -p",
        path='.spec.ports[port=80,protocol="TCP"].targetPort',
        before="http",
        after=9999,
        manager="kubectl-patch",
        rest=('[{"op":"replace","path":"/spec/ports/0/targetPort","value":9999}]',),
    ),
    "a service's port's number": Deed(
        "Service",
        "web",
        # The item's key: ours and theirs have one name, and cannot be together.
        "patch service web --type json -p",
        path='.spec.ports[port=80,protocol="TCP"]',
        difference="removed",
        rest=('[{"op":"replace","path":"/spec/ports/0/port","value":81}]',),
    ),
    "a service's port edited": Deed(
        "Service",
        "web",
        "edit service/web",
        path='.spec.ports[port=80,protocol="TCP"]',
        difference="removed",
        editor="sed -i 's/port: 80$/port: 8080/'",
    ),
    "a service's port's number and name": Deed(
        "Service",
        "web",
        "patch service web --type json -p",
        path='.spec.ports[port=80,protocol="TCP"]',
        difference="removed",
        rest=('[{"op":"replace","path":"/spec/ports/0","value":{"port":81}}]',),
    ),
    "a custom resource": Deed(
        shop.KIND,
        "one",
        "patch {parcel} one --type merge -p",
        path=".spec.weight",
        before=3,
        after=7,
        manager="kubectl-patch",
        rest=('{"spec":{"weight":7}}',),
    ),
    "a custom resource's field away": Deed(
        shop.KIND,
        "one",
        "patch {parcel} one --type json -p",
        path=".spec.size",
        before="small",
        difference="removed",
        rest=('[{"op":"remove","path":"/spec/size"}]',),
    ),
    "a custom resource gone": Deed(
        shop.KIND, "one", "delete {parcel} one", path="", difference="missing"
    ),
    "a secret": Deed(
        *LOGIN,
        "patch secret login --type merge -p",
        path=".data.password",
        manager="kubectl-patch",
        rest=('{"stringData":{"password":"' + shop.OTHER_SECRET + '"}}',),
    ),
    "a secret's key away": Deed(
        *LOGIN,
        "patch secret login --type json -p",
        path=".data.password",
        difference="removed",
        rest=('[{"op":"remove","path":"/data/password"}]',),
    ),
    "a secret gone": Deed(*LOGIN, "delete secret login", path="", difference="missing"),
}


@pytest.mark.parametrize("name", DEEDS)
async def test_what_kubectl_changes_is_put_right_and_the_record_says_who_did_it(
    it: Shop, name: str
) -> None:
    deed = DEEDS[name]
    before = await it.product.position()
    await _do(it, deed)
    drift = await it.product.next_event("DriftDetected", before, stream=it.stream)
    resolved = await it.product.next_event(
        "DriftResolved", before, lambda e: e["payload"]["case"] == _case(drift), stream=it.stream
    )
    assert resolved["payload"]["how"] in ("corrected", "superseded")
    await _is_as_declared(it, deed)

    case = [
        e for e in await it.product.events(before, stream=it.stream) if _case(e) == _case(drift)
    ]
    said = [
        difference
        for event in case
        if event["type"] == "DriftDetected"
        for difference in event["payload"]["differences"]
    ]
    assert {(each["ref"]["kind"], each["ref"]["name"]) for each in said} == {(deed.kind, deed.name)}
    _check_differences(deed, said)
    await _check_causes(it, drift, case)
    await _check_words(it, deed, before)


async def _do(it: Shop, deed: Deed) -> None:
    parcel = f"{shop.PLURAL}.{shop.group(it.namespace)}"
    words = [word.format(namespace=it.namespace, parcel=parcel) for word in deed.words.split()]
    body = None
    if deed.change is not None:
        body = deed.change(it.declared(deed.kind, deed.name))
    env = {"KUBE_EDITOR": deed.editor} if deed.editor else None
    stdin = manifests(body) if body is not None else None
    await it.kubectl(*words, *deed.rest, stdin=stdin, env=env, check=not deed.may_fail)


async def _is_as_declared(it: Shop, deed: Deed) -> None:
    live = await it.live(_resource(it, deed.kind), deed.name)
    declared = it.declared(deed.kind, deed.name)
    for key, value in declared.pop("stringData", {}).items():
        declared.setdefault("data", {})[key] = shop.base64_of(value)
    assert _contains(live, declared), (declared, live)
    assert live["metadata"]["annotations"]["trueup.dev/owner"].endswith(f"/{it.namespace}")
    assert "trueup.dev/owner" in live["metadata"]["labels"]


def _resource(it: Shop, kind: str) -> str:
    return f"{shop.PLURAL}.{shop.group(it.namespace)}" if kind == shop.KIND else kind.lower()


def _contains(live: Any, declared: Any) -> bool:
    """Whether everything declared is there, lists in their order."""
    if isinstance(declared, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and _contains(live[key], value) for key, value in declared.items()
        )
    if isinstance(declared, list):
        return (
            isinstance(live, list)
            and len(live) >= len(declared)
            and all(_contains(one, other) for one, other in zip(live, declared, strict=False))
        )
    return bool(live == declared)


def _check_differences(deed: Deed, said: Sequence[Mapping[str, Any]]) -> None:
    wanted = [
        each
        for each in said
        if deed.path in (None, each.get("path", "")) and deed.difference in ("", each["kind"])
    ]
    assert wanted, said
    if deed.path is None:
        return
    difference = wanted[0]
    assert difference.get("manager", "") == deed.manager, difference
    if deed.kind == "Secret" or deed.path == "":
        return
    if deed.before is not None:
        assert difference["before"] == deed.before
    if deed.after is not None:
        assert difference["after"] == deed.after
    if deed.manager:
        assert difference["operation"] in ("Update", "Apply")


async def _check_causes(
    it: Shop, drift: Mapping[str, Any], case: Sequence[Mapping[str, Any]]
) -> None:
    """What was seen caused the case, the case the plan, the plan its outcome and the end."""
    page = await it.product.call("GET", "/v1/events", after=drift["causation"] - 1, limit=1)
    (cause,) = page["items"]
    assert cause["type"] in ("ObjectsObserved", "CorrectionApplied")
    plans = [event for event in case if event["type"] == "CorrectionPlanned"]
    applied = [event for event in case if event["type"] == "CorrectionApplied"]
    detected = {event["position"] for event in case if event["type"] == "DriftDetected"}
    assert plans
    assert applied
    assert plans[0]["payload"]["cause"] == "drift"
    # Where the plan is written together with the case, both go back to what was seen.
    assert {event["causation"] for event in plans} <= detected | {cause["position"]}
    assert applied[-1]["payload"]["plan"] == plans[-1]["position"] == applied[-1]["causation"]
    assert case[-1]["type"] == "DriftResolved"
    assert case[-1]["causation"] == applied[-1]["position"]


async def _check_words(it: Shop, deed: Deed, before: int) -> None:
    """The timeline of the object tells it to a person."""
    subject = f"real/{it.namespace}/{deed.kind}/{deed.name}"
    told = await it.product.cli("timeline", subject, "--after", str(before))
    assert told.status == 0, told.stderr
    if deed.manager:
        assert deed.manager in told.stdout
    if deed.path:
        assert deed.path in told.stdout
    assert shop.SECRET not in told.stdout
    assert shop.OTHER_SECRET not in told.stdout


def _case(event: Mapping[str, Any]) -> str:
    payload = event["payload"]
    return str(payload.get("case") or payload.get("drift_case") or event["correlation"])


async def test_an_object_whose_managed_fields_were_cleared_is_no_drift_and_still_watched_over(
    it: Shop,
) -> None:
    before = await it.product.position()
    await it.kubectl(
        *("patch", "configmap", "settings", "--type", "merge"),
        *("-p", '{"metadata":{"managedFields":[{}]}}'),
    )
    await it.kubectl(
        *("patch", "configmap", "settings", "--type", "merge", "-p", '{"data":{"colour":"red"}}')
    )
    drift = await it.product.next_event("DriftDetected", before, stream=it.stream)
    assert [each["path"] for each in drift["payload"]["differences"]] == [".data.colour"]
    await it.product.next_event("DriftResolved", before, stream=it.stream)
    live = await it.live("configmap", "settings")
    assert live["data"] == it.declared("ConfigMap", "settings")["data"]
    assert "trueup" in {entry["manager"] for entry in live["metadata"]["managedFields"]}


async def test_what_kubectl_made_anew_before_we_could_is_taken_back(it: Shop) -> None:
    before = await it.product.position()
    body = with_image(it.declared("Deployment", "web"))
    it.product.engine.freeze()
    try:
        await it.kubectl("replace", "--force", "-f", "-", stdin=manifests(body))
    finally:
        it.product.engine.thaw()
    await it.product.next_event("DriftDetected", before, stream=it.stream)
    await it.product.next_event("DriftResolved", before, stream=it.stream)
    await _is_as_declared(it, DEEDS["replace by force"])


async def test_what_nobody_declared_is_shown_as_foreign_and_left(it: Shop) -> None:
    await it.product.wait(it.target)
    before = await it.product.position()
    await it.kubectl("label", "deployment/web", "extra=yes")
    await it.kubectl("annotate", "configmap/settings", "example.com/note=mine")
    await it.kubectl("scale", "deployment/loose", "--replicas=0")
    await it.kubectl("set", "env", "deployment/web", "-c", "web", "EXTRA=1")
    await it.kubectl(
        *("patch", "configmap", "settings", "--type", "merge", "-p", '{"data":{"more":"x"}}')
    )
    await it.kubectl("rollout", "restart", "deployment/web")

    wanted = {
        ("web", ".metadata.labels.extra", "kubectl-label"),
        ("settings", ".metadata.annotations.example.com/note", "kubectl-annotate"),
        ("settings", ".data.more", "kubectl-patch"),
        ("web", '.spec.template.spec.containers[name="web"].env[name="EXTRA"]', "kubectl-set"),
        ("web", ".spec.template.metadata.annotations", "kubectl-rollout"),
        # The API server books a scale of what nobody owns to nobody.
        ("loose", ".spec.replicas", ""),
    }
    await _until(lambda: _foreign(it), lambda found: wanted <= found)
    assert {each["kind"] for each in await it.differences()} <= {"foreign", "ownership-lost"}
    shown = await it.product.cli("diff", it.target)
    assert shown.status == 0, shown.stdout + shown.stderr
    assert "kubectl-label" in shown.stdout

    types = {event["type"] for event in await it.product.events(before, stream=it.stream)}
    assert not types & {"DriftDetected", "CorrectionPlanned"}
    web, loose = await it.live("deployment", "web"), await it.live("deployment", "loose")
    assert web["metadata"]["labels"]["extra"] == "yes"
    assert loose["spec"]["replicas"] == 0
    env = web["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "EXTRA", "value": "1"} in env
    assert (await it.live("configmap", "settings"))["data"]["more"] == "x"


async def test_foreign_fields_outlive_the_correction_of_declared_ones_beside_them(
    it: Shop,
) -> None:
    await it.kubectl("label", "configmap/settings", "beside=yes")
    before = await it.product.position()
    await it.kubectl(
        *("patch", "configmap", "settings", "--type", "merge", "-p", '{"data":{"colour":"red"}}')
    )
    await it.product.next_event("DriftResolved", before, stream=it.stream)
    live = await it.live("configmap", "settings")
    assert live["metadata"]["labels"]["beside"] == "yes"
    assert live["data"]["colour"] == "blue"


async def test_the_value_of_a_secret_is_in_no_event_no_log_and_no_answer(it: Shop) -> None:
    before = await it.product.position()
    await it.kubectl(
        *("patch", "secret", "login", "--type", "merge"),
        *("-p", '{"stringData":{"password":"' + shop.OTHER_SECRET + '"}}'),
    )
    await it.product.next_event("DriftDetected", before, stream=it.stream)
    shown = [str(await it.differences())]
    await it.product.next_event("DriftResolved", before, stream=it.stream)
    secret = f"real/{it.namespace}/Secret/login"
    for words in (
        ("timeline", secret),
        ("timeline", secret, "-o", "json"),
        ("events", "-o", "jsonl"),
        ("describe", it.target),
        ("diff", it.target, "-o", "json"),
        ("get", "targets", it.target, "-o", "yaml"),
    ):
        told = await it.product.cli(*words)
        assert told.status == 0, (words, told.stderr)
        shown.append(told.stdout + told.stderr)
    assert "login" in shown[1]
    shown.append(str(await it.product.events()))
    files = [path for path in it.product.folder.rglob("*") if path.is_file()]
    for value in (shop.SECRET, shop.OTHER_SECRET):
        for form in (value, shop.base64_of(value)):
            assert not any(form in text for text in shown)
            # The repository and its mirrors have it, packed; nothing else may.
            assert [path for path in files if form.encode() in _content(path)] == []


async def _foreign(it: Shop) -> set[tuple[str, str, str]]:
    return {
        (each["ref"]["name"], each["path"], each.get("manager", ""))
        for each in await it.differences()
        if each["kind"] == "foreign"
    }


async def _until(
    ask: Callable[[], Awaitable[set[Any]]], holds: Callable[[set[Any]], bool], timeout: float = 20
) -> None:
    """Ask again and again until it holds; fails with the last answer."""
    found: set[Any] = set()
    with anyio.move_on_after(timeout):
        while not holds(found := await ask()):  # noqa: ASYNC110
            await anyio.sleep(0.05)
        return
    pytest.fail(str(found))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # the engine goes on writing and removing
