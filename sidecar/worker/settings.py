"""What `motive worker` runs with."""

from dataclasses import dataclass

from sidecar.config import is_loopback, parse_address
from sidecar.errors import ConfigError


@dataclass(frozen=True)
class WorkerSettings:
    """One worker process; any number may work on one database."""

    dsn: str
    target: str = "unix:/run/pg_motive/motive.sock"
    """`unix:/path` or `HOST:PORT` of the sidecar."""
    lanes: int = 3
    """Claims worked on at once: while one waits for the model, another reads or writes."""
    max_rows: int = 2000
    """Rows in one claim at most; fewer are taken where the model is slow, so that new rows need not wait."""
    lease_s: float = 60.0
    """For how long a claim is ours; prolonged while we live."""
    deadline_s: float = 30.0
    """For one request to the sidecar."""
    database_timeout_s: float = 30.0
    """After so long without an answer the connection is given up."""
    grace_s: float = 10.0
    """After SIGTERM, for what is under way."""
    poll_min_s: float = 0.02
    poll_max_s: float = 0.2
    once: bool = False
    """Drain and end."""
    shadow: str = ""
    """Answer shadow runs of this model instead of the queue; the sidecar must serve it."""
    tls_authority: str = ""
    """PEM file with the authority of the sidecar's certificate; TCP only."""
    tls_certificate: str = ""
    tls_key: str = ""
    token_file: str = ""
    """File with the token that the sidecar asks for; empty for none."""
    metrics: str = ""
    """`HOST:PORT` of the Prometheus endpoint; empty for none. Whoever reaches it sees names of tables, no texts."""
    insecure: bool = False
    """Show metrics beyond this machine."""

    def __post_init__(self) -> None:
        if self.metrics and not (is_loopback(parse_address(self.metrics, "metrics")[0]) or self.insecure):
            raise ConfigError(
                f"metrics {self.metrics!r} would be open to other machines",
                "Use 127.0.0.1; --insecure if the network is your own.",
            )
        for name in ("lanes", "max_rows", "lease_s", "deadline_s", "database_timeout_s", "poll_min_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "Give a number above 0.")
        if self.poll_max_s < self.poll_min_s:
            raise ConfigError("poll_max_s is below poll_min_s", "Give at least as much.")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError("tls_certificate and tls_key go together", "Give both or neither.")
