//! The CPU backend: wall-clock time, calls and all.

use crate::arguments::Arguments;
use crate::cases::Extent;
use crate::record::{self, Results};
use crate::sweep::{Asked, median, sweep};
use crate::table;
use idlora::Device;
use idlora::device::{Facts, list};
use rayon::prelude::*;
use std::time::{Duration, Instant};

const NAME: &str = "cpu";
const EXTENT: Extent = Extent { tokens: 512, steps: 20 };

/// Runs of a case: at least so many in all, up to [`MOST`] while they fit the first time, and no more past the second.
const FEWEST: usize = 3;
const MOST: usize = 20;
const USUAL: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(4);

pub fn run(arguments: &Arguments, results: &mut Results) -> Result<bool, String> {
    let device = record::Device {
        name: NAME.to_owned(),
        description: description(),
        model: false,
        memory: Some(copy_bandwidth(if arguments.test { 1 << 20 } else { 64 << 20 })),
        cache: None,
        peak: None,
    };
    table::heading(&device);
    table::columns();
    results.devices.push(device);
    Ok(sweep(arguments, results, (NAME, EXTENT, false), &mut |asked| measure(asked, arguments.test)))
}

fn measure(asked: Asked<'_>, brief: bool) -> Result<Vec<record::Case>, String> {
    let Asked { case, mut blank, .. } = asked;
    let mut once = || {
        let start = Instant::now();
        let least = (case.run)(&Device::Cpu).map_err(|error| error.to_string())?;
        Ok::<_, String>((start.elapsed().as_secs_f64(), least))
    };
    let (warm, least) = once()?; // makes the operands, too
    let mut samples = vec![warm];
    if !brief {
        samples.clear();
        let start = Instant::now();
        let more = |done: usize| match start.elapsed() {
            gone if gone < USUAL => done < MOST,
            gone => done == 0 || gone < LONGEST && done < FEWEST,
        };
        while more(samples.len()) {
            samples.push(once()?.0);
        }
    }
    samples.sort_by(f64::total_cmp);
    (blank.least_bytes, blank.operations) = (least.bytes, least.operations);
    (blank.seconds, blank.samples) = (median(&samples), samples);
    Ok(vec![blank])
}

/// What it is, how many threads, which instructions.
fn description() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name);
    match list().into_iter().find(|listing| listing.device == NAME).map(|listing| listing.found) {
        Some(Ok(Facts::Cpu { threads, simd })) => format!("{model}, {threads} threads, vectors: {simd}"),
        _ => model.to_owned(),
    }
}

/// Bytes a second, read and written, of a copy by all threads: the best of several.
fn copy_bandwidth(bytes: usize) -> f64 {
    let from = vec![1u8; bytes];
    let mut to = vec![0u8; bytes];
    let chunk = bytes.div_ceil(rayon::current_num_threads());
    let mut once = || {
        let start = Instant::now();
        to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&mut to);
        start.elapsed().as_secs_f64()
    };
    let best = (0..8).map(|_| once()).fold(f64::INFINITY, f64::min);
    2.0 * bytes as f64 / best
}
