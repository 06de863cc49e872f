"""The risk model learns, chooses what serves, explains itself, and is written as an artifact that says the same."""

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from stream.errors import ArtifactError, UserError
from stream.learning.risk import boosting
from stream.learning.risk.model import faithfulness, is_known, occluded, without
from stream.learning.risk.network import tensors
from stream.learning.risk.publication import publish, served_of
from stream.learning.risk.snapshots import outcome_of_label
from stream.learning.risk.training import KINDS, RiskRecipe, Trained, inputs_of, refine, train
from stream.models import artifacts
from stream.models.artifacts import RiskSpan, load_risk, read_risk_manifest, release
from stream.models.quality import auc, calibration_error
from stream.models.risk import LogisticRisk
from stream.models.risk_network import Vocabulary
from stream.models.runtime import Graph
from stream.models.store import Store
from stream.models.weekly import COLUMN, NAMES
from tests.learning.risk.pupils import VOCABULARY, pupils

RECIPE = RiskRecipe(seed=1, epochs=4, explained=700, explain_epochs=60)
LEARNED, HELD_OUT, OTHERS = pupils(240, seed=1), pupils(80, seed=2, first=1_000), pupils(300, seed=3, first=2_000)


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Return a small model."""
    return train(LEARNED, HELD_OUT, VOCABULARY, RECIPE)


@pytest.fixture(scope="module")
def store(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store that holds it as version 1."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    publish(trained, HELD_OUT, RiskSpan(weeks=len(LEARNED), users=240, at_risk=0.5), store, "risk/v1", 1)
    return store


def test_it_learns_who_is_at_risk(trained: Trained) -> None:
    """On users who played no part it ranks well, says about as often as it happens, and beats the fallback."""
    at_risk, score = OTHERS.risk > 0, trained.calibrated(OTHERS)
    fallback = auc(at_risk, LogisticRisk().score(OTHERS.seen).score)
    found = auc(at_risk, score)
    assert found is not None
    assert fallback is not None
    assert found > max(0.85, fallback)
    assert calibration_error(at_risk, score) < 0.1


def test_what_serves_is_best_on_the_part_held_out(trained: Trained) -> None:
    """Not the name decides but the log loss; the other kinds stay to be compared with."""
    losses = {kind: trained.figures[f"logloss_{kind}"] for kind in KINDS}
    assert trained.serving == min(losses, key=losses.__getitem__)
    scores = trained.scores(OTHERS)
    assert set(scores) == set(KINDS)
    assert not np.allclose(scores["network"], scores["boosting"])
    np.testing.assert_array_equal(scores[trained.serving], trained.calibrated(OTHERS))


def test_the_same_seed_gives_the_same_model() -> None:
    """Training draws nothing but from the seed."""
    recipe = replace(RECIPE, epochs=1, explained=30, explain_epochs=1)
    one, two, other = (train(LEARNED, HELD_OUT, VOCABULARY, replace(recipe, seed=seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.calibrated(OTHERS), two.calibrated(OTHERS))
    assert not np.array_equal(one.calibrated(OTHERS), other.calibrated(OTHERS))


def test_too_few_users_are_a_sentence() -> None:
    """It says how many were expected and how many there are."""
    with pytest.raises(UserError, match=r"expected at least 20 users to learn from.*found 5"):
        train(pupils(5), HELD_OUT, VOCABULARY, RECIPE)
    fine = HELD_OUT.take(HELD_OUT.risk == 0)
    with pytest.raises(UserError, match="to hold out, some at risk and some not"):
        train(LEARNED, fine, VOCABULARY, RECIPE)


def test_refining_keeps_what_does_not_help(trained: Trained, store: Store) -> None:
    """An update with a senseless learning rate ends where it began; a gentle one is no worse on what is held out."""
    manifest = read_risk_manifest(store, "risk/v1")
    arrays = artifacts.read_weights(store, "risk/v1", manifest)
    before = trained.served.log_odds(inputs_of(VOCABULARY, OTHERS))
    wild = refine(served_of(arrays, VOCABULARY), LEARNED, HELD_OUT, replace(RECIPE, learning_rate=100.0, epochs=1))
    np.testing.assert_allclose(wild.served.log_odds(inputs_of(VOCABULARY, OTHERS)), before, atol=1e-5)
    gentle = refine(served_of(arrays, VOCABULARY), LEARNED, HELD_OUT, replace(RECIPE, learning_rate=1e-4, epochs=2))
    assert gentle.figures["logloss_network"] <= trained.figures["logloss_network"] + 0.01


def test_early_weeks_are_no_darker_than_they_are() -> None:
    """Where those at risk leave early, and nothing else tells of it, a week's score is the share of that week."""
    everyone = pupils(400, seed=9, weeks=2)
    blank = replace(everyone.seen, steps=np.full_like(everyone.seen.steps, np.nan))
    leaver = everyone.user % 2 == 0
    outcome = np.where(leaver, 3, 1)
    early, late = everyone.week < everyone.week.max(), everyone.week == everyone.week.max()
    whole = replace(everyone, seen=blank, outcome=outcome, risk=leaver.astype(np.float32))
    # All leavers are there in the early week, a fifth of them in the late one.
    there = early | (late & (~leaver | (everyone.user % 10 == 0)))
    learned, held_out = (whole.take(there & (everyone.user % 4 // 2 == part)) for part in (0, 1))
    model = train(learned, held_out, Vocabulary((), ()), replace(RECIPE, epochs=8, explained=20, explain_epochs=1))
    scores = model.scores(held_out)["network"]
    for week in np.unique(held_out.week):
        rows = held_out.week == week
        assert scores[rows].mean() == pytest.approx(held_out.risk[rows].mean(), abs=0.1)


def test_what_is_unknown_counts_as_usual(trained: Trained) -> None:
    """A feature that is not known and one at its usual value in that course and week give the same score."""
    inputs = inputs_of(VOCABULARY, OTHERS.take(np.arange(50)))
    unknown = without(inputs, VOCABULARY, COLUMN["grade_mean"])
    usual = trained.served.network.usual
    weeks = np.maximum((inputs.day + 1) / 7, 0)
    earlier = np.floor(weeks).astype(int)
    course = (inputs.facts @ usual.course_of_fact.numpy()).astype(int)[:, None]
    known = usual.center.numpy()[..., COLUMN["grade_mean"]]
    steps = inputs.steps.copy()
    between = weeks - earlier
    steps[:, :, COLUMN["grade_mean"]] = (
        known[course, earlier + 1] * (1 - between) + known[course, earlier + 2] * between
    )
    at_usual = replace(inputs, steps=steps)
    served = trained.served
    np.testing.assert_allclose(served.log_odds(at_usual), served.log_odds(unknown), atol=1e-4)
    assert not np.allclose(served.log_odds(inputs), served.log_odds(unknown), atol=1e-2)


def test_factors_are_faithful(trained: Trained) -> None:
    """At least nine in ten of the named factors move the score the way they say, when set to what is usual."""
    rows = OTHERS.take(np.arange(0, len(OTHERS), 3))
    inputs = inputs_of(VOCABULARY, rows)
    contributions = trained.contributions(rows)
    assert faithfulness(trained.served, inputs, contributions) >= 0.9
    # The measure itself: the truth is faithful, and its opposite is not.
    truth = occluded(trained.served, inputs)
    assert faithfulness(trained.served, inputs, truth) == 1.0
    assert faithfulness(trained.served, inputs, -truth) == 0.0


def test_what_is_not_known_is_no_factor(trained: Trained) -> None:
    """A feature of which nothing is known contributes nothing; one that is known may."""
    contributions = trained.contributions(OTHERS)
    for factor, name in enumerate(NAMES):
        known = is_known(inputs_of(VOCABULARY, OTHERS), VOCABULARY, factor)
        assert (contributions[~known, factor] == 0).all(), name
    assert (contributions[:, COLUMN["grade_mean"]] != 0).all()


def test_attention_and_importance(trained: Trained) -> None:
    """Each head's attention adds up to one; the features that say who is at risk matter more than others."""
    attention = trained.attention(OTHERS)
    assert attention.shape == (len(OTHERS), 4, 10)
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-5)
    importance = trained.importance(OTHERS)
    assert set(importance) == set(NAMES)
    assert max(importance, key=importance.__getitem__) in {"grade_mean", "missing"}
    assert importance["absent_rate"] == 0


def test_the_artifact_says_what_was_trained(trained: Trained, store: Store) -> None:
    """Scores and contributions of the graph are the model's; the announcement fits; the card says what it is not."""
    model = load_risk(
        store, release(store, "risk", 1).path, variant="champion", sha256=release(store, "risk", 1).sha256
    )
    risks = model.score(OTHERS.seen)
    np.testing.assert_allclose(risks.score, trained.calibrated(OTHERS), atol=1e-5)
    np.testing.assert_allclose(risks.contributions, trained.contributions(OTHERS), atol=1e-4)
    assert risks.factors == VOCABULARY.factors
    assert (model.identity.name, model.identity.version, model.identity.variant) == ("risk", 1, "champion")
    assert model.playing("challenger").identity.variant == "challenger"
    card = (Path(str(store)) / "risk/v1/card.md").read_text()
    assert "no verdict" in card
    assert "course, education, attempts, enrolled_before" in card
    assert (Path(str(store)) / "risk/v1/model.onnx").stat().st_size < 3_000_000


def test_what_is_said_of_one_does_not_depend_on_others(store: Store) -> None:
    """Alone, or among many: the same score."""
    model = load_risk(store, "risk/v1", variant="champion")
    together = model.score(OTHERS.seen.take(np.arange(64)))
    for row in (0, 17, 63):
        alone = model.score(OTHERS.seen.take(np.array([row])))
        np.testing.assert_allclose(alone.score[0], together.score[row], atol=1e-5)
        np.testing.assert_allclose(alone.contributions[0], together.contributions[row], atol=1e-4)


def test_the_small_form_is_nearly_as_good(store: Store) -> None:
    """A third of the size, and hardly another score."""
    whole, small = (load_risk(store, "risk/v1", variant="champion", precision=p) for p in ("fp32", "int8"))
    assert float(np.abs(whole.score(OTHERS.seen).score - small.score(OTHERS.seen).score).max()) < 0.05
    sizes = [(Path(str(store)) / "risk/v1" / name).stat().st_size for name in (artifacts.MODEL_INT8, artifacts.MODEL)]
    assert sizes[0] < sizes[1] / 2


def test_the_strongest_factors_come_first(store: Store) -> None:
    """At most five, by size, each with the value that it has now."""
    model = load_risk(store, "risk/v1", variant="champion")
    for row, factors in enumerate(model.score(OTHERS.seen).strongest(5, 0.05)):
        sizes = [abs(size) for _, size, _ in factors]
        assert 0 < len(factors) <= 5
        assert sizes == sorted(sizes, reverse=True)
        for name, _, value in factors:
            if name == "grade_mean":
                assert value == pytest.approx(float(OTHERS.seen.steps[row, -1, COLUMN["grade_mean"]]))


def test_a_spoilt_artifact_is_kept_out(store: Store, trained: Trained) -> None:
    """Another graph under the same manifest, and a manifest of other features, are refused with a sentence."""
    folder = Path(str(store)) / "risk"
    publish(trained, HELD_OUT, RiskSpan(weeks=1, users=1, at_risk=0.5), store, "risk/v2", 2)
    with pytest.raises(ArtifactError, match="exists"):
        publish(trained, HELD_OUT, RiskSpan(weeks=1, users=1, at_risk=0.5), store, "risk/v2", 2)
    manifest = json.loads((folder / "v2/manifest.json").read_text())
    (folder / "v2/manifest.json").write_text(json.dumps(manifest | {"feature_version": 99}))
    with pytest.raises(ArtifactError, match="train it again"):
        load_risk(store, "risk/v2", variant="champion")
    (folder / "v2/manifest.json").write_text(json.dumps(manifest | {"facts": manifest["facts"][1:]}))
    with pytest.raises(ArtifactError, match="expected inputs of shape"):
        load_risk(store, "risk/v2", variant="champion")
    (folder / "v2/manifest.json").write_text(json.dumps(manifest))
    (folder / "v2/model.onnx").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="digest"):
        load_risk(store, "risk/v2", variant="champion")


def test_weights_of_something_else_are_refused(store: Store) -> None:
    """A sentence, not a shape error from deep inside."""
    manifest = read_risk_manifest(store, "risk/v1")
    arrays = artifacts.read_weights(store, "risk/v1", manifest)
    with pytest.raises(ValueError, match="expected the weights of a risk model"):
        served_of({name: a for name, a in arrays.items() if name != "network.fuse.weight"}, VOCABULARY)


def test_trees_are_scikit_learns() -> None:
    """The arrays say what scikit-learn's model says, and so does the exported node, at thresholds too."""
    random = np.random.default_rng(0)
    x = random.normal(size=(800, 6)).round(1).astype(np.float32)
    risk = (x[:, 0] + x[:, 1] * x[:, 2] + random.normal(size=800) > 0).astype(np.float32)
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(x, risk > 0)
    trees = boosting._trees(model)
    np.testing.assert_allclose(trees.log_odds(x), model.decision_function(x), atol=1e-4)
    again = boosting.stages_of(boosting.arrays_of((trees,) * len(boosting.STAGES)))[2]
    assert again.log_odds(x[:5]).tolist() == trees.log_odds(x[:5]).tolist()

    class Alone(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return boosting.TreeNode.apply(inputs, trees)  # type: ignore[no-any-return]

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Alone(), (torch.from_numpy(x[:2]),), buffer, input_names=["x"], output_names=["y"],  # type: ignore[arg-type]
            dynamic_axes={"x": {0: "n"}}, opset_version=17, custom_opsets={"ai.onnx.ml": 3}, dynamo=False,
        )  # fmt: skip
    (said,) = Graph(buffer.getvalue()).run(["y"], {"x": x})
    np.testing.assert_allclose(said[:, 0], trees.log_odds(x), atol=1e-4)


def test_a_school_may_tell_of_no_enrolments(tmp_path: Path) -> None:
    """Without a single text or number a model is trained, written, loaded and heard."""
    recipe = replace(RECIPE, epochs=1, explained=40, explain_epochs=1)
    bare = train(LEARNED, HELD_OUT, Vocabulary((), ()), recipe)
    store = Store(str(tmp_path))
    publish(bare, HELD_OUT, RiskSpan(weeks=1, users=1, at_risk=0.5), store, "risk/v1", 1)
    risks = load_risk(store, "risk/v1", variant="champion").score(OTHERS.seen)
    np.testing.assert_allclose(risks.score, bare.calibrated(OTHERS), atol=1e-5)
    assert risks.factors == NAMES


def test_a_vocabulary_finds_what_it_knows() -> None:
    """Facts in any slot, numbers by their fields; what it does not know is left out."""
    seen = OTHERS.seen.take(np.arange(3))
    seen.fact[0, :2] = seen.fact[0, 1::-1]
    seen.fact[1, 1] = 12345
    inputs = VOCABULARY.inputs(seen)
    assert inputs.facts.sum(axis=1).tolist() == [2, 1, 2]
    assert inputs.numbers[:, 1].tolist() == [20, 20, 20]
    nothing = Vocabulary((), ())
    assert nothing.inputs(seen).facts.shape == (3, 0)
    assert nothing.factors == NAMES
    assert tensors(inputs)[0].shape == (3, 10, 42)


@pytest.mark.parametrize(("label", "outcome"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (0.74, 2), (1.0, 3)])
def test_labels_fall_into_the_four_classes(label: float, outcome: int) -> None:
    """At the limits of the categories."""
    assert outcome_of_label(label) == outcome
