# Every target makes the environment first when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from

# Most tests wait for servers, not for a core. A file's tests stay on one worker.
WORKERS ?= 3

QUIX_STAMP := .venv-quix/.made-from

.PHONY: help setup check test simulation demo bench docs format clean
help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

# Constraints pin every version; they hold no address, so any package index will do.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --build-constraint constraints.txt --editable '.[demo]' --group dev
	@touch $@

setup: $(STAMP) ## make .venv with the command and all tools in it

check: $(STAMP) ## style, types, import directions, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/generate.py --check

test: $(STAMP) ## all tests, on a real Kafka and a real Neo4j
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

simulation: $(STAMP) ## the source under 100 000 seeded schedules; about 80 minutes
	SIMULATION_SEEDS=100000 $(BIN)/python -m pytest --timeout=0 tests/property/test_source_simulation.py $(ARGS)

demo: $(STAMP) ## the whole way in one command
	$(BIN)/imednet-connector demo $(ARGS)

# A peer's pins exclude ours: it lives in an environment of its own.
$(QUIX_STAMP): benchmarks/quix/requirements.txt
	$(PYTHON) -m venv --clear .venv-quix
	.venv-quix/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench: $(STAMP) $(QUIX_STAMP) ## the sink beside its ceiling, the usual way and a peer
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP) ## write the generated files anew
	$(BIN)/python docs/generate.py

format: $(STAMP) ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
