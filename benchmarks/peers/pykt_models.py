"""
One model of pyKT, trained and asked: `python -m benchmarks.peers.pykt_models FOLDER`, in pyKT's own environment.

Reads `job.json` and `users.csv` (one user a row, in the format of pyKT's `train_valid.csv`) and leaves `result.json`
and `predictions.npy` there. Cutting, data sets, models, loss, training loop and evaluation are the package's own.

Settings, and why:
    Hyper-parameters: what `examples/wandb_MODEL_train.py` of github.com/pykt-team/pykt-toolkit has as defaults, with
        the batches of its `examples/wandb_train.py` and the epochs of its `configs/kt_config.json`. Nobody tuned them
        for this file, and nobody did for ours.
    Early stopping: `train_model` ends when the validation AUC has not risen by .001 for ten epochs, and keeps the best.
    maxlen: pyKT's 200, or the longest history if that is shorter: padding costs time and says nothing.
    Histories that are longer: cut into runs of 200 for training; for the test users, pyKT's windows, so that each
        later answer is predicted from the 199 before it.
    dkt_forget needs timestamps; without them it ends at an assertion.
    Times in seconds for LPKT: it divides by 60, and its paper has minutes.
    atktfix instead of atkt: the latter's attention reads the whole sequence, later answers too; see `leaks`.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

EPOCHS = 200
PATIENCE = 10
"""As `train_model` has it."""

MAXLEN = 200
TRAINING_FOLD, VALIDATION_FOLD, TEST_FOLD = 1, 0, -1
_DATA = "answers"
_ONE_TO_A_USER = ("fold", "uid")
_CHECKED = 256
_SAME = 1e-4
"""Largest difference between two predictions that were made of the same."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What a model is trained with.

    Attributes:
        batch: Sequences.
        learning_rate: Of Adam.
        model: Arguments of the model's class.
        weight_decay: Of Adam.
        has_length: The class wants to know the longest sequence.
        clock_ms: Milliseconds in the unit of the times that it is given.
    """

    batch: int
    learning_rate: float
    model: Mapping[str, float]
    weight_decay: float = 0.0
    has_length: bool = False
    clock_ms: int = 1


_MEMORY = {"dropout": 0.2, "dim_s": 200, "size_m": 50}
_ATTACKED = {"dropout": 0.2, "skill_dim": 256, "answer_dim": 96, "hidden_dim": 80, "attention_dim": 80, "epsilon": 10}
SETTINGS: Mapping[str, Settings] = {
    "dkt": Settings(256, 1e-3, {"dropout": 0.2, "emb_size": 200}),
    "dkt+": Settings(
        256, 1e-3, {"dropout": 0.2, "emb_size": 200, "lambda_r": 0.01, "lambda_w1": 0.003, "lambda_w2": 3.0}
    ),
    "dkt_forget": Settings(256, 1e-3, {"dropout": 0.2, "emb_size": 200}),
    "kqn": Settings(
        256, 1e-3, {"dropout": 0.2, "n_hidden": 128, "n_rnn_hidden": 128, "n_mlp_hidden": 128, "n_rnn_layers": 1}
    ),
    "dkvmn": Settings(64, 1e-3, _MEMORY),
    "deep_irt": Settings(64, 1e-3, _MEMORY),
    "sakt": Settings(
        64, 1e-3, {"dropout": 0.2, "emb_size": 256, "num_attn_heads": 8, "num_en": 1}, has_length=True
    ),
    "saint": Settings(
        64, 1e-3, {"dropout": 0.2, "emb_size": 256, "num_attn_heads": 8, "n_blocks": 4}, has_length=True
    ),
    "akt": Settings(64, 1e-4, {"dropout": 0.2, "d_model": 256, "d_ff": 512, "num_attn_heads": 8, "n_blocks": 4}),
    "atkt": Settings(64, 1e-3, _ATTACKED | {"beta": 0.2}),
    "atktfix": Settings(64, 1e-3, _ATTACKED | {"beta": 0.2}),
    "hawkes": Settings(256, 5e-3, {"emb_size": 64, "time_log": 5}, weight_decay=1e-5),
    "lpkt": Settings(64, 3e-3, {"dropout": 0.2, "d_a": 50, "d_e": 128, "d_k": 128, "gamma": 0.03}, clock_ms=1000),
    "qdkt": Settings(32, 1e-3, {"dropout": 0.2, "emb_size": 300}),
    "iekt": Settings(
        256, 1e-3, {"dropout": 0, "emb_size": 64, "lamb": 40, "n_layer": 1, "cog_levels": 10, "acq_levels": 10,
                    "gamma": 0.93}, weight_decay=1e-6,
    ),
}  # fmt: skip


def main(folder: Path) -> None:
    """Do the job that stands in a folder."""
    _stand_in()
    job: dict[str, Any] = json.loads((folder / "job.json").read_text("utf-8"))
    settings = SETTINGS.get(job["model"])
    if settings is None:
        sys.exit(f"expected a model of {', '.join(SETTINGS)}")
    length = min(MAXLEN, job["longest"])
    cut(folder, length, settings.clock_ms)
    result, p_correct = train(folder, job, settings, length)
    np.save(folder / "predictions.npy", p_correct)
    (folder / "result.json").write_text(json.dumps(result), "utf-8")


def _stand_in() -> None:
    """Put in place what pyKT 0.0.38 asks of a machine and does not need: a screen, for a slip's import, and CUDA."""
    turtle = ModuleType("turtle")
    vars(turtle)["forward"] = None
    sys.modules["turtle"] = turtle
    if not torch.cuda.is_available():
        vars(torch.cuda).update(FloatTensor=torch.FloatTensor, LongTensor=torch.LongTensor)


