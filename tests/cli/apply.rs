//! `apply`: one module's forward and backward, held to the formula in f64.

use crate::common::matrices::Draw;
use crate::literal::{Module, Token};
use crate::support::{self, Tensor, folder, refuse, save, succeed};
use idlora::format::checkpoint::Checkpoint;
use idlora::{Dtype, Mat};
use serde_json::Value;
use std::path::Path;

const NAME: &str = "layer.0.q_proj.weight";
const GATES: [&str; 5] = ["inner", "rms-inner", "linear", "linear-softmax", "static"];
const TOKENS: usize = 5;

/// An adapter on disk with everything that the formula needs, and a batch.
struct Scene {
    dir: tempfile::TempDir,
    module: Module,
    dtype: Dtype,
    h: Mat<f64>,
    bias: Vec<f64>,
    y0: Mat<f64>,
    grad: Mat<f64>,
}

fn rounded(dtype: Dtype, values: &Mat<f64>) -> Mat<f64> {
    let round = |&x: &f64| match dtype {
        Dtype::F32 => f64::from(x as f32),
        Dtype::F16 => idlora::f16::from_f32(x as f32).to_f64(),
        Dtype::BF16 => idlora::bf16::from_f32(x as f32).to_f64(),
    };
    Mat::from_vec(values.data().iter().map(round).collect(), values.rows(), values.cols()).unwrap()
}

impl Scene {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn new(gate: &str, dtype: Dtype, biased: bool) -> Self {
        let dir = folder();
        let mut draw = Draw::new(7);
        let weights = dir.path().join("w.safetensors");
        support::small_model(&weights, dtype, &mut draw);
        let adapter = dir.path().join("adapter");
        let line = format!(
            "init {{weights}} --match q_proj.weight --rank 6 --clusters 3 --split 2 --alpha 9 --gate {gate} --b-init normal --seed 3 --json --out {{adapter}}"
        );
        let json = support::init_json(&line, &[("weights", &weights), ("adapter", &adapter)]);
        let lists = json["modules"][0]["indices"].as_array().unwrap();
        let list = |list: &Value| list.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect();
        let stored = adapter.join("adapter.safetensors");
        let module = Module {
            w: support::load(&weights, NAME),
            indices: lists.iter().map(list).collect(),
            b: support::load(&stored, &format!("{NAME}.b")),
            gate: support::load(&stored, &format!("{NAME}.gate")),
            kind: gate.to_owned(),
            scale: 1.5,
            split: 2,
        };
        assert!(module.b.data().iter().any(|&x| x != 0.0));
        let h = rounded(dtype, &draw.gaussian(TOKENS, 16));
        let bias = if biased { rounded(dtype, &draw.gaussian(1, 48)).into_vec() } else { vec![0.0; 48] };
        let mut y0 = Mat::zeros(TOKENS, 48).unwrap();
        for t in 0..TOKENS {
            for (row, y) in y0.row_mut(t).iter_mut().enumerate() {
                *y = bias[row] + module.w.row(row).iter().zip(h.row(t)).map(|(w, h)| w * h).sum::<f64>();
            }
        }
        let y0 = rounded(dtype, &y0);
        let grad = rounded(dtype, &draw.gaussian(TOKENS, 48));
        let scene = Self { dir, module, dtype, h, bias, y0, grad };
        scene.write_input("in.safetensors", &["y0", "h", "grad", if biased { "bias" } else { "" }]);
        scene
    }

    fn write_input(&self, name: &str, what: &[&str]) {
        let all = [
            Tensor::matrix("y0", self.dtype, &self.y0),
            Tensor::matrix("h", self.dtype, &self.h),
            Tensor::matrix("grad", self.dtype, &self.grad),
            Tensor::vector("bias", self.dtype, &self.bias),
        ];
        let chosen: Vec<Tensor> = all.into_iter().filter(|tensor| what.contains(&tensor.name.as_str())).collect();
        save(&self.path(name), &chosen);
    }

    fn apply(&self, input: &str, out: &str, extra: &str) -> std::path::PathBuf {
        let (input, out) = (self.path(input), self.path(out));
        let (adapter, weights) = (self.path("adapter"), self.path("w.safetensors"));
        let line = format!("apply {{adapter}} --module {NAME} --input {{input}} --out {{out}} {extra}");
        succeed(&line, &[("adapter", &adapter), ("input", &input), ("out", &out), ("weights", &weights)]);
        out
    }

