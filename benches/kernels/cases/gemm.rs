//! The layer together with its components in one kernel, and the layer alone in the same kernel; and its input gradient.

use super::adapter::{Held, SCALE};
use super::{Case, Least, Shape, random};
use idlora::lowrank::{Gate, SavedMut};
use idlora::shared_gemm::{Addend, Desc, GradAdapter, GradOperands, Operands, Plan};
use idlora::{Device, Elem, Error, Mat};

/// The layer alone first: what the other is held against.
pub fn cases<T: Elem>(shape: &Shape) -> Vec<Case> {
    [false, true].into_iter().flat_map(|with| [case::<T>(shape, with), gradient::<T>(shape, with)]).collect()
}

/// H and W once, Y once, and with components what they hold and save. 2 t m n operations; components add k·r more rows of W and
/// r/s more columns of H and W.
fn case<T: Elem>(shape: &Shape, with: bool) -> Case {
    let &Shape { rows, cols, components, rank, split, tokens, .. } = shape;
    let (t, m, n, e) = (tokens as f64, rows as f64, cols as f64, size_of::<T>() as f64);
    let mut least = Least { bytes: e * (t * n + m * n + t * m), operations: 2.0 * t * m * n };
    let mut size = format!("t={tokens} m={rows} n={cols}");
    if with {
        let (width, r, s) = ((components * rank) as f64, rank as f64, split as f64);
        least.bytes += e * t * width + 4.0 * t * (components as f64 + r) + 4.0 * (m / s * r / s + r);
        least.operations += 2.0 * t * width * n + 2.0 * t * m * r / s + 4.0 * t * width;
        size += &format!(" k={components} r={rank} s={split} gate=inner");
    }
    let mut problem: Option<Problem<T>> = None;
    let shape = shape.clone();
    let run = move |device: &Device| {
        let problem = problem.get_or_insert_with(|| Problem::new(&shape, with));
        problem.run(device)?;
        Ok(least)
    };
    let operation = if with { "shared_gemm" } else { "shared_gemm frozen" };
    Case { operation, size, least, layer: Some(tokens), any_element: false, run: Box::new(run) }
}

/// G and W once, dH once, and dX with components. 2 t m n operations, and as many for each of the k·r chosen rows.
fn gradient<T: Elem>(shape: &Shape, with: bool) -> Case {
    let &Shape { rows, cols, components, rank, tokens, .. } = shape;
    let (t, m, n, e) = (tokens as f64, rows as f64, cols as f64, size_of::<T>() as f64);
    let width = if with { components * rank } else { 0 };
    let least =
        Least { bytes: e * (t * m + m * n + t * n + t * width as f64), operations: 2.0 * t * (m + width as f64) * n };
    let mut size = format!("t={tokens} m={rows} n={cols}");
    if with {
        size += &format!(" k={components} r={rank}");
    }
    let mut problem: Option<GradProblem<T>> = None;
    let shape = shape.clone();
    let run = move |device: &Device| {
        problem.get_or_insert_with(|| GradProblem::new(&shape, with)).run(device)?;
        Ok(least)
    };
    let operation = if with { "shared_gemm backward" } else { "shared_gemm backward frozen" };
    Case { operation, size, least, layer: None, any_element: false, run: Box::new(run) }
}

struct GradProblem<T> {
    desc: Desc,
    skeleton: Vec<u32>,
    g: Mat<T>,
    w: Mat<T>,
    dx: Mat<T>,
    dh: Mat<T>,
}

impl<T: Elem> GradProblem<T> {
    fn new(shape: &Shape, with: bool) -> Self {
        let &Shape { rows, cols, components, rank, split, tokens, .. } = shape;
        let (width, gate) = (components * rank, Gate::Inner);
        let desc = Desc { rows, cols, rank, components, split, gate, bias: false };
        let matrix = |seed, rows, cols, size| {
            Mat::from_vec(random(seed, rows * cols, size), rows, cols).expect("as many elements")
        };
        Self {
            desc: if with { desc } else { Desc::frozen(rows, cols, false) },
            skeleton: (0..width).map(|i| (i * (rows / width)) as u32).collect(),
            g: matrix(4, tokens, rows, 1.0),
            w: matrix(3, rows, cols, (rows as f32).sqrt().recip()),
            dx: matrix(5, tokens, width, 1.0),
            dh: matrix(0, tokens, cols, 0.0),
        }
    }

    fn run(&mut self, device: &Device) -> Result<(), Error> {
        let Self { desc, skeleton, g, w, dx, dh } = self;
        let adapter = (desc.components > 0).then(|| GradAdapter { skeleton, dx: dx.as_ref() });
        let operands = GradOperands { g: g.as_ref(), w: w.as_ref(), adapter, add: Addend::None };
        Plan::new(device, *desc)?.input_gradient(&operands, dh.as_mut())
    }
}

struct Problem<T> {
    desc: Desc,
    held: Option<Held>,
    h: Mat<T>,
    w: Mat<T>,
    y: Mat<T>,
    x: Mat<T>,
    a: Mat<f32>,
    z: Mat<f32>,
}

impl<T: Elem> Problem<T> {
    fn new(shape: &Shape, with: bool) -> Self {
        let &Shape { rows, cols, components, rank, split, tokens, .. } = shape;
        let gate = Gate::Inner;
        let desc = Desc { rows, cols, rank, components, split, gate, bias: false };
        let matrix = |seed, rows, cols, size| Mat::from_vec(random(seed, rows * cols, size), rows, cols);
        let empty = |rows, cols| matrix(0, rows, cols, 0.0).expect("as many elements");
        Self {
            desc: if with { desc } else { Desc::frozen(rows, cols, false) },
            held: with.then(|| Held::new(shape, gate)),
            h: matrix(2, tokens, cols, 1.0).expect("as many elements"),
            w: matrix(3, rows, cols, (cols as f32).sqrt().recip()).expect("as many elements"),
            y: empty(tokens, rows),
            x: empty(tokens, components * rank),
            a: Mat::zeros(tokens, components).expect("small"),
            z: Mat::zeros(tokens, rank).expect("small"),
        }
    }

    fn run(&mut self, device: &Device) -> Result<(), Error> {
        let Self { desc, held, h, w, y, x, a, z } = self;
        let adapter = held.as_ref().map(|held| held.parameters(SCALE));
        let saved = adapter.is_some().then(|| SavedMut { x: x.as_mut(), gate: a.as_mut(), z: Some(z.as_mut()) });
        let operands = Operands { h: h.as_ref(), w: w.as_ref(), bias: None, adapter, dropout: None };
        Plan::new(device, *desc)?.run(&operands, y.as_mut(), saved)
    }
}
