"""The bootstrap of a checkout: what is missing is named in one sentence, before anything is touched."""

import ast
import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import bootstrap

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A machine without PostgreSQL, on which commands are only noted down."""
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "postgres_with_python", list)
    monkeypatch.setattr(bootstrap, "missing_packages", lambda: ["postgresql-plpython3-15"])
    monkeypatch.setattr(bootstrap, "run", lambda *command: commands.append(command))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return commands


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Takes one program off PATH."""
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")


def refusal(act: Callable[[], None] = bootstrap.install_system_packages) -> str:
    """What it says when it gives up."""
    with pytest.raises(SystemExit) as ended:
        act()
    return str(ended.value)


def test_a_system_without_apt_is_told_what_to_install(
    bare_machine: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "apt-get")
    said = refusal()
    assert "has no apt" in said
    assert "PostgreSQL 15 to 18" in said
    assert bare_machine == []


def test_a_user_without_sudo_is_told_what_root_must_run(
    bare_machine: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "sudo")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = refusal()
    assert "there is no sudo" in said
    assert "As root, run: apt-get install postgresql-plpython3-15" in said
    assert bare_machine == []


def test_a_full_disk_is_named_before_anything_is_fetched(
    bare_machine: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 2**20))
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    assert "1 MiB free" in refusal()
    assert "1 MiB free" in refusal(lambda: bootstrap.install_python_packages("serve"))
    assert bare_machine == []


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        bootstrap.python()


def test_an_old_python_can_read_it_as_far_as_that_sentence() -> None:
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    assert "from __future__ import annotations" in source


def test_a_distribution_that_offers_another_postgres_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "SUPPORTED_POSTGRES", range(99, 100))
    assert bootstrap.postgres_with_python() == [], "an installed server of another version does not count"


@pytest.fixture
def german_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-cache of a German system that offers PL/Python of PostgreSQL 16 and 17 alone; its file."""
    stub = tmp_path / "apt-cache"
    stub.write_text(
        """#!/bin/sh
case $1-$2 in
    show-postgresql-plpython3-1[67]) echo "Package: $2" ;;
    show-*) echo "N: Paket $2 kann nicht gefunden werden" >&2 ;;
    policy-*) printf '%s:\\n  Installiert:           (keine)\\n  Installationskandidat: 17+278\\n' "$2" ;;
esac
""",
        encoding="utf-8",
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(bootstrap, "postgres_with_python", list)
    monkeypatch.setattr(bootstrap, "has_venv", lambda: True)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    return stub


def test_the_newest_postgres_that_apt_offers_is_found_in_any_language(german_apt: Path) -> None:
    assert bootstrap.missing_packages() == ["postgresql-plpython3-17"]


def test_a_server_without_pl_python_gets_that_of_its_own_version(
    german_apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [Path(f"/usr/lib/postgresql/{major}/bin/initdb") for major in (14, 15, 16)]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(there))
    assert bootstrap.missing_packages() == ["postgresql-plpython3-16"]


def test_a_system_whose_apt_offers_nothing_of_use_is_told(german_apt: Path) -> None:
    german_apt.write_text("#!/bin/sh\nexit 100\n", encoding="utf-8")
    said = refusal(lambda: print(bootstrap.missing_packages()))
    assert "no PL/Python of PostgreSQL 15 to 18" in said
    assert "apt-get update" in said


def test_as_a_user_packages_are_installed_through_sudo_without_questions(
    bare_machine: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0))
    bootstrap.install_system_packages()
    install = bare_machine[-1]
    assert install[0] == "sudo"
    assert "DEBIAN_FRONTEND=noninteractive" in install
    assert install[-1] == "postgresql-plpython3-15"


def test_a_filled_environment_is_left_alone_and_a_larger_one_counts(
    bare_machine: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    bootstrap.stamp("test").write_text(bootstrap.wanted("test"))
    bootstrap.install_python_packages("serve")
    bootstrap.install_python_packages("test")
    assert bare_machine == []
    (tmp_path / "bin" / "pip").touch()
    bootstrap.install_python_packages("bench")
    assert bare_machine[-1][-1].endswith("[trainer,dev,base-models,bench]")
    assert bootstrap.is_filled("bench")
