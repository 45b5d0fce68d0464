//! The numbers behind `--plot`: relative error against rank, for every selection and for the SVD optimum.
//!
//! A point at rank r is what `init --rank r` would reach: the rows are clustered with that minimum size, r of them are
//! chosen in each cluster, and `‖W − W·A⁺A‖_F / ‖W‖_F` is taken over all matrices together (root of the sum of squares).
//! The errors are measured on the CPU, whatever device chooses the rows.
//! The SVD line is the best that any k·r directions can do.

use super::args::Init;
use super::init::{batches, named, progress_bar};
use super::modules::Module;
use super::{Failure, Result};
use idlora::cluster::{self, Axis};
use idlora::format::checkpoint::Checkpoint;
use idlora::select::{self, Selection};
use idlora::{Device, Elem, MatRef, interp, with_weight};
use rayon::prelude::*;

/// The selections drawn.
pub const SELECTIONS: [Selection; 5] =
    [Selection::PivotedQr, Selection::Sketch, Selection::Norm, Selection::Centroid, Selection::Random];

/// Curves over the same ranks.
#[derive(Clone, Debug)]
pub struct Curves {
    /// Ranks r of a component, rising.
    pub ranks: Vec<usize>,
    /// One curve per entry of [`SELECTIONS`].
    pub selections: Vec<Vec<f64>>,
    /// The truncated SVD at rank k·r.
    pub svd: Vec<f64>,
    pub clusters: usize,
    /// Matrices that the errors run over.
    pub matrices: usize,
    /// The file they come from.
    pub source: String,
    /// The rank asked for, where it is one for all matrices.
    pub rank: Option<usize>,
}

/// Squared errors of one matrix: the SVD's, then each selection's, one number per rank.
struct Squares {
    norm: f64,
    curves: Vec<Vec<f64>>,
}

/// Measures all modules, which are read once more, tensor by tensor.
pub fn measure(checkpoint: &Checkpoint, modules: &[Module], args: &Init) -> Result<Curves> {
    let ranks = ranks_to_draw(modules, args)?;
    let bar = progress_bar(modules.len(), "matrices for the plot");
    let mut sum = Squares { norm: 0.0, curves: vec![vec![0.0; ranks.len()]; 1 + SELECTIONS.len()] };
    for batch in batches(modules) {
        let results: Vec<idlora::Result<Squares>> = batch
            .par_iter()
            .with_max_len(1)
            .map(|module| {
                let weight = module.read(checkpoint)?;
                let squares = with_weight!(&weight, w => squares_of(args, module, w.as_ref(), &ranks));
                bar.inc(1);
                squares
            })
            .collect();
        for (module, result) in batch.iter().zip(results) {
            let squares = result.map_err(|error| named(module, error))?;
            sum.norm += squares.norm;
            for (total, curve) in sum.curves.iter_mut().zip(squares.curves) {
                total.iter_mut().zip(curve).for_each(|(total, square)| *total += square);
            }
        }
    }
    bar.finish_and_clear();
    let relative = |square: &f64| if sum.norm > 0.0 { (square / sum.norm).sqrt() } else { 0.0 };
    let mut curves = sum.curves.iter().map(|curve| curve.iter().map(relative).collect::<Vec<f64>>());
    let svd = curves.next().unwrap_or_default();
    let name = checkpoint.path().file_name().unwrap_or_default();
    Ok(Curves {
        ranks,
        svd,
        selections: curves.collect(),
        clusters: args.clusters,
        matrices: modules.len(),
        source: name.to_string_lossy().into_owned(),
        rank: modules.iter().all(|module| module.config.rank == args.rank).then_some(args.rank),
    })
}

/// Powers of two and the rank asked for, as far as every matrix has rows for them.
fn ranks_to_draw(modules: &[Module], args: &Init) -> Result<Vec<usize>> {
    let fewest = modules.iter().map(|module| module.rows).min().unwrap_or(0);
    let largest = fewest / args.clusters;
    let shown = args.rank.saturating_mul(2).max(64).min(largest);
    let mut ranks: Vec<usize> = (0..usize::BITS).map(|bit| 1 << bit).take_while(|&rank| rank <= shown).collect();
    if args.rank <= shown {
        ranks.push(args.rank);
    }
    ranks.sort_unstable();
    ranks.dedup();
    if ranks.len() < 2 {
        return Err(Failure::command(format!(
            "--plot: the smallest matrix has {fewest} rows, too few for more than one rank in {} clusters",
            args.clusters
        )));
    }
    Ok(ranks)
}

fn squares_of<T: Elem>(args: &Init, module: &Module, w: MatRef<'_, T>, ranks: &[usize]) -> idlora::Result<Squares> {
    let norm: f64 = w.iter_rows().flatten().map(|x| f64::from(x.to_f32()).powi(2)).sum();
    let widths: Vec<usize> = ranks.iter().map(|rank| (rank * args.clusters).min(w.rows()).min(w.cols())).collect();
    let svd = interp::svd_curve(&Device::Cpu, w, &widths)?;
    let mut curves = vec![svd.iter().map(|error| error.powi(2) * norm).collect()];
    curves.resize(1 + SELECTIONS.len(), Vec::new());
    let all: Vec<u32> = (0..w.rows() as u32).collect();
    for &rank in ranks {
        let clustering = cluster_at(args, module, w, rank)?;
        for (&selection, curve) in SELECTIONS.iter().zip(&mut curves[1..]) {
            let space = module.config.cluster_by;
            let desc = select::Desc { selection, rank, seed: module.config.module_seed(&module.name), space };
            let skeleton = select::Plan::new(&args.device, desc)?.run(w, &clustering)?;
            let error = interp::relative_error(&Device::Cpu, w, &all, &skeleton.rows)?;
            curve.push(error.powi(2) * norm);
        }
    }
    Ok(Squares { norm, curves })
}

fn cluster_at<T: Elem>(
    args: &Init,
    module: &Module,
    w: MatRef<'_, T>,
    rank: usize,
) -> idlora::Result<cluster::Clustering> {
    let config = &module.config;
    // A minimum size that was asked for holds as long as the rows suffice for it.
    let min_size = config.min_size.filter(|size| size * config.clusters <= w.rows()).unwrap_or(rank).max(rank);
    let desc = cluster::Desc {
        rows: w.rows(),
        cols: w.cols(),
        axis: Axis::Rows,
        space: config.cluster_by,
        clusters: config.clusters,
        min_size,
    };
    let seed = config.module_seed(&module.name);
    let options = cluster::Options { max_iterations: config.max_iterations, seed, ..Default::default() };
    cluster::Plan::new(&args.device, desc)?.run(w, &options)
}
