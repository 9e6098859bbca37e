"""What a search varies: ranges and choices, from Python and from text."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmnist import Augmentation
from fastmnist.recipes import RECIPES

pytest.importorskip("distributed")
pytest.importorskip("optuna")

from fastmnist.distributed import Range
from fastmnist.distributed.varied import (
    SETTINGS,
    applied,
    checked,
    combinations,
    parse,
    text_of,
)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("learning_rate=0.05..0.5", "learning_rate", Range(0.05, 0.5)),
        ("learning-rate = 0.05 .. 0.5 ", "learning_rate", Range(0.05, 0.5)),
        ("learning_rate=1e-3..1e-1", "learning_rate", Range(0.001, 0.1)),
        ("epochs=2..8", "epochs", Range(2, 8)),
        ("hidden=64", "hidden", (64,)),
        ("hidden=64,128,256-64", "hidden", (64, 128, (256, 64))),
        ("hidden= none , 32-16-8", "hidden", ((), (32, 16, 8))),
        ("hidden=64..512", "hidden", Range(64, 512)),
        ("optimizer=adam, nesterov", "optimizer", ("adam", "nesterov")),
        ("recipe=quick,default", "recipe", ("quick", "default")),
        ("rotation=0..15", "rotation", Range(0, 15)),
        ("seed=0,1,2", "seed", (0, 1, 2)),
    ],
)
def test_text_is_read(text, name, values):
    found, read = parse(text)
    assert (found, read) == (name, values)
    assert [type(value) for value in (read if isinstance(read, tuple) else ())] == [
        type(value) for value in (values if isinstance(values, tuple) else ())
    ]
    checked({found: read})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat=0.1", "unknown setting 'learning_rat'; did you mean 'learning_rate'"),
        ("", "unknown setting ''"),
        ("learning_rate", "neither a range such as learning_rate=0.05..0.5 nor a list"),
        ("learning_rate=", "neither a range"),
        ("learning_rate=fast", "neither a range .*could not convert string to float: 'fast'"),
        ("learning_rate=0.1,,0.2", "neither a range"),
        ("learning_rate=0.1..0.2..0.3", "neither a range"),
        ("learning_rate=0.5..0.05", "goes up to a larger number, got 0.5..0.05"),
        ("learning_rate=nan..1", "goes up to a larger number"),
        ("learning_rate=0..inf", "goes up to a larger number"),
        ("epochs=1.5", "neither a range"),
        ("hidden=64-", "neither a range"),
        ("hidden=64-32..128", "neither a range"),
        ("optimizer=adam..sgd", "neither a range"),
    ],
)
def test_text_that_says_nothing_is_an_error(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


VALUES = {
    "hidden": st.one_of(
        st.integers(1, 5000), st.lists(st.integers(1, 5000), max_size=4).map(tuple)
    ).filter(lambda units: not (isinstance(units, tuple) and len(units) == 1)),
    "epochs": st.integers(1, 1000),
    "batch_size": st.integers(1, 60_000),
    "seed": st.integers(0, 2**31 - 1),
    "shift": st.integers(0, 27),
    "optimizer": st.sampled_from(["sgd", "momentum", "nesterov", "adam", "adamw"]),
    "recipe": st.sampled_from(list(RECIPES)),
    **{
        name: st.floats(1e-6, 1, exclude_max=True).map(lambda value: float(f"{value:.4g}"))
        for name in ("learning_rate", "rotation", "elastic", "smoothness")
    },
}
NAMED = st.sampled_from(list(VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(VALUES[name], min_size=1, max_size=5))
)


@given(NAMED)
def test_what_is_written_is_read_again(named):
    name, values = named
    text = f"{name}={','.join(map(text_of, values))}"
    assert parse(text) == (name, tuple(values))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_values(name):
    texts = {"hidden": "8", "recipe": "quick", "optimizer": "adam", "schedule": "cosine"}
    found, values = parse(f"{name}={texts.get(name, '0.5' if name in FRACTIONS else '1')}")
    assert checked({found: values}) == {name: ((8,),) if name == "hidden" else values}
    if name not in ("seed", "recipe"):
        changed = applied(RECIPES["quick"], {name: values[0]})
        assert changed != replace(RECIPES["quick"], measured=None)


FRACTIONS = ("label_smoothing", "dropout", "input_dropout", "averaging", "scale", "smoothness")


def test_ranges_of_rates_and_sizes_are_logarithmic():
    space = checked(
        {
            "learning_rate": Range(0.01, 1),
            "hidden": Range(8, 512),
            "batch_size": Range(16, 256, log=False),
            "epochs": Range(1, 9),
            "rotation": Range(0.5, 9, log=True),
        }
    )
    assert {name: values.log for name, values in space.items()} == {
        "learning_rate": True,
        "hidden": True,
        "batch_size": False,
        "epochs": False,
        "rotation": True,
    }


def test_ranges_of_whole_numbers_are_whole():
    assert Range(1, 9).whole
    assert not Range(1, 9.5).whole


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((2, 1), ValueError),
        ((1, 1), ValueError),
        ((math.nan, 1), ValueError),
        ((0, math.inf), ValueError),
        ((0, 1, True), ValueError),
        (("a", 1), TypeError),
        ((True, 2), TypeError),
    ],
)
def test_a_range_that_is_none_is_an_error(arguments, error):
    with pytest.raises(error):
        Range(*arguments)


@pytest.mark.parametrize(
    ("vary", "error", "said"),
    [
        ({}, ValueError, "nothing varies; what can: recipe, hidden"),
        ({"hiddn": [8]}, ValueError, "did you mean 'hidden'"),
        ({"hidden": []}, TypeError, "hidden must vary over a Range or a list"),
        ({"hidden": 64}, TypeError, "hidden must vary over a Range or a list"),
        ({"optimizer": "adam"}, TypeError, "optimizer must vary over a Range or a list"),
        ({"hidden": [0]}, ValueError, "each of hidden must be from 1"),
        ({"hidden": [(64, 0)]}, ValueError, "each of hidden must be from 1"),
        ({"hidden": [2.5]}, TypeError, "each of hidden must be a whole number"),
        ({"hidden": Range(0, 5)}, ValueError, "each of hidden must be from 1"),
        ({"hidden": Range(1, 5.5)}, TypeError, "each of hidden must be a whole number"),
        ({"learning_rate": [0.0]}, ValueError, "learning_rate must be finite and greater"),
        ({"learning_rate": Range(0, 1)}, ValueError, "learning_rate must be finite and greater"),
        ({"learning_rate": ["fast"]}, TypeError, "learning_rate must be a number"),
        ({"dropout": [1.0]}, ValueError, r"dropout must be in \[0, 1\)"),
        ({"dropout": Range(0, 1)}, ValueError, r"dropout must be in \[0, 1\)"),
        ({"optimizer": ["addam"]}, ValueError, "did you mean 'adam'"),
        ({"optimizer": Range(1, 2)}, ValueError, "optimizer has no range; name choices"),
        ({"recipe": ["dfault"]}, ValueError, "did you mean 'default'"),
        ({"schedule": ["consine"]}, ValueError, "did you mean 'cosine'"),
        ({"epochs": Range(1.0, 2.0)}, TypeError, "epochs must be a whole number"),
        ({"seed": [-1]}, ValueError, "seed must be from 0"),
        ({"rotation": [-1]}, ValueError, "rotation must be finite and at least 0"),
        ({"smoothness": [0]}, ValueError, "smoothness must be finite and greater"),
    ],
)
def test_what_cannot_be_varied_so_is_an_error(vary, error, said):
    with pytest.raises(error, match=said):
        checked(vary)


def test_choices_are_there_once_and_as_they_are_used():
    assert checked({"hidden": [64, (64,), [32, 16], 64]}) == {"hidden": ((64,), (32, 16))}
    assert checked({"optimizer": ["sgd", "adam", "sgd"]}) == {"optimizer": ("sgd", "adam")}


def test_combinations_are_counted():
    assert combinations({"hidden": (8, 16), "seed": (0, 1, 2)}) == 6
    assert combinations({"hidden": (8, 16), "dropout": Range(0, 0.5)}) == math.inf


def test_settings_take_the_place_of_the_recipes():
    recipe = RECIPES["default"]
    changed = applied(recipe, {"hidden": 32, "epochs": 2, "dropout": 0.1, "seed": 5})
    assert changed == replace(recipe, hidden=(32,), epochs=2, dropout=0.1, measured=None)
    assert applied(recipe, {"hidden": ()}).hidden == ()
    assert applied(recipe, {"recipe": "quick", "epochs": 1}) == replace(
        RECIPES["quick"], epochs=1, measured=None
    )


def test_distortions_are_added_to_the_recipes():
    assert applied(RECIPES["default"], {"rotation": 5.0}).augmentation == Augmentation(
        shift=1, rotation=5.0
    )
    assert applied(RECIPES["quick"], {"scale": 0.1}).augmentation == Augmentation(scale=0.1)


def test_adam_has_its_own_usual_rate():
    assert applied(RECIPES["default"], {"optimizer": "adam"}).learning_rate is None
    assert applied(RECIPES["default"], {"optimizer": "adam", "learning_rate": 0.01}).learning_rate
    assert applied(RECIPES["default"], {"optimizer": "sgd"}).learning_rate == 0.3
