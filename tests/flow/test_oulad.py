"""An OULAD folder on its way to a real broker."""

import pytest

from tests.enrolments import Simulated
from tests.flow.system import System

pytestmark = pytest.mark.timeout(120)


def test_a_folder_is_replayed(system: System) -> None:
    """Its enrolments become academic events, each under its user's key, in time order."""
    folder = system.folder / "oulad"
    folder.mkdir()
    simulated = Simulated(10)
    simulated.write(folder)
    done = system.command("replay", str(folder))
    assert done.returncode == 0
    withdrew = {row[:3] for row in simulated.events if row[4] == "withdrawn"}
    total = len(simulated.events) + sum(row[:3] not in withdrew for row in simulated.info)
    assert f"sent {total} events, {total} of them academic events" in done.stderr
    found = system.read("academics", until=lambda found: len(found) >= total)
    assert len(found) == total
    assert all(message["_key"] == message["user_id"] for message in found)
    assert {message["user_id"] for message in found} == {f"{row[0]}-{row[1]}-{row[2]}" for row in simulated.info}
    of_one = [message["timestamp"] for message in found if message["user_id"] == found[0]["user_id"]]
    assert of_one == sorted(of_one)
