"""A first artifact from a file of past answers: what `stream train` does."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from stream.demo.answers import as_interactions, read_answers
from stream.errors import UserError
from stream.learning.offline import examples, fit
from stream.learning.runs import Buffer
from stream.learning.update import Wish, publish
from stream.models.dkt import KNOWLEDGE

_RUN = 400


def train_file(
    file: Path, out: Path, epochs: int, learning_rate: float, seed: int, tell: Callable[[str], None]
) -> dict[str, float]:
    """
    Train on a file and write the artifact; it appears whole or not at all.

    Returns:
        Its figures on users held out, beside the fallback's.

    Raises:
        UserError: If the file cannot be read, is too small, or `out` exists already.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; choose another folder for --out")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    answers = read_answers(file)
    buffer = Buffer(len(answers.answers), _RUN)
    total = len(answers.answers)
    for done, example in enumerate(examples(as_interactions(answers)), 1):
        buffer.add(example)
        if done % 10_000 == 0 or done == total:
            tell(f"read {done} of {total} answers")
    network, figures = fit(buffer, epochs, learning_rate, seed, tell)
    version = int(out.name[1:]) if out.name[:1] == "v" and out.name[1:].isdigit() else 1
    wish = Wish(KNOWLEDGE, version, out, buffer.runs(), buffer.skills, None, None, 0.0, learning_rate, seed)
    state_format = f"lstm-{network.shape.layers}x{network.shape.hidden}-{KNOWLEDGE}-file-{answers.digest[:12]}-{seed}"
    publish(network, out, wish, state_format, figures)
    return figures
