import contextlib
import gzip

import numpy as np
import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from named_pipes import make_pipe

from fastmnist import csv_files
from fastmnist.errors import DataError

NAMES = [f"pixel{i}" for i in range(784)]


def rows(count, seed=0):
    """Random pixels and labels."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 784), dtype=np.uint8)
    return images, random.integers(0, 10, count, dtype=np.uint8)


def lines(images, labels=None, names=True):
    """The cells of a CSV file, line by line."""
    cells = [list(map(str, image)) for image in images]
    if labels is not None:
        cells = [[str(label), *row] for label, row in zip(labels, cells, strict=True)]
    header = [NAMES if labels is None else ["label", *NAMES]]
    return header + cells if names else cells


def write(path, cells, comma=",", end="\n"):
    path.write_text("".join(comma.join(line) + end for line in cells), newline="", encoding="utf-8")
    return path


@pytest.fixture
def table():
    """Three labelled images under a line of names, to be spoilt."""
    return lines(*rows(3))


@pytest.mark.fault(row=28)
@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_four_forms_are_read(tmp_path, names, labelled):
    images, labels = rows(4)
    path = write(tmp_path / "a.csv", lines(images, labels if labelled else None, names))
    read, read_labels = csv_files.read(path)
    np.testing.assert_array_equal(read, images.reshape(4, 28, 28))
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert read.flags.writeable
    if labelled:
        np.testing.assert_array_equal(read_labels, labels)
    else:
        assert read_labels is None


def test_every_pixel_value_is_read(tmp_path):
    images = np.resize(np.arange(256, dtype=np.uint8), (1, 784))
    read, _ = csv_files.read(write(tmp_path / "a.csv", lines(images)))
    np.testing.assert_array_equal(read.reshape(1, 784), images)


@pytest.mark.fault(row=28)
def test_other_names_of_pixels_are_read(tmp_path):
    images, labels = rows(1)
    cells = lines(images, labels)
    cells[0] = ["Label"] + [f"{r}x{c}" for r in range(28) for c in range(28)]
    read, _ = csv_files.read(write(tmp_path / "a.csv", cells))
    np.testing.assert_array_equal(read.reshape(1, 784), images)


def test_names_of_a_letter_and_a_digit_are_names(tmp_path):
    images, _ = rows(2)
    cells = lines(images)
    cells[0] = [f"p{i}" for i in range(784)]
    read, labels = csv_files.read(write(tmp_path / "a.csv", cells))
    np.testing.assert_array_equal(read.reshape(2, 784), images)
    assert labels is None


@pytest.mark.fault(row=34)
@pytest.mark.parametrize("form", ["BOM", "CRLF", "quotes", "blank lines", "no last newline"])
def test_harmless_differences_are_accepted(tmp_path, form):
    images, labels = rows(3)
    cells = lines(images, labels)
    if form == "quotes":
        cells = [[f'"{cell}"' for cell in line] for line in cells]
    end = {"CRLF": "\r\n", "blank lines": "\n\n"}.get(form, "\n")
    path = write(tmp_path / "a.csv", cells, end=end)
    if form == "BOM":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    if form == "no last newline":
        path.write_bytes(path.read_bytes()[:-1])
    read, read_labels = csv_files.read(path)
    np.testing.assert_array_equal(read.reshape(3, 784), images)
    np.testing.assert_array_equal(read_labels, labels)


@pytest.mark.fault(row=31)
@pytest.mark.fault(row=32)
@pytest.mark.parametrize(
    "cell", ["-1", "256", "3.5", "3.0", "1e2", "", " ", "nan", "inf", "x", "1_0", "+5", "٣", '1"2']
)
@pytest.mark.parametrize(("line", "column"), [(1, 1), (2, 400), (3, 784)])
def test_a_wrong_pixel_is_named_never_wrapped(tmp_path, table, cell, line, column):
    table[line][column] = cell
    with pytest.raises(DataError, match=f"a.csv, line {line + 1}, column {column + 1}: pixel") as e:
        csv_files.read(write(tmp_path / "a.csv", table))
    assert repr(cell) in str(e.value)


@pytest.mark.fault(row=33)
@pytest.mark.parametrize("label", ["10", "255", "-1", "1.5", "seven", "", "nan"])
def test_a_wrong_label_is_named(tmp_path, table, label):
    table[2][0] = label
    with pytest.raises(DataError, match=f"line 3: label '{label}', wanted 0 to 9"):
        csv_files.read(write(tmp_path / "a.csv", table))


def test_a_byte_order_mark_belongs_to_the_first_line_alone(tmp_path, table):
    table[2][0] = "\ufeff" + table[2][0]
    with pytest.raises(DataError, match=r"line 3: label '\\ufeff\d', wanted 0 to 9"):
        csv_files.read(write(tmp_path / "a.csv", table))


def test_of_a_long_cell_the_beginning_is_shown(tmp_path, table):
    table[2][5] = "7" * 300
    with pytest.raises(DataError, match=f"column 6: pixel '{'7' * 40}', wanted"):
        csv_files.read(write(tmp_path / "a.csv", table))


@pytest.mark.fault(row=31)
@given(text=st.text(max_size=4), column=st.integers(1, 784))
def test_any_text_is_a_pixel_or_refused(tmp_path_factory, text, column):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    cells = lines(*rows(2))
    cells[1][column] = text
    write(path, cells)
    with contextlib.suppress(DataError):
        images, _ = csv_files.read(path)
        assert str(images[0].flat[column - 1]) == text.strip('"\r\n')


@pytest.mark.fault(row=30)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_ragged_line_is_named(tmp_path, table, change):
    table[2] = (table[2] + ["0"])[: 785 + change]
    with pytest.raises(DataError, match=f"line 3: {785 + change} columns, .* 785"):
        csv_files.read(write(tmp_path / "a.csv", table))


@pytest.mark.fault(row=30)
def test_a_cut_file_is_refused_at_its_last_line(tmp_path, table):
    path = write(tmp_path / "a.csv", table)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match=r"line 4: \d+ columns, the lines before have 785"):
        csv_files.read(path)


@pytest.mark.fault(row=29)
@pytest.mark.fault(row=34)
@pytest.mark.fault(row=35)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n\n", "is empty"),
        (",".join(["label", *NAMES]).encode(), "no images"),
        (",".join(NAMES).encode() + b"\r\n\r\n", "no images"),
        (b"a,b,c\n1,2,3\n", "line 1: 3 columns; wanted a label and 784 pixels"),
        (",".join([*NAMES, "label"]).encode(), "the first named 'pixel0'"),
        (",".join(["label", *NAMES[1:]]).encode(), "the first named 'label'"),
        (",".join(["class", *NAMES]).encode(), "785 columns, the first named 'class'"),
        (",".join([*NAMES, "label"]).replace("pixel", "").encode(), "the first named '0'"),
        (b"label;pixel0;pixel1\n", "semicolons"),
        ("label,pixel0\n".encode("utf-16"), "UTF-16"),
        ("label,pixel0\n".encode("utf-16-le"), "UTF-16"),
        (gzip.compress(b"label,pixel0\n"), "compressed"),
        (b"PK\x03\x04", "compressed"),
        (b"\0\0\x08\x03", "binary"),
        (b"0," * 100_000, "line 1: longer than 16,384 bytes"),
        (b"label\tpixel0\n", "line 1: 1 columns"),
    ],
)
def test_the_message_says_what_a_wrong_file_is(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        csv_files.read(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.fault(row=17)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "/dev/zero"])
def test_what_is_not_a_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a.csv"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        make_pipe(path)
    elif kind == "/dev/zero":
        path.symlink_to(kind)
    with pytest.raises(DataError, match=r"regular file|No such file"):
        csv_files.read(path)


@programs.linux
@pytest.mark.fault(row=35)
def test_endless_lines_take_no_memory(tmp_path, figure):
    with open(tmp_path / "zeros.csv", "wb") as file:
        file.truncate(2**33)  # 8 GiB of zero bytes that take no room on the disk
        file.write(b"1,")
    (tmp_path / "columns.csv").write_bytes(b"0," * 1_000_000 + b"0\n")
    (tmp_path / "names.csv").write_text(",".join(f"pixel{i}" for i in range(1_000_000)), "utf-8")
    (tmp_path / "later.csv").write_text(",".join(["0"] * 784) + "\n" + "0" * 2**22, "utf-8")
    code = """
import sys
from fastmnist import csv_files
limit(resource.RLIMIT_AS, 2**29)
reset_peak()
before = peak()
for path in sys.argv[1:]:
    try:
        csv_files.read(path)
    except ValueError as error:
        print(error)
print(peak() - before)
"""
    paths = sorted(tmp_path.iterdir())
    *told, memory = programs.run(code, *paths).splitlines()
    figure(f"endless lines of CSV: {int(memory) / 2**20:.1f} MiB")
    assert int(memory) < 2**24
    for path, line in zip(paths, told, strict=True):
        number = 2 if path.name == "later.csv" else 1
        assert line.startswith(f"{path}, line {number}: longer than 16,384 bytes")