    /// `x_i = W[S_i] h`, without the detour over y0 that the implementation takes.
    fn token(&self, t: usize) -> (Vec<Vec<f64>>, Token) {
        let x = self.module.down(self.h.row(t));
        let token = self.module.forward(&x, self.y0.row(t), self.h.row(t));
        (x, token)
    }

    /// X from y0: y0 is rounded, so is the difference with b, and so is X where it is kept for the backward.
    fn x_error(&self, t: usize, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let u = self.dtype.unit_roundoff();
        let of = |i: usize, j: usize| {
            let row = self.module.indices[i][j];
            u * (self.y0.row(t)[row].abs() + 2.0 * x[i][j].abs())
        };
        (0..x.len()).map(|i| (0..x[i].len()).map(|j| of(i, j)).collect()).collect()
    }

    fn check_forward(&self, out: &Path, what: &str) {
        let (y, z, gate) = (support::load(out, "y"), support::load(out, "z"), support::load(out, "gate"));
        assert_eq!((y.shape(), z.shape(), gate.shape()), ((TOKENS, 48), (TOKENS, 6), (TOKENS, 3)));
        for t in 0..TOKENS {
            let (x, token) = self.token(t);
            let (dgate, dz, dy) = self.module.bounds(&x, &self.x_error(t, &x), &token, self.dtype.unit_roundoff());
            let close = |name: &str, got: &[f64], expected: &[f64], bound: &[f64]| {
                for (j, ((got, expected), bound)) in got.iter().zip(expected).zip(bound).enumerate() {
                    assert!(
                        (got - expected).abs() <= *bound,
                        "{what} {name}[{t}, {j}]: {got}, not {expected} ± {bound}"
                    );
                }
            };
            close("gate", gate.row(t), &token.gate, &dgate);
            close("z", z.row(t), &token.z, &dz);
            close("y", y.row(t), &token.y, &dy);
        }
    }
}

#[test]
fn the_forward_is_the_papers_formula_for_every_gate_and_element_type() {
    for gate in GATES {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            for biased in [false, true] {
                let scene = Scene::new(gate, dtype, biased);
                let out = scene.apply("in.safetensors", "out.safetensors", "");
                scene.check_forward(&out, &format!("{gate} {dtype:?} biased: {biased}"));
                let stored = Checkpoint::open(&out).unwrap();
                let dtype_of = |name: &str| stored.find(name).unwrap().dtype.as_str();
                assert_eq!((dtype_of("y"), dtype_of("grad_y0")), (dtype.name(), dtype.name()));
                assert!(["z", "gate", "grad_b", "grad_gate"].iter().all(|name| dtype_of(name) == "F32"));
            }
        }
    }
}

#[test]
fn the_explicit_down_projection_is_the_same_formula() {
    for gate in ["inner", "linear-softmax"] {
        let scene = Scene::new(gate, Dtype::F32, true);
        let out = scene.apply("in.safetensors", "out.safetensors", "--weights {weights}");
        scene.check_forward(&out, gate);
        assert_eq!(support::names(&out).len(), if gate == "inner" { 6 } else { 7 });
        scene.write_input("no-h.safetensors", &["y0"]);
        let (adapter, input, weights) =
            (scene.path("adapter"), scene.path("no-h.safetensors"), scene.path("w.safetensors"));
        let paths: &[(&str, &Path)] =
            &[("adapter", &adapter), ("input", &input), ("weights", &weights), ("out", &scene.path("none"))];
        let line = format!("apply {{adapter}} --module {NAME} --input {{input}} --out {{out}} --weights {{weights}}");
        refuse(&line, paths, &["no-h.safetensors", "`h`", "is missing"]);
    }
}

