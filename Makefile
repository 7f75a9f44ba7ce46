# SPDX-License-Identifier: Apache-2.0

PYTHON := .venv/bin/python

.PHONY: help setup-run setup-test setup-bench setup-confusion setup-vm demo test test-vm test-vm-setup \
	test-vm-short lint harms bench confusion growth docs picture clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# tools/setup installs only what is missing or older than pyproject.toml.
setup-run setup-test setup-bench setup-confusion setup-vm: setup-%:
	@tools/setup $*

demo: setup-run ## watch a leaking service (as root)
	@tools/demo

test: setup-test ## run the tests (tests/kernel needs root) and list the 25 slowest
	$(PYTHON) -m pytest -q --durations=25 -n 1 tests/unit tests/kernel

test-vm: setup-vm ## test in a guest of each kernel in tests/kernels.txt; K=arm64-6.1 for one
	$(PYTHON) tools/vm $(K)

test-vm-setup: setup-vm ## run tools/setup in a fresh Debian with a network, as Vagrant does
	$(PYTHON) tools/vm --setup

test-vm-short: setup-vm # the part of test-vm that CI runs
	$(PYTHON) tools/vm --short

lint: setup-test ## check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

harms: setup-test ## provoke what could harm a traced program, and count (as root)
	PYTHONPATH=. $(PYTHON) tools/harms

bench: setup-bench ## measure what tracing costs (as root)
	$(PYTHON) tools/bench

confusion: setup-confusion ## compare verdicts on 32 services with the truth (as root)
	$(PYTHON) tools/confusion

growth: setup-run ## judge the growth of simulated programs with a known truth
	PYTHONPATH=. $(PYTHON) tools/growth

docs: setup-test ## make the CLI reference, the man page, the lists of probes, losses, filter fields
	$(PYTHON) tools/docs

picture: setup-run ## record the README's picture from a run of the demo (as root)
	$(PYTHON) tools/picture.py

clean: ## remove everything that the other targets made, .venv too
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
