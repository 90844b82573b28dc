# The two commands are `make demo` and `make test`; both work from a clean clone with Python 3.11 or newer.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Compiling all of what is installed takes longer than installing it, and most of it is never imported. What is imported
# is compiled once and kept, whatever the caller's environment says: else every process would compile it again.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/pycache
BACKENDS := tensorflow jax torch
# Two processes for the two cores that the tests are measured on.
WORKERS ?= 2
# A test that hangs is ended with its process, after what every thread was doing was told; with WORKERS the run goes on.
# Each worker begins with half of the tests in a row, so that what a module prepares is prepared once, and then helps out.
PYTEST := $(BIN)/python -m pytest -q --dist worksteal -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true
export TF_CPP_MIN_LOG_LEVEL ?= 2
# What a test under XLA takes is what compiling takes: it optimizes less, and JAX's processes keep what they compiled.
QUICK_XLA := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
	--xla_llvm_disable_expensive_passes=true" \
	JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/jax-cache \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

.PHONY: demo test test-free test-examples test-docs test-notebooks $(BACKENDS:%=test-%) lint verify clean

demo: $(VENV)/.demo
	KERAS_BACKEND=tensorflow $(BIN)/python -m examples.camera_motion.demo

test: $(VENV)/.dev
	$(MAKE) test-free $(BACKENDS:%=test-%) test-examples

# Side by side: either leaves a core idle where it starts and ends.
test-examples: $(VENV)/.dev
	$(MAKE) -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) test-docs test-notebooks

test-free: $(VENV)/.dev
	$(PYTEST) -n $(WORKERS) -m "backend_free and not slow"

$(BACKENDS:%=test-%): test-%: $(VENV)/.dev
	$(QUICK_XLA) KERAS_BACKEND=$* $(PYTEST) -n $(WORKERS) -m "not backend_free and not slow"

# The examples in docstrings; JAX prints shapes as plain tuples.
test-docs: $(VENV)/.dev
	$(QUICK_XLA) KERAS_BACKEND=jax $(PYTEST) -n $(WORKERS) --doctest-modules keras_video_focalnet

test-notebooks: $(VENV)/.dev
	KERAS_BACKEND=tensorflow $(PYTEST) -n $(WORKERS) --nbmake notebooks

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

verify: $(VENV)/.dev
	bash tests/verify.sh

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) tensorflow-cpu -e '.[demo]'
	touch $@

# PyTorch goes first: what later asks for "torch" then finds it there.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) tensorflow-cpu jax -e '.[dev]'
	touch $@ $(VENV)/.demo
