"""The command line: ``fastmnist train``, ``evaluate``, ``predict``, ``recipes``, ``plot``...

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed with
a message that says why, 2 wrong usage, 130 interrupted by Ctrl-C, 143 terminated.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fastmnist import __version__, datasets, metrics
from fastmnist.backends import resolved
from fastmnist.checkpoints import Checkpoint
from fastmnist.checkpoints import read as read_checkpoint
from fastmnist.cli.cluster import Cluster, Rounds, Shards, connected, search, train_on_cluster
from fastmnist.cli.files import (
    check_picture,
    check_writable,
    class_name,
    class_names_of,
    load_data,
    model_path,
    record_of,
    trained_with,
)
from fastmnist.cli.options import (
    AUTO,
    DEFAULT_MODEL,
    Backend,
    Data,
    DataDir,
    Json,
    Model,
    Picture,
    Threads,
    TrainedData,
    augmentation_of,
    known,
    layers,
    rate,
    share_of,
)
from fastmnist.cli.plots import plot
from fastmnist.cli.results import (
    described,
    draw_mistakes,
    percent,
    print_report,
    save_result,
    shape,
)
from fastmnist.errors import DataError
from fastmnist.files import atomic_write, locked
from fastmnist.model import MLP
from fastmnist.optimizers import OPTIMIZERS, SCHEDULES
from fastmnist.page import page
from fastmnist.recipes import MACHINE, RECIPES, Recipe
from fastmnist.records import Record
from fastmnist.server import HOST
from fastmnist.server import server as page_server
from fastmnist.terminal import (
    FAILED,
    INTERRUPTED,
    Progress,
    Terminated,
    command_line,
    note,
    reason,
    run,
    say,
    wanted,
)

EXPORTS = (".html", ".onnx", ".safetensors", ".npz")

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train neural networks on MNIST, from scratch and fast, and look at what they learn.",
)
app.add_typer(plot, name="plot")
app.command()(search)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; arguments are those of the process."""
    return run(lambda: _invoke(arguments))


