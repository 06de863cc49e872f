"""The laws of predictors, over each that there is: the fallback, a network of random weights, one that has learned."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.ports import Predictor
from tests import laws, networks

Make = Callable[[], Predictor]
every_predictor = pytest.mark.parametrize("make", [networks.fallback, networks.random_dkt, networks.trained_dkt])


@every_predictor
@settings(max_examples=15)
@given(batch=laws.batches())
def test_a_step_leaves_its_input(make: Make, batch: laws.Batch) -> None:
    """A step changes nothing that it is given, and the same step gives the same result."""
    laws.step_leaves_its_input(make(), batch)


@every_predictor
@settings(max_examples=15)
@given(batch=laws.batches())
def test_predicts_before_any_answer(make: Make, batch: laws.Batch) -> None:
    """Nobody is too new for a prediction."""
    laws.predicts_before_any_answer(make(), batch)


@every_predictor
def test_nobody_is_no_trouble(make: Make) -> None:
    """A batch of no users is answered by nothing, and harms nothing."""
    laws.nobody_is_no_trouble(make())


@every_predictor
@settings(max_examples=10)
@given(batch=laws.batches())
def test_probabilities_are_never_certain(make: Make, batch: laws.Batch) -> None:
    """Probabilities are inside of (0, 1), also where the features are extreme."""
    laws.extreme_features_stay_in_range(make(), batch)


@every_predictor
@settings(max_examples=15)
@given(batch=laws.batches())
def test_a_batch_equals_one_by_one(make: Make, batch: laws.Batch) -> None:
    """A user's forecasts do not depend on the neighbours in the batch."""
    laws.batch_equals_one_by_one(make(), batch)


@every_predictor
@settings(max_examples=15)
@given(batch=laws.batches())
def test_predict_equals_the_step_before(make: Make, batch: laws.Batch) -> None:
    """What is asked before the answer does not see the answer."""
    laws.predict_equals_the_step_before(make(), batch)


@every_predictor
@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    remembered=st.integers(5, 8),
)
def test_rebuilding_equals_stepping(make: Make, seed: int, counts: list[int], remembered: int) -> None:
    """States rebuilt from the remembered answers are those that the same answers led to."""
    laws.rebuild_equals_stepping(make(), seed, counts, remembered)
