import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from named_pipes import make_pipe

import fastmnist as fm
from fastmnist import datasets, download, idx
from fastmnist.datasets import Dataset
from fastmnist.errors import DataError, DownloadError

SMALL = datasets.generate(70, seed=3)
ARRAYS = (SMALL.images[:60], SMALL.labels[:60], SMALL.images[60:], SMALL.labels[60:])


def write_folder(folder, arrays=ARRAYS, files=download.FILES, suffix=".gz"):
    """A folder of four IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(files, arrays, strict=True):
        content = idx.encode(array)
        content = gzip.compress(content, 1) if suffix else content
        (folder / f"{file}{suffix}").write_bytes(content)
    return folder


def check(split, arrays=ARRAYS):
    found = split.train.images, split.train.labels, split.test.images, split.test.labels
    for array, wanted in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(array, wanted)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty cache folder and no other place to find a set in."""
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTMNIST_DATA", raising=False)
    return tmp_path


@pytest.fixture
def small_mnist(nowhere, monkeypatch):
    """Makes ARRAYS what is published as "mnist"."""
    digests = tuple("sha256:" + idx.sha256(array) for array in ARRAYS)
    small = download.Published("MNIST", (), digests, tuple("0123456789"))
    monkeypatch.setitem(download.SETS, "mnist", small)
    return nowhere


# Dataset


def test_a_dataset_is_sliced_like_an_array():
    data = Dataset(np.arange(24).reshape(6, 2, 2), np.arange(6), "six", tuple("abcdef"))
    for index in (slice(1, 4), np.array([5, 0]), [5, 0], np.arange(6) > 2, slice(0, 0)):
        part = data[index]
        np.testing.assert_array_equal(part.images, data.images[index])
        np.testing.assert_array_equal(part.labels, data.labels[index])
        assert (part.name, part.class_names) == ("six", tuple("abcdef"))
        assert len(part) == len(data.images[index])


def test_a_dataset_without_labels_is_sliced_too():
    part = Dataset(np.zeros((6, 4), np.float32))[2:]
    assert len(part) == 4
    assert part.labels is None


@pytest.mark.parametrize("index", [3, np.int64(3), np.zeros((2, 2), int)])
def test_one_image_is_no_dataset(index):
    with pytest.raises(TypeError, match="is sliced"):
        SMALL[index]


def test_a_dataset_takes_lists():
    data = Dataset([[0.5, 1.0], [0.0, 0.25]], [1, 0])
    np.testing.assert_array_equal(data[1:].images, [[0.0, 0.25]])
    np.testing.assert_array_equal(data[1:].labels, [0])


@pytest.mark.fault(row=13)
@pytest.mark.fault(row=47)
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 4)), np.zeros(2), r"3 images, labels of shape \(2,\)"),
        (np.zeros((3, 4)), np.zeros((3, 10)), r"3 images, labels of shape \(3, 10\)"),
        (np.zeros(3), None, "images must have shape"),
        (np.zeros((3, 4)), np.array([0, 2, 1]), "label 2 at index 1: wanted 0 to 1"),
        (np.zeros((3, 4)), np.array([0, -1, 1]), "label -1 at index 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, labels, message):
    with pytest.raises(ValueError, match=f"^mine: {message}"):
        Dataset(images, labels, "mine", ("a", "b"))


def test_a_dataset_says_what_it_is():
    assert repr(SMALL) == "<Dataset 'generated digits': 70 images of 28 x 28, with labels>"
    assert repr(Dataset(np.zeros((2, 5)))) == "<Dataset 'data': 2 images of 5, without labels>"


# Generated digits


def test_generated_digits_depend_on_the_seed_alone():
    again, other = datasets.generate(70, seed=3), datasets.generate(70, seed=4)
    np.testing.assert_array_equal(again.images, SMALL.images)
    np.testing.assert_array_equal(again.labels, SMALL.labels)
    assert not np.array_equal(other.images, SMALL.images)
    assert SMALL.images.shape == (70, 28, 28)
    assert SMALL.images.dtype == SMALL.labels.dtype == np.uint8


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (5, -1), (2**40, 0)])
def test_impossible_requests_for_digits_are_refused(count, seed):
    with pytest.raises(ValueError, match="must be from"):
        datasets.generate(count, seed)


def test_the_generated_set_has_the_sizes_of_mnist_and_two_seeds(monkeypatch):
    asked = []

    def draw(count, seed, threads):
        asked.append((count, seed))
        return np.zeros((count, 28, 28), np.uint8), np.zeros(count, np.uint8)

    monkeypatch.setattr(datasets.digits, "draw", draw)
    data = fm.load("generated")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert asked == [(60_000, 0), (10_000, 1)]


# Named sets


