# Every target first creates the environment if it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from

# Most tests wait for servers rather than CPU. All tests of a file run on one worker.
WORKERS ?= 3

QUIX_STAMP := .venv-quix/.made-from

.PHONY: help setup check test simulation demo bench docs format clean
help: ## list all targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

# Constraints pin every version and contain no URL, so that any package index works.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --build-constraint constraints.txt --editable '.[demo]' --group dev
	@touch $@

setup: $(STAMP) ## create .venv with the command and all tools

check: $(STAMP) ## check style, types, import rules and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/generate.py --check

test: $(STAMP) ## run all tests on a real Kafka and Neo4j
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

simulation: $(STAMP) ## run the source under 100 000 seeded random schedules; about 80 minutes
	SIMULATION_SEEDS=100000 $(BIN)/python -m pytest --timeout=0 tests/property/test_source_simulation.py $(ARGS)

demo: $(STAMP) ## run the whole pipeline and compare API and graph
	$(BIN)/imednet-connector demo $(ARGS)

# Quix pins other versions than this project, so it gets a separate environment.
$(QUIX_STAMP): benchmarks/quix/requirements.txt
	$(PYTHON) -m venv --clear .venv-quix
	.venv-quix/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench: $(STAMP) $(QUIX_STAMP) ## compare the sink with its upper bound, plain MERGE and Quix
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP) ## regenerate the generated documents
	$(BIN)/python docs/generate.py

format: $(STAMP) ## format the code and apply lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
