"""The command line: each command reads `STREAM_*` settings, and ends a user's mistake with one clear sentence."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from uuid import uuid4

import click
from confluent_kafka import KafkaException
from pydantic import ValidationError

from stream.adapters.detection import AUTO, FAMILIES, FORMATS
from stream.ending import SAID, STOPPED, end_by_signals, end_in_order
from stream.errors import BrokerAway, StreamError, UserError
from stream.settings import SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from pydantic_core import ErrorDetails

    from schemas import ModelRollout
    from stream.settings import Settings

_F = TypeVar("_F", bound="Callable[..., Any]")

_WORKED, _FAILED, _MISUSED = 0, 1, 2

_MAILTO = "mailto:"
_KEY_CHARACTERS = 16
"""Of a pseudonym key, at least: a shorter one can be guessed."""


class _Commands(click.Group):
    """Commands whose errors are sentences."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; exit 2 on a user's mistake, 1 on a failure of ours or the broker's."""
        try:
            return super().main(*args, **kwargs)
        except UserError as error:
            click.echo(f"stream: {error}", err=True)
            sys.exit(_FAILED if isinstance(error, BrokerAway) else _MISUSED)
        except KafkaException as error:
            click.echo(f"stream: Kafka failed: {error.args[0].str()}; start again when it is back", err=True)
            sys.exit(_FAILED)
        except StreamError as error:
            click.echo(f"stream: {error}", err=True)
            sys.exit(_FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C ends it by one line, and an exit status of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(SAID, err=True)
            ctx.exit(STOPPED)


_ANY_FORMAT = (
    f"Format of the file: of events {', '.join(FAMILIES)} (docs/adapters.md); of past answers csv, oulad, "
    "assistments2009 and others (docs/answers.md); auto recognises it."
)


def _of_format(said: str) -> "Callable[[_F], _F]":
    """Return the option that names a file's format."""
    return click.option("--format", "format_", default=AUTO, show_default=True, metavar="NAME", help=said)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="learnerstream", prog_name="stream")
def main() -> None:
    """Predict what learners will do next, from a stream of what they did."""


def _settings(**given: Any) -> "Settings":
    """Return the settings, with a sentence for each that is wrong; what a command does after that ends in order."""
    from stream.settings import Settings

    end_in_order()
    try:
        return Settings(**given)
    except ValidationError as error:
        raise UserError("; ".join(map(_of_setting, error.errors()))) from error


def _of_setting(problem: "ErrorDetails") -> str:
    """Return what was expected of a setting, and what was found."""
    from stream.manual import expected
    from stream.settings import Settings

    said = problem["msg"].removeprefix("Value error, ")
    # What several of them say together names them itself.
    if not problem["loc"]:
        return said
    field = str(problem["loc"][0])
    if problem["type"] != "value_error":
        said = f"expected {expected(Settings.model_fields[field])}"
    found = "" if field in SECRETS or ", found " in said else f", found {problem['input']!r}"
    return f"STREAM_{field.upper()}: {said}{found}"


def _id_of_user(_context: click.Context, _parameter: click.Parameter, user: str) -> str:
    """Return a user's id as it was typed; raises `UserError` if no event can have it."""
    if not user.strip():
        raise UserError("expected a user id, found an empty one")
    try:
        user.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"expected a user id in UTF-8, found {user!r}") from error
    return user


def _log(settings: "Settings") -> None:
    from stream.telemetry import set_up_logging

    set_up_logging(settings.log_level)


def _watch_key(settings: "Settings") -> None:
    """Warn of a secret that could be guessed."""
    import structlog

    key = settings.pseudonym_key
    if key is not None and len(key.get_secret_value()) < _KEY_CHARACTERS:
        structlog.get_logger().warning(
            "pseudonyms.key_is_short", expected=f"{_KEY_CHARACTERS} characters or more; openssl rand -hex 32 makes one"
        )


