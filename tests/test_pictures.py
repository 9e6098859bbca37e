"""Photos and scans of digits, read as MNIST's images are."""

import contextlib
import sys
import time

import numpy as np
import processes
import pytest

import fastmnist as fm
from fastmnist import datasets
from fastmnist.errors import DataError
from fastmnist.pictures import marked, read_digit, read_digits
from fastmnist.placing import place

Image = pytest.importorskip("PIL.Image")
ImageFilter = pytest.importorskip("PIL.ImageFilter")
photos = pytest.importorskip("benchmarks.photos")
sheet = photos.sheet


@pytest.fixture(scope="module")
def digits():
    return datasets.generate(200, seed=5)


@pytest.fixture(scope="module")
def network():
    train = datasets.generate(10_000, seed=6)
    model = fm.MLP([784, 64, 10], seed=0)
    fm.fit(model, train, epochs=4)
    return model


def photo(digit, rng, *, ink=(40, 50, 90), paper=(215, 205, 190), size=420):
    """A digit on a larger sheet: uneven light, noise, a soft lens."""
    y, x = np.mgrid[0:1:360j, 0:1:360j]
    sheet = np.zeros((360, 360), np.float32)
    top, left = rng.integers(20, 360 - 252, 2)
    large = Image.fromarray(digit).resize((224, 224), Image.Resampling.BICUBIC)
    sheet[top : top + 224, left : left + 224] = np.asarray(large, np.float32) / 255
    mixed = sheet[..., None] * np.array(ink) + (1 - sheet[..., None]) * np.array(paper)
    mixed *= (0.75 + 0.25 * (x + y) / 2)[..., None]
    mixed += rng.normal(0, 4, mixed.shape)
    picture = Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(1.5)).resize((size, size))


@pytest.mark.parametrize("inverted", [False, True])
def test_an_image_like_mnists_keeps_every_bit(tmp_path, digits, inverted):
    for digit in digits.images[:50]:
        picture = 255 - digit if inverted else digit
        Image.fromarray(picture).save(tmp_path / "digit.png")
        np.testing.assert_array_equal(read_digit(tmp_path / "digit.png"), digit)


@pytest.mark.parametrize("inverted", [False, True])
def test_mnists_own_images_keep_every_bit(tmp_path, mnist, inverted):
    for digit in mnist.test.images[:100]:
        picture = 255 - digit if inverted else digit
        Image.fromarray(picture).save(tmp_path / "digit.png")
        np.testing.assert_array_equal(read_digit(tmp_path / "digit.png"), digit)


def test_what_is_read_is_placed(tmp_path, digits):
    rng = np.random.default_rng(0)
    photo(digits.images[0], rng).save(tmp_path / "photo.jpg")
    read = read_digit(tmp_path / "photo.jpg")
    assert read.shape == (28, 28)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(place(read), read)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "style",
    [
        {},
        {"ink": (240, 240, 230), "paper": (40, 70, 50)},  # chalk
        {"ink": (200, 30, 40), "size": 90},
        {"size": 1500},
    ],
    ids=["paper", "chalk", "small and red", "large"],
)
def test_photos_are_read_as_well_as_the_digits_in_them(tmp_path, digits, network, style):
    rng = np.random.default_rng(1)
    read = []
    for digit in digits.images[:20]:
        photo(digit, rng, **style).save(tmp_path / "photo.jpg", quality=80)
        read.append(read_digit(tmp_path / "photo.jpg"))
    same = network.predict(np.stack(read)) == network.predict(digits.images[:20])
    assert same.mean() >= 0.9


def test_dust_beside_the_digit_is_left_out(tmp_path, digits):
    larger = np.zeros((280, 280), np.uint8)
    larger[70:210, 70:210] = np.kron(digits.images[1][4:24, 4:24], np.ones((7, 7), np.uint8))
    Image.fromarray(larger).save(tmp_path / "clean.png")
    larger[5:8, 270:273] = 255
    Image.fromarray(larger).save(tmp_path / "dusty.png")
    np.testing.assert_array_equal(
        read_digit(tmp_path / "dusty.png"), read_digit(tmp_path / "clean.png")
    )


def test_turned_transparent_and_deep_pictures_are_read_alike(tmp_path, digits):
    large = np.kron(np.pad(digits.images[2], 4), np.ones((6, 6), np.uint8))
    Image.fromarray(255 - large).save(tmp_path / "plain.png")
    wanted = read_digit(tmp_path / "plain.png")

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    Image.fromarray(255 - np.rot90(large)).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(large.astype(np.uint16) * 9).save(tmp_path / "deep.png")
    Image.fromarray(large.astype(np.uint16) * 9 + 5000).save(tmp_path / "from 5000.png")
    drawn = np.zeros((*large.shape, 4), np.uint8)
    drawn[..., 3] = large  # black ink on nothing
    Image.fromarray(drawn).save(tmp_path / "transparent.png")

    for name in ("turned", "deep", "from 5000", "transparent"):
        np.testing.assert_array_equal(read_digit(tmp_path / f"{name}.png"), wanted, name)


