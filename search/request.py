"""What was asked of a search, and what it opens for that: the same in every process that works on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data import DataSet, Split, open_data
from ..device_profiles import DeviceProfile, load_profile
from ..encoders import BackboneName, Splitter, load_backbone
from ..errors import InputError, unknown
from ..progress import SILENT, Progress
from .constraints import Limits, check_limits
from .evaluation import Budget, check_classes, search_splits
from .opening import backbone_identity, data_identity, device_identity
from .space import Choices, Space, input_sizes
from .study import DEFAULT_STUDY, SAMPLERS, SearchStudy, Storage

MIN_TRAIN_IMAGES = 100
MIN_ATTACK_PAIRS = 50
MIN_SELECT_IMAGES = 20
MIN_IMAGE_SIZE = 16
"""Pixels; smaller images have no structure for the attacks and for SSIM's window."""

MAX_WORKERS = 256

_MAX_SEED = 2**31 - 1

_OF_THE_RUN = ("images", "insecure_fixed_secret", "study")
"""What may differ between the runs that share a study."""


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """The arguments of ``search`` that its processes need. It can be pickled.

    Raises:
        InputError: an unknown sampler, or numbers out of range.
    """

    device: str
    data: str
    backbones: tuple[BackboneName, ...]
    limits: Mapping[str, float]
    trials: int
    timeout_s: float | None
    sampler: str
    input_sizes: tuple[int, ...]
    image_size: int
    budget: Budget
    seed: int
    accelerator: str
    insecure_fixed_secret: bool
    images: bool
    choices: Choices
    certify: int
    cache: Path | None
    storage: str | None = field(repr=False)  # it may hold a password
    study: str | None
    workers: int

    def __post_init__(self) -> None:
        for name, value, least in (
            ("trials", self.trials, 1),
            ("workers", self.workers, 1),
            ("candidates to certify", self.certify, 1),
            ("training images", self.budget.train_images, MIN_TRAIN_IMAGES),
            ("images to compare on", self.budget.select_images, MIN_SELECT_IMAGES),
            ("attack pairs", self.budget.attack_pairs, MIN_ATTACK_PAIRS),
        ):
            if value < least:
                raise InputError(f"{value} {name} are too few", hint=f"allowed: {least} or more")
        if self.workers > MAX_WORKERS:
            raise InputError(f"{self.workers} workers are too many", hint=f"allowed: up to {MAX_WORKERS}")
        for name, seconds in (("timeout", self.timeout_s), ("attack budget", self.budget.attack_s)):
            if seconds is not None and not 0 < seconds < float("inf"):
                raise InputError(
                    f"{name} of {seconds:g} s is out of range", hint="allowed: more than zero seconds"
                )
        if not 0 <= self.seed <= _MAX_SEED:
            raise InputError(f"seed {self.seed} is out of range", hint=f"allowed: 0 to {_MAX_SEED}")
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if not self.backbones:
            raise InputError("no backbone", hint="name at least one with --backbone")
        if self.study is not None and self.storage is None:
            raise InputError(
                f"a study {self.study!r} without a storage", hint="say with --storage where it is"
            )
        if self.study is not None and not self.study.strip():
            raise InputError("a study without a name", hint="give --study a name")


@dataclass(frozen=True)
class OpenSearch:
    """What a request names, opened."""

    request: SearchRequest
    profile: DeviceProfile
    limits: Limits
    data: DataSet
    splits: Mapping[str, Split]
    space: Space
    identity: dict[str, Any]
    """What must be the same when the run goes on."""

    @property
    def backbones(self) -> list[str]:
        """What they are called, by their place in the space."""
        return [name.architecture for name in self.request.backbones]

    @classmethod
    def open(cls, request: SearchRequest, *, progress: Progress = SILENT) -> OpenSearch:
        """Read the profile, the data and the backbones.

        Raises:
            InputError: an unknown device, data source, backbone or metric; a class with fewer than two
                training images; images that are too small; limits that no cut is inside.
        """
        profile = load_profile(request.device)
        limits = Limits.resolve(request.limits, profile)
        data = open_data(request.data, image_size=request.image_size, progress=progress)
        if data.reference_size < MIN_IMAGE_SIZE:
            raise InputError(
                f"images of {data.reference_size} pixels are too small",
                hint=f"allowed: {MIN_IMAGE_SIZE} or more",
            )
        splits = search_splits(data, request.budget)
        check_classes(data, splits["head-train"])
        space = _make_space(request, data, progress)
        check_limits(space, limits, profile, [name.architecture for name in request.backbones])
        identity = {
            **device_identity(profile),
            **data_identity(data),
            "backbones": [backbone_identity(name) for name in request.backbones],
            "weights_digests": [splitter.backbone.weights_digest for splitter in space.splitters.values()],
            "input_sizes": [size for _, size in space.splitters],
            "choices": request.choices.document(),
            "limits": limits.document(),
            "budget": asdict(request.budget),
            "sampler": request.sampler,
            "seed": request.seed,
            "insecure_fixed_secret": request.insecure_fixed_secret,
            "images": request.images,
        }
        if request.storage is not None:
            identity["study"] = request.study or DEFAULT_STUDY
        return cls(request, profile, limits, data, splits, space, identity)

    def reach(self) -> Storage | None:
        """The request's storage, in which no other search has its study; ``None`` for the run's journal.

        Raises ``InputError`` when it cannot be reached, or when the study is another search's.
        """
        if self.request.storage is None:
            return None
        storage = Storage.at(self.request.storage)
        storage.check_study(self._study_name, self._study_identity)
        return storage

    def study(self, storage: Storage, *, owner: str) -> SearchStudy:
        """The study in an open storage; ``owner`` is what this process is called there."""
        return SearchStudy(
            storage,
            self.limits,
            identity=self._study_identity,
            sampler=self.request.sampler,
            seed=self.request.seed,
            trials=self.request.trials,
            name=self._study_name,
            owner=owner,
        )

    @property
    def _study_name(self) -> str:
        return self.request.study or DEFAULT_STUDY

    @property
    def _study_identity(self) -> dict[str, Any]:
        return {key: value for key, value in self.identity.items() if key not in _OF_THE_RUN}


def _make_space(request: SearchRequest, source: DataSet, progress: Progress) -> Space:
    splitters: dict[tuple[int, int], Splitter] = {}
    with progress.task("backbones", len(request.backbones)) as task:
        for index, name in enumerate(request.backbones):
            backbone = load_backbone(name)
            for size in input_sizes(request.input_sizes, backbone.native_size, source.reference_size):
                splitters[index, size] = Splitter(backbone, size)
                # Listing them now finds a backbone without a cut before anything is written.
                _ = splitters[index, size].cuts
            task.advance(note=name.architecture)
    return Space(splitters, request.choices)
