"""`stream erase`: a user is forgotten in tables, Redis and the trainer's buffer, and only that user."""

import pytest
import redis
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.models.features import COLUMN
from stream.state.read_model import KEY
from tests.broker.redis_server import RedisServer
from tests.flow.system import PARTITIONS, System, answer, answers_before, await_effect, distinct

pytestmark = pytest.mark.timeout(180)

EACH = 6
BUFFERED = "stream_trainer_buffered_answers"
REPEATED = 'stream_events_total{outcome="repeated",type="quiz_complete"}'


def erase(system: System, user: str) -> None:
    """Erase a user by the command, and wait until the worker has done it."""
    before = system.metric("worker", 'stream_events_total{outcome="applied",type="erasure"}')
    done = system.command("erase", user)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"asked to forget '{user}'" in done.stdout
    system.await_metric("worker", 'stream_events_total{outcome="applied",type="erasure"}', lambda count: count > before)


def read_again(system: System, *names: str) -> None:
    """Put the stopped workers' group to the beginning of topics, as if nothing had been committed."""
    settings = system.settings
    places = [TopicPartition(settings.topic(name), number, 0) for name in names for number in range(PARTITIONS)]
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    request = ConsumerGroupTopicPartitions(settings.group, places)

    def is_done() -> bool:
        """A worker that has just left may still be counted as a member, whose offsets nobody else may change."""
        try:
            admin.alter_consumer_group_offsets([request])[settings.group].result(30)
        except KafkaException:
            return False
        return True

    await_effect(is_done, within_s=30)


def test_an_erased_user_begins_anew_and_others_go_on(system: System, redis_server: RedisServer, prefix: str) -> None:
    """The erased user's next answer is predicted from nothing, Redis knows nothing; another user loses nothing."""
    gone, stays = f"{prefix}gone", f"{prefix}stays"
    system.options["redis_url"] = redis_server.url
    system.start("worker")
    system.send(answer(user, number) for number in range(EACH) for user in (gone, stays))
    system.examples(2 * EACH)
    with redis.Redis.from_url(redis_server.url) as lookup:
        keys = [KEY.format(user=user) for user in (gone, stays)]
        await_effect(lambda: [lookup.exists(key) for key in keys] == [1, 1])
        erase(system, gone)
        await_effect(lambda: [lookup.exists(key) for key in keys] == [0, 1])

    system.send([answer(user, EACH) for user in (gone, stays)])
    latest = {m["user_id"]: m for m in system.examples(2 * EACH + 2) if m["event_id"].endswith(f"-{EACH}")}
    assert answers_before(latest[gone]) == 0
    assert answers_before(latest[stays]) == EACH
    assert latest[gone]["features"][COLUMN["rate"]] == 0.5
    assert latest[gone]["features"][COLUMN["ability"]] == 0
    assert latest[stays]["features"][COLUMN["rate"]] == pytest.approx(4 / 6)


def test_a_replay_does_not_bring_an_erased_user_back(system: System) -> None:
    """The empty marker keeps what was seen: after a restart and a full replay nothing is predicted or counted twice."""
    system.start("worker")
    system.send(answer(user, number) for number in range(EACH) for user in ("gone", "stays"))
    system.predictions("correctness", 2 * EACH)
    erase(system, "gone")
    system.send([answer("gone", EACH)])
    system.examples(2 * EACH + 1)
    system.processes["worker"].stop(timeout_s=20)
    read_again(system, "interactions", "erasures")
    system.start("worker")
    system.await_metric("worker", REPEATED, lambda count: count >= 2 * EACH + 1)
    system.send([answer(user, EACH + 1) for user in ("gone", "stays")])
    found = system.predictions("correctness", 2 * EACH + 3)
    assert len(found) == len(distinct(found, "prediction_id")) == 2 * EACH + 3
    latest = {m["user_id"]: m for m in system.examples(2 * EACH + 3) if m["event_id"].endswith(f"-{EACH + 1}")}
    assert answers_before(latest["gone"]) == 1  # the one since the erasure
    assert answers_before(latest["stays"]) == EACH


def test_the_trainer_drops_an_erased_users_answers_for_good(system: System) -> None:
    """The buffer holds the other users' answers alone, also after the trainer has been started again."""
    system.options |= {"learn_from": 1_000_000}
    system.start("worker")
    system.start("trainer")
    system.send(answer(user, number) for number in range(EACH) for user in ("gone", "stays", "stays too"))
    system.await_metric("trainer", BUFFERED, lambda count: count == 3 * EACH)
    erase(system, "gone")
    system.await_metric("trainer", BUFFERED, lambda count: count == 2 * EACH)
    system.processes["trainer"].stop(timeout_s=20)
    system.start("trainer")
    system.send([answer("stays", EACH)])
    system.await_metric("trainer", "stream_trainer_examples_total", lambda count: count == 1)
    system.await_metric("trainer", BUFFERED, lambda count: count == 2 * EACH + 1)
    system.send([answer("gone", EACH)])
    system.await_metric("trainer", BUFFERED, lambda count: count == 2 * EACH + 2)


def test_an_empty_user_id_is_not_erased(system: System) -> None:
    """One sentence, exit status 2, and nothing is sent."""
    done = system.command("erase", " ")
    assert done.returncode == 2
    assert done.stderr == "stream: expected a user id, found an empty one\n"
