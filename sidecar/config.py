"""The sidecar's settings: one frozen object a process, from flags and the environment, checked once."""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from sidecar import limits
from sidecar.errors import ConfigError
from sidecar.logs import check_format
from sidecar.tls import CertificateFiles

ENVIRONMENT_PREFIX = "MOTIVE_"

_LEAST = {"cache_texts": 0, "max_admitted_texts": 1, "threads": 0, "batch_tokens": 8, "triton_batches": 1}


@dataclass(frozen=True)
class Settings:
    """What `motive serve` runs with. Every field can be set as a flag or as MOTIVE_<FIELD> in the environment."""

    listen: str
    """`unix:/path/to.sock`, or `HOST:PORT` for TCP."""
    engine: str
    """`onnx:PATH` or `triton://HOST:PORT[,HOST:PORT...]/MODEL?repository=PATH`; PATH is a model repository or a
    directory of releases."""
    cache_texts: int = limits.CACHE_TEXTS
    """Answers remembered; 0 for none."""
    max_admitted_texts: int = limits.MAX_ADMITTED_TEXTS
    """Texts held at once, over all calls; above it a call is refused at once."""
    threads: int = 0
    """Threads of the embedded engine; 0 means one per core."""
    redact: bool = True
    """Mask personal data in texts that the caller has not masked."""
    drain_grace_s: float = limits.DRAIN_GRACE_S
    """Seconds after SIGTERM for calls in flight."""
    metrics: str = ""
    """`HOST:PORT` of the Prometheus endpoint; empty for none."""
    tls_cert: str = ""
    """PEM file of the server's certificate; TCP only. Read again when it changes."""
    tls_key: str = ""
    """PEM file of that certificate's key."""
    tls_client_ca: str = ""
    """PEM file of the authority that clients' certificates must come from (mutual TLS)."""
    token_file: str = ""
    """File of tokens, one a line, of which every call must carry one; empty for none. Read again when it changes."""
    insecure: bool = False
    """Listen beyond this machine without TLS."""
    batch_tokens: int = limits.BATCH_TOKENS
    """Tokens in one batch for the engine; a GPU likes more."""
    triton_batches: int = 2
    """Batches sent to each Triton server at once: one is computed, one is at hand. More gain little, and an interactive
    call waits for all that were sent before it."""
    triton_ca: str = ""
    """PEM file of the authority that Triton's certificate must come from; turns TLS to Triton on."""
    triton_cert: str = ""
    """PEM file of the certificate shown to Triton (mutual TLS)."""
    triton_key: str = ""
    """PEM file of that certificate's key."""
    log_format: str = "text"
    """`text` or `json`."""
    traces: str = ""
    """`HOST:PORT` of an OpenTelemetry collector (OTLP over gRPC); empty for none. Needs the extra `traces`."""
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
            if self.tls_cert or self.tls_key or self.tls_client_ca:
                raise ConfigError(
                    f"a Unix socket has no TLS, and listen is {self.listen!r}",
                    "Leave tls_cert, tls_key and tls_client_ca out, or listen on HOST:PORT.",
                )
        else:
            self._check_exposure("listen", bool(self.tls_cert))
        if self.metrics:
            self._check_exposure("metrics", False)
        if self.traces:
            parse_address(self.traces, "traces")
        check_format(self.log_format)
        if not self.engine.startswith(("onnx:", "triton://")):
            raise ConfigError(f"engine {self.engine!r} is unknown", "Write onnx:PATH or triton://HOST:PORT/MODEL.")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}", f"Give {least} or more.")
        if not 0 <= self.drain_grace_s < inf:
            raise ConfigError(f"drain_grace_s is {self.drain_grace_s}", "Give a number of seconds, 0 or more.")
        self._check_files()

    def _check_exposure(self, name: str, secured: bool) -> None:
        host, _ = parse_address(getattr(self, name), name)
        if not (secured or self.insecure or is_loopback(host)):
            raise ConfigError(
                f"{name} {getattr(self, name)!r} would be open to other machines without TLS",
                "Give tls_cert and tls_key, or listen on 127.0.0.1; --insecure if the network is your own."
                if name == "listen"
                else "Use 127.0.0.1; --insecure if the network is your own.",
            )

    def _check_files(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("tls_cert and tls_key go together", "Give both or neither.")
        if self.tls_client_ca and not self.tls_cert:
            raise ConfigError("tls_client_ca needs tls_cert and tls_key", "Give all three for mutual TLS.")
        if bool(self.triton_cert) != bool(self.triton_key) or (self.triton_cert and not self.triton_ca):
            raise ConfigError("triton_cert and triton_key go together, with triton_ca", "Give all three.")
        for name in ("tls_cert", "tls_key", "tls_client_ca", "token_file", "triton_ca", "triton_cert", "triton_key"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ConfigError(f"{name} {path!r} is no file", "Correct the path.")

    @property
    def triton_tls(self) -> CertificateFiles | None:
        """What the connection to Triton is secured with; None for plain TCP."""
        return CertificateFiles(self.triton_cert, self.triton_key, self.triton_ca) if self.triton_ca else None

    @property
    def socket_path(self) -> Path | None:
        """The Unix socket's path; None for TCP."""
        return Path(self.listen.removeprefix("unix:")) if self.listen.startswith("unix:") else None

    @classmethod
    def gather(cls, flags: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Self:
        """Flags first (None means not given), then MOTIVE_* from `environment`, then the defaults.

        Raises ConfigError where a setting without a default is missing, or one cannot be read.
        """
        values: dict[str, object] = {}
        for name, field in cls.__dataclass_fields__.items():
            if flags.get(name) is not None:
                values[name] = flags[name]
            elif (text := environment.get(ENVIRONMENT_PREFIX + name.upper())) is not None:
                values[name] = _parse(name, text, field.type)
            elif field.default is MISSING:
                raise ConfigError(f"{name} is not set", f"Give --{name} or {ENVIRONMENT_PREFIX}{name.upper()}.")
        return cls(**values)  # type: ignore[arg-type]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _parse(name: str, text: str, kind: object) -> object:
    try:
        return KINDS[kind](text)
    except (ValueError, KeyError):
        wanted = "on or off" if kind is bool else "a number"
        raise ConfigError(f"{ENVIRONMENT_PREFIX}{name.upper()} is {text!r}", f"Give {wanted}.") from None


def _switch(text: str) -> bool:
    return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[text.lower()]


KINDS: Final[Mapping[object, Callable[[str], object]]] = {str: str, int: int, float: float, bool: _switch}
"""How the text of a flag or a variable becomes a setting, by the field's type."""
