"""Measures idlora against its peers, side by side: the two take turns (A B A B) on the same data, in one run, with the
same number of threads. Medians and minima are printed, and ratios; the ratios are what is worth quoting.

    benches/peers/run            builds our side, makes a virtual environment, runs this for one and two threads
"""

import argparse
import ctypes
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file


class Ours:
    """The Rust side: one process, one JSON line per question and answer."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def load(self, **arrays):
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            save_file(arrays, file.name)
            self.ask(op="load", path=file.name)


def clock(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


# OpenMP's threads spin for 0.2 s after a parallel region: on a machine with no core to spare the next side would pay.
PAUSE = 0.25


def take_turns(repeats, *sides):
    """Times of every side, interleaved; the first round warms up and is dropped."""
    times = [[] for _ in sides]
    for _ in range(repeats + 1):
        for kept, side in zip(times, sides):
            time.sleep(PAUSE)
            kept.append(side())
    return [kept[1:] for kept in times]


ROWS = []


def report(case, peer, ours, theirs, goal):
    ours_median, theirs_median = statistics.median(ours), statistics.median(theirs)
    row = {
        "case": case,
        "peer": peer,
        "ours_ms": 1e3 * ours_median,
        "peer_ms": 1e3 * theirs_median,
        "ours_min_ms": 1e3 * min(ours),
        "peer_min_ms": 1e3 * min(theirs),
        "ratio": theirs_median / ours_median,
        "ratio_of_minima": min(theirs) / min(ours),
        "goal": goal,
    }
    ROWS.append(row)
    print(
        f"{case:46} {peer:32} ours {row['ours_ms']:9.2f} ms  peer {row['peer_ms']:9.2f} ms"
        f"  ratio {row['ratio']:7.2f} (minima {row['ratio_of_minima']:7.2f})  goal {goal}",
        flush=True,
    )


# -- interpolative decomposition ---------------------------------------------------------------------------------------


class Mkl:
    """LAPACK's truncated pivoted QR, with the workspace that it asks for."""

    def __init__(self):
        place = os.path.join(sys.prefix, "lib", "libmkl_rt.so*")
        self.library = ctypes.CDLL(sorted(glob.glob(place))[0])

    def sgeqp3rk(self, transposed, rank):
        """`transposed` holds Cᵀ in column-major order: a row-major C as it is. Destroyed."""
        columns, rows = transposed.shape
        one = lambda value: ctypes.byref(ctypes.c_int(value))
        real = lambda value: ctypes.byref(ctypes.c_float(value))
        pivots = np.zeros(columns, np.int32)
        tau = np.zeros(min(rows, columns), np.float32)
        integers = np.zeros(columns, np.int32)
        info, reached = ctypes.c_int(0), ctypes.c_int(0)
        largest, relative = ctypes.c_float(0), ctypes.c_float(0)
        pointer = lambda array: array.ctypes.data_as(ctypes.c_void_p)

        def call(work, length):
            self.library.sgeqp3rk_(
                one(rows), one(columns), one(0), one(rank), real(-1.0), real(-1.0), pointer(transposed), one(rows),
                ctypes.byref(reached), ctypes.byref(largest), ctypes.byref(relative), pointer(pivots), pointer(tau),
                pointer(work), one(length), pointer(integers), ctypes.byref(info),
            )

        query = np.zeros(1, np.float32)
        call(query, -1)
        work = np.zeros(max(1, int(query[0])), np.float32)
        seconds, _ = clock(lambda: call(work, len(work)))
        assert info.value == 0 and reached.value == rank, (info.value, reached.value)
        return seconds, pivots[:rank] - 1


def projection_error(w, rows):
    q, _ = np.linalg.qr(w[rows].astype(np.float64).T)
    w = w.astype(np.float64)
    return np.linalg.norm(w - (w @ q) @ q.T) / np.linalg.norm(w)


