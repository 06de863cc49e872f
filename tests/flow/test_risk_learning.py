"""The risk model learns on the real broker: from weeks whose outcome has become known, through trial and gate."""

from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import eq

import numpy as np
import pytest

from schemas import ModelRef, RiskExample, RiskOutcome, Source, UnheardRisk
from stream.learning.risk.snapshots import Snapshots
from stream.models import weekly
from stream.models.risk import RISK
from stream.state.academic import OUTCOMES, fact_key
from stream.transport.rollout import current
from tests.flow.system import KILLED_S, System
from tests.learning.risk.pupils import COURSES, pupils

pytestmark = pytest.mark.timeout(480)

OF_TRAINER = 'stream_trainer_{}{{name="risk"}}'.format
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def weeks_of(seen: Snapshots, said: float = 0.4, unheard: Iterable[float] | None = None) -> list[RiskExample]:
    """Return what a worker would tell of closed weeks: what served, and perhaps version 1 beside it, said of each."""
    names = {fact_key("course", course): course for course in COURSES}
    beside = [None] * len(seen) if unheard is None else list(unheard)
    model = ModelRef(name=RISK, version=1, variant="challenger")
    return [
        RiskExample(
            example_id=f"x-{seen.user[row]}-{row}", user_id=f"u-{seen.user[row]}", week=int(seen.week[row]),
            as_of=MONDAY + timedelta(weeks=int(seen.week[row])), course_id=names[int(seen.seen.fact[row, 0])],
            model=ModelRef(name=RISK, version=0, variant="fallback"), feature_version=weekly.VERSION,
            steps=b64encode(seen.seen.steps[row].astype("<f2").tobytes()).decode(),
            context={"course_day": float(seen.seen.day[row, -1])}, slices={"gender": "FM"[int(seen.user[row]) % 2]},
            score=said, score_fallback=said,
            unheard=None if (other := beside[row]) is None else UnheardRisk(model=model, score=other),
        )
        for row in range(len(seen))
    ]  # fmt: skip


def outcomes_of(seen: Snapshots) -> list[RiskOutcome]:
    """Return what became of the users."""
    first = {int(user): int(outcome) for user, outcome in zip(seen.user, seen.outcome, strict=True)}
    at = MONDAY + timedelta(weeks=60)
    return [
        RiskOutcome.model_validate(
            {
                "example_id": f"o-{user}", "event_id": f"o-{user}", "user_id": f"u-{user}",
                "outcome": OUTCOMES[outcome], "timestamp": at,
                "source": Source(event_id=f"o-{user}", topic="academics", partition=0, offset=0),
            }
        )
        for user, outcome in first.items()
    ]  # fmt: skip


def tell(system: System, messages: Iterable[RiskExample | RiskOutcome]) -> None:
    """Send what a worker would tell the trainer."""
    outbox, topic = system.outbox(), system.settings.topic("training-examples")
    for message in messages:
        outbox.send(topic, key=message.user_id.encode(), value=message.model_dump_json().encode())
    outbox.flush_now()


def test_what_became_of_users_is_learned_and_goes_live(system: System) -> None:
    """An update when enough is known, a trial on weeks that come after, over a restart, and the gate's word."""
    system.options["session_timeout_s"] = KILLED_S
    system.options |= {"risk_learn_from": 450, "risk_learn_every": 450, "update_seconds": 2, "gate_every": 100}
    system.start("worker")
    system.start("trainer")
    learned = pupils(150, seed=1)
    tell(system, [*weeks_of(learned), *outcomes_of(learned)])
    system.await_metric("trainer", "stream_trainer_risk_labelled_total", partial(eq, 450))
    (began,) = system.events("update_started")
    assert (began["name"], began["candidate_version"], began["answers"]) == (RISK, 1, 450)
    system.await_metric("trainer", OF_TRAINER("challenger_version"), partial(eq, 1), within_s=180)
    system.await_metric("worker", 'stream_challenger_version{name="risk"}', partial(eq, 1))
    assert system.metric("worker", 'stream_challenger_version{name="knowledge"}') == 0

    later = pupils(400, seed=2, first=1_000)
    better = np.where(later.risk > 0, 0.95, 0.05).tolist()
    some, others = later.user < 1_030, later.user >= 1_030
    tell(system, weeks_of(later, said=0.2, unheard=better))
    tell(system, outcomes_of(later.take(some)))
    system.await_metric("trainer", OF_TRAINER("trial_answers"), partial(eq, 90))
    assert current(system.settings, RISK) is not None
    system.processes["trainer"].kill()
    system.start("trainer")
    assert system.await_metric("trainer", OF_TRAINER("trial_answers"), lambda count: count > 0) == 90
    assert system.metric("trainer", "stream_trainer_risk_labelled_total") == 0, "nothing was labelled twice"

    tell(system, outcomes_of(later.take(others)))
    system.await_metric("worker", 'stream_model_version{name="risk"}', partial(eq, 1))
    (decided,) = system.events("gate_decided")
    assert (decided["name"], decided["promoted"], decided["champion_version"]) == (RISK, True, None)
    assert decided["users"] >= 30
    system.await_metric(
        "trainer", 'stream_trainer_live_base_ratio{name="risk",slice="gender:F"}', lambda share: 0.2 < share < 0.8
    )
    measured = system.events("quality_measured")[-1]
    assert measured["name"] == RISK
    assert {"gender:F", "gender:M"} <= measured["slices"].keys()
    assert measured["slices"]["gender:F"]["fnr"] is not None
    shown = system.command("models", "show", "--model", "risk").stdout.splitlines()
    assert shown[0] == "champion: version 1"
    assert any(line.startswith("  gender:F:") and "false negatives" in line for line in shown)
