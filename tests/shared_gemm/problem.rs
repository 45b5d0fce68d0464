//! Problems, their f64 counterparts, and the property.

use crate::bounds::bounds;
use crate::common::Padded;
use crate::common::branch::{Exact, assert_within, scaled, zeros};
use crate::common::matrices::Draw;
use idlora::lowrank::{self, Bias, DownProjection, Dropout, Parameters, SavedMut};
use idlora::reference::{lowrank as reference, shared_gemm};
use idlora::shared_gemm::{Desc, Operands, Plan};
#[cfg(any(feature = "cuda", feature = "vm"))]
use idlora::tune::Config;
use idlora::{Device, Elem, Error, Mat};

/// Tiles of the kernel, and rasters with which they are run.
#[cfg(any(feature = "cuda", feature = "vm"))]
pub const WAYS: [[u32; 3]; 4] = [[128, 128, 1], [64, 128, 3], [64, 64, 8], [128, 256, 32]];

/// A problem with all its operands in the element type.
pub struct Problem<T> {
    pub desc: Desc,
    pub skeleton: Vec<u32>,
    pub b: Padded<f32>,
    pub gate: Padded<f32>,
    pub scale: f32,
    pub h: Padded<T>,
    pub w: Padded<T>,
    pub bias: Vec<T>,
    pub dropout: Option<Dropout>,
    pub y_pad: usize,
}

/// What is left, from poisoned buffers.
pub struct Found<T> {
    pub y: Padded<T>,
    pub x: Padded<T>,
    pub a: Padded<f32>,
    pub z: Padded<f32>,
}

impl<T: Elem> Problem<T> {
    /// Random operands of unit size: `H ~ N(0, 1)`, `W ~ N(0, 1/n)`, `T ~ N(0, 1/r)`, `B ~ N(0, 1/r)`. `pads` are those of the rows
    /// of H, W and Y.
    pub fn random(desc: Desc, tokens: usize, dropout: Option<Dropout>, pads: [usize; 3], seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let Desc { rows, cols, rank, components, split, .. } = desc;
        let mut all: Vec<u32> = (0..rows as u32).collect();
        for i in 0..rows {
            all.swap(i, i + draw.below(rows - i));
        }
        let (gate_rows, gate_cols) = desc.gate.parameter_shape(rank.max(1), components.max(1), cols);
        let narrow = |size: usize| 1.0 / (size as f64).sqrt();
        Self {
            desc,
            skeleton: all[..components * rank].to_vec(),
            b: Padded::new(&scaled(draw.gaussian(rows / split, (rank / split).max(1)), narrow(rank.max(1))), 1),
            gate: Padded::new(&scaled(draw.gaussian(gate_rows, gate_cols), narrow(gate_cols)), 4),
            scale: 1.5,
            h: Padded::new(&draw.gaussian(tokens, cols), pads[0]),
            w: Padded::new(&scaled(draw.gaussian(rows, cols), narrow(cols)), pads[1]),
            bias: (0..rows).map(|_| T::from_f32(draw.normal() as f32)).collect(),
            dropout: dropout.filter(|_| components > 0),
            y_pad: pads[2],
        }
    }

