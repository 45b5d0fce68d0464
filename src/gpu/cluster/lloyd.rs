//! Lloyd's iteration on a device: steps in bunches without waiting, repair of empty clusters, the minimum size, and the exact
//! means at the end. What it does is what `cpu::cluster::lloyd` does.
//!
//! Dots run around the mean of all points from the first step on, which takes one pass over `W` before it.

use super::finish;
use super::launch::{CONVERGED, SHORT, Steps};
use super::points::Points;
use crate::cluster::{Desc, Info, OP, Options};
use crate::cpu::cluster::lloyd::{Partition, falls_short, in_space, least_labels, restarts, sizes, variance};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::mat::{Mat, MatRef, zeroed};

/// Steps that are queued before the host looks whether they went on. A kernel that does not go on costs a launch.
const QUEUED: usize = 8;

/// Iterates from `start`, `[k, dim]`; `w` holds the rows that the points are.
pub(super) fn iterate<G: Gpu, T: Elem>(
    gpu: &G,
    points: &Points<G>,
    w: MatRef<'_, T>,
    start: &Mat<f64>,
    (desc, options): (&Desc, &Options<'_>),
) -> Result<Partition> {
    let k = desc.clusters;
    let mean = overall_mean(gpu, points)?;
    let least_movement = options.tolerance * variance(&points.squares, &mean);
    let mut steps = Steps::new(gpu, points, desc, start, &mean, least_movement)?;
    let mut info = Info::default();
    let mut short = false;
    while !info.converged && steps.steps < options.max_iterations {
        // Short a step ago is mostly short again: nearest labels would not be used.
        if !short || desc.min_size == 1 {
            short = false;
            steps.queue(QUEUED.min(options.max_iterations - steps.steps))?;
            if steps.read_state()?.status == SHORT {
                let labels;
                (labels, info.repaired) = repair(gpu, points, w, &mut steps, (desc, info.repaired))?;
                short = falls_short(&labels, k, desc.min_size);
                if !short {
                    steps.update()?;
                }
            }
        }
        if short {
            let labels = least_labels(&steps.scores()?, desc.min_size, &mut short);
            info.constrained += usize::from(short);
            steps.adopt(&labels)?;
        }
        info.converged = steps.read_state()?.status == CONVERGED;
    }
    info.iterations = steps.steps;
    let labels = steps.download(steps.labels())?;
    let sizes = sizes(&labels, k)?;
    let means = finish::means(gpu, points, steps.labels(), &sizes)?;
    let centroids = in_space(desc.space, means, &steps.centroids()?);
    info.inertia = finish::inertia(gpu, points, steps.labels(), &centroids)?;
    Ok(Partition { labels, centroids, sizes, info })
}

/// The mean of all points.
fn overall_mean<G: Gpu>(gpu: &G, points: &Points<G>) -> Result<Vec<f64>> {
    let one = gpu.zeroed::<u32>(OP, "labels", points.count)?;
    Ok(finish::means(gpu, points, &one, &[points.count])?.into_vec())
}

/// After a step that left a cluster short: restarts empty clusters at the points farthest from their own centroids and takes the
/// step again, where the minimum size is 1. Returns the nearest labels, and `repaired` with what it restarted.
fn repair<G: Gpu, T: Elem>(
    gpu: &G,
    points: &Points<G>,
    w: MatRef<'_, T>,
    steps: &mut Steps<'_, G>,
    (desc, mut repaired): (&Desc, usize),
) -> Result<(Vec<u32>, usize)> {
    let k = desc.clusters;
    let mut labels = steps.download(steps.next())?;
    // A cluster that restarts may rob another of its last point, so this can repeat; it is cut off after k rounds.
    let rounds = if desc.min_size == 1 { k } else { 0 };
    for _ in 0..rounds {
        let sizes = sizes(&labels, k)?;
        let mut empty = (0..k).filter(|&j| sizes[j] == 0).peekable();
        if empty.peek().is_none() {
            break;
        }
        let mut centroids = steps.centroids()?;
        let mut own: Vec<f32> = zeroed("centroids", centroids.data().len())?;
        own.iter_mut().zip(centroids.data()).for_each(|(to, &c)| *to = c as f32);
        let own = gpu.upload(OP, "centroids", &own)?;
        let mut distances = points.distances(gpu, &own, steps.next())?;
        let restarts = restarts(empty, &mut distances, &points.squares);
        if restarts.is_empty() {
            break;
        }
        for &(j, farthest) in &restarts {
            let point = points.point(w, farthest)?;
            centroids.row_mut(j).iter_mut().zip(&point).for_each(|(c, &x)| *c = f64::from(x));
        }
        repaired += restarts.len();
        steps.set_centroids(&centroids)?;
        steps.resume()?;
        steps.step()?;
        labels = steps.download(steps.next())?;
    }
    Ok((labels, repaired))
}
