"""Settings: from flags and the environment, checked once, refused with a sentence."""

import argparse
from collections.abc import Iterator
from math import nan
from pathlib import Path

import pytest

from sidecar.cli import parser
from sidecar.config import Settings, is_loopback
from sidecar.engines.url import parse_engine
from sidecar.errors import ConfigError
from sidecar.worker.settings import WorkerSettings

ENGINE = "onnx:/models/motive"


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"MOTIVE_THREADS": "3", "MOTIVE_CACHE_TEXTS": "7", "MOTIVE_REDACT": "off", "MOTIVE_LISTEN": "unix:/a"}
    flags = vars(parser().parse_args(["serve", "--engine", ENGINE, "--threads", "2", "--drain-grace-s", "0.5"]))
    settings = Settings.gather(flags, environment)
    assert (settings.threads, settings.cache_texts, settings.redact) == (2, 7, False)
    assert settings.drain_grace_s == 0.5
    assert settings.listen == "unix:/a"
    assert settings.max_admitted_texts == Settings(listen="unix:/a", engine=ENGINE).max_admitted_texts


def test_a_switch_can_be_turned_off_by_flag() -> None:
    flags = vars(parser().parse_args(["serve", "--engine", ENGINE, "--listen", "unix:/a", "--no-redact"]))
    assert Settings.gather(flags, {}).redact is False


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"listen": "0.0.0.0:50051"}, "would be open to other machines without TLS"),
        ({"listen": "[::]:50051"}, "would be open to other machines without TLS"),
        ({"listen": "motive.example:50051"}, "would be open to other machines without TLS"),
        ({"metrics": "0.0.0.0:9100"}, "would be open to other machines without TLS"),
        ({"listen": "unix:relative.sock"}, "is not absolute"),
        ({"listen": "unix:/" + "x" * 107}, "the kernel allows 107"),
        ({"listen": "nonsense"}, "is not HOST:PORT"),
        ({"engine": "torch:x"}, "is unknown"),
        ({"log_format": "xml"}, "log_format is 'xml'"),
        ({"token_file": "/nowhere"}, "is no file"),
        ({"tls_cert": "/nowhere"}, "go together"),
        ({"tls_client_ca": "/nowhere"}, "needs tls_cert"),
        ({"triton_cert": "/nowhere"}, "go together"),
        ({"threads": -1}, "threads is -1"),
        ({"batch_tokens": 4}, "batch_tokens is 4"),
        ({"max_admitted_texts": 0}, "max_admitted_texts is 0"),
        ({"drain_grace_s": -1.0}, "drain_grace_s is -1"),
        ({"drain_grace_s": nan}, "drain_grace_s is nan"),
        ({"listen": "unix:/a", "tls_cert": "/c", "tls_key": "/k"}, "a Unix socket has no TLS"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(values: dict[str, object], sentence: str) -> None:
    """F25 among others: nothing listens beyond loopback without TLS unless told to."""
    with pytest.raises(ConfigError, match=sentence) as refused:
        Settings(**{"listen": "127.0.0.1:0", "engine": ENGINE, **values})  # type: ignore[arg-type]
    assert refused.value.hint


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"log_format": "xml"}, "log_format is 'xml'"),
        ({"lease_s": nan}, "lease_s is nan"),
        ({"grace_s": -1.0}, "grace_s is -1"),
        ({"lanes": 0}, "lanes is 0"),
    ],
)
def test_what_a_worker_cannot_use_is_refused_with_a_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        WorkerSettings(dsn="", **values)  # type: ignore[arg-type]
    assert refused.value.hint


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_every_flag_is_explained_with_its_default(command: str) -> None:
    """Also those of mutual TLS, which would be easy to confuse."""
    flags = {action.dest: action.help or "" for action in actions(command)}
    assert [name for name, text in flags.items() if not text.strip()] == []
    shown = {"serve": ("cache_texts", "(default: 100000)"), "worker": ("lease_s", "(default: 60.0)")}[command]
    assert shown[1] in flags[shown[0]]


def actions(command: str) -> Iterator[argparse.Action]:
    """The flags of one command."""
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices[command]._actions


def test_listening_beyond_loopback_is_possible_when_told_to() -> None:
    settings = Settings(listen="0.0.0.0:50051", engine=ENGINE, metrics="0.0.0.0:9100", insecure=True)
    assert settings.socket_path is None


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="MOTIVE_THREADS is 'many'"):
        Settings.gather({}, {"MOTIVE_LISTEN": "unix:/a", "MOTIVE_ENGINE": ENGINE, "MOTIVE_THREADS": "many"})


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)],
)
def test_loopback_is_told_from_other_addresses(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


def test_an_engine_url_names_addresses_model_and_repository() -> None:
    url = parse_engine("triton://a:8001,b:8001/motive?repository=/models/motive")
    assert url.addresses == ("a:8001", "b:8001")
    assert (url.model, url.path) == ("motive", Path("/models/motive"))
    assert parse_engine(ENGINE).addresses == ()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("triton://a:8001/motive", "needs repository=PATH"),
        ("triton://a:8001/motive?repository=/x&colour=red", "needs repository=PATH and nothing else"),
        ("triton://a:8001?repository=/x", "names no model"),
        ("triton://a:8001/x/y?repository=/x", "names no model"),
        ("triton://a/motive?repository=/x", "is not HOST:PORT"),
        ("triton://a:1,a:1/motive?repository=/x", "names an address twice"),
        ("onnx:", "names no model repository"),
    ],
)
def test_an_engine_url_that_says_too_little_or_too_much_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_engine(url)


@pytest.mark.parametrize(("given", "missing"), [({}, "listen"), ({"listen": "unix:/a"}, "engine")])
def test_a_setting_that_has_no_default_is_asked_for_by_name(given: dict[str, object], missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing} is not set") as raised:
        Settings.gather(given, {})
    assert f"MOTIVE_{missing.upper()}" in raised.value.hint
