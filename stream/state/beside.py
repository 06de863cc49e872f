"""
The hidden states of a model on trial, beside the users' records: in memory, and only while it runs.

They are no part of what is durable. After a restart they begin as they did at first: as the champion's where the two
read each other's, rebuilt from the remembered answers where not (`docs/decisions/0017`). Pure.
"""

from typing import Final

import numpy as np

from stream.state.arrays import Records

NOWHERE: Final = 0xFFFF_FFFF
"""Stands for a state that has not begun."""


def new_states(count: int, size: int) -> Records:
    """
    Return states that have not begun, `(count,)`.

    Args:
        count: Users.
        size: Numbers in one state.

    `answers` says how many answers of the user a state has taken in: where the record says another number, the state
    has missed something and begins anew.
    """
    states = np.zeros(count, np.dtype([("answers", "<u4"), ("hidden", "<f2", (size,))]))
    states["answers"] = NOWHERE
    return states
