"""Thousands of changed artifacts, and what ``privynet verify --without-torch`` says of each.

    python benchmarks/hostile_artifacts.py --size small    # 6,000, about ten minutes
    python benchmarks/hostile_artifacts.py --size full     # 60,000

Each artifact is one of several of the bundled backbone (float32; noise and a byte a value, signed; 4
bits; int8), changed as ``artifact_mutations.py`` says, with a seed of its own: ``--only N`` runs one again.
``verify`` runs in a worker that is watched: one that dies is a crash, one that takes longer than the limit a
hang. Of those that were **accepted**:

- ``unchanged``: the change left every byte as it was sealed.
- ``same``: resealed, and the encoder gives what it gave, within the tolerance, for images that no check feeds
  (another README, other claims in the manifest, bits of a weight that do not matter).
- ``other``: resealed, and it gives something else. Digests, graph and self-test cannot know; ``with_torch``
  says how many of these a check with torch refuses or warns of. A signature refuses all that is resealed.

Of those refused, ``died`` counts where loading or running crashed or took too much: it ended the process of
its own that it is done in.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from artifact_mutations import MUTATIONS, mutate
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from measured_rows import machine

from privynet.artifacts import Artifact
from privynet.encoders import Payload, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError, PrivynetError
from privynet.exporters import export, verify
from privynet.exporters.agreement import compare
from privynet.exporters.int8 import in_int8

COUNTS = {"small": 6_000, "full": 60_000}
LIMIT_S = 300.0
"""Beyond the time that a check allows itself."""
MEMORY_BYTES = 6 * 2**30


@dataclass(frozen=True)
class Outcome:
    """What became of one changed artifact."""

    number: int
    kind: str
    resealed: bool
    answer: str
    """One of ``ANSWERS``."""
    seconds: float
    said: str


def make_bases(folder: Path) -> list[Path]:
    """The artifacts to change."""
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    plain = make_encoder(splitter, cut="blocks.2.2", channels=range(0, 24, 3), salt="0" * 32)
    byte = plain.sending(payload=Payload(bits=8, scale=0.05, zero_point=40), noise_std=0.2)
    packed = plain.sending(payload=Payload(bits=4, scale=0.4, zero_point=4))
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    integers, _ = in_int8(plain, images)
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    bases = []
    for name, encoder in {"plain": plain, "byte": byte, "packed": packed, "int8": integers}.items():
        encoder.spec.write(folder / f"{name}.json")
        export(folder / f"{name}.json", out=folder / name, sign=folder / "key" if name == "byte" else None)
        bases.append(folder / name)
    return bases


def run_one(number: int, seed: int, bases: list[Path], place: Path) -> Outcome:
    """Change one artifact and check it."""
    chance = random.Random(f"{seed} {number}")
    mutation = MUTATIONS[number % len(MUTATIONS)]
    base, other = chance.sample(bases, 2)
    started = time.monotonic()

    def outcome(answer: str, said: str) -> Outcome:
        seconds = time.monotonic() - started
        return Outcome(number, mutation.name, mutation.resealed, answer, seconds, said[:300])

    path = mutate(mutation, chance, base, other, place)
    started = time.monotonic()
    try:
        found = verify(path, without_torch=True, seed=seed)["findings"]
    except InputError as error:
        return outcome("refused 2", str(error))
    except PrivynetError as error:
        return outcome("error 1", str(error))
    except Exception:  # what a user would see as one, whatever it is
        return outcome("traceback", traceback.format_exc()[-300:])
    if found:
        return outcome("refused 3", f"{found[0]['code']}: {found[0]['message']}")
    return outcome(*accepted(path, base))


def accepted(path: Path, base: Path) -> tuple[str, str]:
    """How what was accepted differs from what was sealed."""
    changed, sealed = Artifact.open(path), Artifact.open(base)
    names = {file.name for file in changed.folder.iterdir()} | {file.name for file in base.iterdir()}
    differ = [
        name
        for name in sorted(names)
        if not ((changed.folder / name).exists() and (base / name).exists())
        or (changed.folder / name).read_bytes() != (base / name).read_bytes()
    ]
    if not differ:
        return "unchanged", ""
    one, two = changed.session(), sealed.session()
    if (one.payload, one.feature_shape, one.noise_std) != (two.payload, two.feature_shape, two.noise_std):
        return "other", "another payload"
    drawn = np.random.default_rng(7)
    images = drawn.integers(0, 256, (32, two.input_size, two.input_size, 3), dtype=np.uint8)
    noise = drawn.standard_normal((32, *two.feature_shape), np.float32) if two.noise else None
    found = compare(one.send(images, noise), two.send(images, noise), two.payload)
    return ("same" if found.holds else "other"), f"{', '.join(differ)} changed; outputs differ by {found}"


def work(pipe: Connection, seed: int, bases: list[Path]) -> None:
    """A worker: numbers in, outcomes out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while True:
        number = pipe.recv()
        place = Path(tempfile.mkdtemp(prefix="mutated-"))
        try:
            pipe.send(run_one(number, seed, bases, place))
        finally:
            shutil.rmtree(place, ignore_errors=True)


