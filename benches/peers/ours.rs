//! Our side of `measure.py`: reads one JSON command a line, answers with one JSON object a line, so that the script can
//! take turns between us and a peer in one run. Times are taken here, around the call alone.

use idlora::cluster::{self, Axis, Space};
use idlora::lowrank::{self, Bias, DownProjection, Gate, Gradients, InputGradient, Layer, Output, Parameters};
use idlora::lowrank::{Saved, SavedMut};
use idlora::qr::{self, Groups, Stop, Tier};
use idlora::{Device, Elem, Mat, MatRef, bf16, interp};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::io::BufRead;
use std::time::Instant;

fn main() {
    let mut inputs = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line.expect("a line")).expect("a JSON command");
        let answer = match command["op"].as_str().expect("op") {
            "load" => {
                inputs = std::fs::read(command["path"].as_str().expect("path")).expect("the input file");
                json!({ "bytes": inputs.len() })
            }
            "interpolative" => interpolative(&inputs, &command),
            "kmeans" => kmeans(&inputs, &command),
            "adapter" if command["dtype"] == "bf16" => adapter::<bf16>(&command),
            "adapter" => adapter::<f32>(&command),
            other => panic!("unknown op {other}"),
        };
        println!("{answer}");
    }
}

fn size(command: &Value, key: &str) -> usize {
    command[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize
}

fn tensor(inputs: &[u8], name: &str) -> Mat<f32> {
    let file = SafeTensors::deserialize(inputs).expect("safetensors");
    let view = file.tensor(name).expect("tensor");
    let values = view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Mat::from_vec(values, view.shape()[0], view.shape()[1]).expect("two dimensions")
}

/// Pivots and coefficients of one group of candidate rows.
fn interpolative(inputs: &[u8], command: &Value) -> Value {
    let w = tensor(inputs, "w");
    let desc = qr::Desc { cols: w.cols(), rank: size(command, "rank"), tier: Tier::Gram, seed: 0 };
    let plan = qr::Plan::new(&Device::Cpu, desc).expect("plan");
    let groups = Groups::all(w.rows());
    let start = Instant::now();
    let factor = plan.run(w.as_ref(), &groups, &Stop::default()).expect("factor").remove(0);
    let coeffs = interp::coeffs(&Device::Cpu, &factor).expect("coefficients");
    let seconds = start.elapsed().as_secs_f64();
    let all: Vec<u32> = (0..w.rows() as u32).collect();
    let error = interp::relative_error(&Device::Cpu, w.as_ref(), &all, &factor.jpvt).expect("error");
    json!({ "seconds": seconds, "error": error, "pivots": factor.jpvt, "coeffs": coeffs.shape(), "handover": factor.info.handover })
}

fn kmeans(inputs: &[u8], command: &Value) -> Value {
    let (w, start) = (tensor(inputs, "w"), tensor(inputs, "start"));
    let desc = cluster::Desc {
        rows: w.rows(),
        cols: w.cols(),
        axis: Axis::Rows,
        space: Space::Full,
        clusters: start.rows(),
        min_size: size(command, "min_size"),
    };
    let plan = cluster::Plan::new(&Device::Cpu, desc).expect("plan");
    let options = cluster::Options {
        max_iterations: size(command, "steps"),
        tolerance: 0.0,
        start: Some(start.as_ref()),
        ..Default::default()
    };
    let clock = Instant::now();
    let found = plan.run(w.as_ref(), &options).expect("clustering");
    json!({
        "seconds": clock.elapsed().as_secs_f64(),
        "iterations": found.info.iterations,
        "inertia": found.info.inertia,
        "sizes": found.sizes,
        "labels": found.labels,
    })
}

/// Random numbers are all that timing needs: uniform in ±1, never zero.
fn noise<T: Elem>(rows: usize, cols: usize, scale: f32) -> Mat<T> {
    let mut state = (rows * 31 + cols) as u64 | 1;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f32(scale * ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0))
    };
    Mat::from_vec((0..rows * cols).map(|_| draw()).collect(), rows, cols).expect("size")
}

/// Forward in place, then backward with the scatter in place; the buffers are kept warm as a trainer's are.
fn adapter<T: Elem>(command: &Value) -> Value {
    let [t, m, n, r, k, s] = ["t", "m", "n", "r", "k", "s"].map(|key| size(command, key));
    let desc = lowrank::Desc {
        rows: m,
        cols: n,
        rank: r,
        components: k,
        split: s,
        gate: Gate::Inner,
        down: DownProjection::Gather,
        bias: Bias::None,
    };
    let plan = lowrank::Plan::new(&Device::Cpu, desc).expect("plan");
    let skeleton: Vec<u32> = (0..(k * r) as u32).map(|i| i * 997 % m as u32).collect();
    let (b, gate) = (noise::<f32>(m / s, r / s, 0.01), noise::<f32>(1, r, 0.1));
    let parameters = Parameters { skeleton: &skeleton, b: b.as_ref(), gate: gate.as_ref(), scale: 2.0 };
    let layer = Layer { h: None, w: None, bias: None, dropout: None };
    let (mut y, mut g) = (noise::<T>(t, m, 1.0), noise::<T>(t, m, 1e-3));
    let mut x = noise::<T>(t, k * r, 1.0);
    let mut weights = Mat::<f32>::zeros(t, k).expect("size");
    let (mut grad_b, mut grad_gate) = (noise::<f32>(m / s, r / s, 1.0), noise::<f32>(1, r, 1.0));
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for _ in 0..size(command, "repeats") {
        let clock = Instant::now();
        let saved = SavedMut { x: x.as_mut(), gate: weights.as_mut(), z: None };
        plan.forward(&parameters, &layer, Output::InPlace(y.as_mut()), Some(saved)).expect("forward");
        forward.push(clock.elapsed().as_secs_f64());
        let clock = Instant::now();
        let saved = Saved { x: x.as_ref(), gate: weights.as_ref(), z: None };
        let gradients = Gradients { b: grad_b.as_mut(), gate: grad_gate.as_mut(), h_gate: None, accumulate: false };
        plan.backward(&parameters, &layer, saved, InputGradient::Scatter(g.as_mut()), gradients).expect("backward");
        backward.push(clock.elapsed().as_secs_f64());
    }
    let checksum = total(y.as_ref()) + total(grad_b.as_ref());
    json!({ "forward": forward, "backward": backward, "checksum": checksum })
}

fn total<T: Elem>(a: MatRef<'_, T>) -> f32 {
    a.iter_rows().flatten().map(|x| x.to_f32()).sum()
}
