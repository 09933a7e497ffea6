"""Every source string: what it opens and what it refuses."""

import contextlib
import pickle
import threading
import urllib.request
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from privynet.data import SPLITS, open_data
from privynet.errors import InputError


@pytest.fixture
def npz(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "set.npz"

    def write(**changes):
        arrays = {
            "images": generator.integers(0, 256, (90, 12, 10, 3), dtype=np.uint8),
            "labels": np.arange(90) % 3,
        } | changes
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return f"npz:{path}"

    return write


def test_digits_are_scikit_learns_at_32_pixels():
    data = open_data("digits")
    digits = load_digits()
    assert (len(data), data.classes, data.reference_size) == (1797, tuple("0123456789"), 32)
    assert np.array_equal(data.labels, digits.target)
    split = data.split("select")
    images = split.images(32)
    assert images.dtype == np.uint8
    assert images.shape == (len(split), 32, 32, 3)
    assert (images == images[..., :1]).all()
    native = split.images(8)[..., 0]
    assert np.abs(native / 255 - digits.images[split.indices] / 16).max() <= 0.5 / 255


def test_digits_open_the_same_every_time():
    first, second = open_data("digits"), open_data("digits")
    assert first.digest == second.digest
    for name in SPLITS:
        assert np.array_equal(first.split(name).indices, second.split(name).indices)


def test_npz_images_are_resized_and_cropped_as_pillow_does(npz):
    images = np.random.default_rng(0).integers(0, 256, (90, 12, 10, 3), dtype=np.uint8)
    data = open_data(npz(images=images), image_size=20)
    assert (data.classes, data.reference_size, len(data)) == (("0", "1", "2"), 20, 90)
    split = data.split("head-train")
    for small, large in zip(images[split.indices], split.images(20), strict=True):
        shorter_side_resized = Image.fromarray(small).resize((20, 24), Image.Resampling.BILINEAR)
        assert np.array_equal(large, np.asarray(shorter_side_resized)[2:22])


def test_npz_centre_crop_is_the_centre(npz):
    images = np.random.default_rng(0).integers(0, 256, (90, 12, 10, 3), dtype=np.uint8)
    split = open_data(npz(images=images)).split("head-train")
    assert np.array_equal(split.images(10), images[split.indices, 1:11])


def test_npz_grey_is_repeated_and_labels_may_be_names(npz):
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8, 1), dtype=np.uint8)
    data = open_data(npz(images=images, labels=np.array(["pear", "fig"] * 45)))
    assert data.classes == ("fig", "pear")
    split = data.split("head-train")
    assert np.array_equal(split.images(8), np.repeat(images[split.indices], 3, axis=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "has no array 'labels'"),
        ({"images": None}, "has no array 'images'"),
        ({"images": np.zeros((90, 8, 8, 3), np.float32)}, "images are float32"),
        ({"images": np.zeros((90, 8, 8), np.uint8)}, r"images are uint8 \(90, 8, 8\)"),
        ({"images": np.zeros((90, 3, 8, 8), np.uint8)}, r"images are uint8 \(90, 3, 8, 8\)"),
        ({"images": np.zeros((90, 0, 8, 3), np.uint8)}, r"images are uint8 \(90, 0, 8, 3\)"),
        ({"labels": np.zeros(90)}, "labels are float64"),
        ({"labels": np.zeros((90, 2), np.int64)}, "labels are int64"),
        ({"labels": np.arange(89)}, "90 images but 89 labels"),
        ({"labels": np.zeros(90, np.int64)}, "only the class '0'"),
        ({"labels": np.array([0, "1"] * 45, object)}, "pickled"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.arange(0)}, "holds no images"),
    ],
)
def test_npz_that_does_not_fit_is_refused(npz, changes, message):
    with pytest.raises(InputError, match=message):
        open_data(npz(**changes))


def test_pickles_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('opened')",))

    path = tmp_path / "trap.npz"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="no npz file"):
        open_data(f"npz:{path}")


def test_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="no npz file"):
        open_data(f"npz:{tmp_path / 'one.npy'}")


def test_zip_of_something_else_is_no_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images", b"no array")
        archive.writestr("labels", b"no array")
    with pytest.raises(InputError, match="no npz file"):
        open_data(f"npz:{tmp_path / 'set.npz'}")


