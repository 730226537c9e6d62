# Everything runs from the virtual environment in .venv; PYTHON=python3.12 chooses its interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: install
install: $(STAMP)  ## Make .venv with tunesmith, in editable form, and the tools of development.

# pip reads dependency groups from version 25.1 on; what comes with Python may be older.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

.PHONY: quickstart
quickstart: install  ## Compare ways of fine-tuning MiniLM on film reviews, with error bars; one to five minutes.
	$(BIN)/python examples/quickstart.py

.PHONY: quickstart-chat
quickstart-chat: install  ## Fine-tune SmolLM2 on questions with answers by LoRA, and ask it before and after.
	$(BIN)/python examples/quickstart_chat.py

# A file of tests stays in one process; each uses one thread, and up to two gigabytes.
.PHONY: test
test: install  ## Run the tests, the slow ones left out, in up to four processes.
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: test-slow
test-slow: install  ## Run the slow tests.
	$(BIN)/python -m pytest -m slow

# Tests that need more than `make install` brings: every extra, a browser, peers to compare with.
EXTRA_TESTS := tests/export tests/serve tests/studio tests/trust tests/privacy tests/run/test_trackers.py tests/test_notebook.py \
	tests/data/test_personal_data.py tests/data/test_near_duplicates.py tests/engine/test_noised_gradients.py tests/run/test_private_training.py tests/study/test_ray.py

.PHONY: test-extras
test-extras: install  ## Run the tests of what needs heavy libraries (ONNX Runtime, llama.cpp, a browser, trackers), which this installs.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[everything]' --group extras
	if command -v npm >/dev/null; then npm install --silent --prefix $(VENV)/node --omit=optional --ignore-scripts \
		node-llama-cpp@3.21.1 @node-llama-cpp/linux-x64@3.21.1 axe-core@4.14.1; fi
	TUNESMITH_NODE=$(CURDIR)/$(VENV)/node $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 \
		--dist loadfile $(EXTRA_TESTS) -m 'slow or not slow'

.PHONY: check
check: install  ## Check format, style, types and layers.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: install  ## Bring the code into its form and mend what can be mended.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: install  ## Compare speed and memory with other tools, about five minutes; docs/performance.md has the rest.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python -m benchmarks

.PHONY: clean
clean:  ## Delete what can be made again, .venv included.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
