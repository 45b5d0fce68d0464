//! Files in and out. The adapter's own format: what is saved is what is loaded, to the bit; nothing else is ever loaded, and no file, however
//! broken, does more than make an error.

#[path = "../common/mod.rs"]
mod common;

mod checkpoint;
mod damage;
mod peft;
mod peft_sources;
mod reader;
mod round_trip;
mod saving;

use common::matrices::Draw;
use idlora::adapter::{Config, Digest, IdLora, Parts};
use idlora::format::native::{FILE, load, save};
use idlora::lowrank::Gate;
use idlora::{Dtype, Error, Mat};
use std::path::PathBuf;

const GATES: [Gate; 5] = [Gate::Inner, Gate::RmsInner, Gate::Linear, Gate::LinearSoftmax, Gate::Static];

fn filled(draw: &mut Draw, rows: usize, cols: usize) -> Mat<f32> {
    // All magnitudes, subnormals and both zeros: every finite bit pattern must come back.
    let mut value = || match draw.below(8) {
        0 => 0.0,
        1 => -0.0,
        2 => f32::from_bits(1 + draw.below(1000) as u32),
        _ => (draw.normal() * 10f64.powi(draw.below(60) as i32 - 30)) as f32,
    };
    Mat::from_vec((0..rows * cols).map(|_| value()).collect(), rows, cols).unwrap()
}

/// An adapter with random contents; no weight is needed.
fn adapter(name: &str, rows: usize, cols: usize, dtype: Dtype, config: Config, seed: u64) -> IdLora {
    let draw = &mut Draw::new(seed);
    let mut all: Vec<u32> = (0..rows as u32).collect();
    for i in (1..rows).rev() {
        all.swap(i, draw.below(i + 1));
    }
    let Config { rank, clusters, split, gate, .. } = config;
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, clusters, cols);
    IdLora::from_parts(Parts {
        name: name.to_owned(),
        rows,
        cols,
        dtype,
        config,
        skeleton: all[..clusters * rank].to_vec(),
        b: filled(draw, rows / split, rank / split),
        gate: filled(draw, gate_rows, gate_cols),
        digest: Digest(std::array::from_fn(|_| draw.below(256) as u8)),
    })
    .unwrap()
}

fn small(name: &str, gate: Gate) -> IdLora {
    adapter(name, 12, 5, Dtype::BF16, Config { rank: 2, clusters: 3, gate, ..Config::default() }, 7)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn assert_same(a: &IdLora, b: &IdLora) {
    let [a, b] = [a, b].map(|adapter| adapter.clone().into_parts());
    assert_eq!((&a.name, a.rows, a.cols, a.dtype, a.digest), (&b.name, b.rows, b.cols, b.dtype, b.digest));
    assert_eq!(a.config, b.config);
    assert_eq!(a.config.alpha.to_bits(), b.config.alpha.to_bits());
    assert_eq!(a.skeleton, b.skeleton);
    for (a, b) in [(&a.b, &b.b), (&a.gate, &b.gate)] {
        assert_eq!(a.shape(), b.shape());
        assert_eq!(bits(a.data()), bits(b.data()));
    }
}

/// A folder to work in; gone at the end of the test.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Names in the folder: what a failed save has left behind shows here.
    fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn saved(&self, adapters: &[IdLora]) -> Vec<u8> {
        let dir = self.path("good");
        let _ = std::fs::remove_dir_all(&dir);
        save(&dir, adapters).unwrap();
        std::fs::read(dir.join(FILE)).unwrap()
    }

    fn load(&self, bytes: &[u8]) -> Result<Vec<IdLora>, Error> {
        let dir = self.path("bad");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(FILE), bytes).unwrap();
        load(&dir)
    }
}

/// What most tests save: two modules, small enough that damage hits every part of the file.
fn two_modules() -> [IdLora; 2] {
    [small("first", Gate::Linear), small("second", Gate::Static)]
}
