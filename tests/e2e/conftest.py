"""Control planes for end-to-end tests, and what is kept of them when a test fails.

Every test in this folder has the marker `e2e` and runs only when `-m e2e` asks for it, as
`make e2e` does. TRUEUP_E2E_LOGS names a folder to copy a failed test's logs into.
"""

import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.binaries import HOW_TO_GET, existing_cluster, find_binaries
from tests.e2e.cluster import Cluster, ExistingCluster
from tests.e2e.harness import ControlPlane
from tests.e2e.product import Product

HERE = Path(__file__).parent

# Those that run now, and those that were up while a test failed.
_running: list[ControlPlane | Product] = []
_suspect: set[Path] = set()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: needs a real control plane; run by `make e2e`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = re.search(r"\be2e\b", config.option.markexpr or "")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("e2e")
            if not asked:
                item.add_marker(pytest.mark.skip(reason="end-to-end: run by `make e2e`"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and HERE in item.path.parents:
        for running in _running:
            _suspect.add(running.folder)
            report.sections.append((type(running).__name__, running.describe_failure()))
            keep = os.environ.get("TRUEUP_E2E_LOGS")
            if keep:
                test = re.sub(r"\W+", "-", item.nodeid).strip("-")
                place = Path(keep) / test / running.folder.name
                shutil.copytree(running.logs, place, dirs_exist_ok=True)
    return report


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A cluster for the tests of one module: a control plane, or the one that is there."""
    kubeconfig = existing_cluster()
    if find_binaries() is not None:
        async with _control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
            yield plane
    elif kubeconfig is not None:
        yield ExistingCluster(kubeconfig, tmp_path_factory.mktemp("cluster"))
    else:
        pytest.skip(HOW_TO_GET)


@pytest.fixture(scope="module")
def control_plane(cluster: Cluster) -> ControlPlane:
    """The module's cluster, for tests that stop its parts or read its audit log."""
    if not isinstance(cluster, ControlPlane):
        pytest.skip("the cluster that TRUEUP_E2E_KUBECONFIG names is not ours to stop or look into")
    return cluster


@pytest.fixture
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace for one test, so that a cluster that was there is left as it was."""
    name = f"e2e-{secrets.token_hex(4)}"
    await cluster.kubectl("create", "namespace", name)
    yield name
    await cluster.kubectl("delete", "namespace", name, "--wait=false")


MakeControlPlane = Callable[..., Awaitable[ControlPlane]]


@pytest.fixture
async def make_control_plane(tmp_path: Path) -> AsyncIterator[MakeControlPlane]:
    """Starts one more control plane for one test; takes `ControlPlane`'s options and a `name`."""
    if find_binaries() is None:
        pytest.skip(HOW_TO_GET)
    async with AsyncExitStack() as stack:

        async def make(name: str = "control-plane", **options: Any) -> ControlPlane:
            return await stack.enter_async_context(_control_plane(tmp_path / name, **options))

        yield make


@pytest.fixture(scope="module")
async def product(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Product]:
    """An engine for the tests of one module, with the module's cluster declared as `real`."""
    user = "engine" if isinstance(cluster, ControlPlane) else "admin"
    async with _product(tmp_path_factory.mktemp("product")) as product:
        await product.cluster("real", cluster.kubeconfig(user))
        yield product


MakeProduct = Callable[..., Awaitable[Product]]


@pytest.fixture
async def make_product(tmp_path: Path) -> AsyncIterator[MakeProduct]:
    """Starts one more engine for one test, without any cluster; takes flags of `trueup run`."""
    async with AsyncExitStack() as stack:

        async def make(*flags: str, name: str = "product") -> Product:
            return await stack.enter_async_context(_product(tmp_path / name, *flags))

        yield make


@asynccontextmanager
async def _product(folder: Path, *flags: str) -> AsyncIterator[Product]:
    product = Product(folder, *flags)
    _running.append(product)
    try:
        async with product:
            yield product
    finally:
        _running.remove(product)
        if product.folder not in _suspect:
            shutil.rmtree(product.folder)


@asynccontextmanager
async def _control_plane(folder: Path, **options: Any) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(folder, **options)
    _running.append(plane)
    try:
        async with plane:
            yield plane
    finally:
        _running.remove(plane)
        if plane.folder not in _suspect:
            # Each holds some 150 MB of preallocated files.
            shutil.rmtree(plane.folder)
