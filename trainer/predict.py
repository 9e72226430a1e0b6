"""Texts to token ids to logits, with a torch model or an exported one: the same cutting and padding for both."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

Ids = list[list[int]]
Infer = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""input_ids, attention_mask [batch, tokens] -> logits [batch, outputs]."""


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, prefix: str = "") -> Ids:
    """Token ids per text, special tokens included; a longer text keeps its beginning and the closing special tokens."""
    return [_cut(encoding, max_tokens) for encoding in tokenizer.encode_batch([prefix + text for text in texts])]


def _cut(encoding: Encoding, max_tokens: int) -> list[int]:
    ids: list[int] = encoding.ids
    if len(ids) <= max_tokens:
        return ids
    closing = list(reversed(encoding.special_tokens_mask)).index(0)  # decoders often close a text with none
    return [*ids[: max_tokens - closing], *ids[len(ids) - closing :]]


def pad(rows: Ids, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of unequal length -> ids and mask, int64 [batch, longest], padded on the right."""
    longest = max(1, *map(len, rows))
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def predict(infer: Infer, rows: Ids, pad_id: int, batch_tokens: int = 4096) -> NDArray[np.float32]:
    """Logits [texts, outputs] in the order of `rows`; works in batches of similar length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    results: list[NDArray[np.float32] | None] = [None] * len(rows)
    at = 0
    while at < len(order):
        size = max(1, batch_tokens // max(1, len(rows[order[min(at + 31, len(order) - 1)]])))
        picked = order[at : at + min(size, 128)]
        for i, logits in zip(picked, infer(*pad([rows[i] for i in picked], pad_id)), strict=True):
            results[i] = logits
        at += len(picked)
    return np.stack([r for r in results if r is not None]).astype(np.float32)


def evenly_spaced(rows: Ids, texts: int = 1024) -> Ids:
    """Every so manieth of `rows`, for what a sample tells well enough: `texts` of them, or up to twice as many."""
    return rows[:: max(1, len(rows) // texts)]


def torch_infer(model: object) -> Infer:
    """Wraps a MotiveClassifier in evaluation mode."""
    import torch

    def infer(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()  # type: ignore[operator]
            return logits

    return infer


def onnx_infer(path: str, threads: int = 0) -> Infer:
    """Wraps an exported model in ONNX Runtime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def infer(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return logits

    return infer