def test_mnist_is_mnist(mnist):
    assert mnist.train.images.shape == (60_000, 28, 28)
    assert mnist.test.images.shape == (10_000, 28, 28)
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(mnist.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    inked = np.count_nonzero(mnist.train.images) / 60_000
    assert round(inked, 1) == 149.9
    assert mnist.train.class_names == tuple("0123456789")


@pytest.mark.fault(row=27)
def test_each_named_set_has_names_for_ten_classes_and_four_digests():
    for published in download.SETS.values():
        assert len(published.class_names) == 10
        assert len(published.digests) == 4
        assert all(digest.startswith(("sha256:", "md5:")) for digest in published.digests)
    assert download.SETS["fashion"].class_names[9] == "Ankle boot"
    assert download.SETS["kmnist"].class_names[0] == "o"


def test_data_dir_is_the_folder_or_the_one_above(small_mnist):
    folder = write_folder(small_mnist / "above" / "mnist")
    check(fm.load("mnist", data_dir=folder))
    check(fm.load("mnist", data_dir=str(folder.parent)))


def test_the_environment_names_the_folder_above(small_mnist, monkeypatch):
    monkeypatch.setenv("FASTMNIST_DATA", str(write_folder(small_mnist / "e" / "mnist").parent))
    check(fm.load())


def test_data_dir_comes_before_the_environment_and_that_before_the_cache(small_mnist, monkeypatch):
    given = write_folder(small_mnist / "given")
    shared = write_folder(small_mnist / "shared" / "mnist")
    cached = write_folder(small_mnist / "cache" / "mnist", suffix="")
    monkeypatch.setenv("FASTMNIST_DATA", str(shared.parent))
    opened = []
    read_bytes = idx.read_bytes

    def spy(path):
        opened.append(Path(path).parent)
        return read_bytes(path)

    monkeypatch.setattr(idx, "read_bytes", spy)
    for folder in (given, shared, cached):
        opened.clear()
        check(fm.load("mnist", data_dir=given))
        assert set(opened) == {folder}
        shutil.rmtree(folder)


@pytest.mark.fault(row=3)
def test_another_content_under_the_name_is_refused(small_mnist):
    images = ARRAYS[0].copy()
    images[30, 14, 14] ^= 1
    folder = write_folder(small_mnist / "mine", (images, *ARRAYS[1:]))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is not MNIST's") as error:
        fm.load("mnist", data_dir=folder)
    assert not isinstance(error.value, DownloadError)
    check(fm.load(folder), (images, *ARRAYS[1:]))  # under its path it is welcome


@pytest.mark.fault(row=3)
@pytest.mark.parametrize("form", ["unzipped", "zipped", "zipped, known by its archive"])
def test_no_flipped_bit_of_a_named_set_goes_unnoticed(nowhere, monkeypatch, times, figure, form):
    contents = [idx.encode(array) for array in ARRAYS]
    if form != "unzipped":
        contents = [gzip.compress(content, mtime=0) for content in contents]
    if "archive" in form:
        digests = [f"md5:{hashlib.md5(content).hexdigest()}" for content in contents]
    else:
        digests = [f"sha256:{idx.sha256(array)}" for array in ARRAYS]
    monkeypatch.setitem(
        download.SETS, "mnist", download.SETS["mnist"]._replace(digests=tuple(digests))
    )
    rng, flips, refused, changed = np.random.default_rng(0), times(1_000, 10_000), 0, 0
    for _ in range(flips):
        part = rng.integers(4)
        content = bytearray(contents[part])
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        try:
            array = download.verified(bytes(content), "mnist", part, "file")
        except DataError:
            refused += 1
        else:  # the bit was in what gzip says beside the content
            changed += not np.array_equal(array, ARRAYS[part])
    figure(f"flipped bits of a set, {form}: {refused:,} of {flips:,} refused, {changed} unnoticed")
    assert changed == 0
    assert refused > flips / 2


@pytest.mark.fault(row=6)
def test_zeros_behind_a_set_need_its_content(small_mnist):
    content = gzip.compress(idx.encode(ARRAYS[1])) + bytes(512)
    np.testing.assert_array_equal(download.verified(content, "mnist", 1, "file"), ARRAYS[1])
    other = gzip.compress(idx.encode(ARRAYS[1][::-1])) + bytes(512)
    with pytest.raises(DataError, match="is not MNIST's"):
        download.verified(other, "mnist", 1, "file")


@pytest.mark.fault(row=16)
def test_found_nowhere_lists_every_place_and_what_to_do(nowhere, monkeypatch):
    mirrors = ("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/")  # nobody listens there
    published = download.SETS["mnist"]._replace(mirrors=mirrors)
    monkeypatch.setitem(download.SETS, "mnist", published)
    monkeypatch.setenv("FASTMNIST_DATA", str(nowhere / "shared"))
    with pytest.raises(DownloadError) as error:
        fm.load("mnist", data_dir=nowhere / "given")
    lines = str(error.value).splitlines()
    assert lines[0] == "MNIST was not found and could not be downloaded:"
    places = ["given/mnist", "given", "shared/mnist", "cache/mnist/train-images-idx3-ubyte"]
    for line, place in zip(lines[1:5], places, strict=True):
        assert line.startswith(f"  {nowhere / place} ")
    for line, mirror in zip(lines[5:7], mirrors, strict=True):
        assert line.startswith(f"  {mirror}train-images-idx3-ubyte.gz: ")
        assert "refused" in line
    assert "data_dir" in lines[7]
    assert '"generated"' in lines[7]
    assert len(lines) == 8


@pytest.mark.parametrize("name", download.SETS)
def test_a_named_set_is_that_set_or_none(nowhere, name):
    with pytest.raises(DownloadError, match=f"^{download.SETS[name].title} was not found"):
        fm.load(name)


@pytest.mark.fault(row=16)
def test_an_environment_that_is_not_set_is_listed(nowhere):
    with pytest.raises(DownloadError, match="FASTMNIST_DATA is not set"):
        fm.load("kmnist")


def test_without_mnist_digits_are_drawn_and_the_reason_is_one_line(nowhere, monkeypatch):
    monkeypatch.setattr(datasets, "generate", lambda count, seed, name: SMALL)
    split, reason = datasets.load_or_generate()
    assert split.train is SMALL
    assert reason == "MNIST was not found and could not be downloaded"


def test_mnist_is_taken_where_it_is(small_mnist):
    split, reason = datasets.load_or_generate(data_dir=write_folder(small_mnist / "here"))
    check(split)
    assert reason is None


def test_damaged_files_are_not_replaced_by_drawn_digits(small_mnist):
    folder = write_folder(small_mnist / "here")
    (folder / f"{download.FILES[3]}.gz").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        datasets.load_or_generate(data_dir=folder)


# Folders of IDX files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
def test_a_folder_is_read_under_the_usual_spellings(tmp_path, suffix, spelling):
    files = [file.replace("-idx", spelling) for file in download.FILES]
    split = fm.load(write_folder(tmp_path / "my set", files=files, suffix=suffix))
    check(split)
    assert split.train.name == "my set (train)"
    assert split.test.class_names == tuple("0123456789")


@pytest.mark.fault(row=15)
def test_of_two_copies_the_zipped_one_is_read(tmp_path):
    write_folder(tmp_path, tuple(array[:5] for array in ARRAYS), suffix="")
    check(fm.load(write_folder(tmp_path)))


def test_images_of_any_size_with_any_number_of_classes(tmp_path):
    arrays = (np.zeros((3, 8, 5), np.uint8), np.array([0, 46, 3], np.uint8))
    split = fm.load(write_folder(tmp_path, arrays * 2))
    assert split.test.images.shape == (3, 8, 5)
    assert len(split.train.class_names) == 47


@pytest.mark.fault(row=16)
@pytest.mark.parametrize("missing", range(4))
def test_a_missing_file_is_named(tmp_path, missing):
    file = write_folder(tmp_path) / f"{download.FILES[missing]}.gz"
    file.unlink()
    with pytest.raises(DataError, match=rf"has no {download.FILES[missing]} \(with .gz"):
        fm.load(tmp_path)


def test_a_folder_with_only_a_test_part_is_named(tmp_path):
    for file in download.FILES[:2]:
        (write_folder(tmp_path) / f"{file}.gz").unlink()
        with pytest.raises(DataError, match="has no train-"):
            fm.load(tmp_path)


@pytest.mark.fault(row=12)
@pytest.mark.parametrize("spoilt", range(4))
def test_different_counts_are_told_with_both_files(tmp_path, spoilt):
    arrays = [array[:9] if i == spoilt else array[:10] for i, array in enumerate(ARRAYS)]
    write_folder(tmp_path, arrays)
    part, counts = "train" if spoilt < 2 else "t10k", [len(array) for array in arrays]
    images, labels = counts[:2] if spoilt < 2 else counts[2:]
    with pytest.raises(DataError) as error:
        fm.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/{part}-images-idx3-ubyte.gz has {images} images, "
        f"but {tmp_path}/{part}-labels-idx1-ubyte.gz has {labels} labels"
    )


