"""
By what a command is told to end: Ctrl-C, SIGTERM, or its terminal's going.

The first process of a container hears nothing that it has not asked for, and a shell without a terminal has what it
starts in the background ignore Ctrl-C.
"""

import os
import signal
from typing import Final, NoReturn

STOPPED: Final = 130
"""Exit status of a command that was told to end before it was done, whatever told it to."""

SAID: Final = "stream: stopped"

_TOLD: Final = (signal.SIGINT, signal.SIGTERM)
_ENDINGS: Final = (*_TOLD, signal.SIGHUP)
_STDERR: Final = 2


def end_at_once() -> None:
    """Have Ctrl-C and SIGTERM end the process from now on, while it has nothing that is to be put in order."""
    # No exception: raised within an import, it may become another one, or be swallowed.
    for number in _TOLD:
        signal.signal(number, _gone)


def end_in_order() -> None:
    """Have them raise `KeyboardInterrupt` where they would end the process at once; elsewhere nothing is changed."""
    for number in _TOLD:
        if signal.getsignal(number) is _gone:
            signal.signal(number, _ended)


def end_by_signals() -> None:
    """Have each of them raise `KeyboardInterrupt` from now on; `nohup` is respected."""
    for number in _ENDINGS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ended)


def end_undisturbed() -> None:
    """Ignore them from now on: an end that has begun must not be left in the middle."""
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)


def _ended(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _gone(*_: object) -> NoReturn:
    try:
        os.write(_STDERR, f"{SAID}\n".encode())
    finally:
        os._exit(STOPPED)
