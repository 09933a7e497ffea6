"""ONNX Runtime's plainest loop in a process of its own, to hold the measuring agent against.

    python benchmarks/plain_loop.py MODEL.onnx --seconds 1          median and mean of so long a loop
    python benchmarks/plain_loop.py MODEL.onnx --runs 20            of so many runs
    python benchmarks/plain_loop.py MODEL.onnx --agent agent.py     in turn with the agent's timing

Ten runs before it do not count. One thread. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

WARM_UP_RUNS = 10
BURST_SECONDS = 0.03
LEAD_SECONDS = 0.005


class PlainLoop:
    """A session, and a loop over it."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        (described,) = self.session.get_inputs()
        images = np.random.default_rng(0).integers(0, 256, described.shape, dtype=np.uint8)
        self.inputs = {described.name: images}

    def latencies_ms(
        self, *, runs: int = 1, seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> list[float]:
        """At least so many runs, and so long."""
        latencies: list[float] = []
        until = time.perf_counter() + seconds
        while len(latencies) < runs or time.perf_counter() < until:
            start = clock()
            self.session.run(None, self.inputs)
            latencies.append((clock() - start) * 1e3)
        return latencies


def in_turn(agent: Path, model: Path, plain: PlainLoop, seconds: float) -> list[list[float]]:
    """Medians [ours, plain] of bursts one after the other, milliseconds of processor time: other work on the
    machine is in neither."""
    ours: Any = runpy.run_path(str(agent), run_name="agent")["Model"](model, threads=1, seed=0)
    ours.clock = time.process_time

    def our_burst(length: float) -> list[float]:
        until = time.perf_counter() + length
        latencies = [ours.run_once()]
        while time.perf_counter() < until:
            latencies.append(ours.run_once())
        return latencies

    def plain_burst(length: float) -> list[float]:
        return plain.latencies_ms(seconds=length, clock=time.process_time)

    ours.warm_up(0.5)
    order = np.random.default_rng(0)
    pairs = []
    until = time.perf_counter() + seconds
    while not pairs or time.perf_counter() < until:
        medians = [0.0, 0.0]
        for which in order.permutation(2):
            burst = (our_burst, plain_burst)[which]
            burst(LEAD_SECONDS)
            medians[which] = float(np.median(burst(BURST_SECONDS)))
        pairs.append(medians)
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--agent", type=Path)
    arguments = parser.parse_args()
    loop = PlainLoop(arguments.model)
    loop.latencies_ms(runs=WARM_UP_RUNS)
    if arguments.agent is not None:
        print(json.dumps({"pairs": in_turn(arguments.agent, arguments.model, loop, arguments.seconds)}))
        return
    latencies = loop.latencies_ms(runs=arguments.runs, seconds=arguments.seconds)
    print(json.dumps({"n": len(latencies), "mean_ms": np.mean(latencies), "median_ms": np.median(latencies)}))


if __name__ == "__main__":
    main()
