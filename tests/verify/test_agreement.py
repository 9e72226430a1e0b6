"""What must agree everywhere: stubs with the proto, proto comments with the limits, serving without torch."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sidecar import __version__, limits
from sidecar.config import Settings
from sidecar.errors import FAULTS, MotiveError

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto" / "motive.proto"


def test_the_committed_stubs_are_what_protoc_makes_of_the_proto(tmp_path: Path) -> None:
    """Regenerates with the pinned grpcio-tools and compares to the letter."""
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Isidecar/pb=proto", *outputs, "proto/motive.proto"]
    subprocess.run(command, cwd=ROOT, check=True)
    for made in (tmp_path / "sidecar" / "pb").iterdir():
        assert made.read_text() == (ROOT / "sidecar" / "pb" / made.name).read_text(), f"run make proto: {made.name}"


@pytest.mark.parametrize(
    "sentence",
    [
        f"1 to {limits.MAX_TEXTS:,} texts; each UTF-8, at most {limits.MAX_TEXT_BYTES:,} bytes",
        f"the whole message at most {limits.MAX_MESSAGE_BYTES // 2**20} MiB",
    ],
)
def test_the_proto_comments_state_the_limits_in_force(sentence: str) -> None:
    assert sentence in " ".join(re.sub(r"//", " ", PROTO.read_text()).split())


def test_every_proto_field_has_a_comment_beside_or_above_it() -> None:
    lines = PROTO.read_text().splitlines()
    bare = [
        line.strip()
        for before, line in pairwise(lines)
        if re.match(r"\s+(repeated )?[\w.]+ \w+ = \d+;", line)
        and "//" not in line
        and not before.strip().startswith("//")
    ]
    assert bare == []


def _closure(distribution: str) -> set[str]:
    found: set[str] = set()
    todo = [distribution]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        found.add(name)
        for line in requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


def test_serving_installs_neither_torch_nor_transformers() -> None:
    """The distribution's own requirements, followed to the end, without any extra."""
    assert not _closure("pg-motive") & {"torch", "transformers", "sentence-transformers"}


def test_serving_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sidecar.server, sidecar.classify_file, sys; sys.exit(bool({'torch', 'transformers'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_error_class_has_its_row_in_the_table_of_faults() -> None:
    listed = {fault.error for fault in FAULTS}
    answers = {kind for kind in MotiveError.__subclasses__() if kind.__name__ != "ConfigError"}
    assert answers == listed
    assert len({fault.status for fault in FAULTS}) == len({fault.sqlstate for fault in FAULTS}) == len(FAULTS)


def test_every_python_gets_the_same_version_of_a_package() -> None:
    """Else what passes on one machine is not what runs, or is checked, on the next."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    twice = [name for name, number in Counter(line.split("==")[0] for line in lines).items() if number > 1]
    assert not twice, "make lock"


def test_the_version_is_the_same_in_package_and_extension() -> None:
    control = (ROOT / "sql" / "pg_motive.control").read_text()
    assert f"default_version = '{__version__}'" in control
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a clone and git")
def test_only_the_design_cards_names_stand_at_the_top_level() -> None:
    allowed = {
        *("proto", "sidecar", "sql", "trainer", "tests", "docker-compose.yml", "pyproject.toml", "README.md"),
        *("Makefile", "LICENSE", "CHANGELOG.md", "requirements.lock"),
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    tops = {line.split("/")[0] for line in listed if line}
    assert {top for top in tops if not top.startswith(".")} <= allowed


def test_every_setting_says_what_it_is() -> None:
    source = (ROOT / "sidecar" / "config.py").read_text()
    for name in Settings.__dataclass_fields__:
        assert re.search(rf"^    {name}: .*\n", source, re.MULTILINE)
