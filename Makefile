# Everything a fresh machine needs is installed on first use into .venv; PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two tests at a time, each on one thread; those of a file one after the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

.PHONY: reproduce test test-full lint bench install clean

reproduce: $(READY)
	$(BIN)/rlhf reproduce --recipe nano --seed 0

test: $(READY) lint
	$(PYTEST) -m "not slow"

test-full: $(READY) lint
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/pretraining.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/registry_costs.py
	$(BIN)/python benchmarks/importing.py
	$(BIN)/python benchmarks/reward_models.py
	$(BIN)/python benchmarks/ppo.py

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps irrCAC==0.4.4 # a reference for tests; it asks for an old scipy, which it does not need
	touch $@

clean:
	rm -rf $(VENV) .venv-trl-1.10 build *.egg-info
