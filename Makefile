# Each target makes what it needs; all are safe to run twice. `make VENV=/some/where test` uses another environment.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: install demo test lint check slow fuzz kill bench bench-cpu docs mutation opinfo opinfo-compile

install: $(VENV)/.stamp

# torch first and alone: what the machine's pip settings give for it (a CPU build, for instance) is then what all else uses.
$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,rtx,test]"
	touch $@

demo: install
	$(BIN)/python examples/demo.py

# A file's tests stay in one process, and all processes must list them in one order (so one hash seed); PyTorch and OpenVINO would start threads for all cores in each. JOBS=8 on a larger machine. A process that ends is the end: xdist waits for ever for what it was to run.
test: install
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not slow" -n $(or $(JOBS),2) --dist loadfile --max-worker-restart 0

lint: install
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy --strict torch_tensorrt

check: lint test

slow: install
	$(BIN)/python -m pytest -m "slow and not gpu"

# 10,000 damaged files, loaded and run: minutes. FILES=500 for fewer.
fuzz: install
	$(BIN)/python tests/package/fuzzing.py --files $(or $(FILES),10000)

kill: install
	KILLS=50 $(BIN)/python -m pytest tests/package/test_kill.py

bench: install
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/against_openvino.py

# Against all peers on a CPU (hours; goes on where it was left): make bench-cpu ROWS='"x1 float32" "x1 int8"' for rows whose names hold these.
bench-cpu: install
	$(BIN)/python benchmarks/cpu.py --resume $(if $(ROWS),--rows $(ROWS))

docs: install
	$(BIN)/python docs/write_options.py
	$(BIN)/python docs/write_api_status.py
	$(BIN)/python -m torch_tensorrt coverage --zoo tests/zoo/models.py --tensorrt sm_89 --operators docs/data/documented_operators.txt --write docs/coverage.md

# One-property mutations of right networks: who notices each (minutes). ROWS=40: one of 40 rows of the operator suite beside them.
mutation: install
	PYTHONPATH=tests:. $(BIN)/python tests/interpret/mutation.py --rows $(or $(ROWS),40)

# PyTorch's own sample inputs through the TensorRT converters (minutes); the counts go to docs/data/opinfo.json.
opinfo: install
	PYTHONPATH=tests:. OMP_NUM_THREADS=1 $(BIN)/python tests/suite/opinfo.py --write docs/data/opinfo.json

# PyTorch's own sample inputs through torch.compile with our backend: every third operator, two samples each (minutes).
opinfo-compile: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/dynamo/op_samples.py --every $(or $(EVERY),3)
