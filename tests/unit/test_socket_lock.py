"""What lies at the socket's path: a dead socket goes, anything else is somebody's."""

import socket
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.socket_lock import owned_socket


def test_what_is_no_socket_is_refused_and_kept(short_directory: Path) -> None:
    path = short_directory / "notes"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"), owned_socket(path):
        pass
    assert path.read_text() == "precious"


def test_a_socket_that_nobody_serves_is_removed(short_directory: Path) -> None:
    path = short_directory / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with owned_socket(path):
        assert not path.exists()
