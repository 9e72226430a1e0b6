"""Vectors of a backbone that was not fine-tuned: the mean of its last hidden states."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.bases import Base
from trainer.classifier import mean_over_tokens
from trainer.device import computes_bf16
from trainer.predict import predict, token_ids


def embedder(base: Base, max_tokens: int = 128, prefix: str = "") -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """A function from texts to vectors float32 [texts, width]; answers from memory what it has seen before.

    Runs on the GPU where there is one, and in bf16 where processor or GPU computes it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    halved = computes_bf16()
    model = base.model.eval().to(device)
    memory: dict[str, NDArray[np.float32]] = {}

    def infer(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        tokens, kept = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
        with torch.inference_mode():
            with torch.autocast(device.type, torch.bfloat16, enabled=halved):
                hidden = model(input_ids=tokens, attention_mask=kept).last_hidden_state.float()
            vectors: NDArray[np.float32] = mean_over_tokens(hidden, kept).cpu().numpy()
            return vectors

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        new = list(dict.fromkeys(text for text in texts if text not in memory))
        if new:
            rows = token_ids(base.tokenizer, new, max_tokens, prefix)
            memory.update(zip(new, predict(infer, rows, base.pad_id), strict=True))
        return np.stack([memory[text] for text in texts])

    return embed
