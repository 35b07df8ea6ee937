"""The Git repository of the demo: a shop of four objects, with an overlay for each environment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygit2

AUTHOR = ("Ada", "ada@example.com")
BRANCH = "refs/heads/main"
FIRST_IMAGE, SECOND_IMAGE = "registry.example.com/shop:1.0.0", "registry.example.com/shop:1.1.0"

_DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  labels: {app: shop}
spec:
  replicas: 1
  selector:
    matchLabels: {app: shop}
  template:
    metadata:
      labels: {app: shop}
    spec:
      serviceAccountName: shop
      containers:
        - name: shop
          image: %s
          ports:
            - containerPort: 8080
          env:
            - name: GREETING
              valueFrom:
                configMapKeyRef: {name: shop, key: greeting}
            - name: TOKEN
              valueFrom:
                secretKeyRef: {name: shop, key: token}
"""
_REST = """\
apiVersion: v1
kind: Service
metadata:
  name: shop
spec:
  selector: {app: shop}
  ports:
    - port: 80
      targetPort: 8080
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: shop
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: shop
data:
  greeting: hello
---
apiVersion: v1
kind: Secret
metadata:
  name: shop
stringData:
  token: a-value-that-must-never-reach-the-log
"""
_BASE = "resources: [deployment.yaml, rest.yaml]\n"
_OVERLAY = """\
namespace: shop
resources:
  - ../../base
  - namespace.yaml
patches:
  - target: {kind: Deployment, name: shop}
    patch: |
      - op: replace
        path: /spec/replicas
        value: %d
"""
_NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n"
_FLAG = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: flag-%02d
data:
  enabled: "true"
"""


class DemoRepository:
    """A repository on disk, written commit by commit, without a checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._git = pygit2.init_repository(str(path), bare=True, initial_head="main")
        self._files: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Where the engine finds it."""
        return self.path.as_uri()

    @property
    def head(self) -> str:
        """The branch's commit."""
        return str(self._git.head.target)

    def start(self, environments: Sequence[str]) -> str:
        """Commit the shop with an overlay for each environment; return the commit."""
        files = {
            "base/kustomization.yaml": _BASE,
            "base/deployment.yaml": _DEPLOYMENT % FIRST_IMAGE,
            "base/rest.yaml": _REST,
        }
        for number, environment in enumerate(environments, start=1):
            files[f"overlays/{environment}/kustomization.yaml"] = _OVERLAY % number
            files[f"overlays/{environment}/namespace.yaml"] = _NAMESPACE
        return self.commit("Open the shop", files)

    def new_image(self) -> str:
        """Commit the next image; return the commit."""
        return self.commit(
            "Deploy shop 1.1.0", {"base/deployment.yaml": _DEPLOYMENT % SECOND_IMAGE}
        )

    def flags(self, number: int) -> str:
        """Commit many small objects, so that a sync takes a while; return the commit."""
        body = "---\n".join(_FLAG % index for index in range(number))
        return self.commit(
            f"Add {number} feature flags",
            {
                "base/flags.yaml": body,
                "base/kustomization.yaml": "resources: [deployment.yaml, rest.yaml, flags.yaml]\n",
            },
        )

    def greeting(self, text: str) -> str:
        """Commit another greeting; return the commit."""
        return self.commit(
            f"Greet with {text!r}",
            {"base/rest.yaml": _REST.replace("hello", text)},
        )

    def commit(self, message: str, files: Mapping[str, str]) -> str:
        """Commit changed files on the branch; return the commit."""
        self._files |= files
        index = pygit2.Index()
        for path, text in self._files.items():
            blob = self._git.create_blob(text.encode())
            index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
        tree = index.write_tree(self._git)
        signature = pygit2.Signature(*AUTHOR, int(time.time()), 0)
        parents = [] if self._git.head_is_unborn else [self._git.head.target]
        commit = self._git.create_commit(BRANCH, signature, signature, message, tree, parents)
        return str(commit)
