"""TLS, mutual TLS and the token, on the sidecar's own port and on the way to a real Triton; rotation while they run."""

import shutil
from pathlib import Path

import grpc
import pytest

from sidecar import probe
from sidecar.errors import UnavailableError
from sidecar.pb import motive_pb2 as pb
from sidecar.pb.motive_pb2_grpc import MotiveStub
from sidecar.tls import CertificateFiles, client_channel
from sidecar.worker.service import Service
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.certificates import Authority
from tests.fixtures.sidecar_process import RunSidecar, SidecarProcess, free_port
from tests.fixtures.triton_process import RunTriton, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", "authority")


def copied(files: CertificateFiles, directory: Path, name: str) -> CertificateFiles:
    """The same certificate under a name of its own, to be replaced later."""
    directory.mkdir(exist_ok=True)
    for source, end in ((files.cert, "pem"), (files.key, "key")):
        shutil.copyfile(source, draft := directory / f".{name}.{end}")
        draft.replace(directory / f"{name}.{end}")
    return CertificateFiles(str(directory / f"{name}.pem"), str(directory / f"{name}.key"), files.ca)


def secured(run_sidecar: RunSidecar, repository: Path, server: CertificateFiles, *flags: str) -> SidecarProcess:
    """A sidecar on TCP that asks for clients' certificates."""
    tls = ["--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", server.ca, *flags]
    sidecar = run_sidecar(f"onnx:{repository}", listen=f"127.0.0.1:{free_port()}", flags=tls)
    wait_until(lambda: "serving motive" in sidecar.log(), bool, 60, "the sidecar to serve")
    return sidecar


def ask(target: str, files: CertificateFiles | None, token: str = "") -> grpc.StatusCode:
    """How a new client's call ends."""
    with client_channel(target, files) as channel:
        stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        call = stub.Classify.future(pb.ClassifyRequest(texts=["cheap"]), timeout=20, metadata=metadata)
        error = call.exception()
    return grpc.StatusCode.OK if error is None else error.code()


def test_only_a_client_with_a_valid_certificate_of_our_authority_is_answered(
    run_sidecar: RunSidecar, tiny_repository: Path, authority: Authority, tmp_path: Path
) -> None:
    """F25 none, one of another authority, an expired one, and plain TCP are refused; others go on."""
    sidecar = secured(run_sidecar, tiny_repository, authority.issue("server"))
    good = authority.issue("client")
    stranger = Authority(tmp_path / "stranger", "stranger").issue("client")
    assert ask(sidecar.target, good) == grpc.StatusCode.OK
    refused = {
        "no certificate": CertificateFiles(ca=good.ca),
        "another authority": CertificateFiles(stranger.cert, stranger.key, good.ca),
        "a server that the client does not trust": stranger,
        "expired": authority.issue("late", expired=True),
        "plain TCP": None,
    }
    assert {name: ask(sidecar.target, files) for name, files in refused.items()} == dict.fromkeys(
        refused, grpc.StatusCode.UNAVAILABLE
    )
    assert ask(sidecar.target, good) == grpc.StatusCode.OK


def test_a_new_certificate_is_in_use_without_a_restart_and_a_half_written_one_is_not(
    run_sidecar: RunSidecar, tiny_repository: Path, authority: Authority, tmp_path: Path
) -> None:
    """F25 rotation: old connections go on, new ones see the new certificate."""
    server = copied(authority.issue("server"), tmp_path / "live", "server")
    sidecar = secured(run_sidecar, tiny_repository, server)
    client = authority.issue("client")
    with client_channel(sidecar.target, client) as channel:
        stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
        stub.Classify(pb.ClassifyRequest(texts=["cheap"]), timeout=20)
        Path(server.cert).write_text("half")
        assert ask(sidecar.target, client) == grpc.StatusCode.OK
        assert "cannot be used yet" in sidecar.log()
        newer = Authority(tmp_path / "newer", "newer")
        copied(newer.issue("server"), tmp_path / "live", "server")
        client_of_both = CertificateFiles(client.cert, client.key, str(newer.ca))
        wait_until(
            lambda: ask(sidecar.target, client_of_both), lambda c: c == grpc.StatusCode.OK, 20, "the new certificate"
        )
        assert ask(sidecar.target, client) == grpc.StatusCode.UNAVAILABLE
        stub.Classify(pb.ClassifyRequest(texts=["gift"]), timeout=20)


