# What a person types. Needs make and Python 3.11, 3.12 or 3.13, and nothing else.

MODEL ?= mini_base
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
# pip compiles modules on one core; all cores do afterwards.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

# One worker a core, at most four. A file's tests stay together, because they share what is slow to
# make; the longest files start first (tests/conftest.py).
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-extras test-all faults check lint format docs serve-docs lock clean
.DELETE_ON_ERROR:

demo: $(INSTALLED) ## the paper on a miniature model: from data to report in about five minutes
	MALLOC_ARENA_MAX=1 $(BIN)/sycophancy run --model $(MODEL) --recipe demo --name demo --redo finetune

test: $(INSTALLED) ## every property, by its fastest test: about twenty minutes on two cores
	$(BIN)/pytest $(WORKERS)

test-extras: $(INSTALLED) ## those that compare with torch, transformers and the LM evaluation harness
	$(BIN)/pytest $(WORKERS) -m 'extras and not slow and not faults' \
		$$(grep -rl --include='*.py' pytest.mark.extras tests)

test-all: $(INSTALLED) ## also the tests marked `slow`
	$(BIN)/pytest $(WORKERS) -m 'not faults'

faults: $(INSTALLED) ## hundreds of damaged runs, rows, models and settings: about an hour on two cores
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 -m faults

check: $(INSTALLED) ## lint, types and the tests of what changed: at most a minute
	$(BIN)/python scripts/check_changed.py

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs serve-docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED) ## the documentation as a site, in site/; a warning ends the build
	$(BIN)/mkdocs build --strict

serve-docs: $(INSTALLED) ## the same on this machine's port 8000, built again at each change
	$(BIN)/mkdocs serve --strict

# The exact versions that `make` and CI install, for every Python and platform we support, and beside
# which the extras in EXTRAS can be installed, too. Versions already there stay where they can;
# `make lock UPGRADE=--upgrade` takes the newest of all.
EXTRAS := hf harness wandb gcs s3
COMPILE = .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
	--custom-compile-command 'make lock' --extra dev --extra docs
EVERYWHERE := s/ ; python_full_version < '3.14' and (sys_platform == 'darwin' or sys_platform == 'linux')$$//

lock:
	$(if $(PYTHON),,$(error no Python 3.11, 3.12 or 3.13 found; name one with PYTHON=...))
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet --upgrade uv
	cp requirements.lock .cache/lock/with-extras.txt
	$(COMPILE) $(UPGRADE) $(EXTRAS:%=--extra %) --output-file .cache/lock/with-extras.txt pyproject.toml
	sed -e "$(EVERYWHERE)" -e '/ ; /d' .cache/lock/with-extras.txt > .cache/lock/constraints.txt
	$(COMPILE) --constraint .cache/lock/constraints.txt --output-file requirements.lock pyproject.toml
	sed -i.old "$(EVERYWHERE)" requirements.lock && rm requirements.lock.old

clean:
	rm -rf .venv .cache/lock

$(INSTALLED): requirements.lock pyproject.toml
	$(if $(PYTHON),,$(error no Python 3.11, 3.12 or 3.13 found; name one with PYTHON=...))
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip # what Python brings takes half as long again
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x /tests/ .venv/lib || true # a few files are not for this Python
	touch $@
