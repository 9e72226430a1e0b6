"""The peers' model server: a transformers text-classification pipeline of the released model's shape.

The encoder has the released model's layers, width and vocabulary, with random weights: time does not depend on them.
Run as a program it is a web service: `python -m tests.bench.pipeline_peer MODEL PORT`.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

from sidecar.repository import open_repository

LAYERS, WIDTH, HEADS = 8, 384, 12


def make_model(repository: Path, target: Path) -> None:
    """Writes a transformers model directory with the tokenizer and the sizes of the repository's model."""
    import onnx
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    opened = open_repository(repository)
    graph = onnx.load(str(opened.onnx_path)).graph
    layers = {part for tensor in graph.initializer for part in tensor.name.split(".") if part.isdigit()}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(repository / "tokenizer.json"), pad_token="<pad>", model_max_length=512
    )
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=len(layers) or LAYERS,
        num_attention_heads=HEADS, intermediate_size=4 * WIDTH, max_position_embeddings=512,
        id2label=dict(enumerate(opened.manifest.labels)),
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    for path in target.iterdir():
        path.chmod(0o644)  # the backend, which is another user, reads them too


@cache
def _pipeline(model: str) -> Any:
    from transformers import pipeline

    return pipeline("text-classification", model=model, device="cpu", top_k=1)


def classify(model: str, texts: list[str]) -> list[str]:
    """One label per text."""
    return [found[0]["label"] for found in _pipeline(model)(texts, batch_size=32, truncation=True)]


def main() -> None:
    """Serves POST /classify on the loopback interface."""
    import uvicorn
    from fastapi import FastAPI

    model, port = sys.argv[1], int(sys.argv[2])
    app = FastAPI()

    def answer(body: dict[str, str]) -> dict[str, str]:
        return {"motive": classify(model, [body["text"]])[0]}

    app.post("/classify")(answer)
    classify(model, ["warm"])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", timeout_keep_alive=3600)


if __name__ == "__main__":
    main()