def test_a_small_picture_whose_digit_is_elsewhere_is_placed(tmp_path, digits):
    Image.fromarray(np.roll(digits.images[0], 4, axis=1)).save(tmp_path / "digit.png")
    read = read_digit(tmp_path / "digit.png")
    np.testing.assert_array_equal(place(read), read)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_ink_of_one_colour_is_read(tmp_path, digits, channel):
    for paper in (0, 255):
        picture = np.full((28, 28, 3), paper, np.uint8)
        picture[..., channel] = np.abs(paper - digits.images[0].astype(int))
        Image.fromarray(picture).save(tmp_path / "colour.png")
        np.testing.assert_array_equal(read_digit(tmp_path / "colour.png"), digits.images[0])


@pytest.mark.parametrize("bright", [False, True])
def test_ink_on_nothing_is_seen_on_the_paper_that_shows_it(tmp_path, digits, bright):
    digit = digits.images[0]
    ink = digit if bright else 255 - digit
    opaque = np.where(digit > 0, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([ink, opaque])).save(tmp_path / "drawn.png")
    np.testing.assert_array_equal(read_digit(tmp_path / "drawn.png"), digit)


def test_ink_that_paper_shines_through_is_as_if_on_paper(tmp_path, digits):
    opaque = np.kron(np.pad(digits.images[2], 4), np.ones((6, 6), np.uint8))
    ink = np.linspace(0, 120, opaque.size).reshape(opaque.shape).astype(np.uint8)
    Image.fromarray(np.dstack([ink, opaque])).save(tmp_path / "drawn.png")
    share = opaque / 255
    flat = np.rint(ink * share + 255 * (1 - share)).astype(np.uint8)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    drawn, wanted = (read_digit(tmp_path / f"{name}.png").astype(int) for name in ("drawn", "flat"))
    assert np.abs(drawn - wanted).max() <= 2  # grey levels


def test_deep_pictures_may_use_as_few_levels_as_they_like(tmp_path, digits):
    inked = np.kron(np.pad(digits.images[2], 4) > 127, np.ones((6, 6), bool))
    Image.fromarray(inked.astype(np.uint8) * 255).save(tmp_path / "plain.png")
    Image.fromarray(inked.astype(np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        read_digit(tmp_path / "deep.png"), read_digit(tmp_path / "plain.png")
    )


def _deep_blank(path):
    Image.fromarray(np.full((200, 200), 9, np.uint16)).save(path)


def _empty(path):
    path.write_bytes(b"")


def _text(path):
    path.write_text("seven", "utf-8")


def _cut(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def _blank(path):
    Image.new("L", (300, 200), 230).save(path)


def _noise(path):
    noise = np.random.default_rng(1).normal(200, 6, (200, 200))
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(path)


def _huge(path):
    Image.new("1", (20_000, 20_000)).save(path)


def _large(path):
    Image.new("1", (7000, 6000)).save(path)


def _long(path):
    Image.new("1", (70_000, 2)).save(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_empty, "not a picture of a known kind"),
        (_text, "not a picture of a known kind"),
        (_cut, "damaged picture"),
        (_blank, "shows no digit"),
        (_deep_blank, "shows no digit"),
        (_noise, "shows no digit"),
        (_huge, "too large"),
        (_large, "too large"),
        (_long, "too large"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: None, "cannot be read"),
    ],
    ids=[
        "empty",
        "text",
        "cut",
        "blank",
        "deep blank",
        "noise",
        "huge",
        "large",
        "long",
        "folder",
        "missing",
    ],
)
def test_what_is_no_picture_of_a_digit_is_refused_by_name(tmp_path, write, message):
    path = tmp_path / "digit.png"
    write(path)
    with pytest.raises(DataError, match=message) as caught:
        read_digit(path)
    assert str(path) in str(caught.value)


def _grid(pitch, size):
    """Black squares on white, as many as fit."""
    squares = np.full((512, 512), 255, np.uint8)
    for top in range(8, 500 - size, pitch):
        for left in range(8, 500 - size, pitch):
            squares[top : top + size, left : left + size] = 0
    return squares


def _stairs():
    """Diagonal lines, joined at their ends in turn: one piece that winds without end."""
    stairs = np.full((512, 512), 255, np.uint8)
    for number, offset in enumerate(range(-420, 420, 7)):
        rows = np.arange(max(40, 40 - offset), min(470, 470 - offset))
        stairs[rows, rows + offset] = 0
        end = rows[-1] if number % 2 else rows[0]
        stairs[end, end + offset : min(end + offset + 7, 470)] = 0
    return stairs