def _invoke(arguments: list[str] | None) -> int:
    try:
        command = typer.main.get_command(app)
        code = command.main(arguments, prog_name="fastmnist", standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # only Click's own: newer Typers hide its classes
            raise
        return _wrong_usage(error)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code or 0


def _wrong_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fastmnist"
    message = " ".join(error.format_message().split()).rstrip(".")
    if message:  # none where the help was asked for by giving no arguments, and was printed
        say(f"{command}: {message}; see {command} --help")
    return int(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fastmnist {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Of an error, also where it came from.")
    ] = False,
) -> None:
    wanted.quiet, wanted.verbose = quiet, verbose


@app.command()
def train(
    context: typer.Context,
    data: Data = AUTO,
    data_dir: DataDir = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            callback=known("recipe", RECIPES),
            help=f"{', '.join(RECIPES)}; see fastmnist recipes.",
        ),
    ] = "default",
    hidden: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Units of each hidden layer: 128, or 256,64, or none."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Passes over the images.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Images in a step.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", callback=rate, help="At the peak of the schedule.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=known("optimizer", OPTIMIZERS),
            help=f"{', '.join(OPTIMIZERS)}.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=known("schedule", SCHEDULES),
            help=f"{', '.join(SCHEDULES)}.",
        ),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(metavar="X", callback=share_of, help="Share of each label for all classes."),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(metavar="X", callback=share_of, help="Share of hidden units left out."),
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=X,...",
            help="Distort images, such as shift=1,rotation=8; or none.",
        ),
    ] = None,
    validation: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images set aside, to follow the training."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Stop after N epochs without gain in validation."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Same seed, same network.")] = 0,
    threads: Threads = None,
    backend: Backend = AUTO,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The model (.npz); a picture (.png) and a record (.json) go beside it.",
        ),
    ] = DEFAULT_MODEL,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the training in this file after every epoch."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Go on with the training that is kept in this file."),
    ] = None,
    cluster: Cluster = None,
    shards: Shards = 8,
    rounds: Rounds = None,
    as_json: Json = False,
) -> None:
    """Train a network, test it, save it, and draw what it reads right and wrong.

    fastmnist train

    fastmnist train --recipe best --output best.npz

    fastmnist train --data fashion --hidden 256,128 --epochs 20 --validation 5000 --patience 3

    fastmnist train --recipe patient --checkpoint patient-training.npz

    fastmnist train --resume patient-training.npz

    fastmnist train --recipe best --cluster tcp://host:8786 --shards 32
    """
    if checkpoint and resume:
        raise typer.BadParameter(
            "goes on in its own file; leave out --checkpoint", param_hint="--resume"
        )
    if resume and not context.obj:
        context.obj = resume  # the second time all options are as they were when it began
        train(context, **_options_kept(context, resume))
        return
    output = model_path(output)
    kept = checkpoint or resume
    for path in (output, record_of(output), output.with_suffix(".png"), *filter(None, [kept])):
        check_writable(path)
    if checkpoint and checkpoint.exists():
        raise DataError(f"{checkpoint} is there already; --resume {checkpoint} goes on with it")
    changes: dict[str, Any] = {
        "hidden": layers(hidden),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "schedule": schedule,
        "label_smoothing": label_smoothing,
        "dropout": dropout,
    }
    plan = replace(RECIPES[recipe], **{k: v for k, v in changes.items() if v is not None})
    if optimizer in ("adam", "adamw") and learning_rate is None:
        plan = replace(plan, learning_rate=None)  # the recipe's is not meant for it
    if augmentation is not None:
        plan = replace(plan, augmentation=augmentation_of(augmentation))
    if patience and not validation:
        raise typer.BadParameter("needs --validation N", param_hint="--patience")
    if cluster and (patience or threads):
        raise typer.BadParameter(
            "goes with neither --patience nor --threads", param_hint="--cluster"
        )
    backend = resolved(backend)
    with _compiling(backend, distorted=plan.augmentation is not None):
        source, split = load_data(data, data_dir)
    network = plan.model(split.train, seed=seed)
    for part in split:
        note(described(part))
    note(f"network {shape(network)}, {plan.describe()}, seed {seed}")
    done = len(read_checkpoint(resume).progress.history) if resume else 0
    unit = "round" if cluster else "epoch"
    if done:
        note(f"going on after {unit} {done}")
    context.with_resource(locked(output))
    options: dict[str, Any] = {
        "backend": backend,
        "seed": seed,
        "validation": validation,
        "checkpoint": kept
        and Checkpoint(kept, {"options": _to_keep(context, data=source, backend=backend)}),
        "resume": bool(resume),
    }
    client = cluster and context.with_resource(connected(cluster))
    with _told_how_to_go_on(kept, unit):
        if client:
            history = train_on_cluster(
                *(client, plan, network, split.train),
                **options | {"shards": shards, "rounds": rounds, "done": done},
            )
        else:
            with Progress(plan.epochs, done) as progress:
                options |= {"patience": patience, "threads": threads, "callbacks": [progress]}
                history = plan.fit(network, split.train, **options)
    computing: dict[str, Any] = {"backend": backend, "threads": threads}
    report = metrics.evaluate(network, split.test, **computing)
    record = Record(
        data=source,
        class_names=split.train.class_names,
        sizes=network.sizes,
        recipe=recipe,
        seed=seed,
        test_accuracy=report.accuracy,
        test_loss=report.loss,
        train_seconds=sum(history.seconds),
        epochs=list(history),
    )
    save_result(network, record, report, split.test, output, **computing, as_json=as_json)


