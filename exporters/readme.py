"""The page for the developer of the app that carries the encoder."""

from __future__ import annotations

from ..encoders.spec import EncoderSpec

_TEXT = """# An on-device encoder

`encoder.onnx` turns one camera image into features. The features may leave the device, the image must not.

| | |
|---|---|
| input `images` | uint8, 1 x {size} x {size} x 3, RGB, rows from the top; the graph does the normalisation |
| output `features` | float32, 1 x {channels} x {height} x {width}, {payload} bytes |
| runtime | ONNX Runtime, CPU; static shapes, opset 20 |

Resize the frame so that its shorter side has {size} pixels and crop the centre square.

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("encoder.onnx", providers=["CPUExecutionProvider"])
image = np.zeros((1, {size}, {size}, 3), np.uint8)          # your frame
(features,) = session.run(None, {{"images": image}})
payload = features.tobytes()                                # this may leave the device
```

`selftest.npz` holds synthetic images, the features they must give and the tolerance; `manifest.json` the
SHA-256 of every file; `encoder.json` what the encoder was built from.

What stays secret: `encoder.json` and `encoder.onnx` say which channels were kept. Whoever holds the app's
file has them, so do not count on their secrecy where the app is published.
"""


def artifact_readme(spec: EncoderSpec, feature_shape: tuple[int, int, int]) -> str:
    """The artifact's README.md."""
    channels, height, width = feature_shape
    return _TEXT.format(
        size=spec.input_size,
        channels=channels,
        height=height,
        width=width,
        payload=channels * height * width * 4,
    )
