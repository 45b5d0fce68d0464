//! The exact tier on a device: `kernels/qr.cu`.

use super::{Limits, Problem, State};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::variants::{Family, qr as tile};
use crate::gpu::{Gpu, Kernel, blocks};
use crate::qr::OP;

/// `Shape` of `qr.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    count: u64,
    cols: u64,
    groups: u64,
    rank: u64,
    parts: u64,
}

const _: () = assert!(size_of::<Shape>() == tile::SCALARS && size_of::<Limits>() == 32);

/// Rows of the largest group for each warp of a team. Fewer make teams larger and groups at work at a time fewer: their rows
/// stay in the second-level cache from step to step, but every step costs three meetings of the team.
const ROWS_PER_WARP: usize = 4;

/// How blocks share out the groups. It does not enter the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Teams {
    teams: usize,
    /// Blocks of a team.
    parts: usize,
}

impl Teams {
    /// No more blocks than are resident at a time; a team for the largest group.
    fn of(indptr: &[usize], resident: usize) -> Self {
        let largest = indptr.windows(2).map(|group| group[1] - group[0]).max().unwrap_or(0);
        let parts = largest.div_ceil(tile::WARPS as usize * ROWS_PER_WARP).clamp(1, resident.max(1));
        Self { teams: (resident / parts).clamp(1, (indptr.len() - 1).max(1)), parts }
    }
}

