# Needs make, a CPython from 3.11 up and a package index; everything else is installed on first use:
#   .venv          the package in place, for the demo, the docs and the benchmarks
#   .venv-test-X   the built wheel on CPython X, for the tests and the checks
# PYTHON=/path/to/python chooses another interpreter, TESTS="tests/docs -k digest" what is run,
# JOBS=0 one process (a debugger needs that).

PYTHON = $(wordlist 2,99,$(FOUND))
FOUND := $(if $(filter command,$(origin PYTHON)),,$(shell scripts/pythons --first))
MINOR := $(if $(PYTHON),$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'))

NEW_ENOUGH = case "$(MINOR)" in 3.1[1-9]) ;; "") exit 1;; *) echo "wellkept needs CPython 3.11 or newer; PYTHON=$(PYTHON) is $(MINOR)" >&2; exit 1;; esac

VENV = .venv
TEST_VENV = .venv-test-$(MINOR)
PIP = bin/python -m pip install -qq --disable-pip-version-check --no-warn-script-location
JOBS = 2
# On all processors, where pip would take one; not what is hardly imported: tests, and much of the largest packages.
# Some packages ship files that are not Python of this version.
COMPILE = -m compileall -q -j 0 -x '/(tests?|moto|pip|ray|setuptools)/' >/dev/null 2>&1
TESTS = tests
PYTEST = $(TEST_VENV)/bin/pytest -n $(JOBS)
WHEEL = dist/.built
# Directories too: a file that was removed shows in the time of its directory.
PACKAGED = pyproject.toml README.md LICENSE $(shell find src examples ! -path '*/__pycache__*' ! -path 'examples/out*' 2>/dev/null)

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo demo-env test-env test test-long test-all test-vectors vectors check api bench screenshots gallery docs wheel clean

help: ## what make can do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## a real job, kept: run it twice
	@$(VENV)/bin/wellkept demo

demo-env: $(VENV)/.demo ## only installs what `make demo` runs in

test-env: $(TEST_VENV)/.wheel ## only installs what `make test` runs in

test: $(TEST_VENV)/.wheel ## the test suite, against the built wheel
	$(PYTEST) -m "not long" $(TESTS)

test-long: $(TEST_VENV)/.wheel ## the tests that take long; `make test` leaves them out
	$(PYTEST) -m long $(TESTS)

test-all: ## the test suite on every CPython from 3.11 up that is found here
	@scripts/on-every-python test TESTS="$(TESTS)" JOBS=$(JOBS)

test-vectors: ## the digests' published test vectors on every CPython found here
	@scripts/on-every-python vectors

# On the chosen CPython alone; with what these tests import and no more, if it has not the whole environment.
vectors: $(or $(wildcard $(TEST_VENV)/.wheel),$(TEST_VENV)/.vectors)
	$(TEST_VENV)/bin/pytest -m "not long" tests/hashing/test_vectors.py

check: $(TEST_VENV)/.wheel $(TEST_VENV)/.check ## lint, format, types, and which room may import which
	@# The types of two systems at once: what is said of the second one comes when it has ended.
	@failed=; said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
	run() { echo "$$*"; "$$@" || failed="$$failed $$1"; }; \
	PATH="$(CURDIR)/$(TEST_VENV)/bin:$$PATH"; export PYTHONPATH=src; \
	mypy --platform win32 --cache-dir .mypy_cache/win32 >"$$said" 2>&1 & windows=$$!; \
	run ruff check --output-format concise .; \
	run ruff format --check .; \
	run mypy; \
	run lint-imports --no-logo; \
	echo "mypy --platform win32"; wait $$windows || failed="$$failed mypy-win32"; cat "$$said"; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

api: $(TEST_VENV)/.check ## what the public API has broken since the last release
	@last=$$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null) || { echo "there is no release yet to compare with"; exit 0; }; \
	$(TEST_VENV)/bin/griffe check wellkept --search src --against "$$last" && echo "nothing since $$last"

bench: $(VENV)/.bench ## wellkept beside its peers, in one run
	@# The peers were compiled when they were installed; an editable install compiles nothing.
	@$(VENV)/bin/python -m compileall -q src/wellkept
	@$(VENV)/bin/python benchmarks/peers.py
	@$(VENV)/bin/python benchmarks/queries.py
	@$(VENV)/bin/python benchmarks/identity.py
	@$(VENV)/bin/python benchmarks/edits.py
	@$(VENV)/bin/python benchmarks/runs.py

screenshots: $(TEST_VENV)/.test ## pictures of `wellkept ui` for the documentation
	@PYTHONPATH=src $(TEST_VENV)/bin/python scripts/screenshots

gallery: $(TEST_VENV)/.test ## the page of examples in it: each is run twice
	@PYTHONPATH=src $(TEST_VENV)/bin/python scripts/gallery

docs: $(VENV)/.docs ## the documentation, into site/
	@$(VENV)/bin/python scripts/docs_site.py

wheel: $(WHEEL) ## what would be published, into dist/
	@ls dist/*.whl

clean: ## takes away all that was built, but for .venv
	rm -rf dist site .venv-test-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is touched when what it stands for is installed, so a second run installs nothing.

$(VENV)/.made:
	@$(NEW_ENOUGH)
	@echo "making $(VENV) with CPython $(MINOR)"
	@"$(PYTHON)" -m venv $(VENV)
	@$(VENV)/$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "installing wellkept and what the demo needs (once)"
	@$(VENV)/$(PIP) --no-compile --editable ".[demo,ui]"
	@touch $@

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	@echo "installing wellkept and its peers (once)"
	@$(VENV)/$(PIP) --editable . --group bench
	@$(VENV)/bin/python $(COMPILE) $(VENV)/lib || true
	@touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	@echo "installing what the documentation needs (once)"
	@$(VENV)/$(PIP) --group docs
	@touch $@

$(TEST_VENV)/.made:
	@$(NEW_ENOUGH)
	@echo "making $(TEST_VENV)"
	@"$(PYTHON)" -m venv --clear $(TEST_VENV)
	@$(TEST_VENV)/$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(TEST_VENV)/.test: $(TEST_VENV)/.made pyproject.toml
	@echo "installing what the tests need into $(TEST_VENV) (once)"
	@$(TEST_VENV)/$(PIP) --no-compile --group test
	@$(TEST_VENV)/bin/python $(COMPILE) $(TEST_VENV)/lib || true
	@touch $@

$(TEST_VENV)/.vectors: $(TEST_VENV)/.made $(WHEEL)
	@echo "installing what the vectors' tests need into $(TEST_VENV) (once)"
	@$(TEST_VENV)/$(PIP) --no-compile --group vectors dist/*.whl
	@$(TEST_VENV)/$(PIP) --force-reinstall --no-deps dist/*.whl
	@touch $@

$(TEST_VENV)/.check: $(TEST_VENV)/.made pyproject.toml
	@echo "installing what the checks need into $(TEST_VENV) (once)"
	@$(TEST_VENV)/$(PIP) --no-compile --group check
	@touch $@

$(TEST_VENV)/.wheel: $(TEST_VENV)/.test $(WHEEL)
	@$(TEST_VENV)/$(PIP) dist/*.whl
	@$(TEST_VENV)/$(PIP) --force-reinstall --no-deps dist/*.whl
	@touch $@

$(WHEEL): $(PACKAGED) | $(TEST_VENV)/.made
	@mkdir -p dist && rm -f dist/*.whl
	@$(TEST_VENV)/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	@touch $@
