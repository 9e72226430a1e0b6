"""docker-compose.yml, the Dockerfiles and what they mount: all that can be checked without a container engine."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import limits
from sidecar.config import Settings
from sidecar.triton_repository import BACKENDS, GPU_BATCH_TOKENS
from sidecar.worker.cli import gather
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.waiting import wait_until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "sidecar" / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("*/Dockerfile"))
ONE_SHOT = {"setup", "models"}
TOOLS = {"release"}
"""Run by hand, never by `up`."""


def defaults() -> dict[str, str]:
    """The variables of .env."""
    return variables((ROOT / ".env").read_text(encoding="utf-8"))


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def choices() -> list[dict[str, str]]:
    """The blocks at the top of .env, of which one is in force."""
    text = (ROOT / ".env").read_text(encoding="utf-8")
    blocks = re.findall(r"^#?(COMPOSE_PROFILES=(?:.+\n)+?)#?$", text, re.MULTILINE)
    return [variables(re.sub(r"^#", "", block, flags=re.MULTILINE)) for block in blocks]


def substituted(**chosen: str) -> str:
    """docker-compose.yml as compose reads it, with .env and `chosen`."""
    values = {**defaults(), **chosen}
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda match: values[match.group(1)], text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml with the defaults of .env, its merges done."""
    document: dict[str, Any] = yaml.safe_load(substituted())
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def test_every_variable_has_its_default_and_every_default_is_used() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(defaults()) - {"COMPOSE_PROFILES"}


def test_a_setting_that_is_missing_or_blank_stops_everything() -> None:
    """Blank, a port would be open to every network. Without Triton, the blank backend is meant."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    guards = set(re.findall(r"\$\{(\w+)([^}]*)\}", text))
    blank = {"MOTIVE_TRITON_BACKEND"}
    assert guards == {(name, ("?" if name in blank else ":?") + "see .env") for name, _ in guards}


def test_what_operators_add_is_theirs_and_not_gits() -> None:
    """Else it would be committed, passwords included."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    alertmanagers = "/sidecar/deploy/prometheus/alertmanagers.yml"
    assert {"/secrets/", "/docker-compose.override.yml", alertmanagers} <= set(ignored)


