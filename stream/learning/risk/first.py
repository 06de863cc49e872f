"""A first risk model from past enrolments: what `stream train FOLDER --task risk` does."""

import math
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stream.files.oulad import read_oulad
from stream.learning.first import check_out, use_cores, version_of
from stream.learning.progress import Part, Teller, telling
from stream.learning.risk.publication import figures, publish, span_of
from stream.learning.risk.split import DRAWN, LAST, check, drawn, look, students_of, vocabulary
from stream.learning.risk.training import Epoch, RiskRecipe, train
from stream.learning.tracking import Run, make_folder, tracked
from stream.models.store import Store

_HELD_OUT = 10
"""One in so many students is held out: they say when training is over, and calibrate."""

_LOOKING = 0.2


def train_folder(
    folder: Path,
    out: Path,
    *,
    recipe: RiskRecipe,
    kept: Collection[str],
    records: Path,
    write: Callable[[str], None],
) -> dict[str, float]:
    """
    Train on a folder and write the artifact; it appears whole or not at all.

    Args:
        folder: Past enrolments.
        out: Folder of the artifact; must not exist yet.
        recipe: How.
        kept: Fields of an enrolment that the model may see.
        records: Folder in which each training is recorded.
        write: Takes the lines about progress where there is no terminal.

    Returns:
        Its figures on students held out.

    Raises:
        UserError: If the folder cannot be read or has too few students, or `out` exists already.
        StoreError: If the artifact could not be written.
    """
    check_out(out)
    make_folder(records)
    use_cores()
    oulad = read_oulad(folder)
    check(oulad)
    student = students_of(oulad)
    is_held_out = np.random.default_rng(recipe.seed).permutation(student.max() + 1)[student] % _HELD_OUT == 0
    days = drawn(oulad, DRAWN, LAST, recipe.seed)
    asked = {name: value for name, value in asdict(recipe).items() if math.isfinite(value)}
    run = Run(folder.resolve().name, oulad.digest, asked)
    with tracked(run, records), telling("training", write) as teller:
        seeing = Part(teller, _LOOKING / 2)
        learned, held_out = (look(oulad, days.of(who), kept, seeing.advance) for who in (~is_held_out, is_held_out))
        teller.say(f"saw {len(learned)} days of {len(np.unique(student[~is_held_out]))} students")
        tell = telling_epochs(recipe, Part(teller, 1 - _LOOKING))

        def record(epoch: Epoch) -> None:
            run.epochs.append({"epoch": epoch.number, "loss": epoch.loss, "held_out": epoch.held_out})
            tell(epoch)

        trained = train(learned, held_out, vocabulary(oulad, ~is_held_out, kept), recipe, record)
        publish(trained, held_out, span_of(learned), Store(str(out.parent)), out.name, version_of(out))
        run.figures.update(figures(held_out, trained.calibrated(held_out)))
        run.artifact = out
    return run.figures


def telling_epochs(recipe: RiskRecipe, teller: Teller) -> Callable[[Epoch], None]:
    """Return what tells of each epoch of training."""

    def tell(epoch: Epoch) -> None:
        teller.advance(1 / recipe.epochs)
        teller.say(f"epoch {epoch.number}: loss {epoch.loss:.4f}, {epoch.held_out:.4f} on students held out")

    return tell