def test_calls_without_the_token_are_refused_and_health_stays_open(
    run_sidecar: RunSidecar, tiny_repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    sidecar = run_sidecar(f"onnx:{tiny_repository}", flags=["--token-file", str(tmp_path / "token")]).wait_serving()
    assert ask(sidecar.target, None, TOKEN) == grpc.StatusCode.OK
    assert ask(sidecar.target, None) == grpc.StatusCode.UNAUTHENTICATED
    assert ask(sidecar.target, None, TOKEN[:-1]) == grpc.StatusCode.UNAUTHENTICATED
    assert sidecar.log().count("call UNAUTHENTICATED in ") == 2
    assert TOKEN[:-1] not in sidecar.log()


def test_a_new_token_is_taken_beside_the_old_one_and_then_in_its_place_without_a_restart(
    run_sidecar: RunSidecar, tiny_repository: Path, tmp_path: Path
) -> None:
    """A file that cannot be used leaves those in force that it held before."""
    newer = TOKEN[::-1]
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    sidecar = run_sidecar(f"onnx:{tiny_repository}", flags=["--token-file", str(file)]).wait_serving()

    def accepted() -> list[str]:
        return [token for token in (TOKEN, newer) if ask(sidecar.target, None, token) == grpc.StatusCode.OK]

    assert accepted() == [TOKEN]
    for text, expected in (
        (f"{TOKEN}\n\n{newer}\n", [TOKEN, newer]),
        (f"{newer}\nshort\n", [TOKEN, newer]),
        ("", [TOKEN, newer]),
        (f"{newer}\n", [newer]),
    ):
        file.write_text(text)
        assert accepted() == expected, text
    file.unlink()
    assert accepted() == [newer]
    assert sidecar.log().count("cannot be used") == 3
    assert newer not in sidecar.log()


def test_the_way_to_triton_is_mutual_tls_and_follows_a_new_certificate(
    run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path, authority: Authority, tmp_path: Path
) -> None:
    """F25 on the other side: a sidecar whose certificate expires gets a new one while it runs."""
    server = authority.issue("triton")
    tls = ("--grpc-use-ssl-mutual=1", f"--grpc-server-cert={server.cert}", f"--grpc-server-key={server.key}")
    triton = run_triton(tiny_repository)
    triton.start("motive", extra=(*tls, f"--grpc-root-cert={server.ca}"), wait=False)
    client = copied(authority.issue("late", expired=True), tmp_path / "live", "client")
    flags = ["--triton-ca", client.ca, "--triton-cert", client.cert, "--triton-key", client.key]
    sidecar = run_sidecar(triton_engine([triton], tiny_repository), flags=flags)
    stub = sidecar.stub()
    wait_until(lambda: sidecar.health() is not None, bool, 60, "the sidecar to listen")
    plain = run_sidecar(triton_engine([triton], tiny_repository), listen=f"127.0.0.1:{free_port()}")
    wait_until(triton.log, lambda log: "Started GRPCInferenceService" in log, 60, "Triton to start")
    wait_until(
        lambda: stub.GetModel(pb.GetModelRequest(), timeout=10).backends[0].reason,
        lambda reason: "does not answer" in reason,
        30,
        "the expired certificate to be refused",
    )
    copied(authority.issue("fresh"), tmp_path / "live", "client")
    sidecar.wait_serving()
    assert sidecar.classify("a cheap phone") == ["price_value"]
    assert plain.health() != 1


def test_a_worker_takes_its_new_certificate_without_a_restart(
    run_sidecar: RunSidecar, tiny_repository: Path, authority: Authority, tmp_path: Path
) -> None:
    """F25 on the worker's side: certificates that live for a day are exchanged while it runs."""
    sidecar = secured(run_sidecar, tiny_repository, authority.issue("server"))
    client = copied(authority.issue("late", expired=True), tmp_path / "live", "client")
    settings = WorkerSettings(
        dsn="",
        target=sidecar.target,
        tls_authority=client.ca,
        tls_certificate=client.cert,
        tls_key=client.key,
    )
    service = Service(settings)

    def labels() -> list[str] | None:
        try:
            answers = service.classify(["cheap"], 0, interactive=True, keep_waiting=lambda: True)
        except UnavailableError:
            return None
        return [motive.motive for one in answers.results for motive in one.motives]

    try:
        assert labels() is None
        Path(client.cert).write_text("half")
        assert labels() is None
        copied(authority.issue("fresh"), tmp_path / "live", "client")
        wait_until(labels, lambda found: found == ["price_value"], 20, "the new certificate to be used")
    finally:
        service.close()


def test_the_probe_shows_its_certificate(
    run_sidecar: RunSidecar, tiny_repository: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar = secured(run_sidecar, tiny_repository, authority.issue("server"))
    client = authority.issue("client")
    flags = ["--tls-authority", client.ca, "--tls-certificate", client.cert, "--tls-key", client.key]
    wait_until(lambda: probe.main([sidecar.target, *flags]), lambda status: status == 0, 20, "the probe to be content")
    assert probe.main([sidecar.target]) == 1
    assert probe.main([sidecar.target, "--tls-authority", "/nowhere"]) == 1
    assert "/nowhere cannot be read" in capsys.readouterr().err