    pub fn operands(&self) -> Operands<'_, T> {
        let adapter =
            Parameters { skeleton: &self.skeleton, b: self.b.view(), gate: self.gate.view(), scale: self.scale };
        Operands {
            h: self.h.view(),
            w: self.w.view(),
            bias: self.desc.bias.then_some(&self.bias[..]),
            adapter: (self.desc.components > 0).then_some(adapter),
            dropout: self.dropout,
        }
    }

    /// Runs it into poisoned buffers.
    pub fn run(&self, device: &Device, save: bool) -> Result<Found<T>, Error> {
        self.run_with(&Plan::new(device, self.desc)?, save)
    }

    /// The same, one of a device's ways.
    #[cfg(any(feature = "cuda", feature = "vm"))]
    pub fn run_as(&self, device: &Device, save: bool, [tokens, columns, raster]: [u32; 3]) -> Result<Found<T>, Error> {
        let mut plan = Plan::new(device, self.desc)?;
        plan.choose(T::DTYPE, self.h.view().rows(), Config::SharedGemm { tokens, columns, raster })?;
        self.run_with(&plan, save)
    }

    fn run_with(&self, plan: &Plan, save: bool) -> Result<Found<T>, Error> {
        let Desc { rows, rank, components, .. } = self.desc;
        let tokens = self.h.view().rows();
        let mut found = Found {
            y: Padded::poisoned(tokens, rows, self.y_pad),
            x: Padded::poisoned(tokens, components * rank, 1),
            a: Padded::poisoned(tokens, components, 2),
            z: Padded::poisoned(tokens, rank, 3),
        };
        let saved = SavedMut { x: found.x.view_mut(), gate: found.a.view_mut(), z: Some(found.z.view_mut()) };
        let saved = (save && components > 0).then_some(saved);
        plan.run(&self.operands(), found.y.view_mut(), saved)?;
        Ok(found)
    }

    /// Its operands as f64: those of its adapter, of which X is the explicit down-projection. There is no Y0 and no G.
    pub fn exact(&self) -> Exact {
        let factors = self.dropout.map(|dropout| {
            let factors = dropout.factors(self.h.view().rows(), self.skeleton.len()).unwrap();
            let values = factors.data().iter().map(|&d| f64::from(d)).collect();
            Mat::from_vec(values, factors.rows(), factors.cols()).unwrap()
        });
        let Desc { rows, cols, rank, components, split, gate, bias } = self.desc;
        let bias = if bias { Bias::Separate } else { Bias::None };
        Exact {
            desc: lowrank::Desc { rows, cols, rank, components, split, gate, down: DownProjection::Gemm, bias },
            skeleton: self.skeleton.clone(),
            b: self.b.to_f64(),
            gate: self.gate.to_f64(),
            scale: f64::from(self.scale),
            h: self.h.to_f64(),
            w: self.w.to_f64(),
            bias: self.bias.iter().map(|b| f64::from(b.to_f32())).collect(),
            y0: zeros(0, 0),
            g: zeros(0, 0),
            factors,
        }
    }
}

#[cfg(any(feature = "cuda", feature = "vm"))]
impl<T: Elem> Found<T> {
    /// Everything in it, as bits.
    pub fn bits(&self) -> Vec<u64> {
        let mut bits: Vec<u64> = Vec::new();
        for values in [self.y.to_f64(), self.x.to_f64(), self.a.to_f64(), self.z.to_f64()] {
            bits.extend(values.data().iter().map(|x| x.to_bits()));
        }
        bits
    }
}

/// X, gate values and z; empty without components.
pub fn intermediate(exact: &Exact) -> (Mat<f64>, Mat<f64>, Mat<f64>) {
    let tokens = exact.h.rows();
    if exact.desc.components == 0 {
        return (zeros(tokens, 0), zeros(tokens, 0), zeros(tokens, 0));
    }
    let x = exact.x();
    let a = reference::gates(&exact.adapter(), x.as_ref(), exact.input());
    (x, a, exact.z())
}

pub fn reference_y(exact: &Exact) -> Mat<f64> {
    let adapter = exact.adapter();
    let adapter = (exact.desc.components > 0).then_some(&adapter);
    let bias = (exact.desc.bias != Bias::None).then_some(&exact.bias[..]);
    shared_gemm::forward(adapter, exact.h.as_ref(), exact.w.as_ref(), bias, exact.factors())
}

/// Y, X, gate and z are the reference's within the derived bounds; nothing outside the views is touched; saving changes nothing.
/// A device refuses f32.
pub fn assert_layer<T: Elem>(device: &Device, problem: &Problem<T>) {
    let tokens = problem.h.view().rows();
    let what = format!("{device} {:?} {:?} t {tokens} {:?}", T::DTYPE, problem.desc, problem.dropout);
    if *device != Device::Cpu && T::DTYPE == idlora::Dtype::F32 {
        let refused = problem.run(device, false).map(|_| ());
        assert!(
            matches!(&refused, Err(Error::Unsupported { reason, .. }) if reason.contains("f32")),
            "{what} {refused:?}"
        );
        return;
    }
    let exact = problem.exact();
    let bounds = bounds::<T>(device, &exact);
    let (x, a, z) = intermediate(&exact);
    let found = problem.run(device, true).unwrap_or_else(|error| panic!("{what}: {error}"));
    found.y.assert_guards();
    assert_within(&format!("{what}: Y"), &found.y.to_f64(), &reference_y(&exact), &bounds.y);
    if problem.desc.components > 0 {
        found.x.assert_guards();
        found.a.assert_guards();
        found.z.assert_guards();
        assert_within(&format!("{what}: X"), &found.x.to_f64(), &x, &bounds.x);
        assert_within(&format!("{what}: gate"), &found.a.to_f64(), &a, &bounds.a);
        assert_within(&format!("{what}: z"), &found.z.to_f64(), &z, &bounds.z);
        let unsaved = problem.run(device, false).unwrap();
        assert_eq!(unsaved.y.to_f64(), found.y.to_f64(), "{what}: nothing saved");
    }
}
