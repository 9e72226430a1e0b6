"""A settings object's fields as flags of a command, each explained by the docstring below it."""

import argparse
import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import Any


def add_flags(
    parser: argparse.ArgumentParser,
    settings: type[Any],
    kinds: Mapping[object, Callable[[str], object]],
    *,
    skip: Collection[str] = (),
) -> None:
    """A flag for each field of the dataclass `settings`, read as its type says; None where it is not given."""
    told = explanations(settings)
    for field in fields(settings):
        if field.name in skip:
            continue
        flag = "--" + field.name.replace("_", "-")
        # A percent sign would be a place to fill in.
        text = told.get(field.name, "").replace("%", "%%") + _default(field.default)
        if field.type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(flag, type=kinds[field.type], default=None, metavar=field.name.upper(), help=text)


def explanations(settings: type[Any]) -> dict[str, str]:
    """The docstring below each field of a dataclass, on one line; nothing where its source is not at hand."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    except OSError:
        return {}
    assert isinstance(definition, ast.ClassDef)
    told = {}
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            told[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return told


def _default(value: object) -> str:
    if value is MISSING:
        return " (required)"
    if value == "":
        return ""
    return f" (default: {'on' if value is True else 'off' if value is False else value})"
