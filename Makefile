# DepthRank. `make` lists the targets. Nothing is needed but Python >= 3.11 and make.
#   make train CONFIG=configs/webstereo.yaml ARGS="train.steps=200" NPROC=2
# On Kaggle and Colab, where torch is installed already:  make setup VENV_ARGS=--system-site-packages

PYTHON    ?= python3
VENV      ?= .venv
VENV_ARGS ?=
CONFIG    ?= configs/demo.yaml
ARGS      ?=
NPROC     ?= 1
OLD       ?= main
NEW       ?= HEAD
RUN       ?= runs/demo/ranking
DATA      ?= synthetic=100
PICTURES  ?= docs/images

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOWEST    := .venv-lowest
PEERS     := .venv-peers
TRAIN      = $(if $(filter 1,$(NPROC)),$(BIN)/python,$(BIN)/torchrun --nproc_per_node $(NPROC)) -m launch.train

.DEFAULT_GOAL := help
.PHONY: help setup demo study shards train resume eval predict demo-page report tensorboard test test-all test-faults test-lowest lint format reference bench bench-compare bench-gpu bench-scale bench-labels bench-data bench-loss bench-checkpoint clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv and install the project with its development tools, once

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "DepthRank needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_ARGS) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(INSTALLED) ## Make shards, train, evaluate and show pictures: the whole road in minutes
	$(BIN)/python -m launch.quickstart

study: $(INSTALLED) ## Train and compare losses, pairs, sizes on web stereo, write docs/study.md: ARGS=
	$(BIN)/python -m launch.study $(ARGS)

shards: $(INSTALLED) ## Pack pictures into shards: CONFIG= ARGS=
	$(BIN)/python -m launch.shards --config $(CONFIG) $(ARGS)

train: $(INSTALLED) ## Train, or carry on where the run stopped: CONFIG= ARGS= NPROC=
	$(TRAIN) --config $(CONFIG) $(ARGS)

resume: train ## The same as train: a run always continues from its newest checkpoint

eval: $(INSTALLED) ## Evaluate: RUN= DATA= ARGS=
	$(BIN)/python -m launch.evaluate --checkpoint $(RUN) --data $(DATA) $(ARGS)

predict: $(INSTALLED) ## Predict pictures, folders, patterns: RUN= PICTURES= ARGS=
	$(BIN)/python -m launch.predict --checkpoint $(RUN) $(PICTURES) --out $(RUN)/predictions $(ARGS)

demo-page: $(INSTALLED) ## Serve a page that takes pictures and says which point is nearer: RUN= ARGS=
	$(BIN)/python -m launch.demo --checkpoint $(RUN) $(ARGS)

report: $(INSTALLED) ## Write one HTML page about a run: RUN= ARGS=
	$(BIN)/python -m launch.report $(RUN) $(ARGS)

tensorboard: $(INSTALLED) ## Show all runs in the browser
	$(BIN)/tensorboard --logdir runs --samples_per_plugin images=200 $(ARGS)

test: $(INSTALLED) ## The tests that take minutes
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu" $(ARGS)

test-all: $(INSTALLED) ## Every test
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-faults: $(INSTALLED) ## Kill runs at random moments, fill disks, send signals: the long tests of faults
	$(BIN)/python -m pytest -m faults -s $(ARGS)

test-lowest: ## The tests on the lowest versions that pyproject.toml declares, in an environment of their own
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/lowest_versions.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/constraints.txt --editable ".[dev]"
	$(LOWEST)/bin/python -m pytest -n 2 -m "not slow and not gpu" $(ARGS)

lint: $(INSTALLED) ## Lint, format check, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED) ## Measure speed end to end beside floors and peers: start, data, step, saving, packing
	$(BIN)/python -m tests.bench $(ARGS)

bench-compare: $(INSTALLED) ## Which ratio got worse by a tenth? OLD= NEW= (records or commits) NAMES=
	$(BIN)/python -m tests.bench.compare $(OLD) $(NEW) $(NAMES)

bench-gpu: $(INSTALLED) ## Measure the training step on a GPU: fed and alone, precisions, memory, loss, saving
	$(BIN)/python -m tests.bench gpu fed loss checkpoint network $(ARGS)

bench-scale: $(INSTALLED) ## Measure order, index and manifest of 1e8 samples in 1e5 shards
	$(BIN)/python -m tests.bench scale $(ARGS)

bench-labels: $(INSTALLED) ## Measure the labels: exact truth, degraded pairs, wild pairs
	$(BIN)/python -m tests.bench labels degraded web $(ARGS)

bench-loss: $(INSTALLED) ## Measure the losses beside loops over the pictures
	$(BIN)/python -m tests.bench loss $(ARGS)

bench-checkpoint: $(INSTALLED) ## Measure saving beside accelerator.save_state
	$(BIN)/python -m tests.bench checkpoint $(ARGS)

bench-data: $(INSTALLED) $(PEERS)/.installed ## Measure the training stream beside webdataset, mosaicml-streaming, litdata: ARGS=
	$(BIN)/python -m tests.bench.data $(ARGS)

$(PEERS)/.installed: tests/bench/peers/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

reference: $(INSTALLED) ## Write docs/configuration.md from the schema of the settings
	$(BIN)/python -m launch.reference --out docs/configuration.md

clean: ## Remove caches and environments; runs/ stays
	rm -rf $(VENV) $(LOWEST) $(PEERS) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
