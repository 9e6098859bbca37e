"""Where shards' samples come from: memory, folders of IDX files, digits that workers draw."""

import gzip
import pickle
import re

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("optuna")

import fastmnist as fm
from fastmnist import datasets, idx
from fastmnist.distributed import Drawn, Folder
from fastmnist.distributed.sources import InMemory, seed_of
from fastmnist.errors import DataError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def write(folder, data, *, zipped=False):
    folder.mkdir()
    for name, array in ((IMAGES, data.images), (LABELS, data.labels)):
        content = idx.encode(array.astype(np.uint8))
        if zipped:
            name, content = f"{name}.gz", gzip.compress(content)
        (folder / name).write_bytes(content)


@pytest.fixture
def folders(tmp_path):
    """Five folders of digits, one of them zipped, and a file that belongs to none."""
    path = tmp_path / "digits"
    path.mkdir()
    (path / "README").write_text("what this is", "utf-8")
    for number in (3, 0, 4, 1, 2):
        data = datasets.generate(20 + number, seed=number)
        write(path / f"part-{number}", data, zipped=number == 2)
    return path


def network():
    return fm.MLP([784, 16, 10], seed=1)


def fit(client, source, model=None, **options):
    model = model or network()
    settings = {"shards": 2, "rounds": 3, "batch_size": 8} | options
    return model, fm.distributed.fit(model, source, client, **settings)


# Memory.


def numbered(count):
    return fm.Dataset(np.arange(count, dtype=np.float32)[:, None], np.arange(count) % 3, "numbers")


@pytest.mark.parametrize("shards", [1, 3, 7, 20])
def test_samples_in_memory_are_dealt_out_each_to_one_shard(shards):
    source = InMemory(numbered(20), seed=4)
    parts = [source.part(shard, shards).load(0) for shard in range(shards)]
    assert sorted(np.concatenate([part.images[:, 0] for part in parts])) == list(range(20))
    assert all((part.images[:, 0] % 3 == part.labels).all() for part in parts)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_samples_in_memory_are_dealt_out_by_the_seed():
    def first(seed):
        return InMemory(numbered(20), seed).part(0, 2).load(0).images.tobytes()

    assert first(1) == first(1) != first(2)


def test_more_shards_than_samples_are_an_error():
    with pytest.raises(ValueError, match="numbers: 5 samples for 6 shards"):
        InMemory(numbered(5), 0).part(0, 6)


def test_samples_in_memory_are_known_by_what_they_are():
    one, other = numbered(5), numbered(5)
    other.labels[3] = 2
    told = {InMemory(data, 0).describe() for data in (one, other, numbered(4), numbered(5))}
    assert len(told) == 3


# Folders.


def test_each_shard_reads_every_so_manyth_folder_by_name(folders):
    source = Folder(folders)
    first, second = source.part(0, 2), source.part(1, 2)
    assert (first.portions, second.portions) == (3, 2)
    assert [len(first.load(number)) for number in range(3)] == [20, 22, 24]
    assert [len(second.load(number)) for number in range(2)] == [21, 23]
    digits = datasets.generate(22, seed=2)
    assert np.array_equal(first.load(1).images, digits.images)
    assert np.array_equal(first.load(1).labels, digits.labels)


def test_a_folder_is_told_by_where_it_is_and_how_many_there_are(folders, monkeypatch):
    monkeypatch.chdir(folders.parent)
    assert Folder("digits") == Folder(folders)
    assert Folder("digits").describe() == f"5 folders in {folders}"


def test_training_on_folders_is_training_on_their_samples(folders, client):
    """One folder a round and shard, where all have as many samples: the same steps."""
    equal = folders.parent / "equal"
    equal.mkdir()
    for number in range(2):
        write(equal / str(number), datasets.generate(24, seed_of(5, number)))
    model, history = fit(client, Folder(equal))
    drawn, drawn_history = fit(client, DrawnFrom(5, 24))
    assert model.params.flat.tobytes() == drawn.params.flat.tobytes()
    assert history.loss == drawn_history.loss


