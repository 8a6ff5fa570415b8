# Everything a fresh machine needs is Python 3.11+, make and pip; the rest is made in .venv.

PYTHON ?= python3
OUT ?= out/demo
BIN := .venv/bin

.PHONY: demo test check docs clean

demo: .venv/ready
	$(BIN)/headwater demo --out $(OUT)

test: .venv/ready
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/ready
	$(BIN)/python scripts/write_cli_reference.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv out
