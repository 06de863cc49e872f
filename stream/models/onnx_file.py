"""
What an ONNX file may contain before a runtime sees it.

A model is not code, yet external data has been a path traversal more than once (CVE-2022-25882, CVE-2024-27318,
CVE-2025-51480), and custom operators load libraries.
"""

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError

from stream.errors import ArtifactError

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MICROSOFT_OPERATORS = frozenset({"DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"})
"""Operators of `com.microsoft` that dynamic quantisation makes."""


def check_model(content: bytes) -> None:
    """
    Refuse a model that holds anything but standard operators and its own tensors.

    Raises:
        ArtifactError: If the bytes are no ONNX model, or it has functions, foreign operators, or tensors outside the
            file.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ArtifactError(f"expected an ONNX model, found {len(content)} bytes of something else") from error
    if not model.graph.node:
        raise ArtifactError("expected an ONNX model with a graph, found an empty one")
    if model.functions or model.training_info:
        raise ArtifactError("expected a plain graph, found functions or training information of its own")
    for graph in _graphs(model.graph):
        for node in graph.node:
            allowed = node.domain in STANDARD_DOMAINS or (
                node.domain == "com.microsoft" and node.op_type in MICROSOFT_OPERATORS
            )
            if not allowed:
                raise ArtifactError(f"expected standard operators, found {node.domain}::{node.op_type}")
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise ArtifactError(f"expected every tensor in the file, found {tensor.name!r} outside of it")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                # Without asking for nodes: a branch may consist of a tensor alone.
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
