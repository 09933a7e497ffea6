"""Training learns what can be learned, repeats itself exactly, resumes, and stays silent."""

import signal
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from privynet.cloud import FeatureSet, fit_head
from privynet.errors import InputError


def blobs(n, *, seed, classes=4, shape=(6, 4, 4), noise=1.0):
    """Gaussian classes around fixed random means; no classifier beats the linear one by more than chance."""
    means = np.random.default_rng(0).normal(size=(classes, *shape)) * 0.25
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = means[labels] + noise * generator.normal(size=(n, *shape))
    return FeatureSet(features.astype(np.float32), labels.astype(np.int64))


def weights(fitted):
    return {name: tensor.numpy() for name, tensor in fitted.module.state_dict().items()}


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


class Interrupting:
    """A progress that raises after some epochs, and remembers what it was told."""

    def __init__(self, after=None, error=RuntimeError):
        self.after, self.error = after, error
        self.steps, self.notes = 0, []

    @contextmanager
    def task(self, description, total=None):
        yield self

    def advance(self, steps=1, *, note=None):
        self.steps += steps
        self.notes.append(note)
        if self.after is not None and self.steps >= self.after:
            raise self.error

    def warn(self, message):
        raise AssertionError(message)


@pytest.mark.parametrize("model", ["auto", "linear", "mlp"])
def test_head_is_as_good_as_logistic_regression_on_gaussian_classes(model):
    train, val, test = blobs(800, seed=1), blobs(200, seed=2), blobs(2000, seed=3)
    oracle = LogisticRegression(C=0.1, max_iter=500).fit(train.features.reshape(800, -1), train.labels)
    expected = oracle.score(test.features.reshape(2000, -1), test.labels)
    fitted = fit_head(train, val, classes=4, model=model, max_epochs=20)
    reached = (fitted.predict(test.features) == test.labels).mean()
    # convolutions share weights over positions, which these classes give no reason for
    slack = 0.08 if model == "auto" else 0.04
    assert reached >= expected - slack
    assert expected > 0.7


def test_default_head_reads_digits_from_a_random_convolution():
    digits = load_digits()
    images = torch.nn.functional.interpolate(
        torch.tensor(digits.images / 16).float()[:, None], size=32, mode="bilinear"
    )
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(12, 1, 3, 3, generator=generator)
    features = torch.nn.functional.conv2d(images, kernel, stride=2, padding=1).relu().numpy()
    order = np.random.default_rng(0).permutation(len(features))
    train, val, test = order[:790], order[790:1000], order[1000:]
    labels = digits.target.astype(np.int64)
    fitted = fit_head(
        FeatureSet(features[train], labels[train]), FeatureSet(features[val], labels[val]), classes=10
    )
    assert (fitted.predict(features[test]) == labels[test]).mean() >= 0.97


