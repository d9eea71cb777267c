# The commands of this project. Set-up is done once and again only when the pins or pyproject.toml
# change.
#   make lab                     set up, then open JupyterLab on lesson 00, Start here
#   make lab ARGS=--no-browser   the same on a machine without a screen
#   make test ARGS="-k wire"     some tests only
#   make lab PYTHON=python3.12   another Python than python3
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
FLOWER := $(VENV)/installed-flower
BOOK := $(VENV)/installed-book
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
NOTEBOOKS = $(wildcard notebooks/*.ipynb notebooks/solutions/*.ipynb)

.DEFAULT_GOAL := help
.PHONY: help setup flower book pictures lab test quick
.PHONY: benchmarks stress lint format strip pins clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) \
	| awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make .venv and install everything into it, tested versions only

# The upper bound is TensorFlow's: it has no wheels for a newer Python yet, and pip's own message
# does not say so.
# --clear, so that a set-up broken off half-way or another Python's leftovers cannot spoil this one.
# No build isolation:
# setuptools is among the pins, and an isolated build would fetch an untested one.
$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit( \
	"fedlab needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d. Name another one: " \
	"make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@

# The same versions, and what Flower needs beside them: lesson 09, the folder flower/, and the
# tests.
flower: $(FLOWER) ## set up, and install Flower too, the engine of lesson 09
$(FLOWER): $(STAMP) requirements-flower.txt
	$(INSTALL) -r requirements-flower.txt
	@touch $@

# The same versions again, and what the book is made with; lesson 09 runs too, so Flower as well.
$(BOOK): $(FLOWER) requirements-book.txt
	$(INSTALL) -r requirements-book.txt
	@touch $@

book: $(BOOK) ## set up, then run all lessons and make a web site of everything: build/book/site
	$(BIN)/python book/build.py $(ARGS)

pictures: $(STAMP) ## set up, then make the pictures in docs/ anew, in a browser
	$(BIN)/python -m pytest tests/pictures.py $(ARGS)

lab: $(STAMP) ## set up, then open JupyterLab on lesson 00, Start here
	$(BIN)/fedlab lab $(ARGS)

# Two files at a time, each from its first test to its last: most tests wait for something, and more
# would be in each other's way. make test ARGS="-n 0" runs one after the other.
# In the order of tests/conftest.py.
TOGETHER = -n 2 --dist loadfile --no-loadscope-reorder
test: $(BOOK) ## set up, with Flower and the book's tools, then run every test
	$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

benchmarks: $(STAMP) ## set up, then measure a whole federation and the bytes on the wire
	$(BIN)/python -m benchmarks.federation $(ARGS)

stress: $(STAMP) ## set up, then attack it: 20 to 60 minutes (ARGS="--rows disk,damage": some)
	$(BIN)/python -m stress $(ARGS)

# What needs minutes: the lessons, a browser, Flower, the original demonstration's 20 epochs, the
# benchmarks' own runs, examinations of clients, attacks. Daily work goes without.
SLOW = notebooks book browser flower demonstration benchmarks conformance stress
quick: $(STAMP) ## set up, then run the tests that take seconds: no lessons, no browser, no Flower
	$(BIN)/python -m pytest $(TOGETHER) -m "not slow" $(SLOW:%=--ignore=tests/test_%.py) $(ARGS)

lint: $(STAMP) ## look for mistakes and for lines laid out otherwise, with ruff
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(STAMP) ## lay out the code, with ruff
	$(BIN)/python -m ruff check --fix --select I .
	$(BIN)/python -m ruff format .

# Cell ids stay, so that a changed cell is the only change that git shows.
strip: $(STAMP) ## take outputs and widget state out of the notebooks, before a commit
	$(BIN)/nbstripout --keep-id --extra-keys metadata.language_info.version $(NOTEBOOKS)

# Run after a change of the ranges in pyproject.toml, then run the tests. Universal: one file for
# Linux, macOS and Windows, with a marker where a package is for one of them only. The first call
# resolves with Flower and the book as well, and the others may not leave what it found, so that
# `pip install -c requirements.txt -e '.[flower]'` changes none of the pinned versions.
# soupsieve is held back because its newer releases need different versions for different Pythons.
COMPILE = UV_CUSTOM_COMPILE_COMMAND='make pins' $(BIN)/uv pip compile pyproject.toml --quiet \
	--universal --fork-strategy fewest --python-version 3.11 --annotation-style line --upgrade
SHORTER = sed 's| *, -c [^ ,]*||; s|via -c [^ ,]*, |via |'
pins: $(STAMP) ## choose the newest versions that fit together anew, for all requirements files
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	echo 'soupsieve<3' > $(VENV)/held-back.txt
	$(COMPILE) --extra test --extra flower --extra book -c $(VENV)/held-back.txt -o $(VENV)/all.txt
	$(COMPILE) --extra test --extra flower -c $(VENV)/all.txt -o $(VENV)/with-flower.txt
	$(COMPILE) --extra test --extra book -c $(VENV)/all.txt -o $(VENV)/with-book.txt
	$(COMPILE) --extra test -c $(VENV)/all.txt -o $(VENV)/pins.txt
	$(SHORTER) $(VENV)/with-flower.txt > requirements-flower.txt
	$(SHORTER) $(VENV)/with-book.txt > requirements-book.txt
	$(SHORTER) $(VENV)/pins.txt > requirements.txt

clean: ## remove .venv and everything else that these commands made
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