@pytest.mark.parametrize(
    "pixels",
    [_grid(4, 1), _grid(9, 1), _grid(24, 17), _grid(26, 18), _stairs()],
    ids=["dots", "dots apart", "400 squares", "324 squares", "stairs"],
)
@pytest.mark.parametrize("read", [read_digit, read_digits])
def test_no_picture_takes_long(pixels, read, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    begun = time.process_time()
    with contextlib.suppress(DataError):
        read(tmp_path / "picture.png")
    assert time.process_time() - begun < 4  # 0.5 s; it was more than 8 on some of these


def test_a_photo_of_many_pixels_is_decoded_smaller(tmp_path, digits):
    large = Image.fromarray(255 - digits.images[0]).resize((9000, 9000), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.jpg")  # 81 million
    assert read_digit(tmp_path / "large.jpg").any()


def test_deep_pictures_may_be_larger_than_they_are_read(tmp_path, digits):
    small = np.pad(255 - digits.images[3], 8, constant_values=255).astype(np.uint16)
    deep = np.kron(small, np.ones((40, 40), np.uint16))
    read = []
    for factor, name in ((257, "deep.png"), (1, "flat.png")):
        picture = deep * factor if factor > 1 else deep.astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / name)
        read.append(read_digit(tmp_path / name).astype(int))
    assert np.abs(read[0] - read[1]).max() <= 2


def test_without_pillow_the_extra_is_named():
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "try:\n    import fastmnist.pictures\n"
        "except ImportError as error:\n    print(error)\n"
    )
    assert "fastmnist[images]" in processes.succeeds("-c", program)


# Several digits in one picture.


@pytest.mark.compiled
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 3), (2, 5)])
def test_all_digits_are_found_in_the_order_of_reading(tmp_path, digits, network, shape):
    rng = np.random.default_rng(0)
    same = []
    for trial in range(4):
        chosen = rng.integers(0, len(digits), shape)
        rows = [[digits.images[i] for i in line] for line in chosen]
        sheet(rows, rng).save(tmp_path / "sheet.png")
        found = read_digits(tmp_path / "sheet.png")
        assert len(found) == chosen.size, trial
        read = network.predict(np.array([f.image for f in found]))
        same += list(read == network.predict(digits.images[chosen.ravel()]))
        for (left, top, right_, bottom), place_ in zip(
            (f.box for f in found), np.ndindex(shape), strict=True
        ):
            assert 0 <= left < right_ <= 1
            assert 0 <= top < bottom <= 1
            assert int((top + bottom) / 2 * shape[0]) == place_[0]
            assert int((left + right_) / 2 * shape[1]) == place_[1]
    assert np.mean(same) >= 0.9  # as of photos of one digit


def test_a_digit_in_two_pieces_is_one(tmp_path):
    picture = np.full((120, 200), 255, np.uint8)
    for left in (30, 120):  # a 5 whose roof has come off
        picture[20:26, left : left + 40] = 0
        picture[34:60, left : left + 6] = 0
        picture[54:60, left : left + 36] = 0
        picture[54:100, left + 30 : left + 36] = 0
        picture[94:100, left : left + 36] = 0
    Image.fromarray(picture).save(tmp_path / "fives.png")
    found = read_digits(tmp_path / "fives.png")
    assert len(found) == 2
    assert all(f.box[1] < 0.2 < 0.8 < f.box[3] for f in found)


def test_digits_of_two_lines_stay_two_however_near(tmp_path):
    picture = np.full((220, 120), 255, np.uint8)
    for top in (10, 115):  # 90 high, 15 apart
        picture[top : top + 90, 50:60] = 0
    Image.fromarray(picture).save(tmp_path / "ones.png")
    assert len(read_digits(tmp_path / "ones.png")) == 2


def test_the_picture_is_marked_up(tmp_path, digits):
    rows = [list(digits.images[:3])]
    sheet(rows, np.random.default_rng(0)).save(tmp_path / "sheet.png")
    found = read_digits(tmp_path / "sheet.png")
    image = np.asarray(marked(tmp_path / "sheet.png", found, ["1", "2", "3"]), int)
    colour = np.array([0xD5, 0x5E, 0x00])
    inked = (np.abs(image - colour).sum(axis=-1) < 30).any(axis=0)
    for f in found:
        left, right = (round(side * image.shape[1]) for side in (f.box[0], f.box[2]))
        assert inked[max(0, left - 5) : left + 1].any()
        assert inked[right - 1 : right + 5].any()


def test_a_sheet_without_digits_is_refused(tmp_path):
    Image.new("RGB", (200, 100), "white").save(tmp_path / "blank.png")
    with pytest.raises(DataError, match="shows no digit"):
        read_digits(tmp_path / "blank.png")


@pytest.mark.compiled
def test_photos_prints_a_row_for_each_kind(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["photos", "--pictures", "1"])
    split = datasets.generate(3000, seed=0), datasets.generate(100, seed=1)
    monkeypatch.setattr(photos.workloads, "data", lambda: split)
    photos.main()
    rows = capsys.readouterr().out.splitlines()[4:]
    assert [row.split("|")[1].strip() for row in rows] == list(photos.KINDS)
    assert rows[0].split("|")[2].strip() == "1"
