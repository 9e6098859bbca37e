import dataclasses
import errno
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import processes
import pytest
import typer
from agreement import UNCOMPILED
from patching import own

import fastmnist
from fastmnist import MLP, __version__, cli, datasets, server
from fastmnist.cli import main
from fastmnist.cli.files import PICTURES, check_picture, load_data, write_picture
from fastmnist.files import locked
from fastmnist.recipes import RECIPES
from fastmnist.records import Record

COMMAND = [sys.executable, "-m", "fastmnist"]


def write_csv(path, dataset, *, labels=True):
    rows = dataset.images.reshape(len(dataset), -1)
    if labels:
        rows = np.column_stack([dataset.labels, rows])
    path.write_text("\n".join(",".join(map(str, row)) for row in rows), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """280 generated digits, of which the last 40 are to test with."""
    path = tmp_path_factory.mktemp("data") / "digits.csv"
    return write_csv(path, datasets.generate(280, seed=0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, csv):
    """A model in a folder of its own, with what train writes beside it."""
    path = tmp_path_factory.mktemp("trained") / "digits.npz"
    assert main(["train", "--data", csv, "--output", str(path), "--epochs", "3"]) == 0
    return path


@pytest.fixture(autouse=True)
def _somewhere_else(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def run(*arguments, **options):
    return processes.run("-m", "fastmnist", *arguments, cwd=os.getcwd(), **options)


def test_train_saves_a_model_a_record_and_a_picture(csv, tmp_path, capsys):
    pytest.importorskip("matplotlib")

    code = main(["train", "--data", csv, "--epochs", "3"])

    out, err = capsys.readouterr()
    assert code == 0
    assert "Test accuracy: " in out
    assert "Confused most: " in out
    assert "Model: fastmnist-model.npz\n" in out
    assert "Picture: fastmnist-model.png\n" in out
    lines = err.splitlines()
    assert "digits.csv (first 240 rows): 240 images of 28 x 28" in lines
    assert sum(line.startswith("epoch ") for line in lines) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fastmnist-model.json",
        "fastmnist-model.npz",
        "fastmnist-model.png",
    ]
    assert (tmp_path / "fastmnist-model.png").read_bytes().startswith(b"\x89PNG")


def test_train_prints_one_json_object(csv, capsys):
    assert main(["train", "--data", csv, "--json", "-o", "model.npz", "--hidden", "32,16"]) == 0

    result = json.loads(capsys.readouterr().out)
    assert result["data"] == csv
    assert result["model"] == "model.npz"
    assert result["sizes"] == [784, 32, 16, 10]
    assert 0 <= result["test_accuracy"] <= 1
    assert result["test_loss"] > 0
    assert result["train_seconds"] > 0
    assert len(result["epochs"]) == RECIPES["default"].epochs


@pytest.mark.parametrize(
    ("output", "model"),
    [
        ("one", "one.npz"),
        ("one.v2", "one.v2.npz"),
        ("new/folder/one.npz", "new/folder/one.npz"),
        (".", "fastmnist-model.npz"),
    ],
)
def test_output_names_a_file_or_a_folder(output, model, csv, tmp_path, capsys):
    assert main(["train", "--data", csv, "--epochs", "1", "-o", output]) == 0

    assert f"Model: {model}\n" in capsys.readouterr().out
    assert MLP.load(tmp_path / model).sizes == (784, 256, 64, 10)
    assert (tmp_path / model).with_suffix(".json").exists()


def test_train_and_evaluate_agree(csv, trained, capsys):
    record = Record.load(trained.with_suffix(".json"))

    assert main(["evaluate", str(trained), "--json"]) == 0

    result = json.loads(capsys.readouterr().out)
    assert result["data"] == csv  # taken from the record
    assert result["test_accuracy"] == record.test_accuracy
    assert result["test_loss"] == record.test_loss
    assert np.sum(result["confusion"]) == 40


def test_evaluate_shows_its_worst_mistakes(csv, trained, tmp_path, capsys):
    pytest.importorskip("matplotlib")

    assert main(["evaluate", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "calibration error" in out
    assert "Most wrong about: fastmnist-mistakes.png" in out
    assert (tmp_path / "fastmnist-mistakes.png").read_bytes().startswith(b"\x89PNG")


def test_without_mistakes_there_is_no_picture_of_them(csv, trained, tmp_path, capsys):
    some = datasets.generate(30, seed=3)
    right = datasets.Dataset(some.images, MLP.load(trained).predict(some.images))
    path = write_csv(tmp_path / "right.csv", right)
    assert main(["evaluate", str(trained), "--data", path]) == 0
    out = capsys.readouterr().out
    assert "100" in out
    assert "Most wrong" not in out
    assert "Confused" not in out


def test_quiet_leaves_results_and_errors(csv, capsys):
    assert main(["-q", "train", "--data", csv, "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    assert "Test accuracy" in out
    assert err == ""
    assert main(["-q", "train", "--data", "no.csv"]) == 1
    assert "no.csv" in capsys.readouterr().err


def test_verbose_shows_where_an_error_came_from(capsys):
    assert main(["-v", "evaluate", "no.npz"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert main(["evaluate", "no.npz"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_help_shows_examples_and_shells_can_be_completed(capsys):
    assert main(["train", "--help"]) == 0
    assert "fastmnist train --recipe best" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out


def test_recipes_are_listed(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        assert name in out
        assert recipe.purpose in out
        assert recipe.describe() in out
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(RECIPES)
    assert listed["best"]["augmentation"]["elastic"] == RECIPES["best"].augmentation.elastic


def test_training_options_reach_the_training(csv, capsys):
    options = "--label-smoothing 0.2 --dropout 0.3 --augmentation shift=2,rotation=5 --epochs 9"
    more = "--validation 40 --patience 1 --learning-rate 1e-9 --hidden 16"
    assert main(["train", "--data", csv, *options.split(), *more.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "label smoothing 0.2, dropout 0.3, images with shift 2, rotation 5°" in err
    epochs = json.loads(out)["epochs"]
    assert epochs[0]["validation_loss"] is not None
    assert main(["train", "--data", csv, "--augmentation", "none", "--epochs", "1"]) == 0
    assert "images with" not in capsys.readouterr().err


def test_adam_has_a_learning_rate_of_its_own(csv, capsys):
    assert main(["train", "--data", csv, "--optimizer", "adam", "--epochs", "1"]) == 0
    assert "adam, learning rate 0.003" in capsys.readouterr().err


def test_plot_augmented_draws_distorted_images(csv, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["plot", "augmented", "--data", csv, "--augmentation", "elastic=30"]) == 0
    assert (tmp_path / "fastmnist-augmented.png").read_bytes().startswith(b"\x89PNG")


def test_predictions_are_written_as_kaggle_takes_them(csv, trained, tmp_path, capsys):
    images = datasets.generate(7, seed=1)
    unlabelled = write_csv(tmp_path / "test.csv", images, labels=False)

    assert main(["predict", str(trained), unlabelled, "--submission", "submission.csv"]) == 0

    assert capsys.readouterr().out == ""
    header, *rows = (tmp_path / "submission.csv").read_text("utf-8").splitlines()
    assert header == "ImageId,Label"
    predicted = MLP.load(trained).predict(images.images)
    assert rows == [f"{number},{label}" for number, label in enumerate(predicted, 1)]


def test_several_digits_of_a_picture_are_read_and_marked(trained, tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image")
    sheet = np.full((120, 300), 255, np.uint8)
    for place, digit in zip((20, 110, 200), datasets.generate(3, seed=1).images, strict=True):
        sheet[20:104, place : place + 84] = 255 - digit.repeat(3, axis=0).repeat(3, axis=1)
    Image.fromarray(sheet).save("sheet.png")

    assert main(["predict", str(trained), "sheet.png", "--several", "-o", "marked.png"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"sheet.png, image {i}" for i in (1, 2, 3)]
    with Image.open("marked.png") as picture:
        assert picture.size == (300, 120)
    assert main(["predict", str(trained), "sheet.png", "-o", "marked.png"]) == 2
    assert main(["predict", str(trained), "some.csv", "--several", "-o", "marked.png"]) == 2


def test_nothing_is_submitted_where_a_file_cannot_be_read(csv, trained, tmp_path, capsys):
    unlabelled = write_csv(tmp_path / "test.csv", datasets.generate(3, seed=1), labels=False)

    code = main(["predict", str(trained), unlabelled, "no.csv", "--submission", "submission.csv"])

    assert code == 1
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.parametrize("picture", ["saliency", "confusion"])
def test_plots_of_a_model_are_drawn(picture, csv, trained, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["plot", picture, str(trained)]) == 0
    assert (tmp_path / f"fastmnist-{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_without_a_record_takes_the_data_named(csv, trained, tmp_path, capsys):
    MLP.load(trained).save(tmp_path / "bare.npz")

    assert main(["evaluate", "bare.npz", "--data", csv]) == 0

    assert "on digits.csv (last 40 rows)" in capsys.readouterr().out


def test_evaluate_on_data_of_fewer_classes(csv, tmp_path, capsys):
    MLP([784, 47], seed=0).save(tmp_path / "letters.npz")

    assert main(["evaluate", "letters.npz", "--data", csv]) == 0

    assert "Confused most: " in capsys.readouterr().out


@pytest.mark.fault(row=80)
def test_same_seed_same_file_whatever_the_threads(csv, tmp_path):
    for name, threads in (("one", "1"), ("two", "3")):
        options = f"-o {name} --threads {threads} --seed 5 --hidden 33 --epochs 3"
        assert main(["train", "--data", csv, *options.split()]) == 0

    one, two = (MLP.load(tmp_path / f"{name}.npz").params.flat for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_options_change_the_recipe(csv, tmp_path, capsys):
    options = "--recipe notebook --epochs 2 --batch-size 7 --learning-rate 0.5 --hidden none"
    more = "--optimizer momentum --schedule one-cycle --backend reference"

    assert main(["train", "--data", csv, *options.split(), *more.split()]) == 0

    wanted = "2 epochs, batches of 7, momentum, learning rate 0.5 (one-cycle), seed 0"
    assert f"network 784-10, {wanted}" in capsys.readouterr().err


@pytest.mark.compiled
def test_a_long_training_prints_some_of_its_epochs(csv, capsys):
    assert (
        main(["train", "--data", csv, "--recipe", "notebook", "--hidden", "8", "--epochs", "101"])
        == 0
    )

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 34
    assert lines[0].startswith("epoch   3/101: loss ")
    assert lines[-1].startswith("epoch 101/101: loss ")


def test_auto_says_when_the_digits_are_generated(monkeypatch, capsys):
    digits = datasets.generate(100)
    found = datasets.Split(digits[:80], digits[80:]), "MNIST was not found"
    monkeypatch.setattr(datasets, "load_or_generate", lambda data_dir: found)

    assert main(["train", "--epochs", "1", "--json"]) == 0

    out, err = capsys.readouterr()
    assert json.loads(out)["data"] == "generated"
    assert err.startswith("MNIST was not found; taking digits that this package draws itself")
    assert "--data-dir" in err


@pytest.mark.kernels
def test_compiling_is_announced_once(monkeypatch, tmp_path, csv, capsys):
    from fastmnist.kernels import jit

    monkeypatch.setattr(jit, "folder", lambda: tmp_path)
    for kept in (False, True):
        for recipe in ("default", "quick"):  # images distorted, and as they are
            options = f"--epochs 1 --hidden 16 --recipe {recipe}"
            assert main(["train", "--data", csv, *options.split()]) == 0
            assert ("compiling the kernels" in capsys.readouterr().err) is not kept


@pytest.mark.kernels
def test_compiling_ends_when_there_is_nothing_to_train_with(monkeypatch, tmp_path, capsys):
    from fastmnist.kernels import jit

    started = []

    def start(command, **options):
        started.append(processes.start_program(*command, **options))
        return started[-1]

    monkeypatch.setattr(jit, "folder", lambda: tmp_path)
    own(monkeypatch, cli, "subprocess").Popen = start
    assert main(["train", "--data", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err
    assert started[0].returncode != 0


@pytest.mark.compiled
def test_compilation_that_does_not_end_is_not_waited_for(monkeypatch, tmp_path, csv):
    from fastmnist.kernels import jit

    started = []

    def start(command, **options):
        started.append(processes.start("-c", "import time; time.sleep(100)"))
        return started[-1]

    monkeypatch.setattr(jit, "folder", lambda: tmp_path)
    monkeypatch.setattr(cli, "_LONGEST_COMPILATION", 0.1)
    own(monkeypatch, cli, "subprocess").Popen = start
    assert main(["train", "--data", csv, "--epochs", "1"]) == 0
    assert started[0].returncode != 0


@pytest.mark.fault(row=103)
def test_without_matplotlib_training_works_and_names_the_extra(monkeypatch, tmp_path, csv, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "fastmnist.plots", raising=False)
    monkeypatch.delitem(vars(fastmnist), "plots", raising=False)

    assert main(["train", "--data", csv, "--epochs", "1"]) == 0

    out, err = capsys.readouterr()
    assert 'pip install "fastmnist[plots]"' in err
    assert "Picture" not in out
    assert (tmp_path / "fastmnist-model.npz").exists()
    assert not (tmp_path / "fastmnist-model.png").exists()


def test_without_matplotlib_evaluating_works_and_names_the_extra(monkeypatch, trained, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "fastmnist.plots", raising=False)
    monkeypatch.delitem(vars(fastmnist), "plots", raising=False)

    assert main(["evaluate", str(trained)]) == 0

    out, err = capsys.readouterr()
    assert "no picture: " in err
    assert 'pip install "fastmnist[plots]"' in err
    assert "Most wrong" not in out


def test_several_digits_of_a_csv_file_are_its_images(trained, tmp_path, capsys):
    some = datasets.generate(3, seed=4)
    path = write_csv(tmp_path / "some.csv", some, labels=False)
    assert main(["predict", str(trained), path, "--several", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)["predictions"]
    predicted = MLP.load(trained).predict(some.images)
    assert [found["prediction"] for found in read] == [*map(str, predicted)]


def test_mnist_is_taken_where_it_is(monkeypatch):
    split = object()
    monkeypatch.setattr(datasets, "load_or_generate", lambda **_: (split, None))
    assert load_data("auto", None) == ("mnist", split)


def test_a_recipe_that_was_not_measured_is_listed_without_figures(monkeypatch, capsys):
    usual = RECIPES["quick"]
    assert main(["recipes"]) == 0
    assert usual.measured.describe() in capsys.readouterr().out
    for name, recipe in [*RECIPES.items()]:
        monkeypatch.setitem(RECIPES, name, dataclasses.replace(recipe, measured=None))
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert usual.describe() in out
    assert "seeds" not in out


def test_ctrl_c_ends_the_page(monkeypatch, trained, capsys):
    class Pressed(server.ThreadingHTTPServer):
        def serve_forever(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(server, "ThreadingHTTPServer", Pressed)
    assert main(["serve", str(trained), "--port", "0"]) == 130
    assert "Draw at http://" in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_begun_is_nothing_to_resume(monkeypatch, csv, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there.npz")

    monkeypatch.setattr("fastmnist.archive.write", full)
    assert main(["train", "--data", csv, "--checkpoint", "there.npz", "--epochs", "1"]) == 1
    err = capsys.readouterr().err
    assert err.endswith(f"fastmnist: there.npz: {os.strerror(errno.ENOSPC)}\n")
    assert "to go on" not in err
    assert "nothing is kept" not in err


def test_predict_reads_pictures(trained, tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image")
    digits = datasets.generate(2, seed=3)
    for number, image in enumerate(digits.images):
        Image.fromarray(255 - image).save(tmp_path / f"{number}.png")
    P = MLP.load(trained).predict_proba(digits.images)

    assert main(["predict", str(trained), "0.png", "1.png"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"{number}.png: {P[number].argmax()} ({100 * P[number].max():.1f} %)" for number in (0, 1)
    ]


def test_predict_reads_csv_files_and_goes_on_after_a_bad_one(trained, tmp_path, capsys):
    digits = datasets.generate(3, seed=3)
    write_csv(tmp_path / "three.csv", digits, labels=False)
    (tmp_path / "bad.csv").write_text("1,2,3", "utf-8")
    P = MLP.load(trained).predict_proba(digits.images)

    assert main(["predict", str(trained), "bad.csv", "none.csv", "three.csv", "--json"]) == 1

    out, err = capsys.readouterr()
    assert [line.split(":")[1].split(",")[0].split()[0] for line in err.splitlines()] == [
        "bad.csv",
        "none.csv",
    ]
    assert json.loads(out)["predictions"] == [
        {
            "file": "three.csv",
            "image": number + 1,
            "prediction": str(P[number].argmax()),
            "probability": pytest.approx(P[number].max()),
        }
        for number in range(3)
    ]


def test_predict_answers_with_the_names_of_the_classes(trained, tmp_path, capsys):
    record = json.loads(trained.with_suffix(".json").read_text("utf-8"))
    record["class_names"] = [f"class {number}" for number in range(10)]
    MLP.load(trained).save(tmp_path / "named.npz")
    (tmp_path / "named.json").write_text(json.dumps(record), "utf-8")
    write_csv(tmp_path / "one.csv", datasets.generate(1), labels=False)

    assert main(["predict", "named.npz", "one.csv"]) == 0

    assert capsys.readouterr().out.startswith("one.csv: class ")


@pytest.mark.parametrize("content", ["{}", "[1]", "not JSON", '{"class_names": ["a"]}'])
def test_an_unrelated_file_beside_a_model_is_ignored_with_a_warning(
    content, csv, trained, tmp_path, capsys
):
    MLP.load(trained).save(tmp_path / "model.npz")
    (tmp_path / "model.json").write_text(content, "utf-8")
    write_csv(tmp_path / "one.csv", datasets.generate(1), labels=False)

    for command in ("predict model.npz one.csv", f"evaluate model.npz --data {csv} --json"):
        assert main(command.split()) == 0
    for command in ("export model.npz page.html", f"plot predictions model.npz --data {csv}"):
        assert main(command.split()) == 0

    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2  # predict and export; the others were told the data
    for warning in warnings:
        assert warning.startswith("fastmnist: warning: model.json: not the record of a training")
        assert warning.endswith("; it is ignored")
    assert (tmp_path / "model.json").read_text("utf-8") == content


@pytest.mark.parametrize("ending", PICTURES)
def test_pictures_are_written_by_every_ending(ending, tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    path = tmp_path / f"line{ending.upper()}"
    check_picture(path)
    write_picture(figure, path)
    assert path.stat().st_size > 300


@pytest.mark.parametrize("subject", ["data", "predictions", "weights", "history"])
def test_plot(subject, trained, csv, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["--data", csv] if subject == "data" else [str(trained)]

    assert main(["plot", subject, *arguments]) == 0
    assert main(["plot", subject, *arguments, "--output", "new/picture.svg"]) == 0

    assert capsys.readouterr().out == (
        f"Picture: fastmnist-{subject}.png\nPicture: new/picture.svg\n"
    )
    assert (tmp_path / f"fastmnist-{subject}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new/picture.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.kernels  # the vectors' features are asked of the compiler
def test_info_says_what_a_bug_report_needs(monkeypatch, capsys):
    monkeypatch.setenv("FASTMNIST_DATA", "/somewhere")

    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert facts["fastmnist"].startswith(__version__)
    assert facts["numpy"] == np.__version__
    assert int(facts["threads"]) >= 1
    assert facts["FASTMNIST_DATA"] == "/somewhere"
    assert {"python", "numba", "processor", "vector features", "cache folder", "data"} <= set(facts)
    assert [line.split(":")[0] for line in lines] == list(facts)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastmnist {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["plot"]])
def test_without_arguments_it_shows_its_commands(arguments, capsys):
    assert main(arguments) in (0, 2)  # 2 since Click 8.2

    out, err = capsys.readouterr()
    assert "Usage: fastmnist" in out
    assert not err


@pytest.mark.fault(row=100)
@pytest.mark.fault(row=53)
@pytest.mark.fault(row=56)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trainn", "train"),
        ("train --epoch 3", "--epochs"),
        ("train --epochs 0", "--epochs"),
        ("train --epochs many", "--epochs"),
        ("train --batch-size 1.5", "--batch-size"),
        ("train --seed -1", "--seed"),
        ("train --threads 0", "--threads"),
        ("train --learning-rate nan", "--learning-rate"),
        ("train --learning-rate -1", "--learning-rate"),
        ("train --learning-rate 0", "--learning-rate"),
        ("train --augmentation shifts=1", "did you mean 'shift'?"),
        ("train --augmentation shift=x", "shift needs a whole number"),
        ("train --augmentation scale", "scale needs a number"),
        ("train --augmentation shift=-1", "shift must be from 0"),
        ("train --label-smoothing 1", "label_smoothing must be in [0, 1)"),
        ("train --dropout -1", "dropout must be in [0, 1)"),
        ("train --patience 3", "needs --validation"),
        ("plot augmented --recipe notebook", "nothing to distort"),
        ("train --recipe=", "--recipe"),
        ("train --hidden 128,x", "--hidden"),
        ("train --hidden 0", "--hidden"),
        ("train --recipe notebooks", "did you mean 'notebook'?"),
        ("train --optimizer adamx", "known: sgd, momentum, nesterov"),
        ("train --schedule cosin", "known: constant, steps"),
        ("train --resume a.npz --checkpoint b.npz", "leave out --checkpoint"),
        ("train --backend numpy", "known: auto, numba, reference"),
        ("train --data mnits", "did you mean 'mnist'?"),
        ("predict model.npz", "argument"),
        ("plot picture", "picture"),
        ("evaluate none.npz -o new/mistakes.xyz", "must end in .png, .svg, .pdf"),
        ("plot data -o data.npz", "must end in .png, .svg, .pdf"),
        ("plot weights none.npz -o weights.json", "must end in .png, .svg, .pdf"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path):
    assert main(arguments.split()) == 2

    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("fastmnist")
    assert message in err
    assert "--help" in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --data none.csv", "none.csv"),
        ("train --data .", "has no train-images-idx3-ubyte"),
        ("train --data bad.csv", "bad.csv, line 1: 3 columns"),
        ("train --output file/model.npz", "cannot be written"),
        ("train --output folder.npz", "is a folder"),
        ("evaluate none.npz", "none.npz cannot be read: No such file or directory"),
        ("evaluate bad.npz", "bad.npz: not a readable fastmnist file"),
        ("predict bad.npz one.png", "bad.npz: not a readable fastmnist file"),
        ("plot history none.npz", "none.json cannot be read: No such file or directory"),
        ("train --resume missing.npz", "missing.npz cannot be read"),
        ("train --resume bad.npz", "bad.npz: not a readable fastmnist file"),
        ("plot history bad.npz", "bad.json: not the record of a training"),
        ("plot data --output file/data.png", "cannot be written"),
    ],
)
def test_failures_are_one_line_and_exit_code_1(arguments, message, capsys, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for name in ("bad.csv", "bad.npz", "bad.json", "file"):
        (tmp_path / name).write_text("1,2,3", "utf-8")
    before = sorted(tmp_path.iterdir())

    assert main(["-q", *arguments.split()]) == 1  # without a note of what is compiled meanwhile

    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("fastmnist: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_diverged_training_saves_nothing(csv, capsys, tmp_path):
    options = "--learning-rate 1e30 --optimizer sgd --schedule constant"

    assert main(["train", "--data", csv, *options.split()]) == 1

    assert "diverged" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_interrupted_training_is_130_and_saves_nothing(csv, capsys, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastmnist.recipes.fit", interrupt)

    assert main(["train", "--data", csv]) == 130

    assert capsys.readouterr().err.endswith("fastmnist: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def checkpoint(csv, capsys, monkeypatch):
    """Of a training that was interrupted after 2 of 4 epochs."""
    done = []

    def interrupt(self, model, epoch):
        done.append(epoch)
        if len(done) == 3:
            raise KeyboardInterrupt

    options = "--epochs 4 --hidden 16 --optimizer momentum --seed 5 -o m.npz --checkpoint kept.npz"
    with monkeypatch.context() as patch:
        patch.setattr("fastmnist.terminal.Progress.__call__", interrupt)
        assert main(["train", "--data", csv, *options.split()]) == 130
    assert "fastmnist train --resume kept.npz" in capsys.readouterr().err
    assert main(["train", "--data", csv, *options.split()[:-2], "-o", "whole.npz"]) == 0
    capsys.readouterr()
    return "kept.npz"


def test_a_training_is_resumed_with_its_own_options(checkpoint, tmp_path, capsys):
    assert main(["train", "--resume", checkpoint]) == 0
    assert "going on after epoch 2" in capsys.readouterr().err
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_options_beside_resume_may_not_change_the_training(checkpoint, tmp_path, capsys):
    kept = (tmp_path / checkpoint).read_bytes()
    assert main(["train", "--resume", checkpoint, "--hidden", "17"]) == 1
    assert "sizes was 784-16-10, is 784-17-10" in capsys.readouterr().err
    assert main(["train", "--resume", checkpoint, "--seed", "6"]) == 1
    assert "seed was 5, is 6" in capsys.readouterr().err
    assert (tmp_path / checkpoint).read_bytes() == kept
    assert main(["train", "--resume", checkpoint, "--threads", "1", "-o", "other.npz"]) == 0
    assert (tmp_path / "other.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_resumed_training_that_is_interrupted_can_be_resumed(checkpoint, tmp_path, monkeypatch):
    def interrupt(self, model, epoch):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastmnist.terminal.Progress.__call__", interrupt)
        assert main(["train", "--resume", checkpoint]) == 130
    assert main(["train", "--resume", checkpoint]) == 0
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_checkpoint_that_is_there_is_not_begun_anew(checkpoint, csv, capsys):
    assert main(["train", "--data", csv, "--checkpoint", checkpoint]) == 1
    assert "kept.npz is there already; --resume kept.npz goes on" in capsys.readouterr().err


@pytest.mark.fault(row=74)
def test_two_trainings_do_not_write_one_model(csv, tmp_path, capsys):
    with locked(tmp_path / "fastmnist-model.npz"):
        assert main(["train", "--data", csv]) == 1
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_warnings_are_one_line(monkeypatch, capsys):
    def warn():
        warnings.warn("disk is slow", stacklevel=1)
        return {}

    monkeypatch.setattr("fastmnist.system.facts", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["info"]) == 0

    assert capsys.readouterr().err == "fastmnist: warning: disk is slow\n"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_a_training(csv, tmp_path):
    slow = "--hidden 1024,1024 --batch-size 1 --epochs 50"  # about 20 s
    if UNCOMPILED:
        slow = "--hidden 16 --epochs 50"
    command = ["-m", "fastmnist", "train", "--data", csv, *slow.split()]
    process = processes.start(*command, cwd=tmp_path)
    processes.wait_for_line(process, "stderr", "epoch")
    process.send_signal(signal.SIGINT)
    done = processes.finish(process)

    assert done.returncode == 130
    assert done.stderr.endswith("fastmnist: interrupted\n")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(row=101)
@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("| true; exit ${PIPESTATUS[0]}", 1),
        (">&-", 0),
        (">/dev/null 2>&-", 0),
        pytest.param(
            ">/dev/full",
            1,
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full"),
        ),
    ],
)
def test_output_that_nobody_takes(redirection, code):
    # The pause makes sure that the reader is gone before anything is written.
    program = "import sys, time; from fastmnist.cli import main; time.sleep(0.5); sys.exit(main())"

    command = f'"{sys.executable}" -c "{program}" recipes {redirection}'
    done = processes.run_program("bash", "-c", command)

    assert done.returncode == code
    full = f"fastmnist: {os.strerror(errno.ENOSPC)}\n"
    assert done.stderr == (full if "full" in redirection else "")


@pytest.mark.fault(row=102)
def test_plain_terminals_and_encodings(csv, tmp_path):
    environment = processes.environment(
        LC_ALL="C", PYTHONIOENCODING="ascii", TERM="dumb", NO_COLOR="1", COLUMNS="20"
    )
    named = tmp_path / "zürich.csv"
    named.write_bytes(Path(csv).read_bytes())

    done = run("train", "--data", str(named), "--epochs", "1", env=environment)

    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "z\\xfcrich.csv (first 240 rows): 240 images" in done.stderr


def test_help_needs_neither_numba_nor_matplotlib():
    program = (
        "import sys; from fastmnist.cli import main; main(['train', '--help'])\n"
        "print([name for name in ('numba', 'matplotlib', 'pooch') if name in sys.modules])"
    )

    assert processes.succeeds("-c", program).endswith("[]\n")


def test_older_typers_tell_of_ctrl_c_by_an_exception_of_their_own(monkeypatch):
    def aborted(path):
        raise typer.Abort

    monkeypatch.setattr(MLP, "load", aborted)
    assert main(["evaluate", "model.npz"]) == 130
