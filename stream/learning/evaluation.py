"""
How good predictions are on a file of past answers: what `stream evaluate` does.

By two protocols: users held out (`stream.learning.user_split`), answers to come (`stream.learning.progressive`).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from stream.errors import UserError
from stream.files.formats import AUTO, read_answers
from stream.learning import progressive, user_split
from stream.learning.first import use_cores
from stream.learning.measured import Evaluation, table, write_predictions
from stream.learning.offline import Recipe
from stream.learning.page import render
from stream.learning.progress import remark, telling
from stream.learning.user_split import UserSplit

Protocol = Literal["user-split", "progressive"]


def evaluate_file(  # noqa: PLR0913 (the options of the command)
    file: Path,
    *,
    protocol: Protocol,
    recipe: Recipe,
    everything: bool,
    report: Path | None,
    predictions: Path | None,
    page: Path | None,
    write: Callable[[str], None],
    format_: str = AUTO,
) -> None:
    """
    Evaluate a file, tell the table, and write what is asked for.

    Raises:
        UserError: As the protocols do, if a file cannot be written, or there is no page of a protocol.
    """
    check_places(report, predictions, page)
    if page is not None and protocol == "progressive":
        raise UserError("--page shows an evaluation on users held out; leave out --page, or use --protocol user-split")
    use_cores()
    answers = read_answers(file, format_)
    remark(answers.told())
    with telling("evaluating", write) as teller:
        found: Evaluation = (
            user_split.evaluate(answers, recipe=recipe, everything=everything, teller=teller)
            if protocol == "user-split"
            else progressive.evaluate(answers, seed=recipe.seed, everything=everything, teller=teller)
        )
    if report is not None:
        report.write_text(json.dumps(found.report, indent=1) + "\n", "utf-8")
    if predictions is not None:
        write_predictions(found, predictions)
    if page is not None and isinstance(found, UserSplit):
        history = found.history
        page.write_text(
            render(found.report, history, found.rows, found.serving, history.names, found.epochs), encoding="utf-8"
        )
    write(table(found.report))


def check_places(*places: Path | None) -> None:
    """
    Check that files can be written, before the work whose outcome they take.

    Raises:
        UserError: If one cannot.
    """
    for path in places:
        if path is not None and not path.resolve().parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it, or choose another place")
        if path is not None and path.is_dir():
            raise UserError(f"{path}: expected a file to write, found a folder; name a file in it")
