"""Every module of tests/fixtures is a plugin: a fixture is there for every test, and lives beside what it starts."""

from pathlib import Path

import pytest

# Before the first of them is imported: they also import each other.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = sorted(
    f"tests.fixtures.{module.stem}"
    for module in (Path(__file__).parent / "fixtures").glob("*.py")
    if module.stem != "__init__"
)
