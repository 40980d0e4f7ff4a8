# The verbs of development. `make demo` and `make test` do all their set-up themselves; they need
# Python 3.11 or newer, make and, for the real servers, root's apt or a Docker engine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STACK := $(BIN)/python examples/stack/stack.py
PYTEST := $(BIN)/python -m pytest
FURTHER_PYTHONS ?= 3.12 3.13

.DEFAULT_GOAL := help
.PHONY: help setup demo down test test-quick test-wheel test-pythons check format docs golden dashboard \
  bench bench-quick lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: $(VENV)/.ready  ## the virtual environment with the locked tools

$(VENV)/.ready: requirements-dev.txt pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" .ci/venv requirements-dev.txt
	@touch $@

demo: setup  ## real servers, Novu-shaped data, one report, and a table that compares
	@$(BIN)/python examples/stack/demo.py

down: setup  ## stop the servers of `make demo` and `make test`
	@$(STACK) down

test: setup  ## all tests, on the real servers
	@$(STACK) up
	$(PYTEST)

test-quick: setup  ## all tests but the long ones
	@$(STACK) up
	$(PYTEST) -m 'not long'

test-wheel: setup  ## build wheel and sdist, and test the wheel with the source moved away
	@VENV="$(VENV)" PYTHON="$(PYTHON)" .ci/test-wheel

test-pythons: setup  ## all but the long tests on the further Pythons found here
	@FURTHER_PYTHONS="$(FURTHER_PYTHONS)" .ci/test-pythons

check: setup  ## format, lint, types, import rules, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

format: setup  ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## write docs/metrics.md, privacy.md and settings.md anew from the code
	$(BIN)/python -m otel_novu metrics --markdown > docs/metrics.md
	$(BIN)/python -m otel_novu metrics --privacy > docs/privacy.md
	$(BIN)/python -m otel_novu metrics --settings > docs/settings.md

golden: setup  ## write the golden file of both reports anew
	OTEL_NOVU_WRITE_GOLDEN=1 $(PYTEST) tests/integration/test_golden.py

dashboard: setup  ## write the dashboard's JSON anew from the rows
	$(BIN)/python examples/grafana/novu_dashboard.py

bench: setup  ## measure what otel-novu costs, side by side on the real servers (an hour)
	$(BIN)/python bench/bench.py

bench-quick: setup  ## the same up to 10^6 documents; writes nothing
	$(BIN)/python bench/bench.py --quick

lock: setup  ## lock the dependencies anew
	$(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 -c requirements.txt pyproject.toml \
	  --group dev -o requirements-dev.txt

clean:  ## remove what was made in the checkout
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
