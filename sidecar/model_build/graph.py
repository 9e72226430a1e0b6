"""An ONNX graph as the transformations of this package see it: who makes a value, who uses it, what is constant."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

Array = NDArray[Any]


class Graph:
    """Wraps a model; changes to nodes and constants are written back by `finish`.

    `made_by` maps a value to the node that makes it, `used_by` to the nodes that read it. Both describe the graph as it
    was when it was wrapped: a transformation collects what it replaces and ends with `finish`.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.made_by: dict[str, NodeProto] = {name: node for node in self.nodes for name in node.output}
        self.used_by: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.used_by[name].append(node)
        self._replaced: dict[int, list[NodeProto]] = {}

    def constant(self, name: str) -> Array | None:
        """The value of an initializer; None where `name` is computed or is an input."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def scalar(self, name: str) -> float | None:
        """The value of an initializer of one element, else None."""
        array = self.constant(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def add_constant(self, name: str, array: Array | np.generic) -> str:
        """Adds an initializer, or replaces the one of that name; returns the name."""
        self._constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def maker(self, name: str, *kinds: str) -> NodeProto | None:
        """The node that makes `name`, where it is of one of `kinds`."""
        node = self.made_by.get(name)
        return node if node is not None and node.op_type in kinds else None

    def only_user(self, name: str, *kinds: str) -> NodeProto | None:
        """The one node that reads `name`, where it is one, and of one of `kinds`."""
        users = self.used_by[name]
        return users[0] if len(users) == 1 and users[0].op_type in kinds else None

    def other_input(self, node: NodeProto, name: str) -> str:
        """Of a node with two inputs, the one that is not `name`."""
        return str(node.input[1] if node.input[0] == name else node.input[0])

    def with_constant(self, node: NodeProto) -> tuple[str, Array] | None:
        """A two-input node as (computed input, constant input), whichever way round they stand."""
        for computed, fixed in ((0, 1), (1, 0)):
            array = self.constant(node.input[fixed])
            if array is not None:
                return str(node.input[computed]), array
        return None

    def on_grid(self, name: str) -> tuple[Array, Array] | None:
        """The matrix `name` as int8 [inputs, outputs] and a step per output, where it is made as their product."""
        multiply = self.maker(name, "Mul")
        cast = multiply and self.maker(multiply.input[0], "Cast")
        whole = self.constant(cast.input[0]) if cast else None
        steps = self.constant(multiply.input[1]) if multiply else None
        if whole is None or steps is None or whole.dtype != np.int8 or steps.shape != whole.shape[1:]:
            return None
        return whole, steps

    def replace(self, node: NodeProto, by: Iterable[NodeProto]) -> None:
        """Puts other nodes in the place of `node`; together they make at least what it made."""
        self._replaced[id(node)] = list(by)

    def finish(self) -> ModelProto:
        """Writes the changes back, dropping nodes and constants that nothing needs any more; returns the model."""
        nodes = [new for node in self.nodes for new in self._replaced.get(id(node), [node])]
        nodes = _needed(nodes, [output.name for output in self.model.graph.output])
        used = {name for node in nodes for name in node.input}
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)
        return self.model


def _needed(nodes: list[NodeProto], outputs: list[str]) -> list[NodeProto]:
    """The nodes that `outputs` depend on, each after those that it depends on."""
    makers = {name: node for node in nodes for name in node.output}
    done: set[int] = set()
    ordered: list[NodeProto] = []
    stack = [(makers[name], False) for name in reversed(outputs) if name in makers]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            ordered.append(node)
            continue
        stack.append((node, True))
        stack.extend((makers[name], False) for name in reversed(node.input) if name in makers)
    return ordered


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute of a node."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def contrib(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> NodeProto:
    """A node of ONNX Runtime's own operators, which every build of it holds."""
    return helper.make_node(kind, inputs, outputs, domain="com.microsoft", **attributes)


def import_contrib(model: ModelProto) -> None:
    """Declares that the model uses ONNX Runtime's own operators."""
    if not any(opset.domain == "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
