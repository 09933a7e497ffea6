PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
FILES := $(VENV)/files

EXTRAS := $(VENV)/extras

.PHONY: help demo test test-extras lint format clean FORCE

help:
	@echo "make demo    install, then run the whole flow on embedded data (offline)"
	@echo "make test    install, then run the tests"
	@echo "make test-extras   install each converter in an environment of its own, then run its tests"
	@echo "make lint    ruff, mypy and import-linter"
	@echo "make format  let ruff format the code"

# One thread: the demo's networks are so small that more only wait for each other.
demo: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/privynet demo --out demo-run --force

# A test process that dies ends the run: what a new one takes over, pytest-xdist may wait for without end.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --max-worker-restart 0

# Converters: each brings its own world, so each has an environment of its own, on top of the first.
test-extras: $(EXTRAS)/executorch/passed $(EXTRAS)/litert/passed $(EXTRAS)/coreml/passed

.PRECIOUS: $(EXTRAS)/%/installed
$(EXTRAS)/%/installed: constraints/%.txt $(INSTALLED)
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -c 'import sys, sysconfig as s; print("import site; site.addsitedir(%r)" % s.get_path("purelib"))' \
	    > "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints/$*.txt 'privynet[$*]'
	touch $@

$(EXTRAS)/%/passed: $(EXTRAS)/%/installed FORCE
	OMP_NUM_THREADS=1 $(@D)/bin/python -m pytest -q -n 0 -m converter -k $* tests/exporters/test_converters.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p privynet
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The strict editable install links each file, so a new or removed file needs a new install.
$(FILES): FORCE
	@mkdir -p $(VENV)
	@find . -path ./$(VENV) -prune -o -path ./build -prune -o \
	    \( -name '*.py' -o -name '*.toml' -o -name '*.html' -o -name '*.jinja' -o -name '*.safetensors' -o -name '*.json' -o -name py.typed \) \
	    -not -path './tests/*' -not -path './benchmarks/*' -not -path './.*/*' -not -path './demo-run/*' -print | sort > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: privynet needs Python 3.11 or newer; call make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt $(FILES) | $(BIN)/python
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    -e '.[dev]' --config-settings editable_mode=strict
	touch $@

clean:
	rm -rf $(VENV) build demo-run
