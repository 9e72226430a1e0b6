"""The systemd units start what exists, with settings that exist."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.cli import parser
from sidecar.config import Settings
from sidecar.worker.settings import WorkerSettings

UNITS = sorted((Path(__file__).parents[2] / "sidecar" / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_settings_that_its_command_knows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=\S+/motive (.+)$", text, re.MULTILINE)
    assert command is not None
    assert parser().parse_args(command[1].split()).run is not None
    known = {f"MOTIVE_{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {f"MOTIVE_WORKER_{name.upper()}" for name in WorkerSettings.__dataclass_fields__}
    assert set(re.findall(r"^Environment=(MOTIVE_\w+)=", text, re.MULTILINE)) <= known
    # Or the alerts say for ever that it is down.
    assert re.search(r"^Environment=MOTIVE_(WORKER_)?METRICS=127\.0\.0\.1:\d+$", text, re.MULTILINE)


def test_the_worker_finds_its_connection_where_every_systemd_puts_it() -> None:
    """The specifier %d is younger than credentials are: before systemd 251 it names nothing."""
    text = next(path for path in UNITS if "worker" in path.name).read_text(encoding="utf-8")
    credential = re.search(r"^LoadCredential=(\w+):", text, re.MULTILINE)
    assert credential is not None
    assert f"--dsn-file=${{CREDENTIALS_DIRECTORY}}/{credential[1]}\n" in text
    assert "%d" not in text


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_without_root_and_without_new_privileges(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(("User=motive", "DynamicUser=yes")) for line in lines)
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="} <= set(lines)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_started_again_however_often_it_fails(path: Path) -> None:
    """By default systemd gives up after five failures in ten seconds; the limit is read under [Unit] alone."""
    unit = configparser.RawConfigParser(strict=False)
    unit.read(path)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_knows_every_line_of_a_unit(tmp_path: Path) -> None:
    """With a program in the place of ours, which is not installed here."""
    copies = [tmp_path / path.name for path in UNITS]
    for path, copy in zip(UNITS, copies, strict=True):
        copy.write_text(
            path.read_text(encoding="utf-8").replace("/opt/pg_motive/bin/motive", shutil.which("true") or "")
        )
    command = ["systemd-analyze", "verify", *map(str, copies)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    said = checked.stdout + checked.stderr
    assert [line for line in said.splitlines() if any(copy.name in line for copy in copies)] == []
