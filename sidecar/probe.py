"""Whether a server is well, for health checks in containers: `python -m sidecar.probe TARGET`; exit status 0 or 1.

TARGET is a sidecar (`unix:/path` or `HOST:PORT`), asked by grpc.health.v1, or a page (`http://...`) that must be there.
A sidecar with TLS: `--tls-authority FILE`, and with mutual TLS `--tls-certificate FILE --tls-key FILE` too.
"""

import argparse
import sys
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.tls import CertificateFiles, client_channel

TIMEOUT_S = 3.0


def healthy(target: str, tls: CertificateFiles | None = None) -> bool:
    """Whether it answers, and says that it serves; raises OSError where a file of `tls` cannot be read."""
    if target.startswith("http://"):
        try:
            with urlopen(target, timeout=TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (URLError, TimeoutError):
            return False
    with client_channel(target, tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.probe", description="Whether a server is well.")
    parser.add_argument("target", help="unix:/path, HOST:PORT or http://...")
    parser.add_argument("--tls-authority", default="", metavar="FILE", help="turns TLS on")
    parser.add_argument("--tls-certificate", default="", metavar="FILE", help="for mutual TLS")
    parser.add_argument("--tls-key", default="", metavar="FILE", help="of that certificate")
    given = parser.parse_args(argv)
    files = CertificateFiles(given.tls_certificate, given.tls_key, given.tls_authority)
    try:
        return 0 if healthy(given.target, files if files.ca else None) else 1
    except OSError as error:
        print(f"{error.filename} cannot be read: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
