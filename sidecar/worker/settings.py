"""What `motive worker` runs with."""

from dataclasses import dataclass
from math import inf

from sidecar.config import is_loopback, parse_address
from sidecar.errors import ConfigError
from sidecar.logs import check_format


@dataclass(frozen=True)
class WorkerSettings:
    """One worker process; any number may work on one database."""

    dsn: str
    """Connection string of the database."""
    target: str = "unix:/run/pg_motive/motive.sock"
    """`unix:/path` or `HOST:PORT` of the sidecar."""
    lanes: int = 3
    """Claims worked on at once: while one waits for the model, another reads or writes."""
    max_rows: int = 2000
    """Rows in one claim at most; fewer are taken where the model is slow, so that new rows need not wait."""
    lease_s: float = 60.0
    """Seconds that a claim is ours; prolonged while we live."""
    deadline_s: float = 30.0
    """Seconds for one request to the sidecar."""
    database_timeout_s: float = 30.0
    """After so many seconds without an answer the connection is given up."""
    grace_s: float = 10.0
    """Seconds after SIGTERM for what is under way."""
    poll_min_s: float = 0.02
    """Seconds between two looks into an empty queue, at first."""
    poll_max_s: float = 0.2
    """And after a while without work; a message from the database ends the wait at once."""
    once: bool = False
    """Drain the queue and end, for cron."""
    shadow: str = ""
    """Answer shadow runs of this model instead of the queue; the sidecar must serve it."""
    tls_authority: str = ""
    """PEM file with the authority of the sidecar's certificate; TCP only."""
    tls_certificate: str = ""
    """PEM file with the certificate shown to the sidecar (mutual TLS). All three are read again when they change."""
    tls_key: str = ""
    """PEM file with the key of that certificate."""
    token_file: str = ""
    """File with the token that the sidecar asks for, the first where it holds several; empty for none."""
    metrics: str = ""
    """`HOST:PORT` of the Prometheus endpoint; empty for none. Whoever reaches it sees names of tables, no texts."""
    insecure: bool = False
    """Show metrics beyond this machine."""
    log_format: str = "text"
    """`text` or `json`."""

    def __post_init__(self) -> None:
        if self.metrics and not (is_loopback(parse_address(self.metrics, "metrics")[0]) or self.insecure):
            raise ConfigError(
                f"metrics {self.metrics!r} would be open to other machines",
                "Use 127.0.0.1; --insecure if the network is your own.",
            )
        for name in ("lanes", "max_rows", "lease_s", "deadline_s", "database_timeout_s", "poll_min_s"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"{name} is {getattr(self, name)}", "Give a number above 0.")
        if not 0 <= self.grace_s < inf:
            raise ConfigError(f"grace_s is {self.grace_s}", "Give a number of seconds, 0 or more.")
        check_format(self.log_format)
        if not self.poll_min_s <= self.poll_max_s < inf:
            raise ConfigError("poll_max_s is below poll_min_s", "Give at least as much.")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError("tls_certificate and tls_key go together", "Give both or neither.")
