"""A random BERT of two layers, as an exporter writes it out: plain operators, weights in float16 behind a Cast."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

WIDTH, INNER, HEADS, PIECES, POSITIONS = 128, 256, 4, 64, 64
HEAD = WIDTH // HEADS


class TinyBert:
    """Builds the graph; `outputs` logits from the mean over the tokens that the mask keeps."""

    def __init__(self, outputs: int, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self.outputs = outputs

    def build(self, layers: int = 2) -> ModelProto:
        """The model: input_ids, attention_mask int64 [batch, tokens] -> logits float32 [batch, outputs]."""
        words = self._weight("words", PIECES, WIDTH)
        x = self._op("Gather", words, "input_ids")
        x = self._normalize(x)
        kept = self._op("Cast", "attention_mask", to=TensorProto.FLOAT)
        away = self._op("Sub", self._constant("one", np.float32(1.0)), kept)
        away = self._op("Mul", away, self._constant("least", np.float32(-1e9)))
        mask = self._op("Unsqueeze", away, self._constant("mask_axes", np.array([1, 2])))
        for _ in range(layers):
            x = self._layer(x, mask)
        weights = self._op("Unsqueeze", kept, self._constant("last", np.array([-1])))
        axis = self._constant("tokens", np.array([1]))
        total = self._op("ReduceSum", self._op("Mul", x, weights), axis, keepdims=0)
        mean = self._op("Div", total, self._op("ReduceSum", weights, axis, keepdims=0))
        head = self._weight("head", self.outputs, WIDTH)
        bias = self._constant("head_bias", np.zeros(self.outputs, dtype=np.float32))
        self._nodes.append(helper.make_node("Gemm", [mean, head, bias], ["logits"], transB=1))
        return self._model()

    def _model(self) -> ModelProto:
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", self.outputs])
        graph = helper.make_graph(self._nodes, "tiny", ids, [logits], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def _layer(self, x: str, mask: str) -> str:
        cut = self._constant("cut", np.array([0, 0, HEADS, HEAD]))
        query, key, value = (self._op("Reshape", self._linear(x, WIDTH, WIDTH), cut) for _ in range(3))
        query, value = (self._op("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
        scores = self._op("MatMul", query, self._op("Transpose", key, perm=[0, 2, 3, 1]))
        scores = self._op("Mul", scores, self._constant("scale", np.float32(HEAD**-0.5)))
        attention = self._op("Softmax", self._op("Add", scores, mask), axis=-1)
        context = self._op("Transpose", self._op("MatMul", attention, value), perm=[0, 2, 1, 3])
        context = self._op("Reshape", context, self._constant("join", np.array([0, 0, WIDTH])))
        x = self._normalize(self._op("Add", self._linear(context, WIDTH, WIDTH), x))
        inner = self._linear(x, WIDTH, INNER)
        erf = self._op("Erf", self._op("Div", inner, self._constant("root", np.float32(2**0.5))))
        half = self._op(
            "Mul",
            self._constant("half", np.float32(0.5)),
            self._op("Add", erf, self._constant("unit", np.float32(1.0))),
        )
        outer = self._linear(self._op("Mul", inner, half), INNER, WIDTH)
        return self._normalize(self._op("Add", outer, x))

    def _linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self._op("MatMul", x, self._weight("matrix", inputs, outputs))
        bias = self._random.normal(scale=0.1, size=outputs).astype(np.float32)
        return self._op("Add", product, self._constant("bias", bias))

    def _normalize(self, x: str) -> str:
        ones, zeros = np.ones(WIDTH, dtype=np.float32), np.zeros(WIDTH, dtype=np.float32)
        return self._op(
            "LayerNormalization",
            x,
            self._constant("gain", ones),
            self._constant("shift", zeros),
            axis=-1,
            epsilon=1e-12,
        )

    def _weight(self, stem: str, rows: int, columns: int) -> str:
        array = self._random.normal(scale=columns**-0.5, size=(rows, columns)).astype(np.float16)
        return self._op("Cast", self._constant(stem, array), to=TensorProto.FLOAT)

    def _constant(self, stem: str, array: NDArray[Any] | np.generic) -> str:
        name = f"{stem}_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name
