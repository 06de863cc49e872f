"""
A smaller form of an exported network: weights of 8 bits.

Source:
    Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference;
    ONNX Runtime's dynamic quantisation, which makes `DynamicQuantizeLSTM` of an LSTM.
"""

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

LARGEST_FALL = 0.002
"""Of the AUC: what is worse is not kept."""

_OPERATORS = ["MatMul", "LSTM", "Gather"]


def quantized(model: bytes) -> bytes:
    """Return an ONNX model with weights of 8 bits: matrices, the LSTM's and the embeddings'."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        # It recommends a step that changes nothing here, with each model, at the root of all loggers.
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(
                source,
                target,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=_OPERATORS,
                # What it cannot infer behind its own operators is fp32, as everything here.
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        finally:
            logging.disable(logging.NOTSET)
        return target.read_bytes()
