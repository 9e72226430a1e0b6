# Two commands do everything: `make demo` shows the main job, `make test` checks it.
# Each installs what it needs first and is quick the second time.
.POSIX:
.PHONY: .python help demo psql stop test lint format bench proto lock clean

PYTHON = .venv/bin/python
MOTIVE = $(PYTHON) -m sidecar

help:
	@echo "make demo    a private PostgreSQL with sample reviews and queries, annotated and shown"
	@echo "make psql    psql in the demo's database"
	@echo "make stop    stops the demo and removes its files"
	@echo "make test    runs every test"
	@echo "make lint    ruff, mypy, import-linter, pgspot"
	@echo "make bench   measures speed, side by side with its peers (BENCH='direct --readme' for a part, into README.md)"
	@echo "make proto   generates sidecar/pb from proto/motive.proto"
	@echo "make lock    pins every Python package anew in requirements.lock"

demo: .python
	@python3 sidecar/bootstrap.py serve
	@$(MOTIVE) demo start

psql:
	@$(MOTIVE) demo psql

stop:
	@$(MOTIVE) demo stop

test: .python
	@python3 sidecar/bootstrap.py test
	$(PYTHON) -m pytest

lint: .python
	@python3 sidecar/bootstrap.py test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m tests.verify.lint_sql

format:
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .python
	@python3 sidecar/bootstrap.py bench
	$(PYTHON) -m tests.bench $(BENCH)

proto:
	$(PYTHON) -m grpc_tools.protoc -Isidecar/pb=proto --python_out=. --pyi_out=. --grpc_python_out=. proto/motive.proto

# One version of a package for every Python: what passes on one is what runs on the other.
lock:
	$(PYTHON) -m uv pip compile -q --universal --fork-strategy fewest --python-version 3.11 --all-extras --no-header --no-annotate \
		--constraint .lock-constraints pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache

# Only a machine without any python3 needs this; bootstrap.py does the rest.
.python:
	@if command -v python3 >/dev/null; then exit 0; fi; \
	stop() { echo "pg_motive: python3 is missing and $$1."; echo "  $$2, then run this again."; exit 1; }; \
	command -v apt-get >/dev/null || stop "this system has no apt" "Install Python 3.11 or newer"; \
	root=; if [ "$$(id -u)" != 0 ]; then root=sudo; fi; \
	command -v $${root:-true} >/dev/null || stop "there is no sudo" "As root: apt-get install python3 python3-venv"; \
	echo "• installing python3 (apt-get)"; \
	$$root apt-get update -q >/dev/null && $$root apt-get install -y -q python3 python3-venv >/dev/null \
		|| stop "apt-get failed" "See what it says above"
