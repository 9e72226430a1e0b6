"""Whether a server is well, for health checks in containers: `python -m sidecar.probe TARGET`; exit status 0 or 1.

TARGET is a sidecar (`unix:/path` or `HOST:PORT`), asked by grpc.health.v1, or a page (`http://...`) that must be there.
"""

import sys
from urllib.error import URLError
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0


def healthy(target: str) -> bool:
    """Whether it answers, and says that it serves."""
    if target.startswith("http://"):
        try:
            with urlopen(target, timeout=TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (URLError, TimeoutError):
            return False
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) == 2 and healthy(sys.argv[1]) else 1)