#[test]
fn only_what_was_asked_for_is_written() {
    let scene = Scene::new("linear", Dtype::F32, false);
    scene.write_input("forward.safetensors", &["y0", "h"]);
    let out = scene.apply("forward.safetensors", "forward-out.safetensors", "");
    assert_eq!(support::names(&out), ["gate", "y", "z"]);
    let out = scene.apply("in.safetensors", "out.safetensors", "");
    assert_eq!(support::names(&out), ["gate", "grad_b", "grad_gate", "grad_h_gate", "grad_y0", "y", "z"]);
    // `.weight` may be left out.
    let (adapter, input, out) = (scene.path("adapter"), scene.path("in.safetensors"), scene.path("short.safetensors"));
    let paths: &[(&str, &Path)] = &[("adapter", &adapter), ("input", &input), ("out", &out)];
    succeed("apply {adapter} --module layer.0.q_proj --input {input} --out {out}", paths);
}

/// `d/dp Σ_t ⟨G_t, Y_t⟩` by central differences of the formula in f64, where `at(δ)` moves one parameter.
fn slope(loss: impl Fn(f64) -> f64) -> f64 {
    const STEP: f64 = 1e-5;
    (loss(STEP) - loss(-STEP)) / (2.0 * STEP)
}

#[test]
fn the_backward_is_the_slope_of_the_formula_for_every_gate() {
    for gate in GATES {
        let mut scene = Scene::new(gate, Dtype::F32, true);
        let out = scene.apply("in.safetensors", "out.safetensors", "");
        let got = |name: &str| support::load(&out, name);
        let x: Vec<Vec<Vec<f64>>> = (0..TOKENS).map(|t| scene.module.down(scene.h.row(t))).collect();
        let token_loss = |scene: &Scene, t: usize, x: &[Vec<f64>], h: &[f64]| {
            let token = scene.module.forward(x, scene.y0.row(t), h);
            token.y.iter().zip(scene.grad.row(t)).map(|(y, g)| y * g).sum::<f64>()
        };
        // Rounding in f32 and the differences' own error, against the largest entry of each gradient.
        let close = |name: &str, got: &Mat<f64>, expected: &Mat<f64>| {
            let scale = expected.data().iter().fold(0.0f64, |most, x| most.max(x.abs()));
            assert_eq!(got.shape(), expected.shape(), "{gate} {name}");
            assert!(scale > 0.0, "{gate} {name} says nothing");
            for (i, (got, expected)) in got.data().iter().zip(expected.data()).enumerate() {
                assert!((got - expected).abs() <= 2e-5 * scale, "{gate} {name}[{i}]: {got}, expected {expected}");
            }
        };
        for name in ["grad_b", "grad_gate"] {
            let got = got(name);
            let mut expected = Mat::zeros(got.rows(), got.cols()).unwrap();
            for i in 0..got.data().len() {
                let mut at = |step: f64| {
                    let tensor = if name == "grad_b" { &mut scene.module.b } else { &mut scene.module.gate };
                    let before = tensor.data()[i];
                    tensor.data_mut()[i] = before + step;
                    let loss: f64 = (0..TOKENS).map(|t| token_loss(&scene, t, &x[t], scene.h.row(t))).sum();
                    let tensor = if name == "grad_b" { &mut scene.module.b } else { &mut scene.module.gate };
                    tensor.data_mut()[i] = before;
                    loss
                };
                expected.data_mut()[i] = (at(1e-5) - at(-1e-5)) / 2e-5;
            }
            close(name, &got, &expected);
        }
        // Y0 reaches Y directly and through X = Y0[S] − b[S].
        let mut expected = scene.grad.clone();
        for (t, x) in x.iter().enumerate() {
            for (i, rows) in scene.module.indices.iter().enumerate() {
                for (j, &row) in rows.iter().enumerate() {
                    expected.row_mut(t)[row] += slope(|step| {
                        let mut x = x.clone();
                        x[i][j] += step;
                        token_loss(&scene, t, &x, scene.h.row(t))
                    });
                }
            }
        }
        close("grad_y0", &got("grad_y0"), &expected);
        if gate.starts_with("linear") {
            let mut expected = Mat::zeros(TOKENS, 16).unwrap();
            for (t, x) in x.iter().enumerate() {
                for j in 0..16 {
                    expected.row_mut(t)[j] = slope(|step| {
                        let mut h = scene.h.row(t).to_vec();
                        h[j] += step;
                        token_loss(&scene, t, x, &h) // X stays: only the gate's share of dH
                    });
                }
            }
            close("grad_h_gate", &got("grad_h_gate"), &expected);
        }
    }
}