class Watched:
    """A worker that is started anew when it dies or hangs."""

    def __init__(self, seed: int, bases: list[Path]) -> None:
        self.seed, self.bases = seed, bases
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.seed, self.bases), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, number: int) -> Outcome:
        mutation = MUTATIONS[number % len(MUTATIONS)]
        self.pipe.send(number)
        try:
            if self.pipe.poll(LIMIT_S):
                found: Outcome = self.pipe.recv()
                return found
            answer = "hang"
        except EOFError:
            answer = "crash"
        self.stop()
        self.start()
        return Outcome(number, mutation.name, mutation.resealed, answer, LIMIT_S, "")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def found_with_torch(outcomes: list[Outcome], seed: int, bases: list[Path]) -> dict[str, int]:
    """How many of these a check with torch refuses, and how many of the others it warns of."""
    found = {"refused": 0, "warned": 0}
    for outcome in outcomes:
        with tempfile.TemporaryDirectory() as place:
            chance = random.Random(f"{seed} {outcome.number}")
            base, other = chance.sample(bases, 2)
            mutation = MUTATIONS[outcome.number % len(MUTATIONS)]
            path = mutate(mutation, chance, base, other, Path(place))
            try:
                severities = {one["severity"] for one in verify(path, seed=seed)["findings"]}
            except InputError:
                severities = {"error"}
            found["refused"] += "error" in severities
            found["warned"] += severities == {"warning"}
    return found


ANSWERS = ("refused 3", "refused 2", "unchanged", "same", "other", "error 1", "traceback", "crash", "hang")


def show(outcomes: list[Outcome]) -> None:
    """The table."""
    rows: dict[tuple[bool, str], list[Outcome]] = defaultdict(list)
    for one in outcomes:
        rows[one.resealed, one.kind].append(one)
    head = ["kind of change", "n", *ANSWERS, "died", "slowest s"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for (resealed, kind), found in rows.items():
        print(line(f"{kind}, resealed" if resealed else kind, found))
    print(line("all", outcomes))


def line(title: str, found: list[Outcome]) -> str:
    counts = Counter(one.answer for one in found)
    cells = [title, len(found), *(counts[answer] for answer in ANSWERS), sum(map(died, found))]
    return "| " + " | ".join(map(str, cells)) + f" | {max(one.seconds for one in found):.1f} |"


def died(outcome: Outcome) -> bool:
    return "crashes what loads it" in outcome.said or " takes more than " in outcome.said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=COUNTS, default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this one alone, and show what was said")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bases = make_bases(Path(folder))
        if arguments.only is not None:
            (Path(folder) / "place").mkdir()
            print(run_one(arguments.only, arguments.seed, bases, Path(folder) / "place"))
            return
        worker = Watched(arguments.seed, bases)
        started, outcomes = time.monotonic(), []
        for number in range(COUNTS[arguments.size]):
            outcomes.append(worker.run(number))
            if number % 200 == 199:
                print(f"{number + 1} in {time.monotonic() - started:.0f} s", flush=True)
        worker.stop()
        others = [one for one in outcomes if one.answer == "other"]
        with_torch = found_with_torch(others, arguments.seed, bases)
    show(outcomes)
    told = f"parity with torch refuses {with_torch['refused']}, and warns of {with_torch['warned']}"
    print(f"\nof {len(others)} that give something else, {told}")
    for one in outcomes:
        if one.answer in ("error 1", "traceback", "crash", "hang") or (
            not one.resealed and one.answer == "other"
        ):
            print(one)
    results = Path(__file__).parent / "results" / f"hostile_artifacts-{arguments.size}.json"
    document: dict[str, Any] = {
        "machine": machine(),
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - started),
        "with_torch": with_torch,
        "died": [asdict(one) for one in outcomes if died(one)],
        "accepted": [asdict(one) for one in outcomes if one.answer in ("same", "other")],
        "counts": [
            {
                "kind": kind,
                "resealed": resealed,
                **Counter(one.answer for one in outcomes if key(one) == (kind, resealed)),
            }
            for kind, resealed in dict.fromkeys(map(key, outcomes))
        ],
    }
    results.write_text(json.dumps(document, indent=1) + "\n")


def key(outcome: Outcome) -> tuple[str, bool]:
    return outcome.kind, outcome.resealed


if __name__ == "__main__":
    main()
