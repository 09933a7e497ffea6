"""Private attributes: from files and arrays, built in, and what they do not change."""

import numpy as np
import pytest
from PIL import Image

from privynet.data import SPLITS, open_data
from privynet.errors import InputError

DIGITS_DIGEST = "8216a404eb08eaec"


@pytest.fixture
def npz(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)

    def write(**arrays):
        np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(90) % 3, **arrays)
        return f"npz:{tmp_path / 'set.npz'}"

    return write


@pytest.fixture
def folder(tmp_path):
    """Sixty images, brighter the higher their number."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
    for number in range(60):
        name = tmp_path / ("dog" if number % 3 else "cat") / f"{number}.png"
        Image.fromarray(np.full((16, 16, 3), 4 * number, np.uint8)).save(name)
    return tmp_path


def rows(folder):
    files = sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*.png"))
    return [f"{file},{'old' if int(file[4:-4]) >= 30 else 'new'},p{int(file[4:-4]) % 5}" for file in files]


def write(folder, lines, *, encoding="utf-8", newline="\n"):
    (folder / "attributes.csv").write_bytes(newline.join(lines).encode(encoding))
    return f"folder:{folder}"


def test_data_without_attributes_are_what_they_were(npz, folder):
    for source in (npz(), f"folder:{folder}"):
        data = open_data(source)
        assert dict(data.attributes) == {}
        with pytest.raises(InputError, match=r"no attributes, so no 'age'; give some.*attributes\.csv"):
            data.split("head-train").attribute("age")


def test_folder_attributes_follow_their_images(folder):
    lines = ["file,age,person", *rows(folder)]
    data = open_data(write(folder, [lines[0], *lines[:0:-1]]))
    age, person = data.attributes["age"], data.attributes["person"]
    assert (age.classes, person.classes) == (("new", "old"), ("p0", "p1", "p2", "p3", "p4"))
    for name in SPLITS:
        split = data.split(name)
        numbers = split.images(16)[:, 0, 0, 0] // 4
        np.testing.assert_array_equal(split.attribute("age"), numbers >= 30)
        np.testing.assert_array_equal(split.attribute("person"), numbers % 5)
        assert split.attribute("age").dtype == np.int64


def test_attributes_move_no_image_and_are_part_of_the_digest(folder):
    plain = open_data(f"folder:{folder}")
    lines = ["file,age,person", *rows(folder)]
    given = open_data(write(folder, lines))
    for name in SPLITS:
        np.testing.assert_array_equal(given.split(name).indices, plain.split(name).indices)
    cells = [line.split(",") for line in lines]
    other_order = open_data(write(folder, [f"{file},{second},{first}" for file, first, second in cells]))
    lines[7] = lines[7].replace("new", "OLD").replace("old", "new").replace("OLD", "old")
    changed = open_data(write(folder, lines))
    assert other_order.digest == given.digest
    assert len({plain.digest, given.digest, changed.digest}) == 3


def test_spreadsheets_write_marks_blank_lines_quotes_and_spaces(folder):
    lines = ["file, age ,person", *rows(folder)]
    expected = open_data(write(folder, ["file,age,person", *lines[1:]])).digest
    lines[2] = lines[2].replace(",old,", ", old ,").replace(",new,", ", new ,")
    lines[3] = '"' + lines[3].replace(",", '","') + '"'
    source = write(folder, [*lines, ""], encoding="utf-8-sig", newline="\r\n")
    assert open_data(source).digest == expected


def test_unreadable_images_may_have_rows(folder):
    source = write(folder, ["file,age,person", "cat/bad.png,old,nobody", *rows(folder)])
    (folder / "cat" / "bad.png").write_bytes(b"no image")
    data = open_data(source)
    assert len(data) == 60
    assert "nobody" not in data.attributes["person"].classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], r"has no line for 'dog/\d+\.png'"),
        (lambda lines: [*lines, "cat/none.png,old,p1"], r"line 62: there is no file 'cat/none\.png'"),
        (lambda lines: [*lines, "..\\cat\\0.png,old,p1"], r"line 62: there is no file"),
        (lambda lines: [*lines, lines[1]], r"line 62: '.*' already has line 2"),
        (lambda lines: [*lines[:4], "cat/9.png, ,p1", *lines[4:]], "line 5: the value of 'age' is empty"),
        (lambda lines: [*lines[:4], "cat/9.png,old", *lines[4:]], "line 5: 2 values, not 3"),
        (lambda lines: [*lines[:4], "cat/9.png,old,p1,x", *lines[4:]], "line 5: 4 values, not 3"),
        (lambda lines: [*lines[:4], '"cat/9.png,old,p1', *lines[4:]], "line 6[12]: unexpected end"),
        (lambda lines: ["file,label,person", *lines[1:]], "line 1: 'label' cannot name an attribute"),
        (lambda lines: ["file,,person", *lines[1:]], "line 1: '' cannot name an attribute"),
        (lambda lines: ["file,age,age", *lines[1:]], "line 1: attribute 'age' stands there twice"),
        (lambda lines: ["image,age,person", *lines[1:]], "line 1: the header is 'image,age,person'"),
        (lambda lines: ["file"], "line 1: the header is 'file'"),
        (lambda lines: [], "line 1: the header is ''"),
        (lambda lines: [line.replace("old", "new") for line in lines], "'age' has only the value 'new'"),
        (lambda lines: [line.replace("old", "o\x07ld") for line in lines], r"value 'o\\x07ld'"),
    ],
)
def test_attributes_csv_that_does_not_fit_is_refused_in_one_line(folder, change, message):
    with pytest.raises(InputError, match=message) as caught:
        open_data(write(folder, change(["file,age,person", *rows(folder)])))
    assert "\n" not in str(caught.value)


def test_attributes_csv_that_is_not_utf8_is_refused(folder):
    lines = ["file,age,person", *rows(folder)]
    lines[5] = lines[5] + "é"
    with pytest.raises(InputError, match="line 6: not UTF-8"):
        open_data(write(folder, lines, encoding="latin-1"))
    (folder / "attributes.csv").unlink()
    (folder / "attributes.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        open_data(f"folder:{folder}")


def test_npz_arrays_are_attributes(npz):
    person, eyes = np.arange(90) % 7, np.array(["brown", "blue", "brown"] * 30)
    data = open_data(npz(attribute_person=person, attribute_eyes=eyes, attributes=eyes == "blue"))
    assert set(data.attributes) == {"person", "eyes", "attribute"}
    assert data.attributes["person"].classes == tuple("0123456")
    np.testing.assert_array_equal(data.attributes["person"].values, person)
    np.testing.assert_array_equal(data.attributes["eyes"].values, eyes == "brown")
    np.testing.assert_array_equal(data.attributes["attribute"].values, eyes == "blue")
    split = data.split("select")
    np.testing.assert_array_equal(split.attribute("person"), person[split.indices])
    assert data.digest != open_data(npz()).digest


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"attribute_x": np.arange(89)}, "90 images but 89 values in attribute_x"),
        ({"attribute_x": np.zeros((90, 2), int)}, r"attribute_x is int64 \(90, 2\)"),
        ({"attribute_x": np.arange(90) / 2}, "attribute_x is float64"),
        ({"attribute_x": np.array([0, "1"] * 45, object)}, "pickled"),
        ({"attribute_x": np.zeros(90, int)}, "'x' has only the value '0'"),
        ({"attribute_x": np.array(["a", ""] * 45)}, "'x' has an empty value"),
        ({"attribute_label": np.arange(90)}, "'label' cannot name an attribute"),
        ({"attribute_": np.arange(90)}, "'' cannot name an attribute"),
        ({"attributes": np.arange(90), "attribute_attribute": np.arange(90)}, "'attribute' twice"),
    ],
)
def test_npz_attributes_that_do_not_fit_are_refused(npz, arrays, message):
    with pytest.raises(InputError, match=message):
        open_data(npz(**arrays))


def test_digits_have_parity_and_the_digest_they_had():
    data = open_data("digits")
    parity = data.attributes["parity"]
    np.testing.assert_array_equal(np.array(parity.classes)[parity.values] == "odd", data.labels % 2 == 1)
    assert data.digest.startswith(DIGITS_DIGEST)
    with pytest.raises(InputError, match="unknown attribute 'party'; did you mean parity"):
        data.split("test").attribute("party")
