"""The whole graph in 16-bit floats, for GPUs; inputs and outputs stay as they are."""

from onnx import ModelProto

BLOCKED = ("LayerNormalization", "Softmax", "ReduceSum", "Where", "Range")
"""What sums up many values, or holds the mask's large numbers, stays in 32 bits."""


def halve(model: ModelProto) -> ModelProto:
    """Converts a float32 graph; returns the new model."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: ModelProto = convert_float_to_float16(model, keep_io_types=True, op_block_list=[*BLOCKED])
    return converted