def test_the_readmes_compose_commands_name_services_that_exist(services: dict[str, dict[str, Any]]) -> None:
    """And upgrade sidecar, PostgreSQL and the rest in this order, one at a time."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\bdocker compose (?:up|run|exec|restart)(?: --?[a-zA-Z]+| \"\S+\")* ([a-z][a-z-]*)", text)
    assert {"postgres", "sidecar", "worker", "prometheus", "release"} <= set(named) <= set(services)
    upgrade = text[text.index("### Upgrade") : text.index("### Back up")]
    steps = re.findall(r"^docker compose up --detach --wait(.*?) *#", upgrade, re.MULTILINE)
    assert steps == [" sidecar", " postgres", ""]


def test_the_file_is_of_composes_own_schema_with_each_choice(tmp_path: Path) -> None:
    """A misspelt part would be refused, or worse, passed over."""
    files = [tmp_path / f"{choice['COMPOSE_PROFILES']}.yml" for choice in choices()]
    for file, choice in zip(files, choices(), strict=True):
        file.write_text(yaml.safe_dump(yaml.safe_load(substituted(**choice))))
    assert len(files) == 3
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *map(str, files)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_whatever_a_service_names_exists(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    """Networks, volumes, secrets, other services, and files that are mounted."""
    for name, service in services.items():
        assert set(service.get("networks", ())) <= set(compose["networks"]), name
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(services), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), (name, source)
                assert volume.endswith(":ro"), (name, volume)
            else:
                assert source in compose["volumes"], (name, source)


def test_every_container_is_closed_as_far_as_it_can_be(services: dict[str, dict[str, Any]]) -> None:
    """Not root, nothing written but to its volumes, no capabilities, no way to new ones, a bounded log."""
    for name, service in services.items():
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
        assert "privileged" not in service, name


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    values = [service["image"] for service in services.values()]
    values += [value for key, value in defaults().items() if key.endswith("_IMAGE")]
    for image in values:
        _, _, tag = image.rpartition(":")
        assert re.search(r"\d+\.\d+", tag), image
        assert "latest" not in image


def test_what_runs_has_a_health_check_and_comes_back(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name in ONE_SHOT | TOOLS:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_what_may_start_slowly_has_the_time(services: dict[str, dict[str, Any]]) -> None:
    """Recovery after a crash, Prometheus' log, Grafana's migrations: or `up --wait` fails while they are at it."""
    for name, seconds in {"postgres": 600, "prometheus": 300, "grafana": 180}.items():
        assert int(services[name]["healthcheck"]["start_period"].removesuffix("s")) >= seconds, name


def test_grafana_downloads_nothing_and_keeps_its_images_directories(services: dict[str, dict[str, Any]]) -> None:
    grafana = services["grafana"]
    assert grafana["environment"]["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    asked = {key: value for key, value in grafana["environment"].items() if key.startswith("GF_ANALYTICS_")}
    assert len(asked) == 3
    assert set(asked.values()) == {"false"}
    mounted = {volume.split(":")[1] for volume in grafana["volumes"]}
    assert "/etc/grafana/provisioning" not in mounted
    assert {f"/etc/grafana/provisioning/{name}" for name in ("datasources", "dashboards")} <= mounted


def test_the_sockets_directory_is_the_sidecars_in_each_image() -> None:
    """A new volume takes its owner from the image that is the first to mount it."""
    owners = {
        file.parent.name: re.findall(r"install -d -o (\w+) \S+ \w+ \S+ \d+ /run/pg_motive", file.read_text("utf-8"))
        for file in DOCKERFILES
    }
    assert owners["motive"] == ["motive"]
    assert owners["postgres"] == ["10001"]


def test_what_ends_by_itself_is_waited_for_by_something_that_runs(services: dict[str, dict[str, Any]]) -> None:
    """`up --wait` takes any other service that ends for a failure."""
    running = [one for name, one in services.items() if name not in ONE_SHOT | TOOLS]
    waited = {
        name
        for one in running
        for name, how in one.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert waited == ONE_SHOT
    assert all(services[name]["profiles"] == ["tools"] for name in TOOLS)


def test_an_image_of_ours_is_built_by_one_service_and_pulled_by_none(services: dict[str, dict[str, Any]]) -> None:
    builders = [one["image"] for one in services.values() if "build" in one]
    assert len(builders) == len(set(builders))
    ours = [one for one in services.values() if one["image"].startswith("pg-motive")]
    assert {one["image"] for one in ours} == set(builders)
    assert {one["pull_policy"] for one in ours} == {"never"}


def test_ports_are_published_to_this_machine_alone(services: dict[str, dict[str, Any]]) -> None:
    """And only from networks that are not internal, from which none could be published."""
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert {name for name, service in services.items() if "ports" in service} == {"postgres", "prometheus", "grafana"}


def test_the_model_servers_cannot_reach_the_world(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    internal = {name for name, network in compose["networks"].items() if network.get("internal")}
    for name in ("sidecar", "triton-gpu", "triton-cpu"):
        assert set(services[name]["networks"]) <= internal, name
    assert services["models"]["network_mode"] == "none"


def test_no_secret_stands_in_an_environment_or_in_the_repository(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    for name, service in services.items():
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|TOKEN_|TOKEN$|SECRET|DSN|SERVICEFILE", key):
                assert str(value).startswith("/run/secrets/"), (name, key)
                assert str(value).removeprefix("/run/secrets/") in service["secrets"], (name, key)
    assert all(secret["file"].startswith("./secrets/") for secret in compose["secrets"].values())
    assert not re.search(r"(?i)password|secret", "".join(defaults()))
    for path in (*DEPLOY.rglob("*.sh"), *DOCKERFILES):
        assert not re.search(r"\w*PASSW(ORD|D)\w*=(?!\S*_password$)", path.read_text("utf-8"), re.MULTILINE), path


def test_the_script_makes_every_secret_and_keeps_those_there_are(compose: dict[str, Any], tmp_path: Path) -> None:
    script = copied(tmp_path, "make-secrets.sh", "prometheus", "grafana")
    subprocess.run([script], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(compose["secrets"])
    assert len(made["worker_password"]) == 48
    assert made["worker_password"] in made["worker_dsn"]
    service = configparser.ConfigParser(interpolation=None)
    service.read_string(made["owner_service"])
    assert service["owner"]["password"] == made["postgres_password"]
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    subprocess.run([script], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def copied(root: Path, script: str, *directories: str) -> Path:
    """A copy of a script beside copies of the directories that it names, as in a clone at `root`."""
    deploy = root / "sidecar" / "deploy"
    for directory in directories:
        shutil.copytree(DEPLOY / directory, deploy / directory)
    return Path(shutil.copy(DEPLOY / script, deploy))


def test_a_clone_that_leaves_others_nothing_is_read_by_the_containers_all_the_same(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """As under umask 077: what is mounted, by make-secrets.sh; the scripts in the images, by chmod."""
    mounted = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    }
    script = copied(tmp_path, "make-secrets.sh", "prometheus", "grafana")
    assert all((tmp_path / path).is_dir() for path in mounted)
    subprocess.run(["chmod", "-R", "go=", str(tmp_path / "sidecar")], check=True)
    subprocess.run([script], check=True, capture_output=True)
    for path in (found for top in mounted for found in ((tmp_path / top), *(tmp_path / top).rglob("*"))):
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path
    for file in DOCKERFILES:
        text = file.read_text(encoding="utf-8")
        for installed in re.findall(r"^COPY \S+\.sh (\S+)$", text, re.MULTILINE):
            assert f"\nRUN chmod 0755 {installed}\n" in text


def test_sidecar_and_worker_take_the_settings_they_are_given(
    services: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {key: str(value) for key, value in services["sidecar"]["environment"].items()}
    assert {key.removeprefix("MOTIVE_").lower() for key in environment} <= set(Settings.__dataclass_fields__)
    settings = Settings.gather({}, environment)
    assert settings.listen == "unix:/run/pg_motive/motive.sock"
    (tmp_path / "dsn").write_text("host=postgres\n")
    for key, value in services["worker"]["environment"].items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setenv("MOTIVE_WORKER_DSN_FILE", str(tmp_path / "dsn"))
    known = {f"MOTIVE_WORKER_{name.upper()}" for name in (*WorkerSettings.__dataclass_fields__, "dsn_file")}
    assert set(services["worker"]["environment"]) <= known
    worker = gather({})
    assert (worker.dsn, worker.target) == ("host=postgres", settings.listen)


def test_each_choice_in_the_defaults_is_whole_and_a_sidecar_takes_it() -> None:
    """With a model that the engine can read, and the Triton that it names."""
    assert [choice["COMPOSE_PROFILES"] for choice in choices()] == ["gpu", "embedded", "cpu"]
    assert choices()[0].items() <= defaults().items()
    for choice in choices():
        assert set(choice) == set(choices()[0])
        document = yaml.safe_load(substituted(**choice))
        environment = {key: str(value) for key, value in document["services"]["sidecar"]["environment"].items()}
        engine = Settings.gather({}, environment).engine
        tritons = [
            one for one in document["services"].values() if choice["COMPOSE_PROFILES"] in one.get("profiles", ())
        ]
        assert engine.startswith("triton://") == bool(tritons) == bool(choice["MOTIVE_TRITON_BACKEND"])
        assert choice["MOTIVE_TRITON_BACKEND"] in ("", *BACKENDS)
        warmed_up = GPU_BATCH_TOKENS if choice["COMPOSE_PROFILES"] == "gpu" else limits.BATCH_TOKENS
        assert int(choice["MOTIVE_BATCH_TOKENS"]) == warmed_up
        for name in ("models", "release"):
            given = document["services"][name]["environment"]
            assert given["VARIANT"] == choice["MOTIVE_VARIANT"]
            assert (given["BACKEND"] or "") == choice["MOTIVE_TRITON_BACKEND"]


def test_the_data_lie_where_every_major_of_the_image_allows_it(services: dict[str, dict[str, Any]]) -> None:
    """From 18 on a mount at /var/lib/postgresql/data is refused, unless PGDATA is no default of the image."""
    assert "data:/var/lib/postgresql" in services["postgres"]["volumes"]
    major = re.search(r":(\d+)", defaults()["POSTGRES_IMAGE"])
    assert major is not None
    assert services["postgres"]["environment"]["PGDATA"] == f"/var/lib/postgresql/{major[1]}"


def test_pl_python_is_of_exactly_the_images_server() -> None:
    """Unpinned it would upgrade the server behind the back of POSTGRES_IMAGE."""
    text = (DEPLOY / "postgres" / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"postgresql-plpython3-[^\s\"]+", text) == ["postgresql-plpython3-${PG_MAJOR}=${PG_VERSION}"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_copies_what_exists_and_ends_without_root(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    commands = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    assert not [arguments for name, arguments in commands if name == "ADD"]
    for name, arguments in commands:
        if name == "COPY" and not arguments.startswith("--from"):
            assert all((ROOT / source).exists() for source in arguments.split()[:-1]), arguments
    users = [arguments for name, arguments in commands if name == "USER"]
    assert users
    assert users[-1].split(":")[0] not in ("0", "root")
    stages = [arguments.split() for name, arguments in commands if name == "FROM"]
    known = {stage[2] for stage in stages if len(stage) == 3}
    assert all("${" in stage[0] or stage[0] in known for stage in stages)


def test_who_waits_for_a_model_waits_as_long_at_a_release_as_at_the_start(
    services: dict[str, dict[str, Any]],
) -> None:
    """Long enough for TensorRT's first build."""
    seconds = services["release"]["environment"]["WAIT_S"]
    assert services["sidecar"]["healthcheck"]["start_period"] == f"{seconds}s"
    assert seconds >= 600


