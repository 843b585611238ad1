# make demo | test | test-slow | test-pages | test-keras | check | bench | bench-recipes | bench-spine | bench-kernels | bench-data | bench-outcome | bench-generator | bench-trust | bench-doctor | bench-doctor-full | programs | siege   (the first call installs into .venv)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# An index of CPU builds of torch, handed to pip: make demo TORCH_INDEX=<address> (see README, "Install").
TORCH_INDEX ?=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
              $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test test-slow test-pages test-keras check bench bench-recipes bench-spine bench-kernels bench-data bench-outcome bench-generator bench-trust bench-doctor bench-doctor-full programs siege clean
demo: $(VENV)/.installed
	$(BIN)/fovea train demo

# A process for each core; threads of torch that wait for each other give their core away.
test: $(VENV)/.installed-test
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

# What people look at: pages in a browser (skipped with a reason where no Chromium is on the PATH), the notebook.
test-pages: $(VENV)/.installed-pages
	$(BIN)/python -m pytest -m pages

# Against the real Keras: augmentation, model files.
test-keras: $(VENV)/.installed-parity
	$(BIN)/python -m pytest -m keras

check: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

# Against Keras and PyTorch, side by side; the first call makes benchmarks/.peers. QUICK=1: few rounds, nothing written.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

# Time to accuracy, from a cold start: one RECIPE (else mnist-fast) and SEED (else 0) at a time; DATA holds the real sets.
bench-recipes: $(VENV)/.installed
	$(BIN)/python benchmarks/recipes.py $(or $(RECIPE),mnist-fast) --seed $(or $(SEED),0) $(if $(DATA),--data $(DATA))

# Start-up, and accuracy, time and memory of the defaults over seeds.
bench-spine: $(VENV)/.installed
	$(BIN)/python benchmarks/spine.py

# Which way a weight gradient is computed faster, by shape: writes src/fovea/training/kernels.yaml. THREADS=1 for one.
bench-kernels: $(VENV)/.installed
	$(BIN)/python benchmarks/kernels.py $(if $(THREADS),--threads $(THREADS))

# DATA holds the real sets; PEERS is a Python with pandas, keras and tensorflow (without it they are left out).
bench-data: $(VENV)/.installed
	$(BIN)/python benchmarks/data.py $(DATA) $(if $(PEERS),--peers $(PEERS))

# MNIST and CIFAR are runs on these sets: report, cold start, predictions, input guard.
bench-outcome: $(VENV)/.installed
	$(BIN)/python benchmarks/outcome.py $(DATA) --mnist $(MNIST) --cifar $(CIFAR)

# Augmented batches a second against Keras' ImageDataGenerator; DATA: a folder that holds MNIST.
bench-generator: $(VENV)/.installed-parity
	$(BIN)/python benchmarks/generator.py $(if $(DATA),--data $(DATA))

# How far to believe it: data audit, label errors, intervals, cost. PART=audit measures one; DATA holds the real sets.
bench-trust: $(VENV)/.installed
	$(BIN)/python benchmarks/trust.py $(or $(PART),all) $(if $(DATA),--data $(DATA))

# Faults planted in small trainings, and healthy ones: what the doctor says of them. QUICK=1: one net a fault, 5 minutes.
bench-doctor: $(VENV)/.installed
	$(BIN)/python benchmarks/doctor/run.py $(if $(QUICK),--quick)

# The same with three seeds, and the damage of faults that is not yet stored; FOVEA_DATA: MNIST and Fashion-MNIST.
bench-doctor-full: $(VENV)/.installed
	$(BIN)/python benchmarks/doctor/run.py --damage
	$(BIN)/python benchmarks/doctor/run.py --full

# The published programs against our own recipes, into docs/programs.md; about two hours, with LONG=1 a day.
programs: $(VENV)/.installed
	$(BIN)/python benchmarks/programs.py $(if $(LONG),--long) $(if $(SEEDS),--seeds $(SEEDS))

# Kills runs at random and compares bytes: a quarter of an hour; FOVEA_DATA with MNIST in it adds the cost of saving.
siege: $(VENV)/.installed
	$(BIN)/python benchmarks/siege.py

# One stamp per set of packages: a second call of any target installs nothing.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Fovea needs Python 3.11 or newer; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[fast]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[fast,test]'
	@touch $@

$(VENV)/.installed-pages: $(VENV)/.installed-test
	$(PIP_INSTALL) -e '.[fast,pages]'
	@touch $@

$(VENV)/.installed-parity: $(VENV)/.installed-test
	$(PIP_INSTALL) -e '.[fast,parity]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP_INSTALL) -e '.[fast,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
