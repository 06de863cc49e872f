"""
Where the command `stream` begins.

Imports take a second, and Ctrl-C is to end that, too, by a line: so it is asked for before anything else is imported.
"""

from stream.ending import end_at_once


def main() -> None:
    """Run the command line."""
    end_at_once()
    from stream.cli import main as command_line  # noqa: PLC0415 (see above)

    command_line()
