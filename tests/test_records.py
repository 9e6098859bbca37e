import json

import pytest

from fastmnist import DataError, Epoch
from fastmnist.records import Record


def a_record():
    return Record(
        data="mnist",
        class_names=["0", "1"],
        sizes=[784, 2],
        recipe="default",
        seed=3,
        test_accuracy=0.5,
        test_loss=0.7,
        train_seconds=1.5,
        epochs=[Epoch(0.9, None, None, 1.5, 0.1), Epoch(0.8, 0.85, 0.6, 1.25, 0.05)],
    )


def test_a_record_is_read_as_it_was_written(tmp_path):
    a_record().save(tmp_path / "model.json")

    assert Record.load(tmp_path / "model.json") == a_record()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"epochs": 3}',
        b'{"epochs": [{"loss": 1}]}',
    ],
)
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"model\.json: not the record of a training"):
        Record.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", 7),
        ("class_names", [1, 2]),
        ("class_names", None),
        ("epochs", []),
        ("epochs", "none"),
        ("epochs", [{**vars(Epoch(0.9, None, None, 1.5, 0.1)), "loss": "low"}]),
        ("surprise", 1),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(field, value, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(a_record().as_dict() | {field: value}), "utf-8")

    with pytest.raises(DataError, match=r"model\.json: not the record of a training"):
        Record.load(path)
