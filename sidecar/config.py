"""The sidecar's settings: one frozen object a process, from flags and the environment, checked once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from sidecar import limits
from sidecar.errors import ConfigError

ENVIRONMENT_PREFIX = "MOTIVE_"


@dataclass(frozen=True)
class Settings:
    """What `motive serve` runs with. Every field can be set as a flag or as MOTIVE_<FIELD> in the environment."""

    listen: str
    """`unix:/path/to.sock`, or `HOST:PORT` for TCP."""
    engine: str
    """`onnx:PATH` of a model repository, or `triton://HOST:PORT/MODEL`."""
    cache_texts: int = limits.CACHE_TEXTS
    max_admitted_texts: int = limits.MAX_ADMITTED_TEXTS
    threads: int = 0
    """Threads of the embedded engine; 0 means one per core."""
    redact: bool = True
    drain_grace_s: float = limits.DRAIN_GRACE_S
    metrics: str = ""
    """`HOST:PORT` of the Prometheus endpoint; empty for none."""
    tls_cert: str = ""
    """PEM file of the server's certificate; TCP only. Read again when it changes."""
    tls_key: str = ""
    tls_client_ca: str = ""
    """PEM file of the authority that clients' certificates must come from (mutual TLS)."""
    socket_group: str = ""
    """Group that owns the Unix socket; members of it may connect."""

    def __post_init__(self) -> None:
        if self.listen.startswith("unix:"):
            path = self.listen.removeprefix("unix:")
            if not path.startswith("/"):
                raise ConfigError(f"listen {self.listen!r} is not absolute", "Write unix:/full/path/motive.sock.")
            if len(os.fsencode(path)) > limits.MAX_SOCKET_PATH:
                raise ConfigError(
                    f"the socket path has {len(os.fsencode(path))} bytes; the kernel allows {limits.MAX_SOCKET_PATH}",
                    "Choose a shorter path.",
                )
        else:
            parse_address(self.listen, "listen")
        if self.metrics:
            parse_address(self.metrics, "metrics")
        if not self.engine.startswith(("onnx:", "triton://")):
            raise ConfigError(f"engine {self.engine!r} is unknown", "Write onnx:PATH or triton://HOST:PORT/MODEL.")
        for name in ("cache_texts", "max_admitted_texts", "threads"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "Give 0 or more.")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("tls_cert and tls_key go together", "Give both or neither.")
        if self.tls_client_ca and not self.tls_cert:
            raise ConfigError("tls_client_ca needs tls_cert and tls_key", "Give all three for mutual TLS.")
        for name in ("tls_cert", "tls_key", "tls_client_ca"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ConfigError(f"{name} {path!r} is no file", "Correct the path.")

    @property
    def socket_path(self) -> Path | None:
        """The Unix socket's path; None for TCP."""
        return Path(self.listen.removeprefix("unix:")) if self.listen.startswith("unix:") else None

    @classmethod
    def gather(cls, flags: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Self:
        """Flags first (None means not given), then MOTIVE_* from `environment`, then the defaults."""
        values: dict[str, object] = {}
        for name, field in cls.__dataclass_fields__.items():
            if flags.get(name) is not None:
                values[name] = flags[name]
            elif (text := environment.get(ENVIRONMENT_PREFIX + name.upper())) is not None:
                values[name] = _parse(name, text, str(field.type))
        return cls(**values)  # type: ignore[arg-type]


def parse_address(address: str, name: str) -> tuple[str, int]:
    """`HOST:PORT` (IPv6 in brackets) as a pair; raises ConfigError naming the setting `name`."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise ConfigError(f"{name} {address!r} is not HOST:PORT", "Write, for example, 127.0.0.1:50051.")
    return host, port


def _parse(name: str, text: str, kind: str) -> object:
    try:
        if kind.endswith("bool"):
            return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{ENVIRONMENT_PREFIX}{name.upper()} is {text!r}", f"Give it as {kind}.") from None
