//! Every wanted case on one device, into the results and onto the table.

use crate::arguments::Arguments;
use crate::cases::{Case, Extent, Shape, cases, shapes};
use crate::record::{self, Peer, Results};
use crate::table;
use idlora::{Dtype, Elem, bf16, f16};

/// What a case is run as.
pub struct Asked<'a> {
    pub case: &'a mut Case,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub shape: &'a Shape,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub dtype: Dtype,
    /// The entry to fill, and to return; more of them for models of cards, none for a case that is left out.
    pub blank: record::Case,
}

pub type Measure<'a> = dyn FnMut(Asked<'_>) -> Result<Vec<record::Case>, String> + 'a;

/// Operations and what they are held against: the same kernel on the layer alone.
const PAIRS: [(&str, &str); 2] =
    [("shared_gemm", "shared_gemm frozen"), ("shared_gemm backward", "shared_gemm backward frozen")];

/// Runs all of them; whether all went well. `device` is one of the results'.
pub fn sweep(
    arguments: &Arguments,
    results: &mut Results,
    (device, extent, kernels): (&str, Extent, bool),
    measure: &mut Measure<'_>,
) -> bool {
    let mut well = true;
    for shape in shapes(arguments, extent) {
        for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32].into_iter().filter(|&dtype| arguments.wants_dtype(dtype)) {
            let all = match dtype {
                Dtype::BF16 => cases::<bf16>(&shape),
                Dtype::F16 => cases::<f16>(&shape),
                _ => cases::<f32>(&shape),
            };
            let offered = |case: &Case| case.any_element || !kernels || dtype != <f32 as Elem>::DTYPE;
            for mut case in all.into_iter().filter(offered).filter(|case| arguments.wants_operation(case.operation)) {
                let blank = blank(&case, &shape, dtype, device);
                let asked = Asked { case: &mut case, shape: &shape, dtype, blank: blank.clone() };
                let found = measure(asked).unwrap_or_else(|reason| {
                    well = false;
                    vec![record::Case { failure: Some(reason), ..blank }]
                });
                for case in found {
                    add(results, case);
                }
            }
        }
    }
    well
}

fn blank(case: &Case, shape: &Shape, dtype: Dtype, device: &str) -> record::Case {
    record::Case {
        operation: case.operation.to_owned(),
        shape: shape.name.clone(),
        size: case.size.clone(),
        dtype: dtype.name().to_lowercase(),
        device: device.to_owned(),
        least_bytes: case.least.bytes,
        operations: case.least.operations,
        seconds: None,
        samples: Vec::new(),
        kernels: Vec::new(),
        peers: Vec::new(),
        failure: None,
    }
}

/// A layer with its components has the layer alone beside it, of the same run.
fn add(results: &mut Results, mut case: record::Case) {
    if let Some((_, alone)) = PAIRS.into_iter().find(|(with, _)| case.operation == *with) {
        let same = |other: &&record::Case| {
            other.operation == alone
                && (&other.shape, &other.dtype, &other.device) == (&case.shape, &case.dtype, &case.device)
        };
        let seconds = results.cases.iter().rev().find(same).and_then(|alone| alone.seconds);
        case.peers.extend(seconds.map(|seconds| Peer { name: alone.to_owned(), seconds }));
    }
    let device = results.devices.iter().find(|device| device.name == case.device);
    table::print(&case, device.and_then(|device| device.memory));
    results.cases.push(case);
}

/// The median of sorted samples: of an even number, the upper of the two.
pub fn median(samples: &[f64]) -> Option<f64> {
    samples.get(samples.len() / 2).copied()
}