@pytest.mark.parametrize("asked", ["/model", "--shipped", "--rollback"])
def test_a_release_that_is_to_end_is_told_and_waited_for(asked: str, tmp_path: Path) -> None:
    """It sets the links back then; the script is PID 1, with which everything else ends."""
    program, begun, told = (tmp_path / name for name in ("motive", "begun", "told"))
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, sys\n"
        "def end(*_):\n"
        f"    pathlib.Path({str(told)!r}).touch()\n"
        "    sys.exit(130)\n"
        "if sys.argv[1] == 'release':\n"
        "    signal.signal(signal.SIGTERM, end)\n"
        f"    pathlib.Path({str(begun)!r}).write_text(' '.join(sys.argv[1:]))\n"
        "    signal.pause()\n"
    )
    program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MOTIVE_CACHE": str(tmp_path / "cache"),
        "MODELS": str(tmp_path / "models"),
        "VARIANT": "gpu-fp16",
        "BACKEND": "tensorrt",
        "WAIT_S": "900",
    }
    script = subprocess.Popen([str(DEPLOY / "motive" / "release.sh"), asked], env=environment)
    try:
        wait_until(lambda: begun.read_text() if begun.exists() else "", bool, 60, "the release to begin")
        script.terminate()
        assert script.wait(60) != 0
        assert told.exists()
        assert "--wait-s 900" in begun.read_text()
    finally:
        script.kill()


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_read_by_a_plain_shell_and_stops_at_the_first_fault(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert "set -eu" in path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", str(path)], check=True)
