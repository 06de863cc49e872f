"""
onnxruntime, behind the one check that matters: finite numbers, or an `InferenceError`.

Which files may be loaded at all is `stream.models.artifacts`'.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import InferenceError

# Since 1.31 onnxruntime sends usage data from Linux too, and writes a session file, unless this is set when it is
# imported: what runs beside learners' data calls nobody.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime


class Graph:
    """An ONNX graph, loaded from bytes, that runs on one thread."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        # One thread: the worker's other core belongs to the broker, and small batches do not gain by more (field
        # measurements).
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name: (i.type, tuple(i.shape)) for i in self._session.get_inputs()}
        self.outputs = {o.name: (o.type, tuple(o.shape)) for o in self._session.get_outputs()}

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """
        Return the named outputs.

        Raises:
            InferenceError: If the runtime refused, or a number is not finite.
        """
        try:
            results: list[NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        # onnxruntime raises classes of its own that share no base but Exception.
        except Exception as error:
            raise InferenceError(f"the model failed on a batch: {error}") from error
        for name, result in zip(outputs, results, strict=True):
            if not np.isfinite(result).all():
                raise InferenceError(f"expected finite numbers, found NaN or infinity in the model's output {name}")
        return results
