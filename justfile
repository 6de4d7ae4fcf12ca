# The checks that CI runs; `just check` is all of them.

check: format lint types imports test docs

format:
    uv run ruff format --check .

lint:
    uv run ruff check .

types:
    uv run basedpyright

imports:
    uv run lint-imports

test:
    uv run pytest

docs:
    uv run mkdocs build --strict

# Mend what a machine can mend.
fix:
    uv run ruff check --fix .
    uv run ruff format .
