"""Small risk models for tests: learned once from made-up users, then published under any version."""

import json
from functools import cache
from tempfile import TemporaryDirectory

from schemas import Release
from stream.learning.risk.publication import publish
from stream.learning.risk.training import RiskRecipe, train
from stream.models.artifacts import RiskSpan, release
from stream.models.risk import RISK
from stream.models.store import MANIFEST, Store
from tests.learning.risk.pupils import VOCABULARY, pupils


@cache
def _files() -> dict[str, bytes]:
    """Return the files of an artifact."""
    learned, held_out = pupils(120, seed=1), pupils(60, seed=2, first=1_000)
    trained = train(learned, held_out, VOCABULARY, RiskRecipe(epochs=1, explained=60, explain_epochs=1))
    with TemporaryDirectory() as folder:
        store = Store(folder)
        path = store.folder_of(RISK, 1)
        publish(trained, held_out, RiskSpan(weeks=360, users=120, at_risk=0.5), store, path, 1)
        names = (MANIFEST, *json.loads(store.read(f"{path}/{MANIFEST}", 1 << 22))["files"])
        return {name: store.read(f"{path}/{name}", 1 << 26) for name in names}


def make_risk_release(store: Store, version: int) -> Release:
    """Write an artifact into a store, and return what would announce it."""
    files = _files()
    manifest = json.loads(files[MANIFEST]) | {"version": version}
    store.publish(store.folder_of(RISK, version), files | {MANIFEST: json.dumps(manifest).encode()})
    return release(store, RISK, version)
