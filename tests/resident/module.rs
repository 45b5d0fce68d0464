//! A module's operands on a device, somewhere in larger buffers, and the same in host memory.

use crate::common::Padded;
use crate::common::branch::{GATES, Problem, desc};
use idlora::lowrank::resident::{
    Backward, Forward, Gradients, InputGradient, Layer, Output, Parameters, Saved, SavedMut, Skeleton,
};
use idlora::lowrank::{self, Bias, Desc, DownProjection, Dropout, Gate, Plan};
use idlora::resident::{Buffer, MatMut, MatRef, Workspace};
use idlora::{Device, Elem};

pub const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 0x2_0000_0003, offset: (1 << 32) - 4 };

/// Which operands a module has.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// In place, and dX scattered.
    pub in_place: bool,
    pub keeps_z: bool,
    pub accumulates: bool,
}

pub const WAYS: [Way; 2] = [
    Way { in_place: true, keeps_z: false, accumulates: false },
    Way { in_place: false, keeps_z: true, accumulates: true },
];

/// Every gate, with the biases in turn, two splits, and dropout for some; then X from an explicit down-projection.
pub fn problems<T: Elem>(tokens: usize) -> Vec<Problem<T>> {
    let biases = [Bias::Included, Bias::Separate, Bias::None, Bias::Included, Bias::Separate];
    let problem = |(i, (gate, bias))| {
        let desc = if i % 2 == 0 { desc(70, 20, 6, 2, 2) } else { desc(51, 33, 5, 3, 1) };
        Problem::random(Desc { gate, bias, ..desc }, tokens, (i % 2 == 0).then_some(DROPOUT), i as u64)
    };
    let explicit = |(i, gate)| {
        let desc = Desc { gate, down: DownProjection::Gemm, bias: biases[i], ..desc(51, 33, 5, 3, 1) };
        Problem::random(desc, tokens, (i == 1).then_some(DROPOUT), 10 + i as u64)
    };
    let gathered = GATES.into_iter().zip(biases).enumerate().map(problem);
    gathered.chain([Gate::RmsInner, Gate::LinearSoftmax].into_iter().enumerate().map(explicit)).collect()
}

/// A matrix in a larger buffer, with NaN before it, between its rows and behind it.
pub struct There<T> {
    pub buffer: Buffer<T>,
    start: usize,
    shape: [usize; 3],
}

impl<T: Elem> There<T> {
    pub fn new(device: &Device, here: idlora::MatRef<'_, T>, start: usize) -> Self {
        let nan = T::from_f32(f32::NAN);
        let around = [vec![nan; start], here.data().to_vec(), vec![nan; 5]].concat();
        let buffer = Buffer::from_slice(device, &around).unwrap();
        Self { buffer, start, shape: [here.rows(), here.cols(), here.ld()] }
    }

    pub fn view(&self) -> MatRef<'_, T> {
        let [rows, cols, ld] = self.shape;
        MatRef::starting_at(&self.buffer, self.start, rows, cols, ld).unwrap()
    }

    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        let [rows, cols, ld] = self.shape;
        MatMut::starting_at(&mut self.buffer, self.start, rows, cols, ld).unwrap()
    }

    /// To the bit what lies in host memory, padding included; NaN around it as before.
    pub fn assert_is(&self, what: &str, here: &Padded<T>) {
        let data = self.buffer.to_vec().unwrap();
        let end = data.len() - 5;
        let around = data[..self.start].iter().chain(&data[end..]);
        assert!(around.clone().all(|x| x.to_f32().is_nan()), "{what}: around the matrix");
        let bytes = |data: &[T]| bytemuck::cast_slice::<T, u8>(data).to_vec();
        assert!(bytes(&data[self.start..end]) == bytes(here.view().data()), "{what}: other bits than from host memory");
    }
}

/// What a step writes, and the operands that it may write into, in host memory.
pub struct Here<T> {
    pub y0: Padded<T>,
    pub y: Padded<T>,
    pub x: Padded<T>,
    pub a: Padded<f32>,
    pub z: Padded<f32>,
    pub g: Padded<T>,
    pub dx: Padded<T>,
    pub db: Padded<f32>,
    pub dgate: Padded<f32>,
    pub dh: Padded<T>,
}

impl<T: Elem> Here<T> {
    pub fn new(problem: &Problem<T>) -> Self {
        let (t, Desc { rows, cols, rank, components, .. }) = (problem.tokens(), problem.desc);
        Self {
            y0: problem.y0.clone(),
            y: Padded::poisoned(t, rows, 7),
            x: Padded::poisoned(t, problem.width(), 1),
            a: Padded::poisoned(t, components, 2),
            z: Padded::poisoned(t, rank, 3),
            g: problem.g.clone(),
            dx: Padded::poisoned(t, problem.width(), 2),
            // Added to, or overwritten.
            db: problem.b.clone(),
            dgate: problem.gate.clone(),
            dh: Padded::poisoned(t, cols, 1),
        }
    }

    pub fn forward(&mut self, plan: &Plan, problem: &Problem<T>, way: Way) {
        let z = way.keeps_z.then(|| self.z.view_mut());
        let saved = lowrank::SavedMut { x: self.x.view_mut(), gate: self.a.view_mut(), z };
        let output = if way.in_place {
            lowrank::Output::InPlace(self.y0.view_mut())
        } else {
            lowrank::Output::OutOfPlace { y0: self.y0.view(), y: self.y.view_mut() }
        };
        plan.forward(&problem.parameters(), &problem.layer(), output, Some(saved)).unwrap();
    }

