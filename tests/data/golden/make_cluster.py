"""Golden vectors for tests/cluster.rs, written to cluster.json beside this file.

k-means by scikit-learn (Lloyd, float64, given starting centroids); minimum-size assignments by OR-tools' min-cost flow on
integer costs; labels of k-means-constrained on its own distances. Made with Python 3, numpy 2.4.6, scikit-learn 1.9.1,
ortools 9.15 and k-means-constrained 0.9.1; other recent versions should give the same numbers.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from k_means_constrained import KMeansConstrained
from ortools.graph.python import min_cost_flow
from sklearn.cluster import KMeans

warnings.filterwarnings("ignore")
rng = np.random.default_rng(20260220)


def points(rows, cols, groups, scale):
    """Multiples of 1/64, exact in f16, bf16 where small, and f32."""
    centres = rng.standard_normal((groups, cols)) * scale
    x = centres[rng.integers(groups, size=rows)] + rng.standard_normal((rows, cols))
    return np.round(x * 64) / 64


def lloyd(x, start, steps, tol=0.0):
    fit = KMeans(len(start), init=start, n_init=1, max_iter=steps, tol=tol, algorithm="lloyd").fit(x)
    assert len(set(fit.labels_)) == len(start), "an empty cluster: relocation is not part of this test"
    return fit


def trace(x, start):
    """Labels that step T assigns, and the centroids that it makes of them.

    After `max_iter` steps scikit-learn labels once more with the last centroids; so the labels of step T are those of a
    run of T - 1 steps, and its centroids those of a run of T.
    """
    steps = []
    labels = ((x[:, None] - start[None]) ** 2).sum(-1).argmin(1)
    for step in (1, 2, 3):
        fit = lloyd(x, start, step)
        centroids = fit.cluster_centers_
        inertia = ((x - centroids[labels]) ** 2).sum()
        steps.append({"labels": labels.tolist(), "inertia": float(inertia)})
        labels = fit.labels_
    return steps


kmeans = []
for rows, cols, k, groups, scale in [(60, 7, 4, 4, 2.0), (90, 3, 6, 4, 1.0), (40, 19, 2, 3, 1.0), (120, 5, 9, 9, 3.0)]:
    x = points(rows, cols, groups, scale)
    start = x[:k].copy()
    full, loose = lloyd(x, start, 300), lloyd(x, start, 300, tol=2e-2)
    kmeans.append({
        "rows": rows, "cols": cols, "k": k, "x": x.ravel().tolist(), "start": start.ravel().tolist(),
        "steps": trace(x, start),
        "labels": full.labels_.tolist(), "inertia": float(full.inertia_), "iterations": int(full.n_iter_),
        "loose_tolerance": 2e-2, "loose_iterations": int(loose.n_iter_),
    })


def optimum(costs, least):
    """Points -> clusters -> sink; `least` units of each cluster's outflow are worth a reward no other cost can outbid."""
    rows, k = costs.shape
    flow = min_cost_flow.SimpleMinCostFlow()
    reward = int(np.abs(costs).sum()) + 1
    for p in range(rows):
        for j in range(k):
            flow.add_arc_with_capacity_and_unit_cost(p, rows + j, 1, int(costs[p, j]))
        flow.set_node_supply(p, 1)
    for j in range(k):
        flow.add_arc_with_capacity_and_unit_cost(rows + j, rows + k, least, -reward)
        flow.add_arc_with_capacity_and_unit_cost(rows + j, rows + k, rows, 0)
    flow.set_node_supply(rows + k, -rows)
    assert flow.solve() == flow.OPTIMAL
    return flow.optimal_cost() + reward * least * k


assignments = []
for case in range(60):
    k = int(rng.integers(1, 8))
    rows = int(rng.integers(k, 36))
    least = int(rng.integers(1, rows // k + 1))
    spread = [5, 100, 100_000][case % 3]
    costs = np.round((rng.standard_normal((rows, k)) + rng.uniform(0, 3, k)) * spread).astype(int)
    assignments.append({
        "rows": rows, "k": k, "min_size": least, "costs": costs.ravel().tolist(), "optimum": int(optimum(costs, least)),
    })

constrained = []
for rows, cols, k, least in [(60, 4, 5, 10), (48, 3, 4, 12), (80, 6, 6, 9)]:
    x = points(rows, cols, 2, 2.0)
    start = x[:k].copy()
    fit = KMeansConstrained(k, size_min=least, init=start, n_init=1, max_iter=50, random_state=0).fit(x)
    distances = np.round(np.sqrt(((x[:, None] - fit.cluster_centers_[None]) ** 2).sum(-1)), 6)
    assert np.bincount(fit.labels_, minlength=k).min() >= least
    constrained.append({
        "rows": rows, "k": k, "min_size": least, "distances": distances.ravel().tolist(), "labels": fit.labels_.tolist(),
    })

out = Path(__file__).with_name("cluster.json")
out.write_text(json.dumps({"kmeans": kmeans, "assignments": assignments, "constrained": constrained}, separators=(",", ":")) + "\n")
print(out, out.stat().st_size, [(c["iterations"], c["loose_iterations"]) for c in kmeans])
