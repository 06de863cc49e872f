"""Stores of models for tests."""

from pathlib import Path

from stream.models.store import Store


def at(folder: Path) -> tuple[Store, str]:
    """Return a folder on this machine as a store, and a path in it."""
    return Store(str(folder.parent)), folder.name
