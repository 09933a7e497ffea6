"""Folders of image files, with all that lies in real ones."""

import contextlib
import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from privynet.data import SPLITS, open_data
from privynet.data.decoding import UnreadableImage, decode
from privynet.errors import InputError, PrivynetError
from privynet.progress import SILENT


class Warnings:
    """Keeps the warnings, shows no bars."""

    task = staticmethod(SILENT.task)

    def __init__(self):
        self.messages = []

    def warn(self, message):
        self.messages.append(message)


def picture(seed, size=(20, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    for name, start in (("cat", 0), ("dog", 100)):
        (tmp_path / name).mkdir()
        for number in range(60):
            picture(start + number).save(tmp_path / name / f"{number}.png")
    return tmp_path


def split_of(data, name):
    """The pixels of every image of a split, as a set."""
    return {image.tobytes() for image in data.split(name).images(16)}


def test_classes_are_the_sub_folders(folder):
    data = open_data(f"folder:{folder}", image_size=16)
    assert data.classes == ("cat", "dog")
    assert np.bincount(data.labels).tolist() == [60, 60]
    assert data.reference_size == 16
    split = data.split("head-train")
    for label, image in zip(split.labels, split.images(16), strict=True):
        start = 100 if label else 0
        assert any(
            np.array_equal(image, np.asarray(picture(start + n).crop((2, 0, 18, 16)))) for n in range(60)
        )


def test_renaming_files_changes_nothing(folder):
    before = open_data(f"folder:{folder}")
    pixels = {name: split_of(before, name) for name in SPLITS}
    for number, file in enumerate(sorted((folder / "cat").iterdir())):
        file.rename(file.with_name(f"renamed-{(number * 7) % 60}.png"))
    after = open_data(f"folder:{folder}")
    assert after.digest == before.digest
    assert {name: split_of(after, name) for name in SPLITS} == pixels


def test_same_pixels_in_another_format_stay_together(folder):
    image = picture(3)
    for suffix in ("bmp", "tiff", "webp", "ppm"):
        image.save(folder / "cat" / f"copy.{suffix}", lossless=True)
    data = open_data(f"folder:{folder}", image_size=16)
    wanted = np.asarray(image.crop((2, 0, 18, 16)))
    counts = [sum(np.array_equal(wanted, found) for found in data.split(s).images(16)) for s in SPLITS]
    assert sorted(counts) == [0, 0, 0, 0, 5]


def test_halves_are_used_as_official_test_set(tmp_path):
    for half, start in (("train", 0), ("test", 1000)):
        for offset, name in ((0, "cat"), (500, "dog")):
            (tmp_path / half / name).mkdir(parents=True)
            for number in range(40):
                picture(start + offset + number).save(tmp_path / half / name / f"{number}.png")
    picture(1000).save(tmp_path / "train" / "cat" / "leaked.png")
    data = open_data(f"folder:{tmp_path}", image_size=16)
    assert data.classes == ("cat", "dog")
    assert len(data) == 161
    assert len(data.split("test")) == 81


def test_unreadable_files_are_skipped_with_one_warning(folder):
    (folder / "cat" / "empty.jpg").touch()
    (folder / "cat" / "cut.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:300])
    (folder / "dog" / "notes.txt").write_text("no image")
    (folder / "dog" / "broken-link.png").symlink_to(folder / "nowhere.png")
    (folder / "dog" / ".DS_Store").write_bytes(b"hidden")
    progress = Warnings()
    data = open_data(f"folder:{folder}", progress=progress)
    assert len(data) == 120
    [message] = progress.messages
    assert "skipped 4 of 124 files" in message
    assert all(name in message for name in ("cat/empty.jpg", "cat/cut.png", "dog/notes.txt"))
    assert ".DS_Store" not in message


def test_long_lists_of_unreadable_files_are_cut_short(folder):
    for number in range(12):
        (folder / "cat" / f"bad{number}.jpg").touch()
    progress = Warnings()
    open_data(f"folder:{folder}", progress=progress)
    assert "and 7 more" in progress.messages[0]


def test_file_that_vanishes_after_opening_is_one_line(folder):
    data = open_data(f"folder:{folder}")
    for file in (folder / "cat").iterdir():
        file.unlink()
    with pytest.raises(PrivynetError, match="no longer can"):
        data.split("head-train").images(16)


def test_class_without_readable_image_is_refused(folder):
    (folder / "eel").mkdir()
    (folder / "eel" / "empty.jpg").touch()
    with pytest.raises(InputError, match="class 'eel' has no"):
        open_data(f"folder:{folder}", progress=Warnings())


def test_folder_without_any_image_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "readme.md").write_text("none")
    with pytest.raises(InputError, match="holds no readable image"):
        open_data(f"folder:{tmp_path}", progress=Warnings())


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_data(f"folder:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("names", [(), ("cat",)])
def test_fewer_than_two_classes_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        picture(0).save(tmp_path / name / "0.png")
    with pytest.raises(InputError, match="at least two"):
        open_data(f"folder:{tmp_path}")


def test_train_and_val_are_not_taken_for_two_classes(tmp_path):
    for half in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / half / name).mkdir(parents=True)
            picture(0).save(tmp_path / half / name / "0.png")
    with pytest.raises(InputError, match="lies inside the class 'train'"):
        open_data(f"folder:{tmp_path}")


def test_a_third_half_is_refused(tmp_path):
    for half in ("train", "test", "val"):
        (tmp_path / half / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="val beside train and test"):
        open_data(f"folder:{tmp_path}")


def test_class_names_need_not_be_unicode(folder):
    (folder / "cat").rename(folder / os.fsdecode(b"cat\xff"))
    assert len(open_data(f"folder:{folder}").classes) == 2


def save(image, path, **options):
    image.save(path, **options)
    return np.asarray(decode(path))


def test_exif_orientation_is_applied(tmp_path):
    image, exif = picture(0), Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(save(image, tmp_path / "a.png", exif=exif), np.rot90(np.asarray(image), k=3))


def test_large_jpegs_come_out_alike_when_the_decoder_scales_them(tmp_path):
    ramp = np.linspace(0, 255, 720)
    pixels = np.stack(np.broadcast_arrays(ramp[:540, None], ramp[None, :], 128.0), axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(20):
            image = Image.fromarray(np.roll(pixels, number, axis=2) // (1 + number % 5))
            image.save(tmp_path / name / f"{number}{name}.jpg", exif=exif, quality=60 + number)
    split = open_data(f"folder:{tmp_path}", image_size=32).split("head-train")
    files = sorted((tmp_path / "cat").iterdir()) + sorted((tmp_path / "dog").iterdir())
    for index, found in zip(split.indices, split.images(32), strict=True):
        whole = ImageOps.fit(decode(files[index]), (32, 32), method=Image.Resampling.BILINEAR)
        assert np.abs(found.astype(int) - np.asarray(whole, int)).max() <= 4


def test_grey_and_palette_become_rgb(tmp_path):
    grey = picture(0).convert("L")
    expected = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    assert np.array_equal(save(grey, tmp_path / "grey.png"), expected)
    palette = picture(0).quantize(16)
    assert np.array_equal(save(palette, tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))


def test_transparent_pixels_become_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    found = save(Image.fromarray(pixels), tmp_path / "a.png")
    assert found[0, 0].tolist() == [10, 20, 30]
    assert (found.reshape(-1, 3)[1:] == 255).all()


def test_sixteen_bit_grey_keeps_its_upper_bits(tmp_path):
    values = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    found = save(Image.fromarray(values), tmp_path / "a.png")
    assert np.array_equal(found[:, :, 0], values >> 8)
    assert (found == found[:, :, :1]).all()


def test_bomb_is_unreadable_and_not_decoded(tmp_path):
    file = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(file)
    with pytest.raises(UnreadableImage):
        decode(file)


FILES = {}
for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
    stream = io.BytesIO()
    picture(1).save(stream, kind)
    FILES[kind] = stream.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_decoded_or_unreadable_and_nothing_else(tmp_path_factory, kind, cut, changes):
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[int(place * len(data))] = value
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(data if cut > 0.5 else data[: int(2 * cut * len(data))])
    with contextlib.suppress(UnreadableImage):
        assert decode(file).mode == "RGB"