def interpolative(ours, repeats, weights):
    import scipy.linalg.interpolative as sli

    mkl = Mkl()
    rng = np.random.default_rng(0)
    gaussian = rng.standard_normal((1024, 4096), dtype=np.float32)
    decaying = (rng.standard_normal((1024, 512)) / np.arange(1, 513)) @ rng.standard_normal((512, 4096))
    cases = [("gaussian", gaussian), ("spectrum 1/j", decaying.astype(np.float32))]
    for name, w in cases:
        ours.load(w=w)
        doubles = w.T.astype(np.float64)
        for rank in (16, 64):
            last = {}

            def us():
                last["us"] = ours.ask(op="interpolative", rank=rank)
                return last["us"]["seconds"]

            def them():
                copy = w.copy()
                seconds, last["mkl"] = mkl.sgeqp3rk(copy, rank)
                return seconds

            def scipy(randomised):
                return lambda: clock(lambda: sli.interp_decomp(doubles, rank, rand=randomised))[0]

            a, b, c, d = take_turns(repeats, us, them, scipy(True), scipy(False))
            case = f"ID 1024x4096 f32 r={rank} {name}"
            report(case, "MKL sgeqp3rk (QR alone)", a, b, ">= 3")
            report(case, "scipy interp_decomp, randomised", a, c, ">= 30")
            report(case, "scipy interp_decomp, rand=False", a, d, ">= 30")
            error, peer_error = last["us"]["error"], projection_error(w, last["mkl"])
            same = len(set(last["us"]["pivots"]) & set(last["mkl"].tolist()))
            print(f"    error ours {error:.6f}, MKL {peer_error:.6f}; {same} of {rank} pivots shared")
            assert error <= 1.1 * peer_error


# -- clustering --------------------------------------------------------------------------------------------------------