def test_statistics_are_those_of_the_training_features_and_constant_channels_stay_finite():
    train = blobs(200, seed=1)
    train.features[:, 1] = 1e-3
    train.features[:, 2] *= 1e4
    fitted = fit_head(train, train, classes=4, max_epochs=1)
    buffers = weights(fitted)
    kept = [0, 2, 3, 4, 5]
    mean = train.features.astype(np.float64).mean((0, 2, 3))
    std = train.features.astype(np.float64).std((0, 2, 3))
    np.testing.assert_allclose(buffers["standardise.mean"].ravel(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(buffers["standardise.scale"].ravel()[kept], 1 / std[kept], rtol=1e-4)
    assert buffers["standardise.scale"].ravel()[1] == 1


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    train, val = blobs(200, seed=1), blobs(60, seed=2)
    before = torch.get_rng_state()
    one = fit_head(train, val, classes=4, max_epochs=3, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    again = fit_head(train, val, classes=4, max_epochs=3, seed=5)
    other = fit_head(train, val, classes=4, max_epochs=3, seed=6)
    assert_equal_weights(weights(one), weights(again))
    assert any((weights(one)[name] != weights(other)[name]).any() for name in weights(one))


def test_memory_mapped_half_precision_trains_like_the_same_values_in_memory(tmp_path):
    train, val = blobs(200, seed=1), blobs(60, seed=2)
    half = train.features.astype(np.float16)
    np.save(tmp_path / "features.npy", half)
    mapped = FeatureSet(np.load(tmp_path / "features.npy", mmap_mode="r"), train.labels)
    in_memory = FeatureSet(half.astype(np.float32), train.labels)
    assert_equal_weights(
        weights(fit_head(mapped, val, classes=4, max_epochs=2)),
        weights(fit_head(in_memory, val, classes=4, max_epochs=2)),
    )


@pytest.mark.parametrize("after", [1, 3, 6])
def test_interrupted_training_resumes_to_the_weights_of_the_uninterrupted_one(tmp_path, after):
    train, val = blobs(200, seed=1), blobs(60, seed=2)
    whole = fit_head(train, val, classes=4, max_epochs=6)
    with pytest.raises(RuntimeError):
        fit_head(train, val, classes=4, max_epochs=6, checkpoints=tmp_path, progress=Interrupting(after))
    progress = Interrupting()
    resumed = fit_head(train, val, classes=4, max_epochs=6, checkpoints=tmp_path, progress=progress)
    assert resumed.epochs == whole.epochs == 6
    assert progress.notes[0] == "resumed" or after == 1
    assert_equal_weights(weights(resumed), weights(whole))
    finished = fit_head(train, val, classes=4, max_epochs=6, checkpoints=tmp_path)
    assert finished.epochs == 6
    assert_equal_weights(weights(finished), weights(whole))


def test_training_that_had_ended_early_does_not_go_on_when_resumed(tmp_path):
    train, val = blobs(200, seed=1, noise=0.01), blobs(60, seed=2, noise=5.0)
    options = {"classes": 4, "max_epochs": 40, "patience": 2, "checkpoints": tmp_path}
    first = fit_head(train, val, **options)
    assert first.epochs < 40
    second = fit_head(train, val, **options)
    assert second.epochs == first.epochs
    assert_equal_weights(weights(first), weights(second))


def test_ctrl_c_reaches_the_caller_and_works_a_second_time():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit_head(
            blobs(100, seed=1),
            blobs(40, seed=2),
            classes=4,
            progress=Interrupting(1, KeyboardInterrupt),
        )
    assert signal.getsignal(signal.SIGINT) is handler


def test_training_prints_nothing_warns_of_nothing_and_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_head(blobs(100, seed=1), blobs(40, seed=2), classes=4, max_epochs=2)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def with_nan(data):
    data.features[3, 1, 0, 0] = np.nan
    return data


@pytest.mark.parametrize(
    ("train", "val", "options", "message"),
    [
        (with_nan(blobs(40, seed=1)), blobs(8, seed=2), {}, "training.*NaN"),
        (blobs(40, seed=1), with_nan(blobs(8, seed=2)), {}, "validation.*NaN"),
        (blobs(40, seed=1), blobs(8, seed=2), {"classes": 3}, "label 3.*3 classes"),
        (blobs(40, seed=1), blobs(8, seed=2), {"classes": 5}, "class 4 has no training image"),
        (blobs(40, seed=1), blobs(8, seed=2, shape=(5, 4, 4)), {}, r"\(5, 4, 4\).*\(6, 4, 4\)"),
        (blobs(40, seed=1), blobs(0, seed=2), {}, "validation set holds no image"),
        (blobs(40, seed=1), blobs(8, seed=2), {"max_epochs": 0}, "0 epochs"),
        (blobs(40, seed=1), blobs(8, seed=2), {"accelerator": "gpu"}, "accelerator 'gpu'.*auto, cpu"),
        (blobs(40, seed=1), blobs(8, seed=2), {"model": "resnet"}, "head model 'resnet'"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(train, val, options, message):
    with pytest.raises(InputError, match=message) as caught:
        fit_head(train, val, **{"classes": 4, **options})
    assert "\n" not in str(caught.value)


def test_features_and_labels_that_do_not_fit_are_refused():
    features = np.zeros((4, 2, 1, 1), np.float32)
    for data in ((features, np.zeros(3, np.int64)), (features[0], np.zeros(4, np.int64))):
        with pytest.raises(InputError):
            FeatureSet(*data)
    with pytest.raises(InputError, match="float64"):
        FeatureSet(features.astype(np.float64), np.zeros(4, np.int64))
