"""The systemd units start what exists, with settings that exist."""

import re
from pathlib import Path

import pytest

from sidecar.cli import parser
from sidecar.config import Settings
from sidecar.worker.settings import WorkerSettings

UNITS = sorted((Path(__file__).parents[2] / "sidecar" / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_settings_that_its_command_knows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=\S+/motive (\w+)$", text, re.MULTILINE)
    assert command is not None
    flags = ["--dsn", "x"] if command.group(1) == "worker" else []
    assert parser().parse_args([command.group(1), *flags]).run is not None
    known = {f"MOTIVE_{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {f"MOTIVE_WORKER_{name.upper()}" for name in (*WorkerSettings.__dataclass_fields__, "dsn_file")}
    assert set(re.findall(r"^Environment=(MOTIVE_\w+)=", text, re.MULTILINE)) <= known
    # Or the alerts say for ever that it is down.
    assert re.search(r"^Environment=MOTIVE_(WORKER_)?METRICS=127\.0\.0\.1:\d+$", text, re.MULTILINE)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_without_root_and_without_new_privileges(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(("User=motive", "DynamicUser=yes")) for line in lines)
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="} <= set(lines)
