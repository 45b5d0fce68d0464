#!/usr/bin/env python3
"""Makes qr.json: pivots, diagonals and errors by LAPACK, for small matrices and for the query matrix of MiniLM's layer 0.

    python make_qr.py [model.safetensors of all-MiniLM-L6-v2]

`dgeqp3` through scipy.linalg.qr(pivoting=True); `dgeqp3rk` through MKL where libmkl_rt can be loaded (IDLORA_MKL names
it), to see that the truncated routine takes the same pivots. Needs numpy, scipy; safetensors for the real matrix.
"""
import ctypes, json, os, sys
import numpy as np
import scipy.linalg as la

HERE = os.path.dirname(os.path.abspath(__file__))
REAL = "encoder.layer.0.attention.self.query.weight"


def full_qr(c):
    """Pivots, |R_jj| and ‖C − C A⁺A‖_F / ‖C‖_F for every rank, of the rows of c."""
    r, p = la.qr(c.T, mode="r", pivoting=True)
    total = np.linalg.norm(r)
    tails = [np.linalg.norm(r[j:, j:]) / total for j in range(min(r.shape) + 1)]
    return p.tolist(), np.abs(np.diag(r)).tolist(), tails


def truncated_pivots(c, rank):
    """Pivots of MKL's dgeqp3rk, or None."""
    try:
        mkl = ctypes.CDLL(os.environ.get("IDLORA_MKL", "libmkl_rt.so"))
    except OSError:
        return None
    count, length = c.shape
    a = np.ascontiguousarray(c, np.float64).copy()
    integer = lambda x: ctypes.byref(ctypes.c_int(x))
    real = lambda x: ctypes.byref(ctypes.c_double(x))
    pointer = lambda x: x.ctypes.data_as(ctypes.c_void_p)
    reached, largest, ratio, info = ctypes.c_int(), ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
    jpiv, tau, iwork = np.zeros(count, np.int32), np.zeros(count + length), np.zeros(count, np.int32)

    def call(work, size):
        mkl.dgeqp3rk_(integer(length), integer(count), integer(0), integer(rank), real(-1.0), real(-1.0), pointer(a),
                      integer(length), ctypes.byref(reached), ctypes.byref(largest), ctypes.byref(ratio), pointer(jpiv),
                      pointer(tau), pointer(work), integer(size), pointer(iwork), ctypes.byref(info))

    query = np.zeros(1)
    call(query, -1)
    call(np.zeros(int(query[0])), int(query[0]))
    assert info.value >= 0 and reached.value == rank, (info.value, reached.value)
    return (jpiv[:rank] - 1).tolist()


def with_spectrum(rng, rows, cols, sigma):
    u, _ = np.linalg.qr(rng.standard_normal((rows, len(sigma))))
    v, _ = np.linalg.qr(rng.standard_normal((cols, len(sigma))))
    return (u * sigma) @ v.T


def matrices():
    rng = np.random.default_rng(2026)
    # Multiples of 1/16 below 8: exact in f16 and bf16.
    coarse = lambda x: np.clip(np.round(x * 16) / 16, -7.9375, 7.9375)
    yield "gaussian, wide", coarse(rng.standard_normal((16, 30)))
    yield "gaussian, tall", coarse(rng.standard_normal((30, 12)))
    yield "one row", coarse(rng.standard_normal((1, 9)))
    yield "one column", coarse(rng.standard_normal((9, 1)))
    yield "graded rows", coarse(rng.standard_normal((14, 18))) * 2.0 ** -(np.arange(14)[:, None] // 2)
    yield "polynomial", with_spectrum(rng, 20, 24, np.arange(1, 19) ** -1.0)
    yield "exponential", with_spectrum(rng, 24, 20, 0.3 ** np.arange(18))
    yield "staircase", with_spectrum(rng, 18, 26, 10.0 ** -(np.arange(15) // 3))


def main():
    cases = []
    for name, c in matrices():
        c = np.asarray(c, np.float32)
        wide = c.astype(np.float64)
        pivots, diagonal, tails = full_qr(wide)
        rank = min(c.shape)
        truncated = truncated_pivots(wide, rank)
        assert truncated is None or truncated == pivots[:rank], name
        cases.append({
            "name": name, "rows": c.shape[0], "cols": c.shape[1],
            "data": [float(np.format_float_positional(x, unique=True)) for x in c.ravel()],
            "pivots": pivots[:rank], "diagonal": diagonal[:rank], "errors": tails,
            "singular_values": la.svdvals(wide).tolist(),
        })
    out = {"source": "scipy.linalg.qr(pivoting=True): LAPACK dgeqp3", "cases": cases}
    if len(sys.argv) > 1:
        import torch
        from safetensors.torch import load_file

        w = load_file(sys.argv[1])[REAL].float()
        out["real"] = {"tensor": REAL, "rank": 16, "by_dtype": {}}
        for name, dtype in (("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)):
            c = w.to(dtype).double().numpy()
            pivots, diagonal, tails = full_qr(c)
            sigma = la.svdvals(c)
            largest = np.argsort(-np.linalg.norm(c, axis=1), kind="stable")[:16]
            q, _ = np.linalg.qr(c[largest].T)
            out["real"]["by_dtype"][name] = {
                "pivots": pivots[:16], "diagonal": diagonal[:16], "errors": tails[:17],
                "svd_error": float(np.sqrt((sigma[16:] ** 2).sum() / (sigma**2).sum())),
                "norm_error": float(np.linalg.norm(c - (c @ q) @ q.T) / np.linalg.norm(c)),
            }
    with open(os.path.join(HERE, "qr.json"), "w") as file:
        json.dump(out, file, separators=(",", ":"))


main()
