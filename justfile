# The checks that CI runs. `uv run just check` is all of them; each can be run alone.

export NO_MKDOCS_2_WARNING := "1" # of the theme: there is a successor; docs build either way

check: check-without-tests test

check-without-tests: format lint types imports docs

format:
    uv run ruff format --check .

lint:
    uv run ruff check .

types:
    uv run basedpyright

imports:
    uv run lint-imports

# Every test: those of the README's command, then those that it leaves out.
test: && test-slow
    uv run pytest

test-slow:
    uv run pytest -m slow --dist loadfile # one server for all tests of a file

docs:
    uv run python scripts/generate_docs.py --check
    uv run mkdocs build --strict

# Mend what a machine can mend.
fix:
    uv run ruff check --fix .
    uv run ruff format .
    uv run python scripts/generate_docs.py
