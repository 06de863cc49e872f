"""The small form: a quarter of the size, nearly the same forecasts, and nobody's depend on who else is in the batch."""

import numpy as np
import onnx

from stream.learning.network import Shape, examples_of_inputs
from stream.learning.quantize import quantized
from stream.models.dkt import INPUTS, OUTPUTS
from stream.models.onnx_file import check_model
from stream.models.runtime import Graph
from tests import networks


def test_it_is_smaller_and_says_nearly_the_same() -> None:
    """Less than 30% of the bytes; standard operators only; forecasts within a few hundredths of a logit."""
    whole = networks.random_model()
    small = quantized(whole)
    assert len(small) < 0.3 * len(whole)
    check_model(small)
    assert {node.domain for node in onnx.load_model_from_string(small).graph.node} <= {"", "ai.onnx"}
    inputs = examples_of_inputs(Shape(), 1, 64, 200)
    for one, other in zip(Graph(whole).run(OUTPUTS, inputs), Graph(small).run(OUTPUTS, inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)
        assert not np.array_equal(one, other)


def test_a_forecast_is_the_same_alone_and_in_a_batch() -> None:
    """A replay in other batches comes to the same states."""
    graph = Graph(quantized(networks.random_model()))
    inputs = examples_of_inputs(Shape(), 2, 16, 16)
    inputs["row"] = np.arange(16)
    together = graph.run(OUTPUTS, inputs)
    for user in range(16):
        one = {name: inputs[name][user : user + 1] for name in INPUTS} | {"row": np.zeros(1, np.int64)}
        for ours, theirs in zip(graph.run(OUTPUTS, one), together, strict=True):
            np.testing.assert_allclose(ours[0], theirs[user], atol=1e-5)
