"""`motive triton`, as somebody without Docker or a GPU tries it."""

import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from sidecar import triton_server
from sidecar.errors import ConfigError
from sidecar.release import release
from tests.fixtures.sidecar_process import ROOT, RunSidecar, free_port
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow


def test_it_serves_a_model_names_the_engine_and_ends_cleanly(
    run_sidecar: RunSidecar, tiny_repository: Path, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    ports = ["--grpc-port", port, "--http-port", free_port(), "--metrics-port", free_port()]
    command = [sys.executable, "-m", "sidecar", "triton", str(tiny_repository), *map(str, ports)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: serves(port), bool, 120, "Triton to serve the model")
        engine = f"triton://127.0.0.1:{port}/motive?repository={tiny_repository}"
        assert f"motive serve --listen 127.0.0.1:50051 --engine '{engine}'" in log.read_text()
        assert run_sidecar(engine).wait_serving().classify("a cheap phone") == ["price_value"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()[-2000:]


def serves(port: int) -> bool:
    """Whether Triton there has the model."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return bool(stub.ModelReady(service_pb2.ModelReadyRequest(name="motive"), timeout=2).ready)
        except grpc.RpcError:
            return False


def test_its_files_lie_in_the_users_cache_and_are_fetched_once() -> None:
    command = [sys.executable, "-m", "sidecar", "triton", "--fetch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=280)
    home = Path(done.stdout.strip())
    assert (home / "bin" / "tritonserver").exists()
    assert not home.is_relative_to(ROOT)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "fetching" not in again.stderr


def test_the_backend_runs_in_this_pythons_own_library_and_not_in_an_older_one_of_the_wheels() -> None:
    home = triton_server.install()
    stub = subprocess.run(
        ["ldd", home / "backends" / "python" / "triton_python_backend_stub"],
        env=triton_server.environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    (library,) = re.findall(r"^\s*libpython\S* => (\S+)", stub.stdout, re.MULTILINE)
    ours = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("INSTSONAME")
    assert Path(library).samefile(ours)


def test_what_is_no_model_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no model repository"), triton_server.model_directory(tmp_path):
        pass


def test_a_release_of_productions_triton_is_left_as_it_is(tiny_repository: Path, tmp_path: Path) -> None:
    release(tiny_repository, tmp_path, backend="cpu", say=lambda _: None)
    (config,) = tmp_path.glob("triton/*/config.pbtxt")
    before = config.read_text()
    with pytest.raises(ConfigError, match="another Triton") as refusal, triton_server.model_directory(tmp_path):
        pass
    assert config.read_text() == before
    advised = Path(refusal.value.hint.rpartition(" ")[2].rstrip("."))
    with triton_server.model_directory(advised) as (models, name):
        assert not models.is_relative_to(tmp_path)
        assert (models / name / "1" / "model.py").is_file()


def test_without_a_package_index_it_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigError, match="pip could not fetch"):
        triton_server.install(tmp_path)
    assert list(tmp_path.iterdir()) == []
    capfd.readouterr()