def test_missing_npz_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_data(f"npz:{tmp_path / 'nowhere.npz'}")


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_npz_opens_or_is_refused_and_nothing_else(tmp_path_factory, place, value, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez(path, images=np.arange(480, dtype=np.uint8).reshape(10, 4, 4, 3), labels=np.arange(10) % 2)
    data = bytearray(path.read_bytes())
    position = int(place * len(data))
    data[position] = value
    path.write_bytes(data[:position] if cut else data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(InputError):
            assert len(open_data(f"npz:{path}")) == 10


@pytest.mark.parametrize("source", ["cifar", "imagenet", "", "folder", "digits:", "zip:x"])
def test_unknown_source_is_refused_with_the_allowed_ones(source):
    with pytest.raises(InputError, match=r"unknown data source.*cifar100.*folder:PATH"):
        open_data(source)


@pytest.mark.parametrize("source", ["folder:", "npz:"])
def test_source_without_its_path_is_refused(source):
    with pytest.raises(InputError, match="names no path"):
        open_data(source)


@pytest.mark.parametrize("image_size", [0, -1, 1025])
def test_image_size_out_of_range_is_refused(image_size):
    with pytest.raises(InputError, match="allowed: 1 to 1024"):
        open_data("digits", image_size=image_size)


def send_everything_to(port):
    """Let urllib ask this port of this machine for every URL."""
    proxy = f"http://127.0.0.1:{port}"
    urllib.request.install_opener(
        urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    )


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No way out (a proxy that nobody serves) and an empty cache."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("PRIVYNET_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    send_everything_to(9)
    yield tmp_path
    urllib.request.install_opener(None)


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "fashion-mnist"])
def test_offline_without_the_files_says_what_to_set(offline, source, capsys):
    with pytest.raises(InputError, match=r"cannot be downloaded.*set PRIVYNET_DATA") as caught:
        open_data(source)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


class Junk(BaseHTTPRequestHandler):
    """A mirror that answers everything with the wrong bytes."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(b"junk")

    def log_message(self, *arguments):
        pass


def test_download_of_another_checksum_is_refused_and_leaves_nothing(offline):
    with ThreadingHTTPServer(("127.0.0.1", 0), Junk) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        send_everything_to(server.server_port)
        with pytest.raises(InputError, match="File not found or corrupted"):
            open_data("fashion-mnist")
        server.shutdown()
    assert list((offline / "cache" / "privynet" / "data").iterdir()) == []


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_files_of_another_checksum_are_never_unpickled(offline, monkeypatch, source):
    monkeypatch.setenv("PRIVYNET_DATA", str(offline))
    folder = offline / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[source]
    folder.mkdir()
    for name in (
        "batches.meta",
        "meta",
        "train",
        "test",
        "test_batch",
        *(f"data_batch_{n}" for n in range(1, 6)),
    ):
        (folder / name).write_bytes(pickle.dumps({"data": 0}))
    with pytest.raises(InputError, match="incomplete or damaged"):
        open_data(source)


def write_fashion(root, train, test):
    """Files in the IDX format that Fashion-MNIST is published in."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for half, (images, labels) in (("train", train), ("t10k", test)):
        header = b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes()
        (raw / f"{half}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"\0\0\x08\x01" + np.array(labels.shape, ">u4").tobytes()
        (raw / f"{half}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return raw


def test_fashion_mnist_is_read_from_its_folder(offline, monkeypatch):
    monkeypatch.setenv("PRIVYNET_DATA", str(offline))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 28, 28), dtype=np.uint8)
    labels = (np.arange(300) % 10).astype(np.uint8)
    raw = write_fashion(offline, (images[:200], labels[:200]), (images[200:], labels[200:]))
    data = open_data("fashion-mnist")
    assert (len(data), len(data.classes), data.reference_size) == (300, 10, 32)
    test = data.split("test")
    assert sorted(test.indices) == list(range(200, 300))
    footwear = [
        data.classes[label] for label in np.unique(data.labels[data.attributes["footwear"].values == 0])
    ]
    assert footwear == ["Sandal", "Sneaker", "Ankle boot"]
    assert np.array_equal(test.images(28)[..., 1], images[test.indices])
    assert test.images(32).shape == (100, 32, 32, 3)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(InputError, match="incomplete or damaged"):
        open_data("fashion-mnist")


@pytest.mark.shared_data
def test_cifar10_keeps_its_test_set(shared, monkeypatch):
    monkeypatch.setenv("PRIVYNET_DATA", str(shared / "data"))
    data = open_data("cifar10")
    assert (len(data), data.classes[0], data.reference_size) == (60_000, "airplane", 32)
    test = data.split("test")
    assert set(range(50_000, 60_000)) <= set(test.indices.tolist())
    assert np.bincount(test.labels[test.indices >= 50_000]).tolist() == [1000] * 10
    assert sum(len(data.split(name)) for name in SPLITS) == 60_000
    animal = data.attributes["animal"]
    animals = np.unique(data.labels[animal.values == animal.classes.index("animal")])
    assert [data.classes[label] for label in animals] == ["bird", "cat", "deer", "dog", "frog", "horse"]
