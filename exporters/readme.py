"""The page for the developer of the app that carries the encoder."""

from __future__ import annotations

from ..encoders.spec import EncoderSpec

_TEXT = """# An on-device encoder

`encoder.onnx` turns one camera image into {what}. That may leave the device, the image must not.

| | |
|---|---|
| input `images` | uint8, 1 x {size} x {size} x 3, RGB, rows from the top; the graph does the normalisation |
{noise_row}| output `{output}` | {dtype}, {shape}, {payload_bytes} bytes |
| runtime | ONNX Runtime, CPU; static shapes, opset 20 |

Resize the frame so that its shorter side has {size} pixels and crop the centre square.

```python
{imports}
session = onnxruntime.InferenceSession("encoder.onnx", providers=["CPUExecutionProvider"])
image = np.zeros((1, {size}, {size}, 3), np.uint8)  # your frame
{noise_code}({output},) = session.run(None, {feed})
sent = {output}.tobytes()  # this may leave the device
```
{noise_text}{payload_text}
`selftest.npz` holds synthetic images{selftest_noise}, the `{output}` they must give{tolerance};
row by row. `manifest.json` has the SHA-256 of every file, `encoder.json` what the encoder was built from.

What stays secret: `encoder.json` and `encoder.onnx` say {secret}. Whoever holds the app's
file has them, so do not count on their secrecy where the app is published.
"""

_NOISE_ROW = (
    "| input `noise` | float32, 1 x {channels} x {height} x {width}, standard normal: mean 0, variance 1 |\n"
)

_NOISE_CODE = """
def fresh_noise(*shape):
    \"\"\"Standard normal values (Box-Muller) from the operating system's secure generator.\"\"\"
    count = int(np.prod(shape))
    whole = np.frombuffer(os.urandom(16 * count), np.uint64).reshape(2, count)
    first, second = ((whole >> np.uint64(11)) + 0.5) / 2**53  # uniform, never 0
    values = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
    return values.astype(np.float32).reshape(shape)

noise = fresh_noise(1, {channels}, {height}, {width})  # anew for every image
"""

_NOISE_TEXT = """
**Noise is part of the protection.** The graph scales `noise` to a standard deviation of {noise_std:g} and
adds it to the features. Draw it on the device, from the device's own secure generator (`os.urandom`,
`SecureRandom`, `SecRandomCopyBytes`, `getrandom`), anew for every image. Never use it twice, never from a
fixed seed, never a noise file shipped with the app: whoever knows the noise subtracts it, and the difference
of two images with the same noise has none. Zeros are for tests alone. Noise averages out over many images of
the same scene: send as few as the app needs.
"""

_PAYLOAD_TEXT = """
`payload` holds the features quantised to {bits} bits, in the order of the feature map
({channels}, {height}, {width}). {packing}The receiver reads an integer q as (q - {zero_point}) * {scale!r}:

```python
{unpack}
features = (q.astype(np.float32) - np.float32({zero_point})) * np.float32({scale!r})
features = features.reshape(1, {channels}, {height}, {width})
```
"""


def artifact_readme(spec: EncoderSpec, feature_shape: tuple[int, int, int]) -> str:
    """The artifact's README.md."""
    channels, height, width = feature_shape
    payload = spec.payload
    sizes = {"channels": channels, "height": height, "width": width, "size": spec.input_size}
    noisy = spec.noise_std > 0
    return _TEXT.format(
        **sizes,
        what="a payload of quantised features" if payload.quantised else "features",
        output=payload.output_name,
        dtype=payload.dtype,
        shape=" x ".join(map(str, (1, *payload.sent_shape(feature_shape)))),
        payload_bytes=payload.bytes(feature_shape),
        imports="import os\nimport numpy as np, onnxruntime" if noisy else "import numpy as np, onnxruntime",
        noise_row=_NOISE_ROW.format(**sizes) if noisy else "",
        noise_code=_NOISE_CODE.format(**sizes) if noisy else "",
        noise_text=_NOISE_TEXT.format(noise_std=spec.noise_std) if noisy else "",
        feed='{"images": image, "noise": noise}' if noisy else '{"images": image}',
        payload_text=_payload_text(spec, sizes) if payload.quantised else "",
        secret="how channels are mixed" if spec.projection else "which channels were kept",
        selftest_noise=" and noise" if noisy else "",
        tolerance=", which may differ by one step" if payload.quantised else " and the tolerance",
    )


def _payload_text(spec: EncoderSpec, sizes: dict[str, int]) -> str:
    payload = spec.payload
    packing, unpack = "", "q = np.frombuffer(sent, np.uint8)"
    if payload.per_byte > 1:
        packing = (
            f"A byte holds {payload.per_byte} of them, the first in its lowest bits;\n"
            "what is left of the last byte is 0. "
        )
        count = sizes["channels"] * sizes["height"] * sizes["width"]
        unpack += (
            f"\nq = (q[:, None] >> np.arange(0, 8, {payload.bits}, dtype=np.uint8) & {payload.top})"
            f".reshape(-1)[:{count}]"
        )
    return _PAYLOAD_TEXT.format(
        **sizes,
        bits=payload.bits,
        zero_point=payload.zero_point,
        scale=payload.scale,
        packing=packing,
        unpack=unpack,
    )
