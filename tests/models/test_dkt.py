"""The exported network against the one that was trained: the oracle of every export."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream.errors import ArtifactError, InferenceError
from stream.learning.forward import forward
from stream.learning.network import Network, Shape, Step, examples_of_inputs, export
from stream.learning.replay import predict_runs
from stream.learning.runs import Runs
from stream.models.dkt import INPUTS, ITEM_ROWS, OUTPUTS, SKILLS, Dkt, Vocabulary, item_rows
from stream.models.features import COLUMN, COUNT
from stream.models.runtime import Graph
from stream.ports import Identity
from stream.state.learner import key64
from tests import networks
from tests.laws import make_batch

TOLERANCE = 1e-5


def some_runs(seed: int, users: int, length: int) -> Runs:
    """Return random runs, all of the same length."""
    random = np.random.default_rng(seed)
    of_features = random.normal(0.5, 0.5, (users, length, COUNT)).astype(np.float32)
    of_features[..., COLUMN["lnirt_sigma"]] = 0.8
    known = random.integers(0, 2, (users, length))
    return Runs(
        skills=random.integers(0, 6, (users, length, SKILLS)),
        item=random.integers(0, ITEM_ROWS, (users, length)),
        correct=random.integers(0, 2, (users, length)),
        time=np.stack([random.normal(0, 1, (users, length)) * known, known], axis=-1).astype(np.float32),
        level=random.integers(0, 4, (users, length)),
        features=of_features,
        there=np.ones((users, length), bool),
        number=np.arange(users * length).reshape(users, length),
        version=np.zeros((users, length), np.int64),
        p_serving=np.full((users, length), 0.5, np.float32),
        p_fallback=np.full((users, length), 0.5, np.float32),
    )


def random_or_trained(trained: bool) -> Network:
    """Return a network of random weights, or one that has learned."""
    return networks.trained_network()[0] if trained else networks.random_network()


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("users", "questions"), [(1, 1), (3, 5), (64, 400)])
def test_onnxruntimes_step_is_torchs(users: int, questions: int, trained: bool) -> None:
    """The exported step gives what torch gives, for any number of users and questions."""
    network = random_or_trained(trained)
    inputs = examples_of_inputs(Shape(), seed=users, users=users, questions=questions)
    found = Graph(export(network)).run(OUTPUTS, inputs)
    with torch.no_grad():
        expected = Step(network)(*(torch.from_numpy(array) for array in inputs.values()))
    for name, ours, theirs in zip(OUTPUTS, found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=TOLERANCE, rtol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("trained", [False, True])
def test_the_full_sequence_equals_step_by_step(trained: bool) -> None:
    """What torch says of whole runs is what the served graph says answer by answer, in fp32."""
    network = random_or_trained(trained)
    runs = some_runs(seed=3, users=4, length=12)
    with torch.no_grad():
        expected = forward(network, runs).numpy()
    np.testing.assert_allclose(by_steps(Graph(export(network)), runs), expected, atol=TOLERANCE, rtol=TOLERANCE)


def by_steps(graph: Graph, runs: Runs) -> NDArray[np.float32]:
    """Return what a graph says of each answer before it, states kept in fp32, `(B, T, 3)`."""
    users, length = runs.correct.shape
    hidden = np.zeros((users, Shape().hidden_size), np.float32)
    said = []
    for t in range(length):
        hidden, forecast = graph.run(
            OUTPUTS,
            {
                "hidden": hidden,
                "skills": runs.skills[:, t],
                "item": runs.item[:, t],
                "correct": runs.correct[:, t],
                "time": runs.time[:, t],
                "known": runs.features[:, t],
                "is_known": np.ones(users, np.float32),
                "row": np.arange(users),
                "after": np.zeros(users, np.float32),
                "asked_skills": runs.skills[:, t],
                "asked_item": runs.item[:, t],
                "level": runs.level[:, t],
                "features": runs.features[:, t],
            },
        )
        said.append(forecast)
    return np.stack(said, axis=1)


def test_what_is_asked_after_an_answer_has_seen_it() -> None:
    """A question after the answer is answered from the next state, one before it from the last."""
    dkt = networks.random_dkt()
    batch = make_batch(seed=5, users=3, questions=6)
    hidden = np.zeros((3, dkt.hidden_size), np.float16)
    next_hidden, after = dkt.step(hidden, batch.answers, batch.questions, batch.features, np.ones(6, bool))
    expected = dkt.predict(next_hidden, batch.questions, batch.features)
    np.testing.assert_allclose(after.p_correct, expected.p_correct, atol=1e-3)
    before = dkt.predict(hidden, batch.questions, batch.features)
    assert np.abs(after.p_correct - before.p_correct).max() > 0.005


def test_a_network_that_has_learned_nothing_is_lnirt() -> None:
    """Fresh weights correct nothing: the first candidate starts from the fallback."""
    dkt = networks.dkt(export(Network(Shape()).eval()), (), 1)
    batch = make_batch(seed=1, users=3, questions=7)
    found = dkt.predict(np.zeros((3, dkt.hidden_size), np.float16), batch.questions, batch.features)
    expected = networks.fallback().predict(np.zeros((3, 0), np.float16), batch.questions, batch.features)
    np.testing.assert_allclose(found.p_correct, expected.p_correct, atol=TOLERANCE)
    np.testing.assert_allclose(found.mu, expected.mu, atol=TOLERANCE)
    np.testing.assert_allclose(found.sigma, expected.sigma, rtol=1e-4)


def test_numbers_that_are_not_finite_are_an_error() -> None:
    """A network that gives NaN raises, in prediction, step and rebuilding alike."""
    network = Network(Shape())
    torch.nn.init.constant_(network.out.bias, float("nan"))
    dkt = networks.dkt(export(network.eval()), (), 1)
    batch = make_batch(seed=1, users=2, questions=3)
    hidden = np.zeros((2, dkt.hidden_size), np.float16)
    with pytest.raises(InferenceError, match="forecast"):
        dkt.predict(hidden, batch.questions, batch.features)
    with pytest.raises(InferenceError, match="finite"):
        dkt.step(hidden, batch.answers, batch.questions, batch.features, batch.after)


def test_a_state_that_is_not_finite_is_an_error() -> None:
    """A damaged hidden state is not carried on."""
    dkt = networks.random_dkt()
    batch = make_batch(seed=1, users=2, questions=3)
    hidden = np.full((2, dkt.hidden_size), np.nan, np.float16)
    with pytest.raises(InferenceError, match="finite"):
        dkt.step(hidden, batch.answers, batch.questions, batch.features, batch.after)


class OddGraph(Graph):
    """A graph that gives fewer numbers than it should."""

    def run(self, *args: object, **more: object) -> list[NDArray[np.float32]]:
        """Return forecasts of two columns."""
        return [np.zeros((2, 512), np.float32), np.zeros((3, 2), np.float32)]


def test_outputs_of_another_shape_are_an_error() -> None:
    """A graph whose outputs have another shape is a model that failed, not a defect of ours."""
    dkt = Dkt(OddGraph(networks.random_model()), networks.random_dkt().identity, ())
    batch = make_batch(seed=1, users=2, questions=3)
    with pytest.raises(InferenceError, match="3 numbers a question"):
        dkt.predict(np.zeros((2, 512), np.float16), batch.questions, batch.features)


def test_another_graph_is_refused() -> None:
    """A graph with other inputs, of another state size or of other features is no knowledge-tracing network of ours."""
    identity = Identity("knowledge", 1, "champion", "x")
    graph = Graph(networks.random_model())
    for name, shape in (
        ("hidden", ("users", 100_000)),
        ("hidden", ("users",)),
        ("features", ("questions", COUNT + 1)),
        ("features", ()),
    ):
        changed = Graph(networks.random_model())
        changed.inputs = graph.inputs | {name: (INPUTS[name], shape)}
        with pytest.raises(ArtifactError, match="expected"):
            Dkt(changed, identity, ())
    changed.inputs = {name: kind for name, kind in graph.inputs.items() if name != "row"}
    with pytest.raises(ArtifactError, match="expected a graph from"):
        Dkt(changed, identity, ())


def test_the_vocabulary_finds_skills_by_both_keys() -> None:
    """Rows go by order of appearance; whole keys and their low halves lead to the same; unknown ones to row 0."""
    skills = [f"skill-{i}" for i in range(200)]
    vocabulary = Vocabulary.of(skills)
    keys = np.array([[key64(skill) for skill in [*skills, "unknown"]]], np.uint64)
    expected = [[*range(1, 201), 0]]
    assert vocabulary.lookup(keys).tolist() == expected
    assert vocabulary.lookup32(keys.astype(np.uint32)).tolist() == expected
    assert Vocabulary.of([]).lookup(keys).tolist() == [[0] * 201]


def test_unknown_skills_share_one_row() -> None:
    """A skill that the model has never met is predicted, like any other that it has never met."""
    dkt = networks.random_dkt()
    batch = make_batch(seed=2, users=1, questions=1)
    hidden = np.zeros((1, dkt.hidden_size), np.float16)
    said = []
    for name in ("never met", "nor this"):
        asked = replace(batch.questions, skills=np.full_like(batch.questions.skills, key64(name)))
        said.append(dkt.predict(hidden, asked, batch.features).p_correct[0])
    assert said[0] == said[1]


def test_replay_of_nobody() -> None:
    """No runs lead to no states: onnxruntime is not asked, for it would end the process."""
    dkt = networks.random_dkt()
    runs = some_runs(seed=4, users=3, length=1).take(np.zeros(0, np.int64))
    hidden, p = dkt.replay(
        np.zeros((0, dkt.hidden_size), np.float16),
        runs.skills[:, 0],
        runs.item[:, 0],
        runs.correct[:, 0],
        runs.time[:, 0],
        runs.level[:, 0],
        runs.features[:, 0],
    )
    assert (len(hidden), len(p)) == (0, 0)


def test_replay_says_what_a_step_says() -> None:
    """Answers kept as the network's inputs lead to the same states and forecasts as answers that come live."""
    dkt = networks.random_dkt()
    runs = some_runs(seed=4, users=3, length=5)
    with torch.no_grad():
        expected = forward(networks.random_network(), runs).numpy()[..., 0]
    np.testing.assert_allclose(predict_runs(dkt, runs), 1 / (1 + np.exp(-expected)), atol=2e-3)