@pytest.mark.fault(row=14)
@pytest.mark.parametrize("smaller", [0, 2])
def test_different_sizes_of_images_are_told(tmp_path, smaller):
    arrays = [array[:, 4:24, 4:24] if i == smaller else array for i, array in enumerate(ARRAYS)]
    write_folder(tmp_path, arrays)
    with pytest.raises(DataError) as error:
        fm.load(tmp_path)
    sizes = ("[20, 20]", "[28, 28]") if smaller == 0 else ("[28, 28]", "[20, 20]")
    assert str(error.value) == (
        f"{tmp_path}/train-images-idx3-ubyte.gz has images of {sizes[0]}, "
        f"but {tmp_path}/t10k-images-idx3-ubyte.gz of {sizes[1]}"
    )


@pytest.mark.fault(row=14)
def test_images_of_another_size_than_the_networks_are_told(tmp_path):
    cut = (ARRAYS[0][:, 4:24, 4:24], ARRAYS[1], ARRAYS[2][:, 4:24, 4:24], ARRAYS[3])
    data, model = fm.load(write_folder(tmp_path / "cut", cut)), fm.MLP([784, 10])
    for use, part in ((fm.evaluate, data.test), (fm.fit, data.train)):
        with pytest.raises(ValueError, match="X has 400 features a row, the network has 784") as e:
            use(model, part)
        assert str(e.value).startswith(f"{part.name}: ")


