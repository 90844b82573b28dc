# The two commands are `make demo` and `make test`; both work from a clean clone with Python 3.11 or newer.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Compiling every installed module takes longer than installing it, and most modules are never imported. So pip compiles
# nothing. Python compiles what is imported and keeps it under PYTHONPYCACHEPREFIX, whatever the caller's environment
# says; otherwise every process would compile it again.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/pycache
BACKENDS := tensorflow jax torch
# The duration of the tests is measured on two cores, so two processes run them.
WORKERS ?= 2
# After 15 minutes a hanging test prints the stacks of all threads and ends its process; the other worker goes on.
# Each worker begins with consecutive tests, so that the fixtures of a module are made once, and then takes over tests
# from the other worker.
PYTEST := $(BIN)/python -m pytest -q --dist worksteal -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Tests under XLA spend their time compiling, so XLA optimizes less and JAX keeps compiled programs between processes.
QUICK_XLA := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
	--xla_llvm_disable_expensive_passes=true" \
	JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/jax-cache \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

.PHONY: demo test test-free test-examples test-docs test-notebooks $(BACKENDS:%=test-%) lint docs verify clean

demo: $(VENV)/.demo
	KERAS_BACKEND=tensorflow $(BIN)/python -m examples.camera_motion.demo

test: $(VENV)/.dev
	$(MAKE) test-free $(BACKENDS:%=test-%) test-examples

# Both run at the same time, because each leaves a core idle while it starts and ends.
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
	$(QUICK_XLA) KERAS_BACKEND=tensorflow $(PYTEST) -n $(WORKERS) --nbmake notebooks

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The site, in build/site. A warning ends it: of a page that is missing, of a link or an anchor that leads nowhere, of
# anything that a reader's browser would fetch from another host. Builders tell their signatures, so Keras is imported.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 KERAS_BACKEND=torch $(BIN)/python -m mkdocs build --strict

verify: $(VENV)/.dev
	bash tests/verify.sh

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) tensorflow-cpu -e '.[demo]'
	touch $@

# PyTorch is installed first, so that packages that require "torch" find it installed.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) tensorflow-cpu jax -e '.[dev]'
	touch $@ $(VENV)/.demo