def planted(rows, cols, k, seed):
    """Overlapping clusters: Lloyd needs many steps, none of them empties a cluster."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4 * k, cols)) * 0.15
    return (centres[rng.integers(0, 4 * k, rows)] + rng.standard_normal((rows, cols))).astype(np.float32)


def per_step(times_long, times_short, steps):
    """Seconds of one more step: what a fit costs beside its steps cancels. Sorted, so that minima meet minima."""
    return [(a - b) / steps for a, b in zip(sorted(times_long), sorted(times_short))]


def kmeans(ours, repeats, weights):
    from sklearn.cluster import KMeans

    short, long = 2, 16
    for k in (4, 16):
        w = planted(4096, 4096, k, k)
        start = w[np.random.default_rng(1).permutation(len(w))[:k]].copy()
        ours.load(w=w, start=start)
        fits = {}

        def us(steps):
            def run():
                fits["us", steps] = ours.ask(op="kmeans", steps=steps, min_size=1)
                return fits["us", steps]["seconds"]

            return run

        def them(steps):
            def run():
                model = KMeans(k, init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
                seconds, fits["them", steps] = clock(lambda: model.fit(w))
                return seconds

            return run

        times = take_turns(repeats, us(short), us(long), them(short), them(long))
        a, b = fits["us", long], fits["them", long]
        assert a["iterations"] == b.n_iter_ == long, (a["iterations"], b.n_iter_)
        # After its last step scikit-learn labels once more: the labels of our next step.
        labels = np.array(ours.ask(op="kmeans", steps=long + 1, min_size=1)["labels"])
        inertia = float(((w - b.cluster_centers_[labels]).astype(np.float64) ** 2).sum())
        difference = inertia / b.inertia_ - 1
        assert abs(difference) < 1e-5, (inertia, b.inertia_)
        case = f"k-means step, 4096x4096 f32, k={k}"
        ours_step, peer_step = per_step(times[1], times[0], long - short), per_step(times[3], times[2], long - short)
        report(case, "scikit-learn Lloyd", ours_step, peer_step, ">= 2")
        report(case.replace("step", "whole fit"), "scikit-learn Lloyd", times[1], times[3], "-")
        same = np.mean(labels == b.labels_)
        print(f"    inertia ours / scikit-learn - 1 = {difference:.1e}; {100 * same:.2f} % of the labels shared")


def constrained(ours, repeats, weights):
    from k_means_constrained import KMeansConstrained

    for k, rows, cols in ((4, 2048, 1024), (4, 4096, 4096), (16, 2048, 1024)):
        w = planted(rows, cols, k, 3)
        # Starts beside each other: without the bound, most clusters stay small.
        start = (w[:1] + 0.3 * np.random.default_rng(2).standard_normal((k, cols))).astype(np.float32)
        bound = rows // k - rows // (8 * k)
        ours.load(w=w, start=start)
        steps, last = 8, {}

        def us():
            last["us"] = ours.ask(op="kmeans", steps=steps, min_size=bound)
            return last["us"]["seconds"]

        def them():
            model = KMeansConstrained(k, size_min=bound, init=start, n_init=1, max_iter=steps, tol=0, n_jobs=1)
            seconds, last["them"] = clock(lambda: model.fit(w))
            return seconds

        a, b = take_turns(max(2, repeats // 3), us, them)
        assert min(last["us"]["sizes"]) >= bound and np.bincount(last["them"].labels_, minlength=k).min() >= bound
        report(f"k-means, size >= {bound}, {rows}x{cols}, k={k}, {steps} steps", "k-means-constrained", a, b, ">= 5")
        print(f"    inertia ours {last['us']['inertia']:.6e}, theirs {last['them'].inertia_:.6e}")


# -- the adapter's branch ----------------------------------------------------------------------------------------------


def adapter(ours, repeats, weights):
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    t, m, n, r = 2048, 4096, 4096, 32
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)
        h, y, g, dh = draw(t, n), draw(t, m), draw(t, m), draw(t, n)
        a, b, scale = draw(r, n) * 0.02, draw(m, r) * 0.02, 2.0
        saved, both = {}, []

        def forward():
            saved["x"] = h @ a.T
            y.addmm_(saved["x"], b.T, alpha=scale)

        def backward():
            dx = scale * (g @ b)
            db = scale * (g.T @ saved["x"])
            da = dx.T @ h
            dh.addmm_(dx, a)
            return db, da

        def us(part):
            def run():
                if part == "forward":
                    both.append(ours.ask(op="adapter", dtype=name, t=t, m=m, n=n, r=r, k=4, s=2, repeats=3))
                return statistics.median(both[-1][part])

            return run

        with torch.no_grad():
            times = take_turns(
                repeats, us("forward"), lambda: clock(forward)[0], us("backward"), lambda: clock(backward)[0]
            )
        goal = ">= 2" if name == "f32" else ">= 1"
        case = f"adapter branch {{}}, {name}, t={t} m=n={m} r={r} k=4"
        report(case.format("forward"), "torch LoRA r=32", times[0], times[1], goal)
        report(case.format("backward"), "torch LoRA r=32", times[2], times[3], goal)


# -- the whole model ---------------------------------------------------------------------------------------------------


def minilm(ours, repeats, weights):
    """`idlora init` on the full file: a process of its own, reading included, with its peak memory."""
    if not weights:
        print("minilm: skipped, no --weights FILE")
        return
    from safetensors.numpy import load_file
    from sklearn.cluster import KMeans
    import scipy.linalg.interpolative as sli

    binary = os.path.join(os.path.dirname(ours.process.args[0]), "..", "idlora")
    pattern = r"encoder\.layer\.\d+\..*(query|key|value|dense)\.weight$"
    peaks = []

    def us():
        with tempfile.TemporaryDirectory() as folder:
            command = [binary, "init", weights, "--match", pattern, "--rank", "16", "--clusters", "4", "--json"]
            seconds, output = clock(lambda: subprocess.check_output(command + ["--out", folder + "/adapter"]))
            told = json.loads(output)
            assert len(told["modules"]) == 36
            # What the process says of itself: a parent's view still holds this interpreter's memory from before exec.
            peaks.append(told["totals"]["peak_memory_bytes"])
            return seconds

    def them():
        import re

        def pipeline():
            for name, w in load_file(weights).items():
                if re.search(pattern, name):
                    labels = KMeans(4, n_init=1, max_iter=100, random_state=0).fit_predict(w)
                    for j in range(4):
                        cluster = w[labels == j]
                        if len(cluster) >= 16:
                            sli.interp_decomp(cluster.T.astype(np.float64), 16, rand=False)

        return clock(pipeline)[0]

    a, b = take_turns(max(2, repeats // 3), us, them)
    report("MiniLM, 36 matrices, r=16 k=4, file read included", "scikit-learn + scipy", a, b, "< 1 s")
    size = os.path.getsize(weights)
    print(f"    peak memory {max(peaks) / 1e6:.1f} MB, {max(peaks) / size:.2f} x the file of {size / 1e6:.1f} MB")


CASES = {f.__name__: f for f in (interpolative, kmeans, constrained, adapter, minilm)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="our side, built by `run`")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--weights", help="MiniLM's model.safetensors, for the whole-model case")
    parser.add_argument("--save", help="write the table as JSON")
    options = parser.parse_args()
    ours = Ours(options.binary)
    for name in options.case or CASES:
        CASES[name](ours, options.repeats, options.weights)
    if options.save:
        with open(options.save, "w") as file:
            json.dump(ROWS, file, indent=1)
