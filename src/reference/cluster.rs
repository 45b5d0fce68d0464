//! k-means by its definitions, and exact optima by textbook methods.

use crate::mat::{Mat, MatRef};

/// `D[p, j] = ‖x_p − c_j‖²`, `[points, k]`.
pub fn squared_distances(points: MatRef<'_, f64>, centroids: MatRef<'_, f64>) -> Mat<f64> {
    let distance = |x: &[f64], c: &[f64]| x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
    let data = points.iter_rows().flat_map(|x| centroids.iter_rows().map(move |c| distance(x, c))).collect();
    matrix(data, points.rows(), centroids.rows())
}

/// The column of each row's least entry, the lowest where several are.
pub fn nearest(distances: MatRef<'_, f64>) -> Vec<u32> {
    let least = |row: &[f64]| (0..row.len()).fold(0, |best, j| if row[j] < row[best] { j } else { best }) as u32;
    distances.iter_rows().map(least).collect()
}

/// Mean of the points with each label, `[k, dim]`; NaN where there is none.
pub fn means(points: MatRef<'_, f64>, labels: &[u32], k: usize) -> Mat<f64> {
    let mut sums = matrix(vec![0.0; k * points.cols()], k, points.cols());
    let mut sizes = vec![0.0; k];
    for (x, &label) in points.iter_rows().zip(labels) {
        sizes[label as usize] += 1.0;
        sums.row_mut(label as usize).iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
    for (j, size) in sizes.iter().enumerate() {
        sums.row_mut(j).iter_mut().for_each(|sum| *sum /= size);
    }
    sums
}

/// Every row divided by its norm; NaN where that is zero.
pub fn directions(points: MatRef<'_, f64>) -> Mat<f64> {
    let mut unit = points.iter_rows().flatten().copied().collect::<Vec<_>>();
    for row in unit.chunks_mut(points.cols().max(1)) {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    matrix(unit, points.rows(), points.cols())
}

/// One Lloyd step: the nearest labels to `centroids`, and the means of those.
pub fn lloyd_step(points: MatRef<'_, f64>, centroids: MatRef<'_, f64>) -> (Vec<u32>, Mat<f64>) {
    let labels = nearest(squared_distances(points, centroids).as_ref());
    let next = means(points, &labels, centroids.rows());
    (labels, next)
}

/// `Σ_p ‖x_p − c_label(p)‖²`.
pub fn inertia(points: MatRef<'_, f64>, centroids: MatRef<'_, f64>, labels: &[u32]) -> f64 {
    objective(squared_distances(points, centroids).as_ref(), labels)
}

/// `Σ_p D[p, label(p)]`.
pub fn objective(distances: MatRef<'_, f64>, labels: &[u32]) -> f64 {
    distances.iter_rows().zip(labels).map(|(row, &label)| row[label as usize]).sum()
}

/// Labels of least total distance with every cluster holding `min_size` points, as an assignment problem: `min_size` seats in
/// every cluster, and for the points that are left as many seats that each takes where it likes best. Solved by Kuhn's
/// Hungarian method with potentials, `O(m³)`. Requires `min_size·k ≤ m`.
pub fn assign_min_size(distances: MatRef<'_, f64>, min_size: usize) -> Vec<u32> {
    let (m, k) = distances.shape();
    let free = nearest(distances);
    let cluster = |p: usize, seat: usize| if seat < min_size * k { seat / min_size } else { free[p] as usize };
    let seats = hungarian(m, |p, seat| distances.row(p)[cluster(p, seat)]);
    (0..m).map(|p| cluster(p, seats[p]) as u32).collect()
}

/// The column of every row in a perfect matching of least cost.
fn hungarian(m: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    // Rows and columns from 1; column 0 holds the row being placed (Jonker and Volgenant's bookkeeping).
    let (mut u, mut v) = (vec![0.0; m + 1], vec![0.0; m + 1]);
    let mut row_of = vec![0; m + 1];
    for row in 1..=m {
        row_of[0] = row;
        let mut slack = vec![f64::INFINITY; m + 1];
        let mut before = vec![0; m + 1];
        let mut seen = vec![false; m + 1];
        let mut column = 0;
        while row_of[column] != 0 {
            seen[column] = true;
            let (at, mut delta, mut next) = (row_of[column], f64::INFINITY, 0);
            for j in (1..=m).filter(|&j| !seen[j]) {
                let reduced = cost(at - 1, j - 1) - u[at] - v[j];
                if reduced < slack[j] {
                    (slack[j], before[j]) = (reduced, column);
                }
                if slack[j] < delta {
                    (delta, next) = (slack[j], j);
                }
            }
            for j in 0..=m {
                if seen[j] {
                    u[row_of[j]] += delta;
                    v[j] -= delta;
                } else {
                    slack[j] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[before[column]];
            column = before[column];
        }
    }
    let mut column_of = vec![0; m];
    (1..=m).for_each(|j| column_of[row_of[j] - 1] = j - 1);
    column_of
}

/// The least squared error of `values` in `k` clusters of at least `min_size`, one-dimensional: intervals of the sorted
/// values, all of them tried, `O(k·m²)` after their errors. Requires `1 ≤ k` and `min_size·k ≤ m`.
pub fn norm_optimum(values: &[f64], k: usize, min_size: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let m = sorted.len();
    let mut best = vec![f64::INFINITY; m + 1];
    best[0] = 0.0;
    for _ in 0..k {
        let mut next = vec![f64::INFINITY; m + 1];
        for start in (0..m).filter(|&start| best[start] < f64::INFINITY) {
            // Welford's update: the error of a growing interval without cancellation.
            let (mut mean, mut error) = (0.0, 0.0);
            for end in start + 1..=m {
                let off = sorted[end - 1] - mean;
                mean += off / (end - start) as f64;
                error += off * (sorted[end - 1] - mean);
                if end - start >= min_size {
                    next[end] = f64::min(next[end], best[start] + error);
                }
            }
        }
        best = next;
    }
    best[m]
}

/// `data` as `[rows, cols]`; every caller fills exactly that.
fn matrix(data: Vec<f64>, rows: usize, cols: usize) -> Mat<f64> {
    Mat::from_vec(data, rows, cols).expect("exactly rows·cols values")
}
