"""
By what a command that sends events is told to end: Ctrl-C, SIGTERM, or its terminal's going.

The first process of a container hears nothing that it has not asked for, and a shell without a terminal has what it
starts in the background ignore Ctrl-C.
"""

import signal
from typing import Final, NoReturn

_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
