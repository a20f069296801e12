# make demo    set up, then score real human mitochondrial variants (about a minute after set-up)
# make test    set up, then run the tests
# make docs    set up, then build the documentation site: docs/_build/index.html
# make notebooks  set up, then run every notebook in its fast setting; the site shows them: docs/notebooks/
# make bench   every benchmark that a CPU can run, beside the recorded ratios (docs/performance.md)
# make image-test  the Dockerfile, built and started once (Debian, as root)
# make check   ruff, mypy, import-linter, tests: what CI runs
#
# EXTRAS=dev,all         what `make test` installs beside NexVar itself: tests of extras that are not there skip
# PYTHON=python3.12      the interpreter to build .venv with (3.10 or later)
# CONSTRAINTS=           let pip choose every version; the default pins torch
# CONSTRAINTS=my.txt     your own pins (for instance another CUDA build of torch)

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
CONSTRAINTS ?= constraints-ci.txt
WORKERS ?= 2

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e

.PHONY: demo test docs notebooks bench check lint setup image-test clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.ready-run
	$(BIN)/nexvar demo

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n $(WORKERS)

docs: $(VENV)/.ready-docs
	$(BIN)/python -m sphinx -q -E -W --keep-going docs docs/_build
	@! grep -rnE '<(link|script|img|iframe)[^>]* (src|href)="(https?:)?//' docs/_build --include='*.html' \
	  || { echo "a built page would ask another machine"; exit 1; }
	@echo docs/_build/index.html

# One that fails its checks is not written. FAST= runs the full setting, which each notebook describes.
FAST ?= 1
NOTEBOOKS := $(patsubst notebooks/%.py,docs/notebooks/%.ipynb,$(wildcard notebooks/*.py))
notebooks: $(NOTEBOOKS)

docs/notebooks/%.ipynb: notebooks/%.py $(VENV)/.ready-notebooks $(shell find src/nexvar -name '*.py')
	@mkdir -p $(@D)
	NEXVAR_FAST=$(FAST) $(BIN)/python -m jupytext --quiet --to ipynb --execute --run-path notebooks --output $@ $<
	@grep -q '"image/png"' $@ || { rm $@; echo "$< shows no picture"; exit 1; }

bench: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/bench.py

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

image-test:
	bash .ci/image

setup: $(VENV)/.ready-dev

clean:
	rm -rf $(VENV) docs/_build docs/notebooks demo_out dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache conda/output

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "nexvar needs Python 3.10 or later; $(PYTHON) is older: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras: a second `make` skips pip until what it installed from has changed.
$(VENV)/.ready-run: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP_INSTALL) '.[plots]'
	@touch $@

$(VENV)/.ready-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP_INSTALL) '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.ready-run

$(VENV)/.ready-docs: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP_INSTALL) '.[docs,sklearn]'
	@touch $@

$(VENV)/.ready-notebooks: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP_INSTALL) '.[notebooks]'
	@touch $@
