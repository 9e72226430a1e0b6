"""The raw engine as fast as it goes: no server, no queue, batches sorted by length."""

import numpy as np

from sidecar.engines.onnx import OnnxEngine
from sidecar.tokenize import Tokenizer

BATCH_TOKENS = 2048


def one_by_one(engine: OnnxEngine, tokenizer: Tokenizer, text: str) -> None:
    """Tokenizes and computes one text."""
    ((ids,),) = tokenizer.windows([text])
    engine.run(ids[None, :], np.ones((1, len(ids)), dtype=np.int64))


def ideal_rate(engine: OnnxEngine, texts: list[str]) -> None:
    """Tokenizes everything, sorts by length, and computes full batches one after the other."""
    windows = [window for one in Tokenizer(engine.repository).windows(texts) for window in one]
    windows.sort(key=len)
    pad_id = engine.repository.manifest.tokens.pad_id
    start = 0
    while start < len(windows):
        rows = max(1, BATCH_TOKENS // len(windows[start]))
        batch = windows[start : start + rows]
        length = len(batch[-1])
        ids = np.full((len(batch), length), pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(batch):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        engine.run(ids, mask)
        start += len(batch)
