"""What a control repository changes, whatever it declares and whatever is declared already."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.decide.control import Control, Plan, plan
from engine.resources.model import Cluster, ClusterSpec, Metadata
from engine.resources.parse import Located
from engine.resources.record import declared, stream_of
from events.catalog import Declared, Withdrawn
from events.event import StreamName, stream
from projections.declared import DeclaredDocument

OURS, OTHER, GONE = (stream("repo", "default", name) for name in ("ours", "other", "gone"))
GOVERNING = {OURS, OTHER}
OWNERS = st.sampled_from(["", OURS, OTHER, GONE])
names = st.sampled_from(["a", "b", "c", "d"])
contexts = st.sampled_from(["x", "y"])


def cluster(name: str, context: str) -> Cluster:
    spec = ClusterSpec(kubeconfig="/kube/config", context=context)
    return Cluster("trueup.dev/v1", Metadata(name), spec)


def located(name: str, context: str) -> Located:
    return Located(cluster(name, context), f"{name}.yaml", 1)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, DeclaredDocument]:
    found = {}
    for name, context in draw(st.dictionaries(names, contexts)).items():
        fact = declared(cluster(name, context), owner=draw(OWNERS), file="was.yaml", at="c0ffee")
        found[stream("cluster", "default", name)] = folded(fact, name, draw(st.booleans()))
    return found


def folded(fact: Declared, name: str, withdrawn: bool = False) -> DeclaredDocument:
    return DeclaredDocument(
        kind=fact.kind,
        project="default",
        name=name,
        spec=fact.spec,
        labels=fact.labels,
        position=1,
        at=1,
        actor="user:ada",
        withdrawn=withdrawn,
        owner=fact.owner,
        file=fact.file,
        commit=fact.commit,
    )


wanted_lists = st.dictionaries(names, contexts).map(
    lambda found: [located(name, context) for name, context in found.items()]
)


def after(known: dict[str, DeclaredDocument], found: Plan) -> dict[str, DeclaredDocument]:
    """Fold a plan's facts as the view would."""
    result = dict(known)
    for change in found.changes:
        name = change.stream.split("/", 2)[2]
        if isinstance(change.fact, Declared):
            result[change.stream] = folded(change.fact, name)
        else:
            before = known[change.stream]
            result[change.stream] = folded(
                Declared(before.kind, before.spec, owner=before.owner), name, withdrawn=True
            )
    return result


def control(*, allow_empty: bool = False) -> Control:
    return Control(OURS, "5ca1ab1e", ".", allow_empty)


@given(wanted_lists, documents(), st.booleans())
def test_a_plan_ends_where_the_files_say_and_leaves_others_alone(
    wanted: list[Located], known: dict[str, DeclaredDocument], allow_empty: bool
) -> None:
    found = plan(control(allow_empty=allow_empty), wanted, known, GOVERNING)
    if found.problems:
        assert not found.changes
        return
    then = after(known, found)
    for item in wanted:
        document = then[stream_of(item.resource)]
        fact = declared(item.resource)
        assert (document.spec, document.owner) == (fact.spec, OURS)
        assert not document.withdrawn
    streams = {stream_of(item.resource) for item in wanted}
    for key, document in known.items():
        if key not in streams and (document.owner != OURS or document.withdrawn):
            assert then[key] == document
        elif key not in streams:
            assert then[key].withdrawn
    # A second look finds nothing to do, and nothing wrong.
    again = plan(control(allow_empty=allow_empty), wanted, then, GOVERNING)
    assert again == Plan()


@given(wanted_lists, documents())
def test_what_others_declare_is_never_changed_in_other_words(
    wanted: list[Located], known: dict[str, DeclaredDocument]
) -> None:
    found = plan(control(allow_empty=True), wanted, known, GOVERNING)
    in_the_way = []
    for item in wanted:
        document = known.get(stream_of(item.resource))
        if document is None or document.withdrawn or document.owner == OURS:
            continue
        if document.owner == OTHER or document.spec != declared(item.resource).spec:
            in_the_way.append(item.file)
    assert [problem.file for problem in found.problems] == in_the_way
    for problem in found.problems:
        assert "other" in problem.message or "user:ada" in problem.message


@given(documents())
def test_an_empty_folder_withdraws_only_where_it_is_allowed(
    known: dict[str, DeclaredDocument],
) -> None:
    refused = plan(control(), [], known, GOVERNING)
    assert refused.problems
    assert not refused.changes
    allowed = plan(control(allow_empty=True), [], known, GOVERNING)
    own = {
        key for key, document in known.items() if document.owner == OURS and not document.withdrawn
    }
    assert allowed.leaving == own


def test_a_control_repository_never_withdraws_itself() -> None:
    itself = DeclaredDocument(
        kind="Repository",
        project="default",
        name="ours",
        spec={"url": "https://git.example.org/ours", "control": True},
        labels={},
        position=1,
        at=1,
        actor="git:0123456789ab",
        owner=OURS,
        file="ours.yaml",
    )
    found = plan(control(allow_empty=True), [located("a", "x")], {OURS: itself}, GOVERNING)
    (problem,) = found.problems
    assert (problem.file, problem.line) == ("ours.yaml", 0)
    assert "itself" in problem.message


def test_removal_cascades_only_where_the_last_declaration_said_so() -> None:
    def application(on_removal: str) -> DeclaredDocument:
        return DeclaredDocument(
            kind="Application",
            project="default",
            name="shop",
            spec={
                "source": {"repository": "shop"},
                "targets": {},
                **({"onRemoval": on_removal} if on_removal else {}),
            },
            labels={},
            position=1,
            at=1,
            actor="git:0123456789ab",
            owner=OURS,
            file="shop.yaml",
        )

    key = StreamName("app/default/shop")
    for on_removal, cascade in (("", False), ("cascade", True)):
        found = plan(control(allow_empty=True), [], {key: application(on_removal)}, GOVERNING)
        (change,) = found.changes
        assert isinstance(change.fact, Withdrawn)
        assert change.fact.cascade is cascade


def test_a_projects_control_repository_declares_in_its_own_project_only() -> None:
    ours = Control(stream("repo", "team", "ours"), "5ca1ab1e", ".")
    (problem,) = plan(ours, [located("a", "x")], {}, GOVERNING).problems
    assert "team" in problem.message
