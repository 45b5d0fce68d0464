//! Truncated pivoted QR on a device: `kernels/qr.cu`, `qr_gram.cu` and `qr_sketch.cu`.
//!
//! One ragged batch over all groups of all matrices: every kernel takes rows by address, and a group is a range of them. The
//! tiers hand groups to each other on the device, by [`State`]; nothing is read back before the end.

mod exact;
mod gram;
mod sketch;
mod solve;

use super::Gpu;
use super::rows::Rows;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, MatRef};
use crate::qr::{Desc, Factor, Groups, Info, OP, Stop, Tier};

/// No step: the Gram tier did not hand over.
const NONE: u32 = u32::MAX;

/// What is still to be done with a group; `Phase` of `kernels/qr.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[cfg_attr(not(all(test, feature = "vm")), allow(dead_code))] // kernels write the others
enum Phase {
    /// Nothing: pivots, `R` and the remaining norm are there.
    Done = 0,
    /// The exact tier takes the pivots found so far, then goes on by the greedy rule.
    Greedy = 1,
    /// The exact tier takes the pivots found so far, and no other.
    Forced = 2,
}

/// When a group stops, in the units of its rows; `Limits` of `kernels/qr.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Limits {
    /// Stop when the largest remaining norm is at most this.
    tolerance: f64,
    /// Size below which a residual norm is rounding.
    rounding: f64,
    /// The largest norm of the group's rows.
    largest: f64,
    /// Pivots at most: `rank`, or fewer where the group or its rows are shorter.
    rank: u64,
}

/// The rows of all groups, one group after another.
struct Problem<G: Gpu> {
    rows: Rows<G>,
    /// Group `g` is rows `indptr[g]..indptr[g + 1]`; on the device as 32-bit integers, `[groups + 1]`.
    indptr: Vec<usize>,
    device_indptr: G::Buffer,
    /// One per group, here and on the device.
    limits: Vec<Limits>,
    device_limits: G::Buffer,
    /// Pivots per group at most, over all groups: the first extent of `jpvt` and `R`.
    rank: usize,
}

/// Factorisations as they grow, on the device. `count` rows in all.
struct State<G: Gpu> {
    /// `[groups]` of [`Phase`].
    phase: G::Buffer,
    /// `[groups]`: pivots in `jpvt` so far.
    reached: G::Buffer,
    /// `[groups, rank]`, 32 bits: positions in the group.
    jpvt: G::Buffer,
    /// `[rank, count]`, `f64`: row `j` of `R` for the rows of all groups. What `reached` does not cover holds nothing of use.
    r: G::Buffer,
    /// `[groups]`, `f64`: largest remaining residual norm, once [`Phase::Done`].
    remaining: G::Buffer,
    /// `[groups]`: the step at which the Gram tier handed over, or [`NONE`].
    handover: G::Buffer,
}