@pytest.mark.fault(row=13)
def test_labels_beyond_the_networks_classes_are_told(tmp_path):
    labels = ARRAYS[3].copy()
    labels[[4, 7]] = 10, 46
    data = fm.load(write_folder(tmp_path / "letters", (*ARRAYS[:3], labels)))
    told = r"letters \(test\): label 10 at index 4: wanted 0 to 9"
    with pytest.raises(ValueError, match=told):
        fm.evaluate(fm.MLP([784, 10]), data.test)
    with pytest.raises(ValueError, match=told):
        fm.fit(fm.MLP([784, 10]), data.train, validation=data.test)


@pytest.mark.fault(row=7)
def test_swapped_files_are_told(tmp_path):
    write_folder(tmp_path, (ARRAYS[1], ARRAYS[0], *ARRAYS[2:]))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz holds labels, wanted images"):
        fm.load(tmp_path)


@pytest.mark.fault(row=17)
@pytest.mark.timeout(60)
def test_a_pipe_in_a_folder_does_not_hang(tmp_path):
    file = write_folder(tmp_path) / f"{download.FILES[0]}.gz"
    file.unlink()
    make_pipe(file)
    with pytest.raises(DataError, match="is not a regular file"):
        fm.load(tmp_path)


# CSV files


def write_csv(path, data):
    rows = data.images.reshape(len(data), -1)
    if data.labels is not None:
        rows = np.column_stack([data.labels, rows])
    np.savetxt(path, rows, "%d", ",")
    return path


def test_a_csv_file_is_split_and_says_so(tmp_path):
    split = fm.load(write_csv(tmp_path / "digits.csv", SMALL))
    check(split)
    assert split.train.name == "digits.csv (first 60 rows)"
    assert split.test.name == "digits.csv (last 10 rows)"
    assert split.test.class_names == tuple("0123456789")


def test_a_csv_file_without_labels_can_be_read_but_not_split(tmp_path):
    path = write_csv(tmp_path / "test.csv", Dataset(SMALL.images))
    data = datasets.read_csv(path)
    np.testing.assert_array_equal(data.images, SMALL.images)
    assert data.labels is None
    assert data.name == "test.csv"
    with pytest.raises(DataError, match=r"test.csv has no labels"):
        fm.load(path)


def test_a_csv_file_needs_two_rows_to_be_split(tmp_path):
    split = fm.load(write_csv(tmp_path / "two.csv", SMALL[:2]))
    assert (len(split.train), len(split.test)) == (1, 1)
    with pytest.raises(DataError, match="one image"):
        fm.load(write_csv(tmp_path / "one.csv", SMALL[:1]))


def test_an_idx_file_alone_is_pointed_to_its_folder(tmp_path):
    write_folder(tmp_path)
    with pytest.raises(DataError, match="give the folder it is in"):
        fm.load(tmp_path / f"{download.FILES[0]}.gz")


# Names and paths


@pytest.mark.fault(row=56)
def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        fm.load("mnits")


@pytest.mark.parametrize("path", ["no/such/folder", "nosuch.csv", "/nosuch"])
def test_a_path_that_is_not_there_is_a_missing_file(path):
    with pytest.raises(DataError, match=f"{path} cannot be read: No such file"):
        fm.load(path)


def test_a_folder_in_the_way_does_not_hide_a_name(small_mnist, monkeypatch):
    monkeypatch.chdir(small_mnist)
    (small_mnist / "mnist").mkdir()
    check(fm.load("mnist", data_dir=write_folder(small_mnist / "true")))
    with pytest.raises(DataError, match="mnist has no train-images"):
        fm.load("./mnist")
