"""
A search for a better recipe: what `stream train --search` does. Needs Optuna (extra `search`).

Source:
    Bergstra et al. 2011, Algorithms for hyper-parameter optimization (the tree-structured Parzen estimator).
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

from stream.errors import UserError
from stream.learning.offline import Fitted, Recipe
from stream.learning.update import NotFiniteError


def needs_optuna() -> None:
    """Raise `UserError` if it is not installed."""
    if find_spec("optuna") is None:
        raise UserError("--search needs Optuna, which is not installed: pip install 'learnerstream[search]'")


def search(recipe: Recipe, trials: int, fit: Callable[[Recipe], Fitted]) -> tuple[Recipe, Fitted]:
    """
    Return the best of some recipes by log loss on users held out, and what came of it; the one given is tried first.

    Args:
        recipe: Where to start, and what is not searched.
        trials: Recipes to try.
        fit: Trains by a recipe.
    """
    import optuna  # noqa: PLC0415 (an extra)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best: list[tuple[float, Recipe, Fitted]] = []

    def attempt(trial: optuna.Trial) -> float:
        tried = replace(
            recipe,
            learning_rate=trial.suggest_float("learning_rate", 5e-4, 8e-3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
            hidden=trial.suggest_categorical("hidden", [32, 64, 128]),
            item=trial.suggest_categorical("item", [0, 4, 8, 16, 32]),
            head=trial.suggest_categorical("head", [64, 128, 256]),
            dropout=trial.suggest_float("dropout", 0.1, 0.5),
        )
        fitted = fit(tried)
        loss = fitted.figures["logloss"]
        if not best or loss < best[0][0]:
            best[:] = [(loss, tried, fitted)]
        return loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=recipe.seed))
    names = ("learning_rate", "weight_decay", "hidden", "item", "head", "dropout")
    study.enqueue_trial({name: getattr(recipe, name) for name in names})
    study.optimize(attempt, n_trials=trials, catch=(NotFiniteError,))
    if not best:
        raise UserError(f"expected one of {trials} recipes to learn something, found not one")
    _, chosen, fitted = best[0]
    return chosen, fitted
