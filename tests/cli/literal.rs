//! The method's formula as the paper writes it, in f64, with explicit `A_i = W[S_i]`: what `apply` is held to. It shares
//! nothing with the library but the numbers.

use idlora::Mat;

/// One module as its files describe it.
pub struct Module {
    pub w: Mat<f64>,
    /// K lists of R row numbers.
    pub indices: Vec<Vec<usize>>,
    pub b: Mat<f64>,
    pub gate: Mat<f64>,
    pub kind: String,
    pub scale: f64,
    pub split: usize,
}

/// What the formula gives for one token, with the sums of magnitudes that bound rounding.
pub struct Token {
    pub gate: Vec<f64>,
    pub z: Vec<f64>,
    pub y: Vec<f64>,
    /// `κ Σ |B| |a| |x|` of each output, and `Σ |a| |x|` of each entry of z.
    pub y_magnitude: Vec<f64>,
    pub z_magnitude: Vec<f64>,
    /// `Σ_j |T_j| |x_j|`, or `Σ_j |W_g,j| |h_j|`, of each component.
    pub gate_magnitude: Vec<f64>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn dot_of_magnitudes(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

impl Module {
    /// `x_i = A_i h` for every component.
    pub fn down(&self, h: &[f64]) -> Vec<Vec<f64>> {
        self.indices.iter().map(|rows| rows.iter().map(|&row| dot(self.w.row(row), h)).collect()).collect()
    }

    /// `y = y0 + κ Σ_i α_i (I_s ⊗ B) x_i`.
    pub fn forward(&self, x: &[Vec<f64>], y0: &[f64], h: &[f64]) -> Token {
        let (rank, components) = (x[0].len(), x.len());
        let (gate, gate_magnitude) = self.gates(x, h);
        let mut z = vec![0.0; rank];
        let mut z_magnitude = vec![0.0; rank];
        for i in 0..components {
            for j in 0..rank {
                z[j] += gate[i] * x[i][j];
                z_magnitude[j] += (gate[i] * x[i][j]).abs();
            }
        }
        // (I_s ⊗ B): part p of the output reads part p of each x_i.
        let (out_part, in_part) = (self.w.rows() / self.split, rank / self.split);
        let mut y = y0.to_vec();
        let mut y_magnitude = vec![0.0; y.len()];
        for (row, (y, magnitude)) in y.iter_mut().zip(&mut y_magnitude).enumerate() {
            let part = (row / out_part) * in_part..(row / out_part + 1) * in_part;
            let b = self.b.row(row % out_part);
            for i in 0..components {
                *y += self.scale * gate[i] * dot(b, &x[i][part.clone()]);
                *magnitude += (self.scale * gate[i]).abs() * dot_of_magnitudes(b, &x[i][part.clone()]);
            }
        }
        Token { gate, z, y, y_magnitude, z_magnitude, gate_magnitude }
    }

    /// How far gate, z and y of an implementation may be from [`Module::forward`] if its `x` is off by `dx`, it computes
    /// in f32, and rounds y with unit roundoff `u`: first-order error propagation, doubled for the higher orders.
    pub fn bounds(&self, x: &[Vec<f64>], dx: &[Vec<f64>], token: &Token, u: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        const U32: f64 = 1.0 / 16_777_216.0;
        let (rank, components, n) = (x[0].len() as f64, x.len(), self.w.cols() as f64);
        let t = self.gate.row(0);
        let dgate: Vec<f64> = (0..components)
            .map(|i| match self.kind.as_str() {
                // a sum of r products of a T without error and an x with one
                "inner" => dot_of_magnitudes(t, &dx[i]) + (rank + 2.0) * U32 * token.gate_magnitude[i],
                // the same of x/rms(x), whose denominator is off by ‖dx‖/‖x‖ relatively
                "rms-inner" => {
                    let rms = (dot(&x[i], &x[i]) / rank + 1e-6).sqrt();
                    let relative = (dot(&dx[i], &dx[i]) / rank).sqrt() / rms;
                    dot_of_magnitudes(t, &dx[i]) / rms + (relative + (2.0 * rank + 6.0) * U32) * token.gate_magnitude[i]
                }
                "linear" => (n + 2.0) * U32 * token.gate_magnitude[i],
                // d a_i = a_i (d l_i − Σ_j a_j d l_j), at most twice the largest error of a logit
                "linear-softmax" => {
                    let logit = token.gate_magnitude.iter().fold(1.0f64, |most, &x| most.max(x));
                    token.gate[i] * 2.0 * (n + 8.0) * U32 * logit
                }
                _ => 0.0,
            })
            .collect();
        let dz: Vec<f64> = (0..x[0].len())
            .map(|j| {
                let sum: f64 = (0..components).map(|i| dgate[i] * x[i][j].abs() + token.gate[i].abs() * dx[i][j]).sum();
                sum + (components as f64 + 2.0) * U32 * token.z_magnitude[j]
            })
            .collect();
        let (out_part, in_part) = (self.w.rows() / self.split, x[0].len() / self.split);
        let dy = (0..token.y.len()).map(|row| {
            let part = (row / out_part) * in_part..(row / out_part + 1) * in_part;
            let through_z = self.scale * dot_of_magnitudes(self.b.row(row % out_part), &dz[part]);
            through_z + (rank + 4.0) * U32 * token.y_magnitude[row] + u * token.y[row].abs()
        });
        let doubled = |x: f64| 2.0 * x;
        let dy = dy.map(doubled).collect();
        (dgate.into_iter().map(doubled).collect(), dz.into_iter().map(doubled).collect(), dy)
    }

    fn gates(&self, x: &[Vec<f64>], h: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let t = self.gate.row(0);
        let rms = |x: &Vec<f64>| (dot(x, x) / x.len() as f64 + 1e-6).sqrt();
        let linear: Vec<f64> = match self.kind.as_str() {
            "linear" | "linear-softmax" => (0..x.len()).map(|i| dot(self.gate.row(i), h)).collect(),
            _ => Vec::new(),
        };
        let linear_magnitude = || (0..x.len()).map(|i| dot_of_magnitudes(self.gate.row(i), h)).collect::<Vec<f64>>();
        match self.kind.as_str() {
            "inner" => (x.iter().map(|x| dot(t, x)).collect(), x.iter().map(|x| dot_of_magnitudes(t, x)).collect()),
            "rms-inner" => (
                x.iter().map(|x| dot(t, x) / rms(x)).collect(),
                x.iter().map(|x| dot_of_magnitudes(t, x) / rms(x)).collect(),
            ),
            "linear" => (linear, linear_magnitude()),
            "linear-softmax" => {
                let sum: f64 = linear.iter().map(|l| l.exp()).sum();
                (linear.iter().map(|l| l.exp() / sum).collect(), linear_magnitude())
            }
            "static" => (t.to_vec(), t.iter().map(|x| x.abs()).collect()),
            other => panic!("gate {other}"),
        }
    }
}