class DrawnFrom:
    """A source of one's own: anything with parts."""

    def __init__(self, seed, count):
        self.seed, self.count = seed, count

    def part(self, shard, shards):
        data = datasets.generate(self.count, seed_of(self.seed, shard))
        return InMemory(data, 0).part(0, 1)

    def describe(self):
        return "drawn"


def test_each_round_has_the_next_folder(folders, client):
    losses = [fit(client, Folder(folders), rounds=rounds)[1].loss for rounds in (3, 3)]
    assert losses[0] == losses[1]
    (folders / "part-4" / LABELS).unlink()  # the first shard's third
    reached = []
    with pytest.raises(DataError, match=f"{folders / 'part-4'} has no {LABELS}"):
        fit(client, Folder(folders), callbacks=[lambda model, epoch: reached.append(epoch)])
    assert len(reached) == 2


@pytest.mark.parametrize("kept", [0, 3, 16, 1000])
def test_a_damaged_file_is_named(kept, folders, client):
    path = folders / "part-1" / IMAGES
    path.write_bytes(path.read_bytes()[:kept])
    model = network()
    with pytest.raises(DataError, match=re.escape(str(path))):
        fit(client, Folder(folders), model)
    assert model.params.flat.tobytes() == network().params.flat.tobytes()


def test_a_folder_without_folders_is_an_error(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} holds no folders, each with the IDX files"):
        Folder(tmp_path)
    with pytest.raises(DataError, match="nowhere: No such file or directory"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(DataError, match="file: Not a directory"):
        Folder(tmp_path / "file")


def test_fewer_folders_than_shards_are_an_error(folders, client):
    with pytest.raises(DataError, match=f"{folders} holds 5 folders, for 6 shards"):
        fit(client, Folder(folders), shards=6)


def test_images_of_another_size_than_the_network_reads_are_an_error(folders, client):
    with pytest.raises(ValueError, match=r"part-\d: X has 784 features a row, the network has 9"):
        fit(client, Folder(folders), fm.MLP([9, 10]))


# Digits that are drawn.


def test_the_same_seed_draws_the_same_digits():
    def digits(seed, shard=0, number=0):
        return Drawn(5, portions=2, seed=seed).part(shard, 3).load(number).images.tobytes()

    assert digits(7) == digits(7)
    others = [
        digits(*k) for k in ((7, 0, 0), (7, 1, 0), (7, 2, 0), (7, 0, 1), (7, 1, 1), (8, 0, 0))
    ]
    assert len(set(others)) == len(others)


def test_no_two_shards_and_portions_share_a_seed():
    parts = [Drawn(1, portions=50, seed=9).part(shard, 20) for shard in range(20)]
    seeds = [seed for part in parts for seed in part.seeds]
    assert len(set(seeds)) == 50 * 20
    assert all(part.portions == 50 for part in parts)


def test_digits_to_test_with_are_never_drawn(monkeypatch):
    """No small seed comes to theirs, in whatever stream."""
    asked = []
    monkeypatch.setattr(datasets, "generate", lambda count, seed, name: asked.append(seed))
    datasets.load("generated")
    assert asked[1] == 1
    for seed in range(100):
        parts = [Drawn(1, portions=100, seed=seed).part(shard, 8) for shard in range(8)]
        assert not {*asked} & {drawn for part in parts for drawn in part.seeds}


def test_what_travels_is_small():
    """A part holds seeds, not digits."""
    assert len(pickle.dumps(Drawn(10**6, portions=8).part(0, 100))) < 500


def test_drawn_sources_differ_by_their_numbers():
    told = {Drawn(5), Drawn(6), Drawn(5, portions=2), Drawn(5, seed=2), Drawn(5)}
    assert len({source.describe() for source in told}) == len(told) == 4


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"count": 0}, ValueError, "count must be from 1"),
        ({"count": 2.5}, TypeError, "count must be a whole number"),
        ({"count": 1, "portions": 0}, ValueError, "portions must be from 1"),
        ({"count": 1, "seed": -1}, ValueError, "seed must be from 0"),
        ({"count": 1, "seed": 2**63}, ValueError, "seed must be from 0"),
    ],
)
def test_wrong_numbers_are_errors(arguments, error, said):
    with pytest.raises(error, match=said):
        Drawn(**arguments)