@main.command()
@click.option(
    "--source",
    default="simulate",
    metavar="simulate|FILE",
    help="Simulated learners, a file of past answers or of another platform's events, or a folder of OULAD.",
)
@_of_format(_ANY_FORMAT)
@click.option(
    "--events",
    type=click.IntRange(min=1),
    help="Answers to send, of OULAD academic events; without it, 20,000 simulated or the whole file.",
)
@click.option(
    "--rate", type=click.FloatRange(min=1), help="Events a second, at most; without it, as fast as learning follows."
)
@click.option("--headless", is_flag=True, help="No live view, and no page unless --page-port is given.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures as JSON.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=6066,
    show_default=True,
    help="Port of the worker's /metrics; 0: none.",
)
@click.option(
    "--page-port",
    type=click.IntRange(0, 65_535),
    help="Port of the live page; 0: none. Without it, 6068, or none with --headless.",
)
@click.option(
    "--stay",
    is_flag=True,
    help="Go on after the end, until Ctrl-C, to try things beside it; on a terminal it does, unless --headless.",
)
@click.option("--seed", type=int, default=42, show_default=True, help="Of the simulated learners.")
def demo(**options: Any) -> None:
    """
    Show everything on this machine: a broker in the process, a worker, a trainer, and learners.

    Example: stream demo --headless --events 20000 --report demo.json
    """
    from stream.demo.run import DemoOptions, run_demo

    settings = _settings()
    _log(settings)
    sys.exit(run_demo(DemoOptions(**options), settings))


@main.command()
def worker() -> None:
    """
    Consume events and emit predictions, until told to stop (SIGTERM, Ctrl-C).

    Example: STREAM_BROKER=kafka:9092 stream worker
    """
    from stream.app import run_worker

    settings = _settings()
    _log(settings)
    _watch_key(settings)
    run_worker(settings)


@main.command()
def ingest() -> None:
    """
    Convert the events of foreign topics (STREAM_SOURCES) alone, for workers that are to do nothing else than predict.

    Example: STREAM_SOURCES=lms.xapi=xapi stream ingest
    """
    from stream.agents.ingest import run_ingest

    settings = _settings()
    _log(settings)
    _watch_key(settings)
    run_ingest(settings)


@main.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--from", "format_", type=click.Choice(FORMATS), default=AUTO, show_default=True,
    help="Format of the events; auto recognises each.",
)  # fmt: skip
def convert(files: tuple[Path, ...], format_: str) -> None:
    """
    Turn foreign events into ours, one JSON line each; a summary goes to standard error.

    FILE holds JSON, JSON lines or a list, also gzipped; without one, or for -, standard input is read. Exits 1 if any
    event was bad, 2 if a file could not be read to its end.

    Example: stream convert --from xapi statements.json.gz > ours.jsonl
    """
    from stream.convert import STANDARD_INPUT, Summary, convert_files, converter

    settings = _settings()
    if not files and cast("Any", sys.stdin) is not None and sys.stdin.isatty():
        raise UserError("expected files of events, or events on standard input, found neither; see --help")
    summary, status = Summary(), _MISUSED
    try:
        convert_files(files or [STANDARD_INPUT], converter(settings, format_), _output(), summary)
        status = _FAILED if summary.bad else _WORKED
    except UserError as error:
        click.echo(f"stream: {error}", err=True)
    except BrokenPipeError:
        # Whoever reads has enough, as `head` has.
        _let_go_of_output()
        sys.exit(_FAILED)
    except OSError as error:
        _let_go_of_output()
        click.echo(f"stream: standard output: cannot be written to ({error.strerror})", err=True)
    except KeyboardInterrupt:
        click.echo("stream: stopped; the rest was not read", err=True)
        status = STOPPED
    click.echo(summary.as_json(), err=True)
    sys.exit(status)


def _output() -> "BinaryIO":
    """Return where bytes go; raises `UserError` if standard output is closed."""
    if cast("Any", sys.stdout) is None:
        raise UserError("standard output is closed; expected a file or a pipe for the events")
    return sys.stdout.buffer


