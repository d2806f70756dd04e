# One verb per habit. Everything is installed into .venv, from the pinned and hashed lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: validate validate-faults help bench variants smoke test test-slow swift-test lint format benchmark lock clean distclean

help:
	@echo "make bench      set everything up and run: python bench.py --suite blocks"
	@echo "make variants   the same for whole networks"
	@echo "make smoke      the same for three blocks, in seconds"
	@echo "make test       set everything up and run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make swift-test the tests of the iPhone app's logic, where Swift 6 is installed"
	@echo "make validate-faults  every fault for real: 200 kills, full disks, damaged files (half an hour)"
	@echo "make validate   the instrument against known truth, on virtual clocks and on this machine: writes docs/validation.md"
	@echo "make lint       ruff and mypy"
	@echo "make format     let ruff format and fix"
	@echo "make benchmark  how fast and how exact the harness itself is (over half an hour, on a quiet machine)"
	@echo "make lock       pin the dependencies anew"
	@echo "make clean      remove caches and artifacts; results stay"
	@echo "make distclean  remove the virtual environment too; results stay"

bench: $(VENV)/bench.stamp
	$(BIN)/python bench.py --suite blocks

variants: $(VENV)/bench.stamp
	$(BIN)/python bench.py --suite variants

smoke: $(VENV)/bench.stamp
	$(BIN)/python bench.py --suite smoke

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q -m slow

swift-test:
	@if command -v swift >/dev/null; then swift test --package-path device_agents/BenchRunner/BenchCore; \
		else echo "skipped: swift is not installed (Xcode 16, or Swift 6 for Linux)"; fi

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

validate: $(VENV)/dev.stamp
	$(BIN)/python -m tests.validation.synthetic
	$(BIN)/python -m tests.validation.real

validate-faults: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q tests/faults

benchmark: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/benchmarks -q -s -o python_files='bench_*.py'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one, as in make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment could be made; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/%.stamp: requirements/%.lock $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

lock: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--extra trt --extra train -c requirements/constraints.txt --custom-compile-command "make lock" --upgrade -o requirements/bench.lock
	$(BIN)/uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--extra dev --extra openvino --extra trt --extra coreml --extra train -c requirements/constraints.txt -c requirements/bench.lock \
		--custom-compile-command "make lock" --upgrade -o requirements/dev.lock

clean:
	rm -rf artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
