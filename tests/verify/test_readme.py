"""The commands of the README and of the notebook are ones that the programs take, the README's links lead somewhere,
and every bench has its place."""

import json
import re
import shlex
from pathlib import Path

import pytest

from sidecar import cli
from trainer import cli as trainer_cli
from trainer.config import read_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOK = json.loads((ROOT / "trainer" / "colab.ipynb").read_text(encoding="utf-8"))
PROSE = "\n".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
PARSERS = {"motive": cli.parser, "motive-train": trainer_cli.parser}


CALL = re.compile(r"(?:\$ )?(?:sudo (?:-u \w+ )?)?(?:\S*/)?((?:motive|motive-train) .*)")


def commands(text: str) -> list[list[str]]:
    """Each call of our programs in a block of shell, without sudo, a console's prompt, a path and a remark."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    parts = re.split(r"&&|\n| \| ", "".join(blocks).replace("\\\n", " "))
    return [shlex.split(call[1], comments=True) for part in parts if (call := CALL.fullmatch(part.strip()))]


@pytest.mark.parametrize("words", [*commands(TEXT), *commands(PROSE)], ids=" ".join)
def test_a_command_of_the_readme_or_the_notebook_is_understood(words: list[str]) -> None:
    PARSERS[words[0]]().parse_args(words[1:])


def test_the_notebook_tells_how_to_serve_what_it_trained() -> None:
    assert [words[1] for words in commands(PROSE)] == ["model", "release", "serve"]


def test_the_config_of_the_readme_is_one_that_train_takes(tmp_path: Path) -> None:
    (written,) = re.findall(r"^cat > my\.toml <<'END'\n(.*?)^END$", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "my.toml").write_text(written, encoding="utf-8")
    config = read_config(tmp_path / "my.toml")
    assert config.data.corpus == ("work/corpus.jsonl",)
    assert (ROOT / config.data.taxonomy).is_file()


def test_links_lead_to_files_and_headings_that_exist() -> None:
    headings = {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in TEXT.splitlines()}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target


def test_every_bench_has_its_place() -> None:
    for path in sorted((ROOT / "tests" / "bench").glob("*_bench.py")):
        name = path.stem.removesuffix("_bench")
        assert TEXT.count(f"<!-- bench:{name} -->") == TEXT.count(f"<!-- /bench:{name} -->") == 1, name
