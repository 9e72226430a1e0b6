"""TLS and mutual TLS on TCP: certificates from files, read again when they change: rotation needs no restart."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from sidecar.errors import ConfigError

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int, int], ...]


def stamp(*paths: str) -> Stamp:
    """Changes whenever a file is written, replaced or given other rights; raises OSError where one is missing."""
    stats = [Path(path).stat() for path in paths]
    return tuple((stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino) for stat in stats)


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files: a certificate chain with its key, and the authority that the other side must come from.

    On a client, all may be empty: the system's authorities then, and no certificate of its own.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""

    def stamp(self) -> Stamp:
        """The stamp of those files that are given; raises OSError where one is missing."""
        return stamp(*(path for path in (self.cert, self.key, self.ca) if path))

    def check(self) -> None:
        """Raises OSError or ssl.SSLError where a file cannot be read or the key is not the certificate's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        if self.ca:
            context.load_verify_locations(self.ca)

    def bytes_of(self, path: str) -> bytes | None:
        """The file's bytes; None for an empty path."""
        return Path(path).read_bytes() if path else None


class _Rotation:
    """What gRPC asks at each handshake: a new configuration when the files have changed and fit together, else None."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._stamp = files.stamp()

    def __call__(self) -> "grpc.ServerCertificateConfiguration | None":
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            self._files.check()
            configuration = _configuration(self._files)
        # Half-written files are met in every rotation: the certificate in use stays until the new one is whole.
        except (OSError, ssl.SSLError) as error:
            log.warning("the new TLS certificate cannot be used yet: %s", type(error).__name__)
            return None
        self._stamp = stamp
        log.info("a new TLS certificate is in use")
        return configuration


def _configuration(files: CertificateFiles) -> grpc.ServerCertificateConfiguration:
    key, cert = files.bytes_of(files.key), files.bytes_of(files.cert)
    assert key is not None
    assert cert is not None
    return grpc.ssl_server_certificate_configuration([(key, cert)], files.bytes_of(files.ca))


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Credentials of a server; with `files.ca`, clients must show a certificate of that authority."""
    try:
        files.check()
        rotation = _Rotation(files)
        initial = _configuration(files)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the TLS certificate {files.cert} cannot be used: {error}",
            "Give a PEM chain, its key, and a PEM authority.",
        ) from None
    return grpc.dynamic_ssl_server_credentials(
        initial,
        rotation,  # type: ignore[arg-type]  # None means no change
        require_client_authentication=bool(files.ca),
    )


def client_credentials(files: CertificateFiles) -> grpc.ChannelCredentials:
    """Credentials of a client; raises OSError where a file is missing."""
    return grpc.ssl_channel_credentials(files.bytes_of(files.ca), files.bytes_of(files.key), files.bytes_of(files.cert))


def client_channel(
    target: str, files: CertificateFiles | None, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """The way to a server, over TLS where there are `files`; raises OSError where one is missing."""
    if files is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, client_credentials(files), options)
