# Everything a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
TRUEUP_TEST_DATA ?= $(wildcard ../shared/data)
export TRUEUP_TEST_DATA
ARGS ?=
ONLY ?=

.PHONY: help demo test check format bench soak e2e controlplane tools lock clean
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Each environment is made again when its lock file changes.
$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Trueup needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what requirements.lock pins ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "installing what requirements-dev.lock pins ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime ## tell the story on simulated clusters; ARGS=--exit ends by itself
	@$(BIN)/trueup demo $(ARGS)

test: $(VENV)/.dev ## run every test that needs nothing but this machine
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

check: $(VENV)/.dev ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code in order
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

controlplane: ## build etcd, kube-apiserver and kube-controller-manager into the cache (needs Go)
	@sh tests/e2e/controlplane/build.sh

tools: ## build what others deploy with (Helm, Flux) into the cache, for the end-to-end tests (needs Go); ONLY=helm3 builds one
	@sh tests/e2e/tools/build.sh $(ONLY)

bench: $(VENV)/.dev ## measure beside the machine's own ceilings; ONLY=apply runs one
	@$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

e2e: $(VENV)/.dev ## run the end-to-end suite on a real control plane, where one is at hand
	@$(BIN)/python -m tests.e2e.harness find; case $$? in \
	  0) $(BIN)/python -m pytest -n 2 --dist loadfile -m e2e tests/e2e $(ARGS) ;; \
	  3) ;; \
	  *) exit 1 ;; \
	esac

soak: $(VENV)/.dev ## random faults for minutes, from a seed: make soak ARGS='minutes=10 seed=7'
	@$(BIN)/python -m tests.soak.run $(ARGS)

lock: ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --universal --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra build pyproject.toml -o requirements.lock -q
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra build --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock -q

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
