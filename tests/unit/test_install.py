"""What `motive install` and `motive check` say of a server that lacks something, before anything is changed."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import bootstrap, postgres_tree
from sidecar.check import check
from sidecar.errors import ConfigError
from sidecar.install import install
from sidecar.postgres_tree import PostgresTree, newest_tree, tree_of

MakeServer = Callable[..., Path]


@pytest.fixture
def make_server(tmp_path: Path) -> MakeServer:
    """Makes what passes for a server's files, and returns its pg_config."""

    def make(libpython: str | None, version: str = "17.6") -> Path:
        for name in ("bin", "share/extension", "lib"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "bin" / "postgres").touch()
        if libpython is not None:
            (tmp_path / "lib" / "plpython3.so").write_bytes(b"\0" + libpython.encode() + b"\0")
        config = tmp_path / "bin" / "pg_config"
        places = "\n".join(str(tmp_path / name) for name in ("bin", "share", "lib"))
        config.write_text(f"#!/bin/sh\ncat <<'END'\n{places}\nPostgreSQL {version}\nEND\n")
        config.chmod(0o755)
        return config

    return make


def plan(tree: PostgresTree) -> str:
    """What a dry run says."""
    lines: list[str] = []
    install(tree, dry_run=True, say=lines.append)
    return "\n".join(lines)


def page(pg_config: Path) -> tuple[int, str]:
    """Status and text of `motive check`."""
    lines: list[str] = []
    return check(pg_config=str(pg_config), say=lines.append), "\n".join(lines)


@pytest.mark.parametrize(
    ("libpython", "version", "said", "remedy"),
    [
        ("libpython3.10.so.1.0", "17.6", "has Python 3.10; 3.11 is needed", "Debian 12"),
        (None, "17.6", "has no PL/Python", "postgresql-plpython3-17"),
        ("libpython3.11.so.1.0", "14.9", "PostgreSQL 14.9 is not supported", "15 to 18"),
    ],
)
def test_what_the_client_cannot_run_in_is_refused_by_the_dry_run_and_named_by_check(
    make_server: MakeServer, libpython: str | None, version: str, said: str, remedy: str
) -> None:
    config = make_server(libpython, version)
    with pytest.raises(ConfigError, match=said) as refused:
        plan(tree_of(config))
    assert remedy in refused.value.hint
    status, text = page(config)
    assert status == 1
    assert said in text
    assert remedy in text


def test_where_no_server_is_the_remedy_names_packages_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_tree, "installed_trees", list)
    with pytest.raises(ConfigError) as refused:
        newest_tree()
    assert "postgresql-plpython3-17" in refused.value.hint
    assert "apt.postgresql.org" in refused.value.hint


def test_a_client_that_no_interpreter_can_try_is_said_to_be_untried(make_server: MakeServer) -> None:
    said = plan(tree_of(make_server("libpython3.99.so.1.0")))
    assert "python3.99 is not on PATH" in said
    assert "neither tried nor compiled" in said
    assert "run motive install again" in said


def test_a_client_that_our_interpreter_can_try_needs_no_such_word(make_server: MakeServer) -> None:
    said = plan(tree_of(make_server(f"libpython3.{sys.version_info.minor}.so.1.0")))
    assert "copied from this environment" in said
    assert "not on PATH" not in said


def test_an_environment_without_pip_is_named_before_libraries_are_to_be_fetched(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="this environment has no pip") as refused:
        plan(tree_of(make_server("libpython3.99.so.1.0")))
    assert "-m ensurepip" in refused.value.hint
    assert "Python 3.99" in refused.value.hint


def test_the_bootstrap_which_can_import_nothing_asks_for_the_same_versions() -> None:
    assert bootstrap.SUPPORTED_POSTGRES == postgres_tree.SUPPORTED
    assert bootstrap.OLDEST_PYTHON == postgres_tree.OLDEST_PYTHON