/// Factors every group of rows of every matrix: one list of factors per matrix. All matrices have `desc.cols` columns, and
/// every group's rows are in its matrix.
///
/// # Errors
/// [`NonFinite`](crate::Error::NonFinite) for the first NaN or infinity of the groups' rows; what [`Gpu`] refuses.
pub(crate) fn factor<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    batch: &[(MatRef<'_, T>, &Groups)],
    stop: &Stop,
) -> Result<Vec<Vec<Factor>>> {
    let problem = Problem::upload(gpu, desc, batch, stop)?;
    let mut factors = Vec::new();
    if problem.rank > 0 {
        let mut state = State::new(gpu, &problem)?;
        match desc.tier {
            Tier::Exact => {}
            Tier::Gram => gram::run::<G, T>(gpu, &problem, &mut state)?,
            Tier::Sketch { oversampling } => sketch::run::<G, T>(gpu, desc, oversampling, &problem, &mut state)?,
        }
        exact::run::<G, T>(gpu, &problem, &mut state)?;
        factors = state.download(gpu, &problem)?;
    } else {
        // No pivots, or no rows.
        for (limits, group) in problem.limits.iter().zip(problem.indptr.windows(2)) {
            let info = Info { remaining: limits.largest, ..Info::default() };
            factors.push(Factor { jpvt: Vec::new(), r: Mat::zeros(0, group[1] - group[0])?, info });
        }
    }
    let mut factors = factors.into_iter();
    Ok(batch.iter().map(|(_, groups)| factors.by_ref().take(groups.len()).collect()).collect())
}

impl<G: Gpu> Problem<G> {
    fn upload<T: Elem>(gpu: &G, desc: &Desc, batch: &[(MatRef<'_, T>, &Groups)], stop: &Stop) -> Result<Self> {
        let parts: Vec<(MatRef<'_, T>, &[u32])> = batch.iter().map(|(w, groups)| (*w, groups.rows())).collect();
        let rows = Rows::upload(gpu, OP, &parts)?;
        let mut indptr = vec![0];
        for (_, groups) in batch {
            indptr.extend((0..groups.len()).scan(indptr[indptr.len() - 1], |end, g| {
                *end += groups.group(g).len();
                Some(*end)
            }));
        }
        let limits: Vec<Limits> =
            indptr.windows(2).map(|g| Limits::of(desc, stop, &rows.host_squares[g[0]..g[1]])).collect();
        let rank = limits.iter().map(|limits| limits.rank as usize).max().unwrap_or(0);
        let narrow: Vec<u32> = indptr.iter().map(|&end| end as u32).collect();
        let device_indptr = gpu.upload(OP, "indptr", &narrow)?;
        let device_limits = gpu.upload(OP, "limits", &limits)?;
        Ok(Self { rows, indptr, device_indptr, limits, device_limits, rank })
    }

    fn groups(&self) -> usize {
        self.limits.len()
    }

    fn count(&self) -> usize {
        self.indptr[self.indptr.len() - 1]
    }
}

impl Limits {
    fn of(desc: &Desc, stop: &Stop, squares: &[f64]) -> Self {
        let largest = squares.iter().fold(0.0f64, |a, &b| a.max(b)).sqrt();
        let rank = desc.rank.min(squares.len()).min(desc.cols);
        let rounding = crate::cpu::qr::basis::rounding(desc.cols, rank) * largest;
        let tolerance = stop.absolute.max(stop.relative * largest).max(rounding);
        Self { tolerance, rounding, largest, rank: rank as u64 }
    }
}

impl<G: Gpu> State<G> {
    /// No pivots yet, everything left to the exact tier.
    fn new(gpu: &G, problem: &Problem<G>) -> Result<Self> {
        let (groups, count, rank) = (problem.groups(), problem.count(), problem.rank);
        Ok(Self {
            phase: gpu.upload(OP, "phase", &vec![Phase::Greedy as u32; groups])?,
            reached: gpu.zeroed::<u32>(OP, "reached", groups)?,
            jpvt: gpu.zeroed::<u32>(OP, "jpvt", groups.saturating_mul(rank))?,
            r: gpu.zeroed::<f64>(OP, "r", count.saturating_mul(rank))?,
            remaining: gpu.zeroed::<f64>(OP, "remaining", groups)?,
            handover: gpu.upload(OP, "handover", &vec![NONE; groups])?,
        })
    }

    fn download(&self, gpu: &G, problem: &Problem<G>) -> Result<Vec<Factor>> {
        let (groups, count, rank) = (problem.groups(), problem.count(), problem.rank);
        let mut reached = vec![0u32; groups];
        let mut handover = vec![0u32; groups];
        let mut remaining = vec![0.0f64; groups];
        let mut jpvt: Vec<u32> = crate::mat::zeroed("pivots", groups * rank)?;
        let mut r: Vec<f64> = crate::mat::zeroed("R", count * rank)?;
        gpu.download(OP, &self.reached, &mut reached)?;
        gpu.download(OP, &self.handover, &mut handover)?;
        gpu.download(OP, &self.remaining, &mut remaining)?;
        gpu.download(OP, &self.jpvt, &mut jpvt)?;
        gpu.download(OP, &self.r, &mut r)?;
        let one = |g: usize| {
            let (rows, taken) = (problem.indptr[g]..problem.indptr[g + 1], reached[g] as usize);
            let jpvt = jpvt[g * rank..][..taken].to_vec();
            let mut own = Mat::zeros(taken, rows.len())?;
            for j in 0..taken {
                own.row_mut(j).copy_from_slice(&r[j * count..][rows.clone()]);
            }
            let residuals = jpvt.iter().enumerate().map(|(j, &p)| own.row(j)[p as usize]).collect();
            let handover = (handover[g] != NONE).then_some(handover[g] as usize);
            Ok(Factor { jpvt, r: own, info: Info { residuals, remaining: remaining[g], handover } })
        };
        (0..groups).map(one).collect()
    }
}
