# Two commands set everything up: `make demo` and `make test`. They need Python 3.11 or newer, make
# and a package index.
PYTHON ?= python3
VENV ?= .venv
UV ?= uv
N ?= 50
SECONDS ?= 600
# The version that examples/neural_net_gpu.py was tested with. It is large, and so not among the pins.
TORCH ?= torch==2.13.0
JOBS ?= 1
# Test runs side by side: most tests wait most of the time. Who gets what: tests/sharing.py.
WORKERS ?= 2
BIN := $(VENV)/bin
PINS := requirements/dev.txt requirements/examples.txt
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo test coverage flake brokers stress simulate chaos check format bench docs gpu clean lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: $(VENV)/.installed ## Create or refresh the environment in .venv

demo: env ## Run the main job: the classic actor programs on real input
	@$(BIN)/python -m examples.demo

test: env ## Run every test (ARGS="-k order" picks some)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope tests/unit tests/simulation tests/integration tests/acceptance $(ARGS)

# Two runs side by side and not pytest-xdist: its processes end without writing down what they ran.
coverage: env ## Run every test and measure branches in every process: at least 95 %
	export PYTHONPATH="$(CURDIR)" && $(BIN)/coverage erase && { $(BIN)/coverage run -m pytest tests/unit tests/acceptance $(ARGS) & first=$$!; $(BIN)/coverage run -m pytest tests/integration $(ARGS); second=$$?; wait $$first && [ $$second -eq 0 ]; } && $(BIN)/coverage combine --quiet && $(BIN)/coverage report && $(BIN)/python -m tests.branches

flake: env ## Run the semantics suite N=50 times in random order and count (JOBS=2 at a time)
	@$(BIN)/python -m tests.flake $(N) --jobs $(JOBS) $(ARGS)

brokers: env ## Run the programming model's tests over each broker and count (ARGS="--only tls", "--short")
	@$(BIN)/python -m tests.brokers $(ARGS)

stress: env ## Create and kill N=10000 holders of GPUs at random: is a device given out twice?
	@$(BIN)/python -m tests.placement_stress $(N) $(ARGS)

simulate: env ## Run N=2000 schedules of each mode with faults between any two steps; hunt the mutants
	@$(BIN)/python -m tests.simulation $(N) $(ARGS)

chaos: env ## Break everything for SECONDS=600 while callers call: is a promise broken? (ARGS="--seed 7")
	@$(BIN)/python -m tests.chaos $(SECONDS) $(ARGS)

check: env ## Check format, style, types and layers
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/basedpyright --pythonpath $(BIN)/python && $(BIN)/lint-imports

format: env ## Format the code and fix what can be fixed safely
	$(BIN)/ruff format && $(BIN)/ruff check --fix

bench: env ## Measure against Ray, Celery, Dask and xoscar
	@$(BIN)/python -m benchmarks.run

docs: env ## Build the documentation into build/docs; warnings are errors
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m sphinx -q -W --keep-going -n -b html docs build/docs && echo build/docs/index.html

gpu: env ## Install PyTorch; run its example and the tests that need it or an NVIDIA GPU
	$(BIN)/python -m pip install --quiet $(TORCH) && $(BIN)/python -m examples.neural_net_gpu && $(BIN)/python -m pytest tests/integration tests/acceptance -m "gpu or torch" $(ARGS)

clean: ## Remove the environment, the caches and the build results
	rm -rf $(VENV) .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist htmlcov && find . -name __pycache__ -prune -exec rm -rf {} +

lock: ## Compile requirements/*.txt again (needs uv; ARGS="--upgrade" renews the pins)
	@$(LOCK) $(ARGS) pyproject.toml -o requirements/base.txt && $(LOCK) $(ARGS) pyproject.toml requirements/dev.in -c requirements/base.txt -o requirements/dev.txt && $(LOCK) $(ARGS) requirements/examples.in -c requirements/dev.txt -o requirements/examples.txt \
	&& for part in build flower metrics; do $(LOCK) $(ARGS) requirements/$$part.in -c requirements/dev.txt -o requirements/$$part.txt || exit 1; done

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")' && $(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(PINS) | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --require-hashes $(PINS:%=-r %) && $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . && touch $@