@app.command()
def evaluate(
    model: Model = DEFAULT_MODEL,
    data: TrainedData = None,
    data_dir: DataDir = None,
    backend: Backend = AUTO,
    threads: Threads = None,
    output: Picture = Path("fastmnist-mistakes.png"),
    as_json: Json = False,
) -> None:
    """Test a saved network on the test images of a data set, and show its worst mistakes.

    fastmnist evaluate fastmnist-model.npz --data mnist
    """
    check_picture(output)
    network = MLP.load(model)
    source, split = load_data(data or trained_with(model), data_dir)
    report = metrics.evaluate(network, split.test, backend=backend, threads=threads)
    if as_json:
        result = {
            "model": str(model),
            "data": source,
            "test_accuracy": report.accuracy,
            "test_loss": report.loss,
            "confusion": report.confusion.tolist(),
            "calibration_error": report.calibration_error,
            "worst": report.worst.tolist(),
        }
        print(json.dumps(result))
        return
    print_report(report, split.test)
    if picture := draw_mistakes(network, split.test, report, output, backend):
        print(f"Most wrong about: {picture}")


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes: what each is for, what it reached, and how long it took."""
    if as_json:
        print(json.dumps({name: _as_data(recipe) for name, recipe in RECIPES.items()}))
        return
    for name, recipe in RECIPES.items():
        print(f"{name:<9} {recipe.purpose}")
        shape = "-".join(map(str, ("inputs", *recipe.hidden, "classes")))
        print(f"{'':<9} {shape}; {recipe.describe()}")
        if recipe.measured:
            print(f"{'':<9} {recipe.measured.describe()}")
    print(f"\nMeasured on {MACHINE}; python -m benchmarks.records does it again.")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model that train has saved.")],
    files: Annotated[
        list[Path], typer.Argument(help="Pictures of one digit each, or CSV files of many.")
    ],
    several: Annotated[
        bool, typer.Option("--several", help="Find all digits of each picture, and read them.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="With --several: the picture, marked up."
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what is read as Kaggle's digit-recognizer takes it."
        ),
    ] = None,
    backend: Backend = AUTO,
    as_json: Json = False,
) -> None:
    """Read digits: photos or scans, of any size, dark on light or light on dark.

    fastmnist predict fastmnist-model.npz photo.jpg

    fastmnist predict fastmnist-model.npz note.jpg --several -o marked.png

    fastmnist predict fastmnist-model.npz test.csv --submission submission.csv
    """
    for path in filter(None, (submission, output)):
        check_writable(path)
    if output and not (several and len(files) == 1 and files[0].suffix.lower() != ".csv"):
        raise typer.BadParameter("needs --several and one picture", param_hint="--output")
    network = MLP.load(model)
    names = class_names_of(model)
    found: list[dict[str, Any]] = []
    failed = False
    for file in files:
        try:
            digits = _digits_in(file) if several else None
            images = np.array([d.image for d in digits]) if digits else _images_in(file)
        except (DataError, OSError) as error:
            say(f"fastmnist: {reason(error)}")
            failed = True
            continue
        readings = _readings(file, network.predict_proba(images, backend=backend), names)
        if digits and output:
            _mark(file, digits, [reading["prediction"] for reading in readings], output)
        found += readings
        for reading in [] if as_json or submission else readings:
            where = f"{file}, image {reading['image']}" if len(images) > 1 else file
            print(f"{where}: {reading['prediction']} ({percent(reading['probability'], 1)})")
    if as_json:
        print(json.dumps({"model": str(model), "predictions": found}))
    if submission and not failed:
        rows = [f"{number},{reading['prediction']}" for number, reading in enumerate(found, 1)]
        with atomic_write(submission) as written:
            written.write("\n".join(["ImageId,Label", *rows, ""]).encode())
        note(f"submission: {submission}")
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def export(
    model: Model,
    file: Annotated[
        Path, typer.Argument(help="What to write: .html, .onnx, .safetensors or .npz.")
    ],
) -> None:
    """Write a model for other tools, or as a page to draw digits on in any browser.

    fastmnist export fastmnist-model.npz digits.html
    """
    ending = file.suffix.lower()
    if ending not in EXPORTS:
        raise typer.BadParameter(f"{file} must end in {', '.join(EXPORTS)}", param_hint="FILE")
    check_writable(file)
    network = MLP.load(model)
    if ending == ".html":
        with atomic_write(file) as written:
            written.write(page(network, class_names_of(model)).encode())
    else:
        network.save(file)
    print(f"Written: {file}")


@app.command()
def serve(
    model: Model = DEFAULT_MODEL,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0 takes any that is free.")
    ] = 8000,
) -> None:
    """Open the page to draw digits on, for this machine only, until Ctrl-C."""
    network = MLP.load(model)
    try:
        server = page_server(page(network, class_names_of(model)), port)
    except OSError as error:
        raise DataError(f"port {port} cannot be used: {error.strerror}; try --port 0") from None
    with server:
        print(f"Draw at http://{HOST}:{server.server_port}/ (Ctrl-C ends)", flush=True)
        server.serve_forever()  # until Ctrl-C, as it says


@app.command()
def info(as_json: Json = False) -> None:
    """Show versions, processor, threads and folders: what a bug report needs."""
    from fastmnist.system import facts

    found = facts()
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name + ':':<18}{value}")


def _as_data(recipe: Recipe) -> dict[str, Any]:
    """A recipe in types that JSON has."""
    return {
        name: value
        if isinstance(value, (str, int, float, tuple, dict, type(None)))
        else repr(value)
        for name, value in asdict(recipe).items()
    }


_LONGEST_COMPILATION = 600.0  # seconds; it takes 10 to 20, and minutes where a machine is emulated


@contextlib.contextmanager
def _compiling(backend: str, *, distorted: bool) -> Iterator[None]:
    """Have the kernels compiled, saying so, by the end of the block: it takes seconds.

    Another process does it, and leaves the result on disk for this one; and a mark, since kernels
    for distorted images are others than those for images as they are.
    """
    if backend == "reference":
        yield
        return
    from fastmnist.kernels import jit, warmup

    kept = jit.folder()
    mark = kept and kept / ("distorted.ready" if distorted else "plain.ready")
    ready = mark is not None and mark.exists()
    if not ready:
        note("compiling the kernels; this takes some seconds, the first time only")
    if ready or kept is None:
        yield
    else:
        options = f"prediction=False, augmentation={distorted}"
        code = f"import fastmnist; fastmnist.warmup({options})"
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        other = subprocess.Popen([sys.executable, "-c", code], **silent)
        try:
            yield
            with contextlib.suppress(subprocess.TimeoutExpired):  # then this process compiles
                other.wait(_LONGEST_COMPILATION)
        finally:
            other.kill()
            other.wait()  # it has ended, or been killed
    # the rest can wait until the first epoch is done
    warmup(prediction=False, augmentation=distorted)
    if mark and not ready:
        with contextlib.suppress(OSError):
            mark.touch()


_NOT_KEPT = ("checkpoint", "resume", "threads", "as_json")  # of train's options
_PATHS = ("data_dir", "output", "resume")


def _to_keep(context: typer.Context, **found: str) -> dict[str, Any]:
    """The options of this training, for whoever resumes it; `found` is what "auto" came to."""
    options = {name: value for name, value in context.params.items() if name not in _NOT_KEPT}
    options |= found
    return {n: str(v) if isinstance(v, Path) else v for n, v in options.items()}


def _options_kept(context: typer.Context, checkpoint: Path) -> dict[str, Any]:
    """The options of this call, and where it has none those of the training that is kept."""
    options = dict(context.params)
    for name, value in read_checkpoint(checkpoint).notes.get("options", {}).items():
        source = context.get_parameter_source(name)
        if name in options and source and source.name == "DEFAULT":
            options[name] = value
    # Earlier releases of Typer than 0.27 keep strings in `params`.
    return options | {name: Path(options[name]) for name in _PATHS if options[name]}


@contextlib.contextmanager
def _told_how_to_go_on(checkpoint: Path | None, unit: str) -> Iterator[None]:
    """Say what is left of a training that ends before its time."""
    try:
        yield
    except (KeyboardInterrupt, Terminated, OSError):
        if checkpoint and checkpoint.exists():
            done = len(read_checkpoint(checkpoint).progress.history)
            command = command_line("fastmnist", "train", "--resume", str(checkpoint))
            say(f"kept as it was after {unit} {done}; to go on: {command}")
        elif not checkpoint:
            say("nothing is kept; a training with --checkpoint FILE can be resumed")
        raise


def _images_in(file: Path) -> NDArray[np.uint8]:
    """The digits in a picture or a CSV file, shape (n, 28, 28)."""
    if file.suffix.lower() == ".csv":
        return datasets.read_csv(file).images
    from fastmnist.pictures import read_digit

    return read_digit(file)[None]


def _digits_in(file: Path) -> list[Any]:
    """All digits found in a picture; none in a CSV file, whose images are known."""
    if file.suffix.lower() == ".csv":
        return []
    from fastmnist.pictures import read_digits

    return read_digits(file)


def _mark(file: Path, digits: list[Any], names: Sequence[str], output: Path) -> None:
    from fastmnist.pictures import marked

    content = io.BytesIO()
    marked(file, digits, names).save(content, format="PNG")
    with atomic_write(output) as written:
        written.write(content.getvalue())
    note(f"picture: {output}")


def _readings(file: Path, P: NDArray[np.float32], names: Sequence[str]) -> list[dict[str, Any]]:
    """What is read in the images of a file, and how sure the network is."""
    return [
        {
            "file": str(file),
            "image": number,
            "prediction": class_name(names, int(p.argmax())),
            "probability": float(p.max()),
        }
        for number, p in enumerate(P, 1)
    ]