def test_items_are_told_apart_and_new_ones_too() -> None:
    """By hash: an item needs no training to have a row, no item has row 0, and the low half of a key is enough."""
    keys = np.array([key64(f"i-{n}") for n in range(300)], np.uint64)
    rows = item_rows(keys)
    assert rows.min() >= 1
    assert rows.max() < ITEM_ROWS
    assert len(set(rows.tolist())) > 280
    assert np.array_equal(item_rows(keys.astype(np.uint32)), rows)
    assert item_rows(np.zeros(2, np.uint64)).tolist() == [0, 0]


def test_an_item_matters_to_what_is_said_of_it_and_after_it() -> None:
    """The same question about another item is answered differently, and so is one after an answer on it."""
    dkt, batch = networks.random_dkt(), make_batch(seed=5, users=3, questions=3)
    hidden = np.zeros((3, dkt.hidden_size), np.float16)
    other = replace(batch.questions, item=batch.questions.item + np.uint64(1))
    first, second = (dkt.predict(hidden, asked, batch.features).p_correct for asked in (batch.questions, other))
    assert np.abs(first - second).max() > 1e-3
    after = np.ones(3, bool)
    answers = replace(batch.answers, item=batch.answers.item + np.uint64(1))
    states = [dkt.step(hidden, each, batch.questions, batch.features, after)[0] for each in (batch.answers, answers)]
    assert np.abs(states[0].astype(np.float32) - states[1]).max() > 1e-3


def test_what_was_known_of_an_answer_matters_to_the_state() -> None:
    """The features with which it was asked go into the next state; none is something else than nothing in them."""
    dkt, batch = networks.random_dkt(), make_batch(seed=5, users=3, questions=3)
    hidden = np.zeros((3, dkt.hidden_size), np.float16)
    after = np.zeros(3, bool)
    states = [
        dkt.step(hidden, batch.answers, batch.questions, batch.features, after, known)[0].astype(np.float32)
        for known in (None, np.zeros_like(batch.features), batch.features)
    ]
    assert np.abs(states[0] - states[1]).max() > 1e-3
    assert np.abs(states[1] - states[2]).max() > 1e-3
