//! Euclidean norms.

use crate::mat::MatRef;

/// `‖w_i‖₂` of every row.
pub fn row_norms(w: MatRef<'_, f64>) -> Vec<f64> {
    w.iter_rows().map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
}

/// `‖w_{·j}‖₂` of every column.
pub fn col_norms(w: MatRef<'_, f64>) -> Vec<f64> {
    (0..w.cols()).map(|j| w.iter_rows().map(|row| row[j] * row[j]).sum::<f64>().sqrt()).collect()
}
