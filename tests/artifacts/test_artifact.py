"""An artifact opens as it was sealed, or not at all."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.artifacts import (
    Artifact,
    BrokenArtifact,
    RuntimeSupport,
    file_digest,
    manifest_digest,
    seal,
)
from privynet.errors import InputError, NegativeResult, PrivynetError

from .conftest import BODY, write_members

MEMBERS = ["README.md", "encoder.json", "encoder.onnx", "manifest.json", "selftest.npz"]


def rewrite(folder, change):
    """Change the manifest and give it the digest that then fits: what a forger would do."""
    document = json.loads((folder / "manifest.json").read_text())
    change(document)
    document["digest"] = manifest_digest(document)
    (folder / "manifest.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def test_sealed_artifact_opens_with_what_was_put_in(artifact):
    opened = Artifact.open(artifact)
    assert opened.spec == {"cut": "features.3", "channels": [0]}
    assert opened.model == artifact / "encoder.onnx"
    assert opened.manifest.input.shape == (1, 4, 4, 3)
    assert opened.manifest.parity == {"max_abs_error": 1e-6}
    assert opened.manifest.formats == ("onnx",)
    assert opened.manifest.runtimes["nnapi"] == RuntimeSupport(
        supported=False, nodes=3, unsupported=("Gather_2",), partitions=2
    )
    assert sorted(opened.manifest.files) == [name for name in MEMBERS if name != "manifest.json"]
    for name, info in opened.manifest.files.items():
        assert (info.sha256, info.bytes) == (file_digest(artifact / name), (artifact / name).stat().st_size)


def test_session_encodes_as_the_graph_says(artifact):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    encoder = Artifact.open(artifact).session(threads=2)
    assert (encoder.digest, encoder.input_size, encoder.feature_shape) == ("5" * 64, 4, (1, 4, 4))
    assert np.array_equal(encoder.encode(images)[:, 0], images[..., 0] / np.float32(2))


def test_same_members_seal_to_the_same_bytes(artifact, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    (copy / "manifest.json").unlink()
    seal(copy, dict(reversed(BODY.items())))
    assert (copy / "manifest.json").read_bytes() == (artifact / "manifest.json").read_bytes()


@pytest.mark.parametrize("name", MEMBERS)
@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_is_refused(tmp_path_factory, name, place, change):
    folder = tmp_path_factory.getbasetemp() / f"changed-{name}"
    if not folder.exists():
        write_members(folder)
        seal(folder, BODY)
    original = (folder / name).read_bytes()
    data = bytearray(original)
    data[int(place * len(data))] ^= change
    (folder / name).write_bytes(data)
    try:
        with pytest.raises((NegativeResult, InputError)):
            Artifact.open(folder)
    finally:
        (folder / name).write_bytes(original)
    Artifact.open(folder)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "manifest.json"])
@pytest.mark.parametrize("change", ["changed", "cut", "grown", "missing", "symlink", "folder", "fifo"])
def test_member_that_is_not_what_was_sealed_is_refused(artifact, tmp_path, name, change):
    member = artifact / name
    data = member.read_bytes()
    member.unlink()
    if change == "changed":
        member.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif change == "cut":
        member.write_bytes(data[:-1])
    elif change == "grown":
        member.write_bytes(data + b"\0")
    elif change == "symlink":
        (tmp_path / "elsewhere").write_bytes(data)
        member.symlink_to(tmp_path / "elsewhere")
    elif change == "folder":
        member.mkdir()
    elif change == "fifo":
        os.mkfifo(member)
    with pytest.raises(NegativeResult, match=name):
        Artifact.open(artifact)


def test_manifest_behind_a_symlink_is_refused(artifact, tmp_path):
    (artifact / "manifest.json").rename(tmp_path / "manifest.json")
    (artifact / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(NegativeResult, match="not a plain file"):
        Artifact.open(artifact)


@pytest.mark.parametrize("name", ["encoder.onnx.data", ".hidden", "zebra"])
def test_extra_member_is_refused(artifact, name):
    (artifact / name).touch()
    with pytest.raises(NegativeResult, match=f"{name}' does not belong"):
        Artifact.open(artifact)


def test_huge_member_is_refused_before_it_is_read(artifact):
    with (artifact / "README.md").open("wb") as stream:
        stream.truncate(2**40)
    rewrite(artifact, lambda document: document["files"]["README.md"].update(bytes=2**40))
    with pytest.raises(NegativeResult, match="more than the 1048576 allowed"):
        Artifact.open(artifact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.update(extra=1), "extra"),
        (lambda document: document.pop("opset"), "opset"),
        (lambda document: document.pop("runtimes"), "runtimes"),
        (lambda document: document["runtimes"].update(tpu=document["runtimes"]["nnapi"]), "runtimes.tpu"),
        (lambda document: document.update(formats=["onnx", "ort"]), "encoder.ort is missing"),
        (lambda document: document.update(formats=["onnx", "onnx"]), "not sorted"),
        (lambda document: document.update(formats=["executorch", "onnx"]), "encoder.pte is missing"),
        (lambda document: document.update(formats=[]), "no onnx"),
        (lambda document: document.update(int8={"nodes": 3}), "precision and int8 contradict"),
        (lambda document: document.update(precision="int8"), "precision and int8 contradict"),
        (lambda document: document.update(precision="fp64"), "precision"),
        (lambda document: document["input"].update(shape=[0, 4, 4, 3]), "input.shape"),
        (lambda document: document["input"].update(name="\x1b]0;owned\x07"), "input.name"),
        (lambda document: document["output"].update(dtype="float32\n"), "output.dtype"),
        (
            lambda document: document["runtimes"]["nnapi"].update(unsupported=["\x1b[2Jsound"]),
            r"runtimes\.nnapi\.unsupported\.0",
        ),
        (lambda document: document["runtimes"]["nnapi"].update(unsupported=["x" * 201]), "unsupported"),
        (lambda document: document["tools"].update(torch="2\u202e1"), r"tools\.torch"),
        (lambda document: document["tools"].update({"\x9b31m": "1"}), r"tools\.\?31m"),
        (lambda document: document["tools"].update({"x" * 201: "1"}), "tools"),
        (lambda document: document.update(tool_version="1\r2"), "tool_version"),
        (lambda document: document.update(spec_digest="\x1b[2J"), "spec_digest"),
        (
            lambda document: document["files"]["encoder.onnx"].update(sha256="../x"),
            "files.encoder.onnx.sha256",
        ),
        (lambda document: document["files"].update({"../x": document["files"]["README.md"]}), "'../x'"),
        (lambda document: document["files"].pop("selftest.npz"), "selftest.npz is missing"),
        (lambda document: document.update(limits={"r2": float("nan")}), "what JSON cannot"),
    ],
)
def test_manifest_of_another_form_is_refused_even_with_a_fitting_digest(artifact, change, message):
    if message == "what JSON cannot":
        text = (artifact / "manifest.json").read_text()
        (artifact / "manifest.json").write_text(text.replace("1e-06", "NaN"))
    else:
        rewrite(artifact, change)
    with pytest.raises(NegativeResult, match=message) as caught:
        Artifact.open(artifact)
    assert str(caught.value).isprintable()


def test_the_manifest_that_is_signed_is_the_one_that_was_parsed(artifact, monkeypatch):
    """Somebody may exchange the file while it is checked."""
    data = (artifact / "manifest.json").read_bytes()

    def digest(path):
        (artifact / "manifest.json").write_bytes(b"another")
        return file_digest(path)

    monkeypatch.setattr("privynet.artifacts.artifact.file_digest", digest)
    assert Artifact.open(artifact).manifest_bytes == data
    assert (artifact / "manifest.json").read_bytes() == b"another"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 5000 + "1" + "}" * 5000])
def test_manifest_that_is_no_json_object_is_refused(artifact, text):
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(NegativeResult, match="not a JSON object"):
        Artifact.open(artifact)


def test_deeply_nested_manifest_is_refused(artifact):
    text = (artifact / "manifest.json").read_text()
    (artifact / "manifest.json").write_text(text.replace("1e-06", "[" * 900 + "]" * 900))
    with pytest.raises(NegativeResult):
        Artifact.open(artifact)


def test_not_even_a_space_of_the_manifest_can_be_changed(artifact):
    data = (artifact / "manifest.json").read_bytes()
    (artifact / "manifest.json").write_bytes(data.replace(b"\n ", b"\r ", 1))
    with pytest.raises(NegativeResult, match="was changed after it was written"):
        Artifact.open(artifact)


@pytest.mark.parametrize(
    ("key", "other", "hint"),
    [
        ("schema_version", 2, "reads 1; use the privynet that wrote it"),
        ("artifact_version", 4, "reads 3; use the privynet that wrote it"),
        ("artifact_version", 2, "reads 3; export it again"),
        ("artifact_version", "\n" * 2000, "use the privynet"),
    ],
)
def test_another_version_is_not_for_this_privynet(artifact, key, other, hint):
    rewrite(artifact, lambda document: document.update({key: other}))
    with pytest.raises(InputError, match=hint) as caught:
        Artifact.open(artifact)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_what_is_no_artifact_at_all_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Artifact.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        Artifact.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"manifest_version": 3}')
    with pytest.raises(InputError, match="expected a privynet artifact"):
        Artifact.open(tmp_path)
    with pytest.raises(InputError, match="neither a folder nor a zip"):
        Artifact.open(tmp_path / "manifest.json")


def test_graph_that_is_not_what_the_manifest_says_is_refused(artifact):
    rewrite(artifact, lambda document: document["output"].update(name="other"))
    with pytest.raises(BrokenArtifact, match=r"features float32 \(1, 1, 4, 4\)"):
        Artifact.open(artifact).session()


NOISE = {"name": "noise", "shape": [1, 1, 4, 4], "dtype": "float32"}


@pytest.mark.parametrize(
    "change",
    [
        {"noise_std": 0.5},
        {"noise": NOISE},
        {"noise": {**NOISE, "shape": [1, 1, 4, 5]}, "noise_std": 0.5},
        {"noise": {**NOISE, "dtype": "float16"}, "noise_std": 0.5},
        {"payload": {"bits": 8, "scale": 0.5, "zero_point": 0}},
        {"feature_shape": [2, 4, 4]},
    ],
)
def test_manifest_whose_parts_do_not_fit_together_is_refused(artifact, change):
    rewrite(artifact, lambda document: document.update(change))
    with pytest.raises(BrokenArtifact, match="contradicts itself"):
        Artifact.open(artifact)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("payload", {"bits": 3, "scale": 1.0, "zero_point": 0}),
        ("payload", {"bits": 8, "scale": 0.0, "zero_point": 0}),
        ("payload", {"bits": 8, "scale": 1e-40, "zero_point": 0}),
        ("payload", {"bits": 8, "scale": 1.0, "zero_point": 2**40}),
        ("payload", {"bits": 32, "scale": 2.0, "zero_point": 0}),
        ("payload", "float32"),
        ("noise_std", -1.0),
        ("noise_std", "1"),
    ],
)
def test_payload_or_noise_that_cannot_be_is_refused(artifact, key, value):
    rewrite(artifact, lambda document: document.update({key: value}))
    with pytest.raises(BrokenArtifact, match=f"wrong or missing {key}"):
        Artifact.open(artifact)


def test_a_manifest_that_promises_noise_is_not_believed_of_a_graph_without(artifact):
    rewrite(artifact, lambda document: document.update(noise=NOISE, noise_std=0.5))
    with pytest.raises(InputError, match="1 inputs and 1 outputs"):
        Artifact.open(artifact).session()


def test_every_member_that_is_wrong_is_named(artifact):
    for name in ("README.md", "selftest.npz"):
        (artifact / name).write_bytes(b"other")
    (artifact / "encoder.json").unlink()
    with pytest.raises(BrokenArtifact) as caught:
        Artifact.open(artifact)
    assert [fault.file for fault in caught.value.faults] == ["encoder.json", "README.md", "selftest.npz"]
    assert caught.value.manifest.spec_digest == "5" * 64


def test_incomplete_folder_is_not_sealed(tmp_path):
    write_members(tmp_path / "a")
    (tmp_path / "a" / "selftest.npz").unlink()
    with pytest.raises(ValueError, match=r"selftest\.npz is missing"):
        seal(tmp_path / "a", BODY)
    write_members(tmp_path / "b")
    with pytest.raises(ValueError, match="precision"):
        seal(tmp_path / "b", {**BODY, "precision": "half"})
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_members_of_other_formats_are_sealed_where_they_lie(tmp_path):
    folder = tmp_path / "artifact"
    write_members(folder)
    for name in ("encoder.ort", "required_operators.config", "encoder.mlpackage.zip", "encoder.safetensors"):
        (folder / name).write_bytes(name.encode())
    seal(folder, BODY)
    opened = Artifact.open(folder)
    assert opened.manifest.formats == ("coreml", "onnx", "ort")
    assert opened.manifest.files["encoder.ort"].bytes == len("encoder.ort")
    (folder / "encoder.ort").write_bytes(b"encoder.orT")
    with pytest.raises(BrokenArtifact, match=r"encoder\.ort has another SHA-256"):
        Artifact.open(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.ort", "required_operators.config is missing"),
        ("encoder.onnx.data", "holds encoder.onnx.data, which cannot be sealed"),
        ("manifest.sig", "holds manifest.sig, which cannot be sealed"),
    ],
)
def test_members_that_cannot_be_are_not_sealed(tmp_path, name, message):
    write_members(tmp_path / "a")
    (tmp_path / "a" / name).touch()
    with pytest.raises(ValueError, match=message):
        seal(tmp_path / "a", BODY)
    assert not (tmp_path / "a" / "manifest.json").exists()


def test_a_member_that_no_one_could_open_is_not_sealed(tmp_path):
    write_members(tmp_path / "a")
    (tmp_path / "a" / "README.md").write_bytes(bytes(2**20 + 1))
    with pytest.raises(PrivynetError, match=r"README\.md is larger than the 1048576 bytes"):
        seal(tmp_path / "a", BODY)


def test_full_disk_while_sealing_leaves_no_manifest(tmp_path):
    write_members(tmp_path / "a")
    script = (
        "import resource, sys, pathlib; from privynet.artifacts import seal;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "seal(pathlib.Path(sys.argv[1]), eval(sys.argv[2]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a", repr(BODY)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert f"{PrivynetError.__name__}: no space left while writing" in found.stderr
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [
        m for m in MEMBERS if m != "manifest.json"
    ]
