import io

import numpy as np
import processes
import pytest

from fastmnist import MLP, Augmentation, Dataset, Epoch

Figure = pytest.importorskip("matplotlib.figure").Figure
Text = pytest.importorskip("matplotlib.text").Text
plots = pytest.importorskip("fastmnist.plots")

LONG_NAMES = ("Ankle boot", "T-shirt/top", "a name of twenty-five signs")


def some_images(count, names=("0", "1", "2")):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return Dataset(images, np.arange(count) % len(names), "some images", names)


def some_epochs(count, validation=None):
    return [Epoch(2 / (1 + i), validation, None, 0.1, 0.1) for i in range(count)]


def drawn_texts(figure):
    """Each text that the picture shows, and its box; labels of ticks out of sight are not drawn."""
    drawn = {}
    draw = Text.draw

    def record(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.savefig(io.BytesIO(), format="png")
    return list(drawn.items())


def assert_legible(drawn_on):
    """No text is cut off by the edge of the picture, and none lies upon another."""
    figure = getattr(drawn_on, "figure", drawn_on) or drawn_on
    drawn = drawn_texts(figure)
    assert drawn
    for i, (text, box) in enumerate(drawn):
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y0 >= 0, text
        assert box.y1 <= figure.bbox.height, text
        for other, near in drawn[:i]:
            across = min(box.x1, near.x1) - max(box.x0, near.x0)
            down = min(box.y1, near.y1) - max(box.y0, near.y0)
            slanted = text.get_rotation() % 90  # then the boxes are larger than the texts
            assert slanted or min(across, down) < 1, (text, other)  # pixel


@pytest.mark.parametrize(
    ("count", "names"), [(1, LONG_NAMES), (5, ("0", "1", "2")), (60, LONG_NAMES)]
)
def test_every_picture_is_legible(count, names):
    dataset = some_images(count, names)
    predicted = np.zeros(count, int)

    assert_legible(plots.data(dataset))
    assert_legible(plots.predictions(dataset, predicted))
    worst = np.arange(count)[:24]
    assert_legible(plots.mistakes(dataset, np.tile([0.5, 0.3, 0.2], (count, 1)), worst))
    assert_legible(plots.saliency(dataset, MLP([784, 20, len(names)])))
    assert_legible(plots.augmented(dataset, Augmentation(shift=1)))
    assert_legible(plots.training(dataset, predicted, some_epochs(count, validation=0.5)))
    assert_legible(plots.confusion(np.diag([count, 3, 10_000]) + 1, names))


def test_predictions_are_captioned_and_mistakes_marked():
    dataset = some_images(100)
    predicted = dataset.labels.copy()
    predicted[[2, 40, 80]] = [0, 0, 1]  # labels 2, 1, 2

    ax = plots.predictions(dataset, predicted, count=8)

    captions = [cell.texts[0] for cell in ax.child_axes]
    assert [text.get_text() for text in captions] == [
        "Prediction: 0\nLabel: 0",
        "Prediction: 1\nLabel: 1",
        "Prediction: 0\nLabel: 2",
        "Prediction: 0\nLabel: 0",
        "Prediction: 1\nLabel: 1",
        "Prediction: 2\nLabel: 2",
        "Prediction: 0\nLabel: 1",
        "Prediction: 1\nLabel: 2",
    ]
    assert [text.get_weight() == "bold" for text in captions] == [0, 0, 1, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(ax.child_axes[6].images[0].get_array(), dataset.images[40])
    title = "some images: 97.00 % of 100 images read right; the last 2 shown are mistakes"
    assert ax.texts[0].get_text() == title


def test_predictions_show_how_sure_they_are():
    P = np.tile([0.7, 0.2, 0.1], (4, 1))

    ax = plots.predictions(some_images(4), P)

    captions = [cell.texts[0].get_text() for cell in ax.child_axes]
    assert captions[:2] == ["Prediction: 0 (70%)\nLabel: 0", "Prediction: 0 (70%)\nLabel: 1"]
    assert_legible(ax)


def test_result_shows_24_digits_beside_the_curve():
    dataset = some_images(50)

    figure = plots.training(dataset, dataset.labels, some_epochs(3))

    assert len(figure.axes[0].child_axes) == 24
    assert figure.axes[-1].get_title(loc="left") == "Training curve"


def test_history_shows_both_losses():
    ax = plots.history(some_epochs(4, validation=0.25))

    training, validation = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(training, [2, 1, 2 / 3, 0.5])
    np.testing.assert_allclose(validation, 0.25)


@pytest.mark.parametrize("count", [1, 2, 9, 500])
def test_history_numbers_epochs_with_whole_numbers(count):
    ax = plots.history(some_epochs(count))

    assert len(ax.lines) == 1
    assert ax.get_legend() is None
    assert all(float(tick).is_integer() for tick in ax.get_xticks())
    assert_legible(ax.figure)


def test_weights_of_a_network_without_hidden_layer_are_numbered_by_class():
    model = MLP([16, 3])

    ax = plots.weights(model)

    assert [cell.texts[0].get_text() for cell in ax.child_axes] == ["0", "1", "2"]
    shown = ax.child_axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown, model.params[0][0][:, 1].reshape(4, 4))


def test_unlabelled_images_have_no_captions():
    ax = plots.data(Dataset(np.zeros((3, 4, 6), np.uint8)))

    assert [len(cell.texts) for cell in ax.child_axes] == [0, 0, 0]


def test_everything_draws_where_it_is_told():
    figure = Figure(figsize=(12, 9))
    dataset, model = some_images(30), MLP([784, 8, 3])
    draws = [
        lambda ax: plots.digits(dataset.images, ax=ax),
        lambda ax: plots.data(dataset, ax=ax),
        lambda ax: plots.predictions(dataset, np.zeros(30, int), ax=ax),
        lambda ax: plots.mistakes(dataset, np.tile([0.5, 0.3, 0.2], (30, 1)), [1, 2], ax=ax),
        lambda ax: plots.augmented(dataset, Augmentation(shift=1), ax=ax),
        lambda ax: plots.saliency(dataset, model, ax=ax),
        lambda ax: plots.weights(model, ax=ax),
        lambda ax: plots.history(some_epochs(3), ax=ax),
        lambda ax: plots.confusion(np.eye(3, dtype=int), ax=ax),
    ]
    for ax, draw in zip(figure.subplots(3, 3).ravel(), draws, strict=True):
        assert draw(ax) is ax
    assert len(figure.axes) == 9
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.history([]), "no epoch"),
        (lambda: plots.digits(np.zeros((0, 28, 28))), "no image"),
        (lambda: plots.weights(MLP([15, 3])), "not square"),
        (
            lambda: plots.predictions(Dataset(np.zeros((2, 4, 4))), [0, 1]),
            "no labels",
        ),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_without_matplotlib_the_extra_is_named():
    program = (
        "import sys; sys.modules['matplotlib.axes'] = None\n"
        "try: import fastmnist.plots\n"
        "except ImportError as error: print(error)"
    )

    assert 'pip install "fastmnist[plots]"' in processes.succeeds("-c", program)


def test_pyplot_is_not_used():
    program = "import sys, fastmnist.plots; print('matplotlib.pyplot' in sys.modules)"

    assert processes.succeeds("-c", program) == "False\n"