def cut(folder: Path, length: int, clock_ms: int) -> None:
    """Write the users' histories as pyKT's data sets read them."""
    from pykt.preprocess.split_datasets import generate_sequences, generate_window_sequences  # noqa: PLC0415

    users = pd.read_csv(folder / "users.csv", dtype=str)
    users["fold"] = users["fold"].astype(int)
    if "timestamps" in users:
        users["timestamps"] = [
            ",".join(str(int(moment) // clock_ms) for moment in moments.split(",")) for moments in users["timestamps"]
        ]
    is_test = users["fold"] == TEST_FOLD
    parts = {"train_valid": (users[~is_test], generate_sequences), "test": (users[is_test], generate_window_sequences)}
    for name, (part, sequences_of) in parts.items():
        part.to_csv(folder / f"{name}.csv", index=False)
        sequences_of(part, list(users), maxlen=length).to_csv(folder / f"{name}_sequences.csv", index=False)


def train(
    folder: Path, job: Mapping[str, Any], settings: Settings, length: int
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return what there is to say of a model that was trained, and its predictions, user after user."""
    from pykt.datasets import init_dataset4train  # noqa: PLC0415
    from pykt.models import init_model, train_model  # noqa: PLC0415
    from pykt.utils import set_seed  # noqa: PLC0415

    name, seed, started = job["model"], job["seed"], time.monotonic()
    set_seed(seed)
    config = {_DATA: data_config(folder, job)}
    training, validation, test, _ = init_dataset4train(_DATA, name, config, VALIDATION_FOLD, settings.batch)
    arguments = dict(settings.model) | ({"seq_len": length} if settings.has_length else {})
    model = init_model(name, arguments, config[_DATA], "qid")
    if hasattr(model, "gpu") and not torch.cuda.is_available():
        model.gpu = ""  # HawkesKT would ask for CUDA in any case
    adam = torch.optim.Adam(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    *_, auc, _, best = train_model(model, training, validation, EPOCHS, adam, str(folder), None, None, True)
    model.load_state_dict(torch.load(folder / "qid_model.ckpt"))
    set_seed(seed)
    p_correct = predict(model, test, name)
    return {
        "auc_validation": auc,
        "epochs": min(EPOCHS, best + PATIENCE),
        "best_epoch": best,
        "parameters": sum(each.numel() for each in model.parameters()),
        "seconds": time.monotonic() - started,
        "leaks": leaks(model, test, name, seed),
        "settings": asdict(settings),
    }, p_correct


def data_config(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pyKT's `data_config.json` says of a data set."""
    files = {"train_valid_file": "train_valid_sequences.csv", "test_file": "test_sequences.csv"}
    return {
        "dpath": str(folder), "num_q": job["questions"], "num_c": job["concepts"], "max_concepts": 1, "emb_path": "",
        "input_type": ["questions", "concepts"], "folds": [TRAINING_FOLD, VALIDATION_FOLD],
    } | files | {f"{name}_quelevel": file for name, file in files.items()}  # fmt: skip


def predict(model: Any, loader: Any, name: str) -> NDArray[np.float64]:  # noqa: ANN401 (pyKT has no types)
    """Return what a model says of each answer but the users' first ones, through pyKT's own evaluation."""
    from pykt.models import evaluate_model  # noqa: PLC0415

    said: list[NDArray[np.float64]] = []

    def keep(*values: Any) -> str:  # noqa: ANN401
        *_, chosen, p_correct = values
        said.append(torch.masked_select(p_correct, chosen).double().numpy())
        return ""

    evaluate_model.save_cur_predict_result = keep  # it would write them as text
    evaluate_model.evaluate(model, loader, name, os.devnull)
    return np.concatenate(said)


def leaks(model: Any, loader: Any, name: str, seed: int) -> bool:  # noqa: ANN401
    """Return whether predictions of the first half of some sequences know what the second half's answers will be."""
    from pykt.utils import set_seed  # noqa: PLC0415

    data = loader.dataset.dori
    data |= {key: values[:_CHECKED] for key, values in data.items()}
    correct = data["rseqs"]  # (B, T), -1 where there is none
    place, middle = torch.arange(correct.shape[1]), (correct >= 0).sum(1, keepdim=True) // 2
    data["smasks"] = data["masks"] & (place[1:] <= middle)  # (B, T - 1)
    set_seed(seed)
    before = predict(model, loader, name)
    data["rseqs"] = torch.where((place >= middle) & (correct >= 0), 1 - correct, correct)
    set_seed(seed)
    return bool(np.abs(predict(model, loader, name) - before).max() > _SAME)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