    pub fn backward(&mut self, plan: &Plan, problem: &Problem<T>, way: Way) {
        let saved = lowrank::Saved { x: self.x.view(), gate: self.a.view(), z: way.keeps_z.then(|| self.z.view()) };
        let input = if way.in_place {
            lowrank::InputGradient::Scatter(self.g.view_mut())
        } else {
            lowrank::InputGradient::Separate { g: self.g.view(), dx: self.dx.view_mut() }
        };
        let gradients = lowrank::Gradients {
            b: self.db.view_mut(),
            gate: self.dgate.view_mut(),
            h_gate: problem.desc.gate.reads_input().then(|| self.dh.view_mut()),
            accumulate: way.accumulates,
        };
        plan.backward(&problem.parameters(), &problem.layer(), saved, input, gradients).unwrap();
    }
}

/// All of a module on a device.
pub struct Module<T> {
    pub skeleton: Skeleton,
    pub scale: f32,
    pub dropout: Option<Dropout>,
    pub b: There<f32>,
    pub gate: There<f32>,
    pub h: Option<There<T>>,
    pub w: Option<There<T>>,
    pub bias: Option<There<T>>,
    pub y0: There<T>,
    pub y: There<T>,
    pub x: There<T>,
    pub a: There<f32>,
    pub z: There<f32>,
    pub g: There<T>,
    pub dx: There<T>,
    pub db: There<f32>,
    pub dgate: There<f32>,
    pub dh: There<T>,
    pub way: Way,
    /// Whether the gate does: the explicit down-projection has H too.
    reads_h: bool,
}

impl<T: Elem> Module<T> {
    pub fn new(plan: &Plan, device: &Device, problem: &Problem<T>, way: Way) -> Self {
        let (here, layer) = (Here::new(problem), problem.layer());
        let elements = |here: idlora::MatRef<'_, T>, start| There::new(device, here, start);
        let floats = |here: idlora::MatRef<'_, f32>, start| There::new(device, here, start);
        Self {
            skeleton: Skeleton::new(plan, &problem.skeleton).unwrap(),
            scale: problem.scale,
            dropout: problem.dropout,
            b: floats(problem.b.view(), 2),
            gate: floats(problem.gate.view(), 9),
            h: layer.h.map(|h| elements(h, 7)),
            w: layer.w.map(|w| elements(w, 3)),
            bias: layer.bias.map(|bias| elements(idlora::MatRef::new(bias, 1, bias.len()).unwrap(), 5)),
            y0: elements(here.y0.view(), 3),
            y: elements(here.y.view(), 1),
            x: elements(here.x.view(), 4),
            a: floats(here.a.view(), 6),
            z: floats(here.z.view(), 1),
            g: elements(here.g.view(), 9),
            dx: elements(here.dx.view(), 11),
            db: floats(here.db.view(), 15),
            dgate: floats(here.dgate.view(), 3),
            dh: elements(here.dh.view(), 13),
            way,
            reads_h: problem.desc.gate.reads_input(),
        }
    }

    pub fn forward(&mut self) -> Forward<'_, T> {
        let z = self.way.keeps_z.then(|| self.z.view_mut());
        Forward {
            parameters: Parameters {
                skeleton: &self.skeleton,
                b: self.b.view(),
                gate: self.gate.view(),
                scale: self.scale,
            },
            layer: Layer {
                h: self.h.as_ref().map(There::view),
                w: self.w.as_ref().map(There::view),
                bias: self.bias.as_ref().map(There::view),
                dropout: self.dropout,
            },
            output: if self.way.in_place {
                Output::InPlace(self.y0.view_mut())
            } else {
                Output::OutOfPlace { y0: self.y0.view(), y: self.y.view_mut() }
            },
            saved: Some(SavedMut { x: self.x.view_mut(), gate: self.a.view_mut(), z }),
        }
    }

    pub fn backward(&mut self) -> Backward<'_, T> {
        let shares = self.reads_h;
        Backward {
            parameters: Parameters {
                skeleton: &self.skeleton,
                b: self.b.view(),
                gate: self.gate.view(),
                scale: self.scale,
            },
            layer: Layer { h: self.h.as_ref().map(There::view), w: None, bias: None, dropout: self.dropout },
            saved: Saved { x: self.x.view(), gate: self.a.view(), z: self.way.keeps_z.then(|| self.z.view()) },
            input: if self.way.in_place {
                InputGradient::Scatter(self.g.view_mut())
            } else {
                InputGradient::Separate { g: self.g.view(), dx: self.dx.view_mut() }
            },
            gradients: Gradients {
                b: self.db.view_mut(),
                gate: self.dgate.view_mut(),
                h_gate: shares.then(|| self.dh.view_mut()),
                accumulate: self.way.accumulates,
            },
        }
    }

    /// Every buffer that a step may write, to the bit.
    pub fn assert_is(&self, what: &str, here: &Here<T>) {
        for (name, there, here) in [
            ("Y0", &self.y0, &here.y0),
            ("Y", &self.y, &here.y),
            ("X", &self.x, &here.x),
            ("G", &self.g, &here.g),
            ("dX", &self.dx, &here.dx),
            ("dH", &self.dh, &here.dh),
        ] {
            there.assert_is(&format!("{what}: {name}"), here);
        }
        for (name, there, here) in [
            ("gate", &self.a, &here.a),
            ("z", &self.z, &here.z),
            ("dB", &self.db, &here.db),
            ("gradient of the gate", &self.dgate, &here.dgate),
        ] {
            there.assert_is(&format!("{what}: {name}"), here);
        }
    }
}

/// As large as the plan says, not a byte more.
pub fn workspace<T: Elem>(plan: &Plan, device: &Device, tokens: usize, modules: usize) -> Workspace {
    Workspace::new(device, plan.workspace_bytes(T::DTYPE, tokens, modules)).unwrap()
}
