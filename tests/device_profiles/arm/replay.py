"""Runs ONNX models on saved inputs, row by row: ``python replay.py MODEL INPUTS.npz OUTPUT.npy ...``

Needs numpy and onnxruntime alone, so that the same file runs on any processor.
"""

import sys

import numpy as np
import onnxruntime


def replay(model: str, inputs: str, output: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(inputs) as archive:
        feeds = {value.name: archive[value.name] for value in session.get_inputs()}
    rows = range(min(map(len, feeds.values())))
    results = [session.run(None, {name: feeds[name][row : row + 1] for name in feeds})[0] for row in rows]
    np.save(output, np.concatenate(results))


for at in range(1, len(sys.argv), 3):
    replay(*sys.argv[at : at + 3])