/// Finishes every group that is not [`Phase::Done`](super::Phase::Done), in one launch.
pub(super) fn run<G: Gpu, T: Elem>(gpu: &G, problem: &Problem<G>, state: &mut State<G>) -> Result<()> {
    let kernel = Kernel::of(OP, Family::Qr, Some(T::DTYPE), &tile::EXACT)?;
    let Teams { teams, parts } = Teams::of(&problem.indptr, gpu.resident(&kernel, 0)? as usize);
    let grid = blocks(OP, teams * parts)?;
    let (cols, count, rank) = (problem.rows.cols, problem.count(), problem.rank);
    let shape = Shape {
        count: count as u64,
        cols: cols as u64,
        groups: problem.groups() as u64,
        rank: rank as u64,
        parts: parts as u64,
    };
    let doubles = |name, lengths: &[usize]| {
        gpu.allocate::<f64>(OP, name, lengths.iter().fold(1, |product: usize, &length| product.saturating_mul(length)))
    };
    let mut residuals = doubles("residuals", &[count, tile::PAIR / 8])?;
    let mut basis = doubles("basis", &[teams, rank, cols])?;
    let mut partial = doubles("partial", &[teams, rank, cols.div_ceil(tile::TILE as usize)])?;
    let mut coeffs = doubles("coeffs", &[teams * parts, rank])?;
    let mut leaders = doubles("leaders", &[teams * parts, tile::PAIR / 8])?;
    let mut counters = gpu.zeroed::<u32>(OP, "counters", 2 + 2 * teams)?;
    gpu.launch(
        &kernel,
        grid.into(),
        &[&problem.rows.addresses, &problem.rows.squares, &problem.device_indptr, &problem.device_limits],
        &mut [
            &mut state.phase,
            &mut state.reached,
            &mut state.jpvt,
            &mut state.r,
            &mut state.remaining,
            &mut residuals,
            &mut basis,
            &mut partial,
            &mut coeffs,
            &mut leaders,
            &mut counters,
        ],
        bytemuck::bytes_of(&shape),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_fit_what_is_resident_and_the_largest_group() {
        let teams = |indptr: &[usize], resident| {
            let Teams { teams, parts } = Teams::of(indptr, resident);
            assert!(teams * parts <= resident.max(1));
            (teams, parts)
        };
        assert_eq!(teams(&[0], 4), (1, 1), "no groups");
        assert_eq!(teams(&[0, 0, 1], 264), (2, 1), "no more teams than groups");
        assert_eq!(teams(&[0, 32, 64], 264), (2, 1));
        assert_eq!(teams(&[0, 33, 64], 264), (2, 2), "the largest group decides");
        assert_eq!(teams(&[0, 1024, 2048, 3072, 4096], 264), (4, 32));
        assert_eq!(teams(&[0, 1 << 20], 264), (1, 264), "no more blocks than are resident");
        assert_eq!(teams(&[0, 100, 200], 0), (1, 1));
    }

    /// What the other tiers hand over: pivots to be taken before the greedy ones, pivots to be taken and no other, groups
    /// that are done.
    #[cfg(feature = "vm")]
    #[test]
    fn pivots_that_are_given_are_taken_first() {
        use super::super::{Factor, Phase};
        use crate::gpu::vm::Vm;
        use crate::mat::{Mat, MatRef};
        use crate::qr::{Desc, Groups, Stop, Tier};

        let vm = Vm::default();
        if let Err(error) = vm.probe() {
            assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
            return println!("skipped: {error}");
        }
        // 40 rows, two blocks; row 9 is row 5 once more.
        let (rows, cols, rank) = (40, 19, 6);
        let mut w: Vec<f32> = (0..rows * cols).map(|i| ((i * i * 37 + i * 11) % 101) as f32 - 50.0).collect();
        w.copy_within(5 * cols..6 * cols, 9 * cols);
        let factor = |stop: Stop, pivots: &[u32], phase: Phase| -> (Factor, u32) {
            let desc = Desc { cols, rank, tier: Tier::Exact, seed: 0 };
            let batch = [(MatRef::new(&w, rows, cols).unwrap(), &Groups::all(rows))];
            let problem = Problem::upload(&vm, &desc, &batch, &stop).unwrap();
            let mut state = State::new(&vm, &problem).unwrap();
            let mut jpvt = pivots.to_vec();
            jpvt.resize(rank, u32::MAX);
            vm.write(OP, &mut state.jpvt, &jpvt).unwrap();
            vm.write(OP, &mut state.reached, &[pivots.len() as u32]).unwrap();
            vm.write(OP, &mut state.phase, &[phase as u32]).unwrap();
            run::<_, f32>(&vm, &problem, &mut state).unwrap();
            let mut phase = [u32::MAX];
            vm.download(OP, &state.phase, &mut phase).unwrap();
            (state.download(&vm, &problem).unwrap().remove(0), phase[0])
        };
        let all = Stop::default();
        let (greedy, phase) = factor(all, &[], Phase::Greedy);
        assert_eq!((greedy.jpvt.len(), phase), (rank, Phase::Done as u32));
        let (resumed, _) = factor(all, &greedy.jpvt[..3], Phase::Greedy);
        assert_eq!((&resumed.jpvt, resumed.r.data()), (&greedy.jpvt, greedy.r.data()));
        assert_eq!(resumed.info, greedy.info);

        let wide = Mat::from_vec(w.iter().map(|&x| f64::from(x)).collect(), rows, cols).unwrap();
        let norm = |after: &[usize], i: usize| {
            let rest = crate::reference::qr::residual(wide.as_ref(), after);
            rest.row(i).iter().map(|x| x * x).sum::<f64>().sqrt()
        };
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-10 * norm(&[], 0);
        let (forced, phase) = factor(all, &[7, 1, 30], Phase::Forced);
        assert_eq!((forced.jpvt.as_slice(), phase), (&[7, 1, 30][..], Phase::Done as u32));
        for (j, &p) in [7, 1, 30].iter().enumerate() {
            assert!(near(forced.info.residuals[j], norm(&[7, 1, 30][..j], p)), "step {j}");
        }
        let most = (0..rows).map(|i| norm(&[7, 1, 30], i)).fold(0.0, f64::max);
        assert!(near(forced.info.remaining, most), "{} is left, not {most}", forced.info.remaining);
        let (mixed, _) = factor(all, &[7, 1, 30], Phase::Greedy);
        assert_eq!((&mixed.jpvt[..3], mixed.jpvt.len()), (&[7, 1, 30][..], rank));
        let most = (0..rows).max_by(|&a, &b| norm(&[7, 1, 30], a).total_cmp(&norm(&[7, 1, 30], b)));
        assert_eq!(Some(mixed.jpvt[3] as usize), most, "the next by the rule");

        // A pivot that depends on those before it ends it, in either phase; so do the tolerances.
        for phase in [Phase::Forced, Phase::Greedy] {
            assert_eq!(factor(all, &[5, 9, 1], phase).0.jpvt, [5]);
            let once = Stop { absolute: 0.0, relative: 1.0 };
            assert!(factor(once, &[5, 9, 1], phase).0.jpvt.is_empty());
        }
        let (done, phase) = factor(all, &[5, 1], Phase::Done);
        assert_eq!((done.jpvt.as_slice(), phase), (&[5, 1][..], Phase::Done as u32));
        assert!(done.r.data().iter().all(|&x| x == 0.0) && done.info.remaining == 0.0, "left as it was");
    }
}
