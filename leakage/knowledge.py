"""From an encoder to what each kind of attacker holds of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .baselines import mean_image
from .pairs import Pairs
from .view import Knowledge, View

if TYPE_CHECKING:
    from ..encoders import Encoder, EncoderSpec
    from .feature_modules import FeatureModule


_MIXED = "the encoder sends a projection, in which all kept channels are mixed: there is no choice to find"


class FeatureEncoder(Protocol):
    """What can be audited: an encoder in torch or in ONNX Runtime."""

    @property
    def digest(self) -> str:
        """The digest of its spec."""
        ...

    @property
    def input_size(self) -> int:
        """H = W in pixels."""
        ...

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one image's features."""
        ...

    @property
    def noise_std(self) -> float:
        """Standard deviation of the Gaussian noise that it adds to each value; 0 for none."""
        ...

    def encode(
        self, images: NDArray[np.uint8], *, generator: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """uint8 (n, H, W, 3) -> float32 (n, C, h, w) as the cloud reads it, noise and payload included."""
        ...


@dataclass(frozen=True)
class AuditSubject:
    """What is attacked, and what an attacker may know of it beside pairs.

    ``encoder`` is attacked as it is; ``torch_encoder``, ``backbone`` (all channels of the same cut) are what
    white-box attackers hold, ``None`` where they cannot be had or, for the backbone of a projection, are of
    no use to those attackers that there are; ``reasons`` says why, by what is unknown.
    """

    encoder: FeatureEncoder
    torch_encoder: Encoder | None = None
    backbone: Encoder | None = None
    spec: EncoderSpec | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_spec(
        cls,
        spec: EncoderSpec,
        *,
        encoder: FeatureEncoder | None = None,
        weights: str | None = None,
        adapted_weights: str | None = None,
        projection_weights: str | NDArray[np.float32] | None = None,
        allowed_code: Collection[str] = (),
    ) -> AuditSubject:
        """The encoder of a spec, rebuilt, in int8 as it would be exported; or ``encoder``, what was.

        Raises ``InputError`` when it cannot be rebuilt and there is no ``encoder`` to attack.
        """
        from ..encoders import Splitter, build_encoder, load_spec_backbone, make_encoder
        from ..exporters.int8 import int8_session

        try:
            rebuilt = build_encoder(
                spec,
                weights=weights,
                adapted_weights=adapted_weights,
                projection_weights=projection_weights,
                allowed_code=allowed_code,
            )
            attacked = encoder or (int8_session(rebuilt) if spec.int8 else rebuilt)
            if spec.projection is not None:
                return cls(attacked, rebuilt, None, spec, {"backbone": _MIXED})
            backbone = load_spec_backbone(spec, weights=weights, allowed_code=allowed_code)
            whole = make_encoder(Splitter(backbone, spec.input_size), cut=spec.cut)
        except InputError as error:
            if encoder is None:
                raise
            told = f"{error}" + (f" ({error.hint})" if error.hint else "")
            return cls(encoder, spec=spec, reasons=dict.fromkeys(("weights", "backbone", "family"), told))
        return cls(attacked, rebuilt, whole, spec)

    def feature_map(self, image_size: int) -> FeatureModule:
        """The encoder as its holder runs it: frozen, on images of ``image_size`` pixels."""
        from .feature_modules import FeatureModule

        assert self.torch_encoder is not None
        return FeatureModule(self.torch_encoder.graph_module, image_size, self.torch_encoder.input_size)

    def view(
        self,
        train: Pairs,
        val: Pairs,
        *,
        auxiliary: NDArray[np.uint8],
        captures: tuple[Pairs, Pairs] | None,
    ) -> View:
        """Everything that any attacker may hold; each attack gets its part."""
        from .feature_modules import FeatureModule, untrained

        common = {
            "observed": train.features,
            # of other images than those observed: their own mean would be knowledge of them
            "mean_image": mean_image(val.images),
            "noise_std": self.encoder.noise_std,
            "pairs": (train, val),
            "captures": captures,
            "auxiliary": auxiliary,
        }
        if self.torch_encoder is None:
            return View(**common)  # type: ignore[arg-type]
        size, module = train.image_size, self.torch_encoder.graph_module
        whole = self.backbone
        return View(
            **common,  # type: ignore[arg-type]
            weights=self.feature_map(size),
            backbone=FeatureModule(whole.graph_module, size, whole.input_size) if whole else None,
            family=lambda seed: untrained(module, size, self.encoder.input_size, seed=seed),
        )

    def why_unknown(self, knowledge: Knowledge) -> str:
        """Why an attacker cannot know this here."""
        if knowledge == "captures" and self.encoder.noise_std:
            return "one capture of each scene was asked for (--captures)"
        if knowledge == "captures":
            return "the encoder adds no noise, so a second capture shows nothing new"
        return self.reasons.get(knowledge, "the encoder's weights are not known here")
