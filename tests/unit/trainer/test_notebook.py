"""The notebook runs from top to bottom as on Colab, with a tiny model in place of a large one."""

import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import trainer
from sidecar.repository import open_repository
from tests.unit.trainer.tiny import TAXONOMY, corpus
from trainer.texts import write_examples

NOTEBOOK = Path(trainer.__file__).with_name("colab.ipynb")
ROOT = Path(trainer.__file__).parents[1]


def read() -> Any:
    """The notebook as it is committed."""
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def write_colab(folder: Path) -> Path:
    """A `google.colab` to import from, whose downloads are noted in a file and whose upload nobody answers."""
    package = folder / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "files.py").write_text(
        "from pathlib import Path\n"
        "def download(path):\n"
        f"    Path({str(folder / 'downloads')!r}).write_text(path)\n"
        "def upload():\n"
        "    raise AssertionError('asked to upload what TEXTS names')\n"
    )
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_trains_judges_and_packs_a_model_on_colab(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient

    write_examples(tmp_path / "tickets.jsonl", corpus())
    (tmp_path / "tickets.toml").write_text(TAXONOMY, encoding="utf-8")
    given = {
        "TEXTS": str(tmp_path / "tickets.jsonl"), "TAXONOMY": str(tmp_path / "tickets.toml"), "BASE": str(tiny_base),
        "EPOCHS": 6.0, "BATCH": 16, "LEARNING_RATE": 3e-3, "MAX_TOKENS": 32, "NAME": "tickets",
        "TRY": ["refund money back please cash", "hello nice weather monday"],
    }  # fmt: skip
    notebook = read()
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    lines = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))  # type: ignore[no-untyped-call]
    colab = write_colab(tmp_path / "colab")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{colab}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    printed = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "stream")
    assert "refund money back please cash\n    refund" in printed
    assert "hello nice weather monday\n    other" in printed
    assert open_repository(tmp_path / "motive-training" / "tickets").manifest.name == "tickets"
    archive = Path((colab / "downloads").read_text())
    assert archive == tmp_path / "motive-training" / "tickets.zip"
    assert archive.is_file()
    shown = [o for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "display_data"]
    assert any("data:image/png;base64," in o.data.get("text/html", "") for o in shown)
