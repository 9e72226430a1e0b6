"""Tiny backbones, and what is trained and exported from them, once a session, through the commands users type."""

import csv
import os
import warnings
from pathlib import Path

import pytest

from sidecar.repository import Taxonomy, read_taxonomy
from tests.unit.trainer.tiny import TAXONOMY, corpus, save_encoder, write_config
from trainer.cli import main
from trainer.config import Config

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is imported: no test waits for a hub


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a model hub would give it: a BERT of two layers of 32, and its tokenizer."""
    return save_encoder(tmp_path_factory.mktemp("base"))


def run(*arguments: object) -> int:
    """`motive-train` in this process; the libraries' warnings are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return main([str(argument) for argument in arguments])


@pytest.fixture
def taxonomy(tmp_path: Path) -> Taxonomy:
    """The tiny taxonomy, which lies in `tmp_path`."""
    (tmp_path / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    return read_taxonomy(tmp_path / "taxonomy.toml")


@pytest.fixture(scope="session")
def prepared(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The config of a folder in which a user's CSV of support tickets has become a corpus."""
    folder = tmp_path_factory.mktemp("tickets")
    config = write_config(folder, tiny_base)
    with (folder / "tickets.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["ticket", "tags", "kind"])
        rows.writerows([e.text, ";".join(e.motives) or "other", e.kind] for e in corpus())
    columns = ("--text-column", "ticket", "--label-column", "tags")
    assert run("prepare", folder / "tickets.csv", *columns, "--taxonomy", folder / "taxonomy.toml", "--to", folder) == 0
    return config


@pytest.fixture(scope="session")
def trained(prepared: Config) -> tuple[Config, Path]:
    """A config and the folder of the tiny model trained by it."""
    model = prepared.path.parent / "model"
    assert run("train", "--config", prepared.path, "--to", model) == 0
    return prepared, model


@pytest.fixture(scope="session")
def exported(trained: tuple[Config, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a repository."""
    config, model = trained
    path = tmp_path_factory.mktemp("exported") / "tickets"
    assert run("export", "--config", config.path, "--model", model, "--to", path) == 0
    return path
