# Each target makes what it needs; all are safe to run twice.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test lint check bench docs slow

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,test]"
	touch $@

demo: $(VENV)/.stamp
	$(BIN)/python examples/demo.py

test: $(VENV)/.stamp
	$(BIN)/python -m pytest -m "not gpu and not slow"

lint: $(VENV)/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict torch_tensorrt

check: lint test

slow: $(VENV)/.stamp
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.stamp
	$(BIN)/python benchmarks/against_openvino.py

docs: $(VENV)/.stamp
	$(BIN)/python -m torch_tensorrt coverage --zoo tests/zoo/models.py --write docs/coverage.md
