# The commands of development. `make demo` and `make test` set up everything themselves; they need
# Python 3.11 or newer, make, and for the real servers apt (as root) or a Docker engine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STACK := $(BIN)/python examples/stack/stack.py
# Four workers on two cores: tests mostly wait. One file stays on one worker, for its fixtures.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile
FURTHER_PYTHONS ?= 3.12 3.13 3.14
RESOLUTIONS ?= lowest-direct highest
# `make test ARGS="-k spool"` selects tests; `make lock UPGRADE=` keeps the locked versions.
ARGS ?=
UPGRADE ?= --upgrade

.DEFAULT_GOAL := help
.PHONY: help setup demo down test test-long test-quick test-wheel test-pythons test-versions check format docs \
  golden dashboard bench bench-quick lock clean

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

test: setup  ## all tests but the long ones, on the real servers
	@$(STACK) up
	$(PYTEST) -m 'not long' $(ARGS)

test-long: setup  ## the long tests: outages, kills, soak
	@$(STACK) up
	$(PYTEST) -m long $(ARGS)

test-quick: setup  ## the tests that are neither long nor black-box tests on real servers
	$(PYTEST) -m 'not long and not contract' $(ARGS)

test-wheel: setup  ## build wheel and sdist, and run the quick tests on the wheel
	@VENV="$(VENV)" PYTHON="$(PYTHON)" .ci/test-wheel

test-pythons: setup  ## the quick tests on the other Pythons found here
	@FURTHER_PYTHONS="$(FURTHER_PYTHONS)" .ci/test-pythons

test-versions: setup  ## the quick tests on the lowest and newest versions, beside instrumentations
	@VENV="$(VENV)" PYTHON="$(PYTHON)" RESOLUTIONS="$(RESOLUTIONS)" .ci/test-versions

check: setup  ## format, lint, types, import rules, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

format: setup  ## format the code and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## write the tables of docs/metrics.md from the metric rows
	$(BIN)/python .ci/metrics_docs.py docs/metrics.md

golden: setup  ## regenerate the golden file of both reports
	OTEL_NOVU_WRITE_GOLDEN=1 $(BIN)/python -m pytest tests/contract/test_golden.py

dashboard: setup  ## generate the dashboard's JSON, its variants and the PrometheusRule
	$(BIN)/python examples/grafana/novu_dashboard.py
	$(BIN)/python examples/grafana/translation.py
	$(BIN)/python examples/kubernetes/prometheusrule.py

bench: setup  ## measure what otel-novu costs, on real servers; writes docs/cost.md
	$(BIN)/python bench/bench.py

bench-quick: setup  ## the same in a few minutes; writes nothing
	$(BIN)/python bench/bench.py --quick

lock: setup  ## lock the dependencies, upgraded
	$(BIN)/uv pip compile -q $(UPGRADE) --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q $(UPGRADE) --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 -c requirements.txt pyproject.toml \
	  --group dev -o requirements-dev.txt

clean:  ## remove everything generated in the checkout
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
