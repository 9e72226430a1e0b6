"""The client inside PostgreSQL's backends: what the bodies of the PL/Python functions call.

Each function takes `plpy` as its first argument and returns an Answer, in which a fault is a value: SQL raises it, so
that a user sees a sentence and a hint and never a Python traceback. PostgreSQL's own errors (a cancel, a timeout, a
termination) pass through as they are. Nothing here may depend on who calls: module state outlives SET ROLE.
"""

import time
from typing import Any

from sidecar.client.answers import Answer, failed
from sidecar.client.grpc_loader import load
from sidecar.errors import MotiveError, VersionError

INTERFACE = 1
"""Number of the agreement between these functions and the extension's SQL; SQL passes the one it was written for."""


def classify(
    plpy: Any,
    interface: int,
    texts: list[str | None],
    every: bool,
    target: str,
    files: list[str] | None,
    seconds: float,
) -> Answer:
    """The first motive of each text, None for a None; or, with `every`, all motives of the only text.

    `seconds` is the time that one request may take. `files` holds the paths of authority,
    certificate, key and token, each empty where there is none.
    """
    try:
        _check_interface(interface)
        seconds = _loaded(seconds)
        from sidecar.client import classification

        return classification.classify(plpy, texts, every, (target, *(files or ())), seconds)
    except MotiveError as error:
        return failed(error)


def explain(plpy: Any, interface: int, text: str, target: str, files: list[str] | None, seconds: float) -> Answer:
    """The words that carried each motive of `text`, with starts and stops counted from 0 in characters."""
    try:
        _check_interface(interface)
        seconds = _loaded(seconds)
        from sidecar.client import explanation

        return explanation.explain(plpy, text, (target, *(files or ())), seconds)
    except MotiveError as error:
        return failed(error)


def get_model(plpy: Any, interface: int, target: str, files: list[str] | None, seconds: float) -> Answer:
    """The model that answers, as the JSON that motive.register_model() reads, in the field `model`."""
    try:
        _check_interface(interface)
        seconds = _loaded(seconds)
        from sidecar.client import model

        return model.get_model(plpy, (target, *(files or ())), seconds)
    except MotiveError as error:
        return failed(error)


def _loaded(seconds: float) -> float:
    """What is left of `seconds` once everything is imported, which is felt in the first call of a session alone."""
    started = time.monotonic()
    load()
    return max(0.001, seconds - (time.monotonic() - started))


def _check_interface(interface: int) -> None:
    if interface != INTERFACE:
        raise VersionError(f"the installed client speaks interface {INTERFACE}, the extension {interface}")
