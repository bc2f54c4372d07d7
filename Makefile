# make demo    train, evaluate and pack a binary detector on real digits and draw the results
# make test    check style, types and import directions and run the tests
# make stress  run the stress tests (killed runs, damaged files, wrong configs) and write docs/reliability.md;
#              after a failure or an interruption, make stress ARGS=--resume runs the rest
# make browser run an exported detector in a page of Chromium, which must be installed; it installs ziglang too
# make microcontroller
#              run an exported detector on an emulated Cortex-M7; needs Debian's gcc-arm-none-eabi,
#              libnewlib-arm-none-eabi and qemu-system-arm
# make test-targets
#              compare kernels and a program with packed models on emulated CPUs (ARM of 64 and 32 bits, RISC-V) and in
#              WebAssembly; needs Debian's qemu-user-static and nodejs, and installs ziglang
# make docs    build the documentation into docs/_build/html
#
# Each creates the environment .venv first if it is missing, or updates it if the requirements have changed.
# PYTHON=/path/to/python selects the Python (3.10, 3.11 or 3.12) of a new .venv.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished
DOCS_INSTALLED := $(VENV)/.docs-installed
PYTHONS := $(or $(PYTHON),python3.12 python3.11 python3.10 python3)

.PHONY: demo test stress browser microcontroller test-targets docs lint format clean

demo: $(INSTALLED)
	$(BIN)/python tools/demo.py

# Two workers of one thread each are the fastest on two cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

stress: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/stress --report docs/reliability.md $(ARGS)

browser: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt -r requirements/c.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser $(ARGS)

microcontroller: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/microcontroller $(ARGS)

test-targets: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt -r requirements/c.txt
	for target in aarch64-linux-musl arm-linux-musleabihf riscv64-linux-musl wasm32-wasi; do \
	    SURGE_C_TARGET=$$target OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/deploy/c/test_kernels.py $(ARGS) || exit 1; \
	done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/targets $(ARGS)

# Any warning, such as a broken link or a reference to a name that does not exist, fails the build.
docs: $(DOCS_INSTALLED)
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy surge_mm
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# An environment whose installation was interrupted is created again; one that lacks an update is kept.
$(INSTALLED): $(wildcard requirements/*.txt) setup.py
	@if [ -e $(UNFINISHED) ]; then rm -rf $(VENV); fi; \
	if [ -e $(BIN)/python ] && [ ! -e $@ ]; then \
	    echo "$(VENV) was not made by this Makefile, which would replace packages in it: move it away" >&2; exit 1; \
	fi; \
	pythons="$(PYTHONS)"; \
	if [ -e $(BIN)/python ]; then pythons=$(BIN)/python; fi; \
	for python in $$pythons; do \
	    $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null || continue; \
	    fits=$$python; \
	    $$python -c 'import ensurepip, venv' 2>/dev/null && break; \
	done; \
	if [ -z "$$fits" ]; then \
	    echo "surge_mm needs Python 3.10, 3.11 or 3.12, and none of these is one: $$pythons." \
	        "Install one, or name it: make clean; make demo PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! $$fits -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$fits cannot make environments: install its venv package (Debian, Ubuntu:" \
	        "apt install python3-venv), or name another Python: make demo PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if [ ! -e $(BIN)/python ]; then \
	    echo "Making $(VENV) with $$fits: some minutes and about 6 GB, once."; \
	    mkdir -p $(VENV) && touch $(UNFINISHED) && $$fits -m venv $(VENV) || exit 1; \
	fi; \
	$(BIN)/python -m pip install --disable-pip-version-check -c requirements/constraints.txt \
	    -r requirements/runtime.txt -r requirements/lite.txt -r requirements/deploy.txt \
	    -r requirements/onnx.txt -r requirements/language.txt -r requirements/tests.txt && \
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	rm -f $(UNFINISHED) && touch $@

$(DOCS_INSTALLED): $(INSTALLED) requirements/docs.txt requirements/constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check -c requirements/constraints.txt \
	    -r requirements/docs.txt && touch $@