/// Both directions by kernels: every tensor is the CPU's, up to rounding in f32 and one more in the element type.
#[cfg(feature = "vm")]
#[test]
fn the_device_vm_gives_what_the_cpu_gives() {
    for (gate, dtype) in GATES.into_iter().zip([Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::BF16]) {
        let scene = Scene::new(gate, dtype, true);
        let [cpu, vm] = ["cpu", "vm"].map(|device| {
            scene.apply("in.safetensors", &format!("{device}.safetensors"), &format!("--device {device}"))
        });
        assert_eq!(support::names(&cpu), support::names(&vm), "{gate}");
        for name in support::names(&cpu) {
            let (expected, got) = (support::load(&cpu, &name), support::load(&vm, &name));
            assert_eq!(expected.shape(), got.shape(), "{gate} {name}");
            let most = expected.data().iter().fold(0.0f64, |most, x| most.max(x.abs()));
            assert!(most > 0.0, "{gate} {name} says nothing");
            // The expansion's terms of bfloat16 are good to 3·2⁻¹⁶ for 16-bit elements; these store two roundings apart.
            let bound = if dtype == Dtype::F32 { 2e-5 } else { 2e-4 + 2.0 * dtype.unit_roundoff() } * most;
            for (i, (got, expected)) in got.data().iter().zip(expected.data()).enumerate() {
                assert!((got - expected).abs() <= bound, "{gate} {dtype:?} {name}[{i}]: {got}, by the CPU {expected}");
            }
        }
    }
}

#[test]
fn bad_batches_are_refused_by_name() {
    let scene = Scene::new("linear-softmax", Dtype::F32, true);
    let (adapter, input, out) = (scene.path("adapter"), scene.path("bad.safetensors"), scene.path("none.safetensors"));
    let paths: &[(&str, &Path)] = &[("adapter", &adapter), ("input", &input), ("out", &out)];
    let line = format!("apply {{adapter}} --module {NAME} --input {{input}} --out {{out}}");
    let matrix =
        |name: &str, rows: usize, cols: usize| Tensor::matrix(name, Dtype::F32, &Mat::zeros(rows, cols).unwrap());

    let with = |tensors: &[Tensor], expected: &[&str]| {
        save(&input, tensors);
        refuse(&line, paths, expected);
        assert!(!out.exists());
    };
    with(&[matrix("h", 5, 16)], &["bad.safetensors", "`y0`"]);
    with(&[matrix("y0", 5, 48)], &["`h`", "missing"]);
    with(&[matrix("y0", 5, 47), matrix("h", 5, 16)], &["y0", "47", "48"]);
    with(&[matrix("y0", 5, 48), matrix("h", 4, 16)], &["`h`", "[5, 16]", "[4, 16]"]);
    with(&[matrix("y0", 5, 48), matrix("h", 5, 16), matrix("grad", 5, 47)], &["[5, 48]", "[5, 47]"]);
    with(
        &[matrix("y0", 5, 48), matrix("h", 5, 16), Tensor::vector("bias", Dtype::F32, &[0.0; 47])],
        &["bias", "48", "47"],
    );
    with(
        &[matrix("y0", 5, 48), Tensor::matrix("h", Dtype::F16, &Mat::zeros(5, 16).unwrap())],
        &["`h` has element type F16", "F32"],
    );
    let mut y0 = Mat::zeros(5, 48).unwrap();
    y0.row_mut(3)[7] = f64::NAN;
    with(&[Tensor::matrix("y0", Dtype::F32, &y0), matrix("h", 5, 16)], &["`y0` has NaN at row 3, column 7"]);

    scene.write_input("bad.safetensors", &["y0", "h"]);
    refuse("apply {adapter} --module nothing --input {input} --out {out}", paths, &["`nothing`", NAME]);
    let usage = support::run(&format!("{line} --device tpu"), paths);
    assert_eq!(usage.code, 2);
    assert!(usage.stderr.contains("tpu") && usage.stderr.contains("cpu"), "{}", usage.stderr);

    // Another base than the adapter's.
    let other = scene.path("other.safetensors");
    support::small_model(&other, Dtype::F32, &mut Draw::new(8));
    let paths: &[(&str, &Path)] = &[("adapter", &adapter), ("input", &input), ("out", &out), ("other", &other)];
    refuse(&format!("{line} --weights {{other}}"), paths, &[NAME, "digest"]);
}