def _let_go_of_output() -> None:
    """Have what is yet to be written go nowhere, or Python would try once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@main.command()
def trainer() -> None:
    """
    Learn from what the workers predicted, and announce better models; one trainer is enough.

    Example: STREAM_BROKER=kafka:9092 STREAM_MODEL_STORE=/var/lib/models stream trainer
    """
    _needs_torch()
    from stream.learning.trainer import run_trainer

    settings = _settings()
    _log(settings)
    run_trainer(settings)


def _needs_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UserError("learning needs torch, which is not installed: pip install 'learnerstream[train]'")


@main.command()
@click.option("--events", type=click.IntRange(min=1), help="Answers to send; without it, until told to stop.")
@click.option(
    "--rate", type=click.FloatRange(min=1), default=100.0, show_default=True, help="Events a second, at most."
)
@click.option("--seed", type=int, default=42, show_default=True, help="Of the learners.")
def simulate(events: int | None, rate: float, seed: int) -> None:
    """
    Send the events of simulated learners to the broker, until told to stop (SIGTERM, Ctrl-C).

    Example: stream simulate --events 5000 --rate 200
    """
    from stream.demo.simulator import simulate as simulated
    from stream.demo.source import produce

    settings = _settings()
    _log(settings)
    end_by_signals()
    produce(settings, simulated(seed, answers=events), rate, total=events)


@main.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; without it, STREAM_PAGE_HOST.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Without it, STREAM_PAGE_PORT.")
@click.option("--from-start", is_flag=True, hidden=True, help="Read the topics from their beginning.")
@click.option("--total", type=click.IntRange(min=1), hidden=True, help="Of a demo: how many there will be.")
@click.option("--counted", default="answers", hidden=True, help="Of a demo: of what.")
def page(host: str | None, port: int | None, *, from_start: bool, total: int | None, counted: str) -> None:
    """
    Serve the live page of a deployment: what the topics say, in a browser; no worker is touched.

    Example: STREAM_BROKER=kafka:9092 stream page --port 8080
    """
    from stream.page.app import run_page

    settings = _settings(**_given(page_host=host, page_port=port))
    _log(settings)
    run_page(settings, from_start=from_start, progress=None if total is None else (total, counted))


@main.command()
@click.argument("file", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=click.FloatRange(min=0.001), help="Times faster than it happened; without it, as fast as it goes."
)
@_of_format(_ANY_FORMAT)
def replay(file: Path, format_: str, speed: float | None) -> None:
    """
    Send a file's events to the broker: past answers in time order, an OULAD folder, or another platform's events.

    Example: stream replay answers.csv.gz --speed 1000
    """
    from stream.demo.source import produce
    from stream.demo.sources import converted_from, is_foreign, recorded_in

    settings = _settings()
    _log(settings)
    end_by_signals()
    found = converted_from(file, format_, settings) if is_foreign(file, format_) else recorded_in(file, format_)
    if speed is not None and not found.is_timed:
        raise UserError(f"{file}: --speed needs timestamps, and the file has none")
    if found.told:
        click.echo(found.told, err=True)
    produce(settings, found.events, None, speed, found.total, found.counted)


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _fits(task: str, file: Path) -> None:
    """Check that a task is given what it learns from."""
    from stream.files.oulad import is_oulad

    if task == "risk" and file.exists() and not file.is_dir():
        raise UserError(f"--task risk: expected an OULAD folder, found the file {file}; name the folder of its tables")
    if task == "knowledge" and is_oulad(file):
        raise UserError(f"{file}: expected past answers, found an OULAD folder, which holds none; add --task risk")


@main.command()
@click.argument("file", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the artifact; must not exist yet."
)
@click.option(
    "--epochs", type=click.IntRange(1, 1000), help="Passes over the data, at most; without it, 30, or 8 of risk."
)
@click.option("--seed", type=int, default=42, show_default=True, help="Of everything random.")
@click.option(
    "--task", type=click.Choice(["knowledge", "risk"]), default="knowledge", show_default=True,
    help="What is predicted: answers, from a file of them; or who will fail or leave, from an OULAD folder.",
)  # fmt: skip
@click.option(
    "--search", "trials", type=click.IntRange(1, 10_000), help="Try so many recipes, keep the best; needs Optuna."
)
@_of_format("Format of the file of past answers (docs/answers.md).")
def train(file: Path, out: Path, format_: str, task: str, epochs: int | None, seed: int, trials: int | None) -> None:
    """
    Make a first model from a file of past answers, or from an OULAD folder.

    Example: stream train answers.csv.gz --out models/knowledge/v1
    """
    _needs_torch()
    _fits(task, file)
    settings = _settings()
    _log(settings)

    def write(line: str) -> None:
        click.echo(line, err=True)

    if task == "risk":
        from stream.learning.risk.first import train_folder
        from stream.learning.risk.training import RiskRecipe

        if trials:
            raise UserError("--search tries recipes of --task knowledge only; leave it out")
        figures = train_folder(
            file, out, recipe=RiskRecipe(seed=seed, **_given(epochs=epochs)), kept=settings.risk_feature_fields,
            records=settings.runs, write=write,
        )  # fmt: skip
    else:
        from stream.learning.first import train_file
        from stream.learning.offline import Recipe

        recipe = Recipe(seed=seed, **_given(epochs=epochs))
        figures = train_file(
            file, out, recipe=recipe, trials=trials or 0, records=settings.runs, write=write, format_=format_
        )
    click.echo(f"{out}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


@main.command()
@click.argument("file", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--task", type=click.Choice(["knowledge", "risk"]), default="knowledge", show_default=True,
    help="What is predicted: answers, from a file of them; or who will fail or leave, from an OULAD folder.",
)  # fmt: skip
@click.option(
    "--protocol", type=click.Choice(["user-split", "progressive"]), default="user-split", show_default=True,
    help="Predict users held out; or each answer before it is learned from, in replay order, as the live system.",
)  # fmt: skip
@click.option("--seed", type=int, default=42, show_default=True, help="Of the split and of everything random.")
@click.option(
    "--models",
    type=click.Choice(["serving", "all"]),
    default="serving",
    show_default=True,
    help="The model that would serve, or the reference models beside it.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--predictions", type=click.Path(path_type=Path), help="Write what was said of each answer, .csv.gz.")
@click.option("--page", type=click.Path(path_type=Path), help="Write a page for people who would rather look, .html.")
@click.option(
    "--epochs", type=click.IntRange(1, 1000), help="Passes over the data, at most; without it, 30, or 8 of risk."
)
@_of_format("Format of the file of past answers (docs/answers.md).")
def evaluate(
    file: Path,
    format_: str,
    task: str,
    protocol: Literal["user-split", "progressive"],
    seed: int,
    models: str,
    epochs: int | None,
    **places: Path | None,
) -> None:
    """
    Say how good predictions are on a file of past answers, or on an OULAD folder.

    Example: stream evaluate answers.csv.gz --models all --report evaluation.json
    """  # fmt: skip
    _needs_torch()
    _fits(task, file)
    settings = _settings()
    _log(settings)
    if task == "risk":
        from stream.learning.risk.evaluation import evaluate_folder
        from stream.learning.risk.training import RiskRecipe

        if protocol == "progressive":
            raise UserError("--task risk is evaluated on students held out; leave out --protocol progressive")
        evaluate_folder(
            file, recipe=RiskRecipe(seed=seed, **_given(epochs=epochs)), everything=models == "all",
            kept=settings.risk_feature_fields, write=click.echo, report=places["report"],
            predictions=places["predictions"], page=places["page"],
        )  # fmt: skip
        return
    from stream.learning.evaluation import evaluate_file
    from stream.learning.offline import Recipe

    evaluate_file(
        file, protocol=protocol, recipe=Recipe(seed=seed, **_given(epochs=epochs)), everything=models == "all",
        report=places["report"], predictions=places["predictions"], page=places["page"], write=click.echo,
        format_=format_,
    )  # fmt: skip


@main.group()
def topics() -> None:
    """Create topics, or check them."""


@topics.command("create")
def topics_create() -> None:
    """
    Create the topics that are missing, with the settings that state depends on.

    Example: STREAM_PARTITIONS=16 STREAM_REPLICATION=3 stream topics create
    """
    from stream.transport.topics import ensure

    created = ensure(_settings(topics="create"))
    click.echo("\n".join(f"created {name}" for name in created) or "nothing to create")


@topics.command("check")
def topics_check() -> None:
    """
    Say what is wrong with the topics; exit 1 if anything but a warning is.

    Example: stream topics check
    """
    from stream.transport.topics import UNTOLD, check, wanted

    settings = _settings()
    problems = check(settings)
    for problem in problems:
        click.echo(f"warning: {problem}" if problem.gravity == "warns" else problem)
    if any(problem.gravity != "warns" for problem in problems):
        sys.exit(_FAILED)
    are = "there" if UNTOLD in problems else "right"
    click.echo(f"{len(wanted(settings))} topics are {are}; {settings.partitions} partitions are fixed for good: "
               "another number would move users away from their state, and is a migration")  # fmt: skip


@main.command()
@click.argument("user", callback=_id_of_user)
def erase(user: str) -> None:
    """
    Ask every worker and the trainer to forget a user.

    Example: stream erase learner-0042
    """
    from schemas import Erasure
    from stream.transport.outbox import KafkaOutbox
    from stream.transport.topics import ensure

    settings = _settings()
    ensure(settings)
    outbox = KafkaOutbox(settings)
    request = Erasure(user_id=user, requested_at=datetime.now(UTC), erasure_id=str(uuid4()))
    outbox.send(settings.topic("erasures"), key=user.encode(), value=request.model_dump_json().encode())
    outbox.flush_now()
    click.echo(f"asked to forget {user!r}: tables, latest predictions and the trainer's buffer; "
               "messages already on topics leave with their retention")  # fmt: skip


@main.command()
@click.argument("user", callback=_id_of_user)
@click.option("--previous", is_flag=True, help="Under STREAM_PSEUDONYM_PREVIOUS_KEY.")
def pseudonym(user: str, *, previous: bool) -> None:
    """
    Say under which id a platform's user goes on, to join predictions, or to erase: STREAM_PSEUDONYM_KEY is needed.

    USER is written as the platform's events write it: case matters. A mailto: before an address is left out, as it is
    of events.

    Example: stream erase "$(stream pseudonym ada@school.example)"
    """
    from stream.adapters.pseudonym import pseudonym as pseudonym_of

    settings = _settings()
    name = "pseudonym_previous_key" if previous else "pseudonym_key"
    key = getattr(settings, name)
    if key is None:
        raise UserError(f"expected a secret in STREAM_{name.upper()}, found none: users go on under their own ids")
    if user[: len(_MAILTO)].lower() == _MAILTO:
        user = user[len(_MAILTO) :]
    click.echo(pseudonym_of(key.get_secret_value().encode(), user))


@main.command()
@click.argument("user", callback=_id_of_user)
@click.option("--json", "is_json", is_flag=True, help="All of it, as JSON.")
def inspect(user: str, *, is_json: bool) -> None:
    """
    Show what the system knows of a user, and what it said last: read from changelogs and topics, no worker is needed.

    Exits 1 if it knows nothing of the user.

    Example: stream inspect learner-0042 --json
    """
    from stream.inspection.reading import inspected
    from stream.inspection.text import shown

    settings = _settings()
    found = inspected(settings, user)
    if found is None:
        hint = "; users of sources are known under pseudonyms: stream pseudonym" if settings.pseudonym_key else ""
        click.echo(f"stream: nothing is known of {user!r} in group {settings.group}{hint}", err=True)
        sys.exit(_FAILED)
    click.echo(json.dumps(found, indent=1) if is_json else "\n".join(shown(found)))


@main.command()
@click.option("--json", "is_json", is_flag=True, help="For machines.")
def doctor(*, is_json: bool) -> None:
    """
    Look at everything that the system depends on, and say what is wrong and what to type. Nothing is changed.

    Each line is ok, wrong, or unsure: it cannot be told from here. Exits 1 if anything is wrong.

    Example: STREAM_BROKER=kafka:9092 stream doctor
    """
    from contextlib import nullcontext

    from rich.console import Console

    from stream.doctor.examination import Examination, misset
    from stream.doctor.report import as_json, show, summary

    try:
        checks = Examination(_settings(), os.environ).checks()
    except UserError as error:
        checks = misset(str(error), os.environ)
    console, findings = Console(), []
    waits = console.is_terminal and not is_json
    for name, look in checks:
        with console.status(f"looking at {name}") if waits else nullcontext():
            found = look()
        findings += found
        for finding in () if is_json else found:
            show(console, finding)
    click.echo(as_json(findings) if is_json else summary(findings))
    sys.exit(_FAILED if any(finding.verdict == "wrong" for finding in findings) else _WORKED)


@main.group()
def models() -> None:
    """Look at published models, and say which of them serve."""


_MODELS = ("knowledge", "risk")
_of_model = click.option(
    "--model",
    type=click.Choice(_MODELS),
    default=_MODELS[0],
    show_default=True,
    help="What predicts answers, or risks.",
)


@models.command("list")
@click.option("--model", type=click.Choice(_MODELS), help="What predicts answers, or risks; both if not given.")
def models_list(model: str | None) -> None:
    """
    List all versions: what each learned from, what the gate decided, and which of them is live.

    Example: stream models list --model risk
    """
    from stream.listing import known, listed

    settings = _settings()
    for about in known(settings, _MODELS if model is None else (model,)):
        if not about.manifests and not about.events:
            click.echo(f"no {about.name} models in {settings.model_store} (STREAM_MODEL_STORE): the fallback serves")
        else:
            click.echo("\n".join(listed(about)))


@models.command("show")
@click.argument("version", type=click.IntRange(min=1), required=False)
@_of_model
def models_show(version: int | None, model: str) -> None:
    """
    Show what is live and how good it is; or one version's figures, and all that happened to it.

    Example: stream models show 7
    """
    from stream.listing import known, shown, versions_of

    settings = _settings()
    (about,) = known(settings, (model,))
    if version is not None and version not in versions_of(about):
        raise UserError(
            f"expected a {model} version in {settings.model_store} (STREAM_MODEL_STORE) or of which something was "
            f"told, found no {version}; `stream models list` lists them"
        )
    click.echo("\n".join(shown(about, version)))


@models.command("promote")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--share", type=click.FloatRange(0, 1),
    help="Put it on trial instead: serve this share of the users, 0 for none, until the gate decides.",
)  # fmt: skip
@_of_model
def models_promote(version: int, share: float | None, model: str) -> None:
    """
    Have every worker serve a version from the store, or put it on trial beside what serves.

    Example: stream models promote 7 --share 0.1
    """
    from stream.models.artifacts import release
    from stream.models.store import Store

    settings = _settings()
    found = release(Store(settings.model_store), model, version)
    if share is None:
        # Announced once more, it has not changed what served before it.
        _announce(
            settings,
            model,
            lambda now: {"champion": found, "previous": now.previous if now.champion == found else now.champion},
        )
        click.echo(f"version {version} is announced; each worker serves it as soon as it has read and checked it")
        return
    _announce(
        settings,
        model,
        lambda before: {
            "champion": before.champion, "previous": before.previous, "challenger": found, "challenger_share": share,
        },
    )  # fmt: skip
    click.echo(
        f"version {version} is on trial; each worker has it predict as soon as it has read and checked it, and "
        f"serves {share:.0%} of the users by it until the gate decides"
    )


@models.command("rollback")
@_of_model
def models_rollback(model: str) -> None:
    """
    Have every worker serve what served before the latest change; the fallback, if nothing did.

    Example: stream models rollback
    """
    from stream.transport.rollout import current

    settings = _settings()
    rollout = current(settings, model)
    if rollout is None:
        raise UserError(f"no {model} model was ever announced on model-updates: the fallback serves already")
    # Nothing to go back to from there: what is taken back here never comes again by itself.
    _announce(settings, model, lambda before: {"champion": before.previous})
    name = "the fallback" if rollout.previous is None else f"version {rollout.previous.version}"
    click.echo(f"{name} is announced; each worker serves it as soon as it has read and checked it")


@models.command("learn-now")
@_of_model
def models_learn_now(model: str) -> None:
    """
    Ask the trainer for an update at once, in place of a candidate that is on trial.

    Example: stream models learn-now
    """
    from stream.transport.outbox import KafkaOutbox
    from stream.transport.rollout import ask_to_learn
    from stream.transport.topics import ensure

    settings = _settings()
    ensure(settings)
    ask_to_learn(KafkaOutbox(settings), settings, model, datetime.now(UTC))
    click.echo("asked for an update; `stream models list` shows the candidate when it is frozen, and what became of it")


def _announce(settings: "Settings", model: str, changed: "Callable[[ModelRollout], dict[str, Any]]") -> None:
    """Announce a rollout that is made of the one that stands."""
    from schemas import ModelRollout
    from stream.transport.outbox import KafkaOutbox
    from stream.transport.rollout import announce, current

    now = datetime.now(UTC)
    before = current(settings, model) or ModelRollout(name=model, decided_at=now)
    announce(KafkaOutbox(settings), settings, ModelRollout(name=model, decided_at=now, **changed(before)))


if __name__ == "__main__":
    main()
