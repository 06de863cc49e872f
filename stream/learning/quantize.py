"""
A smaller form of an exported network: weights of 8 bits, arithmetic in fp32.

Only what is stored is rounded. Were activations rounded too, their scale would be taken over the whole batch, and what
is said of one user would depend on who else is in it.

Source:
    Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

LARGEST_FALL = 0.002
"""Of the AUC: what is worse is not kept."""

_LEAST_SIZE = 1_024
"""Numbers of a tensor below which rounding saves nothing."""


def quantized(model: bytes, exact: Collection[str] = ()) -> bytes:
    """
    Return an ONNX model whose large tensors are stored as 8-bit integers and read through `DequantizeLinear`.

    Args:
        model: The whole one.
        exact: Kinds of nodes whose tensors stay as they are: what is looked up may be no weight.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    large = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= _LEAST_SIZE
    }
    nodes: list[onnx.NodeProto] = []
    widened: set[str] = set()
    stored: dict[str, list[onnx.TensorProto]] = {}
    for node in graph.node:
        after = []
        for place, name in enumerate(node.input):
            if name not in large or node.op_type in exact:
                continue
            axis = _axis(node)
            if name not in stored:
                stored[name] = _stored(name, numpy_helper.to_array(large[name]), axis)
            if axis is None:
                # An embedding: the rows that are looked up are widened, not all of them.
                rows = node.output[0]
                node.input[place], node.output[0] = f"{name}.int8", f"{rows}.int8"
                after.append(_widened(f"{rows}.int8", name, rows))
                continue
            if name not in widened:
                nodes.append(_widened(f"{name}.int8", name, f"{name}.fp32", axis))
                widened.add(name)
            node.input[place] = f"{name}.fp32"
        nodes += [node, *after]
    kept = [tensor for tensor in graph.initializer if tensor.name not in stored]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(tensor for pair in stored.values() for tensor in pair)])
    return proto.SerializeToString()


def _axis(node: onnx.NodeProto) -> int | None:
    """Return along which axis of a node's weights each slice has a scale of its own; None for one scale of all."""
    if node.op_type == "Gather":
        return None
    if node.op_type in {"LSTM", "GRU"}:
        return 1  # (directions, gates x H, inputs)
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else -1


def _stored(name: str, weights: NDArray[Any], axis: int | None) -> list[onnx.TensorProto]:
    others = None if axis is None else tuple(n for n in range(weights.ndim) if n != axis % weights.ndim)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scale = np.maximum(largest / 127, np.finfo(np.float32).tiny).astype(np.float32)
    rounded = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    flat = scale.reshape(()) if axis is None else scale.reshape(-1)
    return [
        numpy_helper.from_array(rounded, f"{name}.int8"),
        numpy_helper.from_array(np.ascontiguousarray(flat), f"{name}.scale"),
    ]


def _widened(small: str, name: str, wide: str, axis: int | None = None) -> onnx.NodeProto:
    node = helper.make_node("DequantizeLinear", [small, f"{name}.scale"], [wide], name=f"{wide}.widened")
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node
