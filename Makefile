# make demo   learn handwritten digits on this machine, draw new ones, measure them   (about 5 minutes)
# make test   format, lint, types and the whole fast test suite                       (a few minutes)
# make docs   the book: lessons, guides and reference, in docs/_build/index.html            (some minutes)
#
# All make their own virtual environment in .venv on the first run and reuse it afterwards.
# PYTHON=python3.12 make test   uses another Python (3.11 or newer).   VENV=/some/folder   puts the environment elsewhere.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test docs clean help
help:
	@sed -n 's/^# \{0,1\}//p' Makefile

$(READY): pyproject.toml constraints.txt
	@echo "== setting up $(VENV) (once; downloads PyTorch if this machine does not have it)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "scorefield: got Python " + sys.version.split()[0] + ", expected 3.11 or newer: name one, as in  make test PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[plot,test]'
	@touch $(READY)

demo: $(READY)
	@echo "== 1/3 learning digits from 1,198 real 8x8 images, 3 minutes (runs/digits; goes on where it was if you stopped it)"
	@$(BIN)/scorefield train digits --time 3m --out runs/digits --resume
	@echo "== 2/3 drawing 64 new digits, with an animation"
	@$(BIN)/scorefield sample runs/digits -n 64 --gif --out runs/digits/samples.png --force
	@echo "== 3/3 measuring 1,000 of them against the 599 images that training never saw"
	@$(BIN)/scorefield evaluate runs/digits
	@echo "== look at runs/digits/samples.png, samples.gif, loss_by_level.png, quality.html"

test: $(READY)
	@echo "== format and lint"
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@echo "== types"
	@$(BIN)/mypy
	@echo "== tests"
	@OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -p xdist -n 2 --dist loadfile --no-loadscope-reorder

docs: $(READY)
	@$(BIN)/python -c 'import furo, myst_parser, sphinx_gallery, sphinxcontrib.katex, ziamath' 2> /dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@echo "== running the lessons and building the pages"
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky -q -b html docs docs/_build
	@echo "== open docs/_build/index.html"

clean:
	rm -rf $(VENV) docs/_build docs/book docs/reference docs/theorems.rst .pytest_cache .mypy_cache .ruff_cache
