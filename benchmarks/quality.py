"""
How good the predictions are, on real answers: `make quality DATA=DIR`.

DIR holds the files of `FILES` in its folder `kt`, or itself. Each is evaluated by the split that figures are compared
by, with all reference models beside the network; then what must hold elsewhere: other seeds, few users, first answers,
the cost of a step, and the models of pyKT on the same split.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.quality_tables import FILES, SEED, STEPS, tables
from stream.errors import UserError
from stream.files.answers import AnswersFile
from stream.files.formats import read_answers
from stream.learning.first import use_cores
from stream.learning.history import TEST
from stream.learning.measured import write_predictions
from stream.learning.network import Network, Step, examples_of_inputs, export
from stream.learning.offline import Recipe
from stream.learning.progress import Lines
from stream.learning.quantize import quantized
from stream.learning.user_split import UserSplit, evaluate, predict
from stream.models.dkt import KNOWLEDGE, OUTPUTS, Dkt
from stream.models.quality import auc, log_losses
from stream.models.runtime import Graph
from stream.ports import Identity

SEEDS = (42, 43, 44)
FEW_USERS = 300

_REPEATS = 40


def first_users(file: AnswersFile, count: int) -> AnswersFile:
    """Return the answers of some users, chosen as by the split."""
    users = np.array(list(dict.fromkeys(answer.user_id for answer in file.answers)))
    np.random.RandomState(SEED).shuffle(users)
    chosen = set(users[:count].tolist())
    return replace(file, answers=[answer for answer in file.answers if answer.user_id in chosen])


def first_answers(found: UserSplit) -> dict[str, float]:
    """Return the log loss of the network and of the item mean on answers of users without any history."""
    rows = found.rows[found.history.began[found.rows] == 0]
    correct = found.history.correct[rows]
    losses = {}
    for name in (KNOWLEDGE, "lnirt", "item_mean"):
        p_correct = found.said[name].p_correct
        assert p_correct is not None  # noqa: S101 (all three say something of correctness)
        losses[name] = float(log_losses(correct, p_correct[rows]).mean())
    return {"n": float(len(rows))} | losses


def cost(found: UserSplit) -> list[dict[str, Any]]:
    """Return size, AUC on the test users and milliseconds a step of each form of a network, one thread each."""
    torch.set_num_threads(1)
    network = found.network.eval()
    model = export(network)
    forms = {"onnx fp32": model, "onnx int8": quantized(model)}
    steps: dict[str, Callable[[Mapping[str, Any]], object]] = {
        name: _graph_step(Graph(form)) for name, form in forms.items()
    }
    steps["torch eager"] = _torch_step(network)
    times = _times(steps, network)
    rows = []
    for name in steps:
        row: dict[str, Any] = {"form": name, "ms": times[name], "bytes": None, "auc": None}
        if name in forms:
            row["bytes"], row["auc"] = len(forms[name]), _auc_of(found, forms[name])
        rows.append(row)
    return rows


def _graph_step(graph: Graph) -> Callable[[Mapping[str, Any]], object]:
    return lambda inputs: graph.run(OUTPUTS, inputs)


def _torch_step(network: Network) -> Callable[[Mapping[str, Any]], object]:
    step = Step(network).eval()

    def run(inputs: Mapping[str, Any]) -> object:
        with torch.inference_mode():
            return step(*(torch.from_numpy(array) for array in inputs.values()))

    return run


def _times(
    steps: Mapping[str, Callable[[Mapping[str, Any]], object]], network: Network
) -> dict[str, dict[str, list[float]]]:
    """Return the quartiles of milliseconds by form and batch; forms take turns, so that all see the same machine."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in steps}
    for users, questions in STEPS:
        inputs = examples_of_inputs(network.shape, 1, users, users * questions)
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for repeat in range(_REPEATS + 5):
            for name, step in steps.items():
                started = time.perf_counter()
                step(inputs)
                if repeat >= 5:  # noqa: PLR2004 (the first ones warm up)
                    taken[name].append((time.perf_counter() - started) * 1e3)
        for name, of_form in taken.items():
            found[name][f"{users}x{questions}"] = [round(float(q), 3) for q in np.quantile(of_form, [0.25, 0.5, 0.75])]
    return found


def _auc_of(found: UserSplit, model: bytes) -> float:
    predictor = Dkt(Graph(model), Identity(KNOWLEDGE, 1, "champion", "measured"), found.history.names)
    said = predict(found.history, found.history.split(SEED) == TEST, found.known, predictor)
    assert said.p_correct is not None  # noqa: S101 (a network says something of correctness)
    return auc(found.history.correct[found.rows], said.p_correct[found.rows]) or 0.5


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the files; DATA if it is not given.")
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/quality.json"), show_default=True)
@click.option("--files", "names", multiple=True, type=click.Choice(list(FILES)), help="Only these.")
@click.option("--pykt/--no-pykt", default=True, show_default=True, help="The models of pyKT too (about half an hour).")
def main(data: Path | None, report: Path, names: tuple[str, ...], *, pykt: bool) -> None:
    """Measure the quality of predictions on real answers."""
    folder = _folder(data)
    paths = {name: folder / f"{name}.csv.gz" for name in names or FILES}
    absent = [str(path) for path in paths.values() if not path.is_file()]
    if absent:
        raise click.ClickException(f"expected the files {', '.join(absent)}; name their folder: make quality DATA=DIR")
    use_cores()
    teller = Lines(lambda line: click.echo(f"  {line}", err=True))

    def measure(file: AnswersFile, seed: int = SEED) -> UserSplit:
        return evaluate(file, recipe=Recipe(seed=seed), everything=True, teller=teller)

    report.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"files": {}, "first_answers": {}, "seeds": {}, "few_users": {}, "cost": [], "pykt": {}}
    for name, path in paths.items():
        click.echo(f"{name} ...", err=True)
        file = read_answers(path)
        found = measure(file)
        result["files"][name] = found.report
        result["first_answers"][name] = first_answers(found)
        if name == "lkt_memphis":
            result["cost"] = cost(found)
            use_cores()
            if pykt:
                result["pykt"] = _pykt(path, found)
        few = first_users(file, FEW_USERS)
        if len(few.answers) < len(file.answers):
            result["few_users"][f"{FEW_USERS} users of {name}"] = measure(few).report
        if name == "lkt_memphis":
            for seed in SEEDS:
                of = (found if seed == SEED else measure(file, seed)).report["models"]
                result["seeds"][str(seed)] = {model: of[model] for model in (KNOWLEDGE, "logistic", "boosting")}
        # After each file: an hour's work is not lost to what comes later.
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    click.echo(tables(result))


def _folder(data: Path | None) -> Path:
    chosen = data or (Path(os.environ["DATA"]) if os.environ.get("DATA") else None)
    if chosen is None:
        raise click.ClickException("name the folder with the real answers: make quality DATA=DIR")
    return chosen / "kt" if (chosen / "kt").is_dir() else chosen


def _pykt(path: Path, found: UserSplit) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ours, report = Path(folder) / "ours.csv.gz", Path(folder) / "report.json"
        write_predictions(found, ours)
        # In a process of its own, as it is run by hand: it starts others.
        command = ["-m", "benchmarks.knowledge", str(path), "--ours", str(ours), "--report", str(report)]
        try:
            subprocess.run([sys.executable, *command], check=True)
        except subprocess.CalledProcessError as error:
            return {"failed": str(error)}
        result: dict[str, Any] = json.loads(report.read_bytes())
        return result


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"quality: {error}")
