"""Times distance correlation against the dcor package, and against the two distance matrices alone.

    python benchmarks/distance_correlation.py --size small    # about 5 minutes on one core
    python benchmarks/distance_correlation.py --size full     # more repetitions

x is float32 of dimension 3,072 (a 32x32 image), z float32 of dimension 1,024 that depends on x.

At n = 400 the peer is the ``dcor`` package (``distance_correlation`` and ``u_distance_correlation_sqr``, the
two estimates that ours gives at once), on float64 as it needs; far above that it runs out of memory.

From n = 1,000 on the reference is a limit that nothing exact over all pairs can be much faster than: both
distance matrices computed and thrown away. For each block of 512 x 512 pairs on or above the diagonal, in
float32: the inner products (BLAS), the squared norms added, negatives set to 0, the root; buffers are used
again; the mirror image below the diagonal is not even written; nothing is centred, checked or summed. So that
this limit is no straw man, ``torch.cdist`` (all pairs, 512 rows at a time, float32) is timed beside it.

The timings of a pair are taken one directly after the other, in alternating order; a ratio is that of a pair.
Each row runs in a process of its own. Peak memory is that process's VmHWM after its first run of ours, before
any other has run: inputs, the interpreter and numpy included. Finished rows are kept in
``results/distance_correlation-SIZE.json`` and not run again; delete the file to do so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 0
DIM_X, DIM_Z = 3072, 1024
BLOCK = 512
PEER_SAMPLES = 400
# Pairs of timings by number of samples.
REPETITIONS = {
    "small": {PEER_SAMPLES: 3, 1000: 15, 5000: 7, 20_000: 1},
    "full": {PEER_SAMPLES: 5, 1000: 51, 5000: 15, 20_000: 5},
}
CDIST_AT_MOST = 5000
GOAL = 1.5


def samples(n: int) -> tuple[Any, Any]:
    """float32 (n, 3072) and (n, 1024); the one depends on the other."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((n, DIM_X), dtype=np.float32)
    z = rng.standard_normal((n, DIM_Z), dtype=np.float32)
    z += x[:, :DIM_Z]
    return x, z


def both_distance_matrices(x: Any, z: Any) -> None:
    """The limit."""
    import numpy as np

    n = len(x)
    sides = [(side, np.vecdot(side, side), np.empty((BLOCK, BLOCK), np.float32)) for side in (x, z)]
    for top in range(0, n, BLOCK):
        for start in range(top, n, BLOCK):
            for points, norms, buffer in sides:
                above, left = points[top : top + BLOCK], points[start : start + BLOCK]
                distances = buffer[: len(above), : len(left)]
                np.matmul(above, left.T, out=distances)
                distances *= -2
                distances += norms[top : top + BLOCK, None]
                distances += norms[start : start + BLOCK]
                np.maximum(distances, 0, out=distances)
                np.sqrt(distances, out=distances)


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mib() -> float:
    """The most memory this process has held, in MiB; from Linux's VmHWM."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(n: int, repetitions: int) -> dict[str, Any]:
    """One row; meant for a fresh process."""
    import numpy as np

    from privynet.leakage.distance_correlation import distance_correlation

    x, z = samples(n)
    start = time.perf_counter()
    found = distance_correlation(x, z, block=BLOCK)
    first = time.perf_counter() - start
    row: dict[str, Any] = {"n": n, "peak_mib": peak_mib(), **found.document()}
    if n == PEER_SAMPLES:
        import dcor

        wide = x.astype(np.float64), z.astype(np.float64)
        answers = []

        def other() -> None:
            answers[:] = [dcor.distance_correlation(*wide), dcor.u_distance_correlation_sqr(*wide)]

        other()  # compiles
        row["peer_peak_mib"] = peak_mib()
        row["peer_difference"] = max(abs(answers[0] - found.biased), abs(answers[1] - found.corrected))
    else:

        def other() -> None:
            both_distance_matrices(x, z)

    def ours() -> None:
        distance_correlation(x, z, block=BLOCK)

    pairs = []
    for repetition in range(repetitions):
        if repetitions == 1:
            pairs.append((first, seconds(other)))
        elif repetition % 2:
            pairs.append((seconds(ours), seconds(other)))
        else:
            pairs.append((seconds(other), seconds(ours))[::-1])
    row["ours_s"], row["other_s"] = ([pair[side] for pair in pairs] for side in (0, 1))
    if PEER_SAMPLES < n <= CDIST_AT_MOST:
        import torch

        tensors = torch.from_numpy(x), torch.from_numpy(z)

        def cdist() -> None:
            for tensor in tensors:
                for part in tensor.split(BLOCK):
                    torch.cdist(part, tensor)

        row["cdist_s"] = [seconds(cdist) for _ in range(min(repetitions, 3))]
    return row


def spread(values: list[float]) -> str:
    """min / median / max"""
    ordered = sorted(values)
    return f"{ordered[0]:.3g} / {ordered[len(ordered) // 2]:.3g} / {ordered[-1]:.3g}"


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, a line each."""
    lines = [
        f"{'n':>6}  {'ours, s: min/median/max':24}  {'the other, s':24}  {'ratio':24}  pairs  peak MiB",
    ]
    for row in rows:
        peer = row["n"] == PEER_SAMPLES
        both = list(zip(row["ours_s"], row["other_s"], strict=True))
        ratios = [other / ours if peer else ours / other for ours, other in both]
        note = (
            f"dcor takes so many times as long, {row['peer_peak_mib']:,.0f} MiB; "
            f"results differ by {row['peer_difference']:.0e}"
            if peer
            else f"of the limit (goal: at most {GOAL})"
        )
        if "cdist_s" in row:
            note += f"; torch.cdist {spread(row['cdist_s'])} s"
        lines.append(
            f"{row['n']:6,}  {spread(row['ours_s']):24}  {spread(row['other_s']):24}  {spread(ratios):24}  "
            f"{len(ratios):5}  {row['peak_mib']:8,.0f}  {note}"
        )
    return "\n".join(lines)


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": threads,
        **{name: importlib.metadata.version(name) for name in ("numpy", "torch", "dcor")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(REPETITIONS), default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    repetitions = REPETITIONS[arguments.size]
    if arguments.row:
        print(json.dumps(measure(arguments.row, repetitions[arguments.row])))
        return
    path = Path(__file__).parent / "results" / f"distance_correlation-{arguments.size}.json"
    results = json.loads(path.read_text()) if path.exists() else {"seed": SEED, "rows": []}
    results.setdefault("machine", machine(arguments.threads))
    if results["machine"] != machine(arguments.threads):
        sys.exit(f"{path} was measured elsewhere or with other versions: delete it to measure anew")
    threads = {f"{name}_NUM_THREADS": str(arguments.threads) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    for n, count in repetitions.items():
        if n in [row["n"] for row in results["rows"]]:
            continue
        print(f"n = {n:,}: {count} pairs of timings", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--size", arguments.size, "--row", str(n)]
        done = subprocess.run(command, env=os.environ | threads, check=True, stdout=subprocess.PIPE)
        results["rows"].append(json.loads(done.stdout))
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(results, indent=1) + "\n")
        unfinished.replace(path)
    print(" ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(table(results["rows"]))


if __name__ == "__main__":
    main()
