# `make demo` and `make test` work on a fresh clone: each sets up .venv first, once.

VENV := .venv
STAMP := $(VENV)/.installed
# The first interpreter that runs and is new enough; `make PYTHON=/path/to/python …` overrides it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup test test-all chaos fuzz check demo package clean

help:  ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=…  the interpreter, 3.11 or newer (found: $(or $(PYTHON),none))"
	@echo "ARGS=…    passed on to what a target runs, e.g. make test ARGS='tests/data -x'"
	@echo "pip's own variables apply to the set-up, e.g. PIP_EXTRA_INDEX_URL for CPU-only torch wheels"

setup: $(STAMP)  ## Create .venv and install the project and its pinned dependencies

# The stamp is written last, so an interrupted installation is done again.
$(STAMP): pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error no Python 3.11 or newer found; install one or pass PYTHON=/path/to/python))
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Each process has a Ray cluster of its own; those that start one take whole files, as most of the
# time goes into what a file's tests share. 5: ARGS leave none of a kind.
test: $(STAMP)  ## Run the tests
	$(VENV)/bin/python -m pytest -n 2 -m "not ray" $(ARGS) || [ $$? -eq 5 ]
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m ray $(ARGS) || [ $$? -eq 5 ]

test-all: $(STAMP)  ## Run the tests, the slow ones too
	DIET_SLOW_TESTS=1 DIET_CHAOS_CLUSTERS=1 $(MAKE) test

# Promises of the memory; see docs/operations.md. ARGS='--replay SEED' does one schedule again.
chaos: $(STAMP)  ## Break the memory in 500 ways, and read it under load; an hour
	$(VENV)/bin/python -m tests.chaos $(ARGS)
	$(if $(ARGS),,$(VENV)/bin/python -m tests.chaos.log_damage)
	$(if $(ARGS),,$(VENV)/bin/python -m tests.chaos.load)

fuzz: $(STAMP)  ## Read 100,000 broken files
	$(VENV)/bin/python -m tests.fuzz.runner $(ARGS)

check: $(STAMP)  ## Lint, check the formatting and the types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

demo: $(STAMP)  ## Distil the sample log, search on it, and write a report
	$(VENV)/bin/diet demo $(ARGS)

package: $(STAMP)  ## Build wheel and sdist, and try the wheel in a clean environment
	rm -rf dist build/clean
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(VENV)/bin/python -c 'from setuptools import build_meta; build_meta.build_sdist("dist")'
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd build && clean/bin/diet doctor --out .

clean:  ## Remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
