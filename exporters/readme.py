"""The page for the developer of the app that carries the encoder."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from ..encoders.spec import EncoderSpec
from .agreement import INT8_NOISE
from .onnx_file import OPSET
from .runtimes import Support

_FORMS = {
    "onnx": "`encoder.onnx`: for every processor that ONNX Runtime knows.",
    "ort": "`encoder.ort`: the same for ONNX Runtime on the CPU alone, already optimised; it loads faster, "
    "and `required_operators.config` names the operators for an ONNX Runtime that is built without all "
    "others. Load it as `encoder.onnx` is loaded above.",
    "executorch": "`encoder.pte`: for ExecuTorch with its XNNPACK backend; inputs and output by place.",
    "litert": "`encoder.tflite`: for LiteRT; inputs and output by place.",
    "coreml": "`encoder.mlpackage.zip`: for Core ML, iOS 16 and later; unpack it and add it to the Xcode "
    "project. `images` is then an image (a `CVPixelBuffer`), and the output holds the same numbers as "
    "float32. It was converted where Core ML does not run, so nothing has compared its outputs: let the "
    "app's tests do it.",
}
_TITLES = {"cpu": "CPU", "xnnpack": "XNNPACK", "nnapi": "NNAPI (Android)", "coreml": "CoreML", "qnn": "QNN"}
_NAMED = 6


def artifact_readme(
    spec: EncoderSpec,
    feature_shape: tuple[int, int, int],
    *,
    runtimes: Mapping[str, Support],
    formats: Collection[str] = ("onnx",),
    weights: bool = False,
    selftest_of_data: bool = False,
) -> str:
    """The artifact's README.md.

    ``runtimes``: what each takes of the graph; ``formats``: what the encoder is there as; ``weights``:
    whether ``encoder.safetensors`` is; ``selftest_of_data``: whether the self-test holds images of the user's
    data.
    """
    import onnxruntime

    channels, height, width = feature_shape
    payload = spec.payload
    return _page(
        channels=channels,
        height=height,
        width=width,
        count=math.prod(feature_shape),
        size=spec.input_size,
        output=payload.output_name,
        dtype=payload.dtype,
        shape=" x ".join(map(str, (1, *payload.sent_shape(feature_shape)))),
        payload_bytes=payload.bytes(feature_shape),
        opset=OPSET,
        onnxruntime=onnxruntime.__version__,
        noisy=spec.noise_std > 0,
        noise_std=f"{spec.noise_std:g}",
        quantised=payload.quantised,
        bits=payload.bits,
        per_byte=payload.per_byte,
        top=payload.top,
        zero_point=payload.zero_point,
        scale=repr(payload.scale),
        in_int8=spec.int8 is not None,
        int8_noise=f"{INT8_NOISE:.0%}",
        projection=spec.projection is not None,
        weights=weights,
        selftest_of_data=selftest_of_data,
        forms=[text for name, text in _FORMS.items() if name in formats],
        runtimes=[_row(name, found) for name, found in runtimes.items()],
    )


def _page(**values: object) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("README.md.jinja").render(values)


def _row(name: str, found: Support) -> str:
    taken = "the network" if found.supported else "not the whole network"
    pieces = f", {found.partitions} pieces" if found.partitions is not None and found.partitions > 1 else ""
    left = [f"`{node}`" for node in found.unsupported[:_NAMED]]
    more = len(found.unsupported) - len(left)
    named = ", ".join(left) + (f" and {more} more" if more else "")
    return f"{_TITLES[name]} | {taken}: {found.nodes} nodes{pieces} | {named or 'nothing'}"
