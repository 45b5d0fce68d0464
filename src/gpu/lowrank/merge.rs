//! Merging a static adapter into its base weight in place, and undoing it: `kernels/lowrank_merge.cu`.
//!
//! [`launch_merge`] takes operands that lie on the device, allocates nothing and waits for nothing; [`merge`] and [`unmerge`] take
//! host memory there and back.

use super::forward::{Round, back};
use super::view::{View, ViewMut};
use crate::elem::{Dtype, Elem};
use crate::error::{Error, Result};
use crate::gpu::variants::{Element, Entry, Family, lowrank_merge as tile};
use crate::gpu::{Gpu, Kernel, blocks};
use crate::lowrank::{Desc, Factors, MERGE, Parameters, UNMERGE};
use crate::mat::{MatMut, zeroed};

/// What is read. [`View::ld`] of the skeleton and of the gate means nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MergeOperands<'a> {
    /// `[k·r]` of u32.
    pub skeleton: View<'a>,
    /// `[m/s, r/s]` of f32.
    pub b: View<'a>,
    /// `[k]` of f32.
    pub gate: View<'a>,
    /// κ.
    pub scale: f32,
    /// Where merging is undone.
    pub undone: Option<Undone<'a>>,
}

/// [`Factors`] on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undone<'a> {
    /// [`lu_columns`].
    pub lu: View<'a>,
    /// `[r]` of u32.
    pub order: View<'a>,
}

/// `Merge` of `lowrank_merge.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Merge {
    w: u64,
    skeleton: u64,
    order: u64,
    b: u64,
    gate: u64,
    lu: u64,
    z: u64,
    ld_w: u64,
    ld_b: u64,
    ld_lu: u64,
    ld_z: u64,
    factor: f64,
    rows: u32,
    cols: u32,
    rank: u32,
    components: u32,
    split: u32,
    row_tiles: u32,
    column_tiles: u32,
    unused: u32,
}

const _: () = assert!(size_of::<Merge>() == tile::SCALARS);

/// Doubles from one row of Z to the next: whole sectors.
fn pitch(desc: &Desc) -> usize {
    desc.cols.next_multiple_of(4)
}

/// Doubles of Z.
pub(crate) fn scratch(desc: &Desc) -> usize {
    desc.rank.saturating_mul(pitch(desc))
}

/// Rows and columns of `L U` as the kernel takes it.
fn padded(rank: usize) -> usize {
    rank.next_multiple_of(tile::PANEL as usize)
}

/// `L U`, columns one after the other, padded by an identity to whole panels.
fn lu_columns(factors: &Factors) -> Result<Vec<f64>> {
    let (rank, lu) = (factors.order().len(), factors.lu());
    let size = padded(rank);
    let mut out: Vec<f64> = zeroed("factors", size.saturating_mul(size))?;
    for (j, column) in out.chunks_exact_mut(size).enumerate() {
        for (i, to) in column.iter_mut().enumerate() {
            *to = if i < rank && j < rank { lu.row(i)[j] } else { f64::from(u8::from(i == j)) };
        }
    }
    Ok(out)
}

/// Merges into `W [m, n]`, or undoes it, in place. `z` holds [`scratch`] doubles, which nobody else uses meanwhile.
///
/// # Errors
/// [`Error::Unsupported`] for more rows, columns or blocks than 32 bits count; what [`Gpu`] refuses.
pub(crate) fn launch_merge<G: Gpu>(
    gpu: &G,
    desc: &Desc,
    dtype: Dtype,
    operands: &MergeOperands<'_>,
    w: &mut ViewMut<'_>,
    z: &mut ViewMut<'_>,
) -> Result<()> {
    let op = if operands.undone.is_some() { UNMERGE } else { MERGE };
    let Desc { rows, cols, rank, components, split, .. } = *desc;
    let element = Element::from(dtype);
    let narrow = |what: &str, size: usize| {
        u32::try_from(size).map_err(|_| Error::unsupported(op, format!("{size} {what} are more than {}", u32::MAX)))
    };
    let row_tiles = (rows / split).div_ceil(tile::rows(element));
    let column_tiles = cols.div_ceil(tile::columns(element));
    let MergeOperands { skeleton, b, gate, scale, undone } = *operands;
    let scale = f64::from(scale);
    let merge = Merge {
        w: w.address,
        skeleton: skeleton.address,
        order: undone.map_or(0, |undone| undone.order.address),
        b: b.address,
        gate: gate.address,
        lu: undone.map_or(0, |undone| undone.lu.address),
        z: z.address,
        ld_w: w.ld as u64,
        ld_b: b.ld as u64,
        ld_lu: padded(rank) as u64,
        ld_z: pitch(desc) as u64,
        factor: if undone.is_some() { -scale } else { scale },
        rows: narrow("rows", rows)?,
        cols: narrow("columns", cols)?,
        rank: narrow("ranks", rank)?,
        components: narrow("components", components)?,
        split: narrow("parts", split)?,
        row_tiles: row_tiles as u32, // fewer than rows and columns
        column_tiles: column_tiles as u32,
        unused: 0,
    };
    let launch = |entry: &'static Entry, count: usize| {
        let kernel = Kernel::of(op, Family::LowrankMerge, Some(dtype), entry)?;
        gpu.launch(&kernel, blocks(op, count)?.into(), &[], &mut [], bytemuck::bytes_of(&merge))
    };
    let updates = split.saturating_mul(row_tiles).saturating_mul(column_tiles);
    blocks(op, updates)?; // refused before anything is written
    launch(&tile::ROWS, rank.div_ceil(tile::WARPS as usize).saturating_mul(cols.div_ceil(tile::MIXED_COLUMNS)))?;
    if undone.is_some() {
        launch(&tile::SOLVE, cols.div_ceil(tile::SOLVE_THREADS as usize))?;
    }
    launch(&tile::UPDATE, updates)
}

/// `W ← W + U (P W)`; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch_merge`].
pub(crate) fn merge<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    parameters: &Parameters<'_>,
    w: MatMut<'_, T>,
) -> Result<()> {
    run(gpu, MERGE, desc, parameters, None, w)
}

/// `W ← W − U (I + P U)⁻¹ (P W)`; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch_merge`].
pub(crate) fn unmerge<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    parameters: &Parameters<'_>,
    factors: &Factors,
    w: MatMut<'_, T>,
) -> Result<()> {
    run(gpu, UNMERGE, desc, parameters, Some(factors), w)
}

fn run<G: Gpu, T: Elem>(
    gpu: &G,
    op: &'static str,
    desc: &Desc,
    parameters: &Parameters<'_>,
    factors: Option<&Factors>,
    mut w: MatMut<'_, T>,
) -> Result<()> {
    let skeleton = gpu.upload(op, "skeleton", parameters.skeleton)?;
    let b = gpu.upload(op, "b", parameters.b.data())?;
    let gate = gpu.upload(op, "gate", parameters.gate.data())?;
    let undone = factors
        .map(|factors| Ok((gpu.upload(op, "lu", &lu_columns(factors)?)?, gpu.upload(op, "order", factors.order())?)))
        .transpose()?;
    let mut z = gpu.allocate::<f64>(op, "z", scratch(desc))?;
    // There as it is, so that what lies between its rows comes back so.
    let mut there = Round::there(gpu, op, "w", &w)?;
    let operands = MergeOperands {
        skeleton: View::whole(gpu, &skeleton, 0),
        b: View::whole(gpu, &b, parameters.b.ld()),
        gate: View::whole(gpu, &gate, 0),
        scale: parameters.scale,
        undone: undone
            .as_ref()
            .map(|(lu, order)| Undone { lu: View::whole(gpu, lu, 0), order: View::whole(gpu, order, 0) }),
    };
    let mut z = ViewMut::whole(gpu, &mut z, pitch(desc));
    launch_merge(gpu, desc, T::DTYPE, &operands, &mut there.view(gpu), &mut z)?;
    back(&there.fetch(gpu)?, &mut w);
    Ok(())
}

#[cfg(all(test, feature = "vm"))]
mod tests {
    use super::*;
    use crate::cpu::lowrank::merge::mixed;
    use crate::gpu::vm::Vm;
    use crate::lowrank::{Bias, DownProjection, Gate};
    use crate::mat::MatRef;
    use half::bf16;

    /// `len` values between −1 and 1, after `start` that are NaN.
    fn values(start: usize, len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * i * 37 + i * 5 + seed * 11) % 211) as f32 / 105.0 - 1.0;
        std::iter::repeat_n(f32::NAN, start).chain((0..len).map(value)).collect()
    }

    /// Operands somewhere in their buffers, as a trainer's are; and Z, which is the CPU's to the bit.
    #[test]
    fn operands_start_anywhere_and_z_is_the_cpus() {
        let vm = Vm::default();
        if let Err(error) = vm.probe() {
            assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
            return println!("skipped: {error}");
        }
        let (gate, down, bias) = (Gate::Static, DownProjection::Gather, Bias::None);
        // Two columns beyond a tile, three panels of Z, the last of one row.
        let desc = Desc { rows: 102, cols: 67, rank: 17 * 2, components: 3, split: 2, gate, down, bias };
        let Desc { rows, cols, rank, components, split, .. } = desc;
        let skeleton: Vec<u32> = (0..(rank * components) as u32).map(|i| i * 41 % 102).collect();
        let (part, depth) = (rows / split, rank / split);
        let (b, of_gate) = (values(0, part * depth, 1), values(0, components, 2));
        let parameters = Parameters {
            skeleton: &skeleton,
            b: MatRef::new(&b, part, depth).unwrap(),
            gate: MatRef::new(&of_gate, 1, components).unwrap(),
            scale: 3.0, // large enough that rows change places
        };
        let factors = Factors::of(&desc, &parameters).unwrap();
        assert_ne!(factors.order(), (0..rank as u32).collect::<Vec<_>>(), "rows change places");
        // Rows whose first element is aligned to 2 bytes, to 4, and to 16.
        for (start, ld) in [(3, 67), (2, 70), (8, 72)] {
            let narrow = |x: Vec<f32>| x.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
            let w = narrow(values(start, rows * ld, 3));
            let here = |w: &mut [bf16], undone: bool| {
                let w = MatMut::with_ld(&mut w[start..], rows, cols, ld).unwrap();
                if undone {
                    crate::cpu::lowrank::unmerge(&desc, &parameters, &factors, w).unwrap();
                } else {
                    crate::cpu::lowrank::merge(&desc, &parameters, w).unwrap();
                }
            };
            for undone in [false, true] {
                let (z, found) = launched(&vm, &desc, &parameters, undone.then_some(&factors), &w, (start, ld));
                let w_here = MatRef::with_ld(&w[start..], rows, cols, ld).unwrap();
                let expected = mixed(&desc, &parameters, undone.then_some(&factors), w_here).unwrap();
                for j in 0..rank {
                    assert_eq!(&z[j * pitch(&desc)..][..cols], expected.row(j), "row {j} of Z, undone {undone}");
                }
                let mut expected = w.clone();
                here(&mut expected, undone);
                let differ = |i: &usize| found[*i].to_bits() != expected[*i].to_bits();
                let differing: Vec<usize> = (0..w.len()).filter(differ).collect();
                // Two f64 sums in another order part at a midpoint of bf16 once in 2^40 or so.
                assert!(differing.is_empty(), "undone {undone}, start {start}, ld {ld}: {differing:?}");
            }
        }
    }

    /// Z and W after the launches, on operands behind NaN.
    fn launched(
        vm: &Vm,
        desc: &Desc,
        parameters: &Parameters<'_>,
        factors: Option<&Factors>,
        w: &[bf16],
        (start, ld): (usize, usize),
    ) -> (Vec<f64>, Vec<bf16>) {
        let behind = |values: &[f32]| [&[f32::NAN], values].concat();
        let skeleton = vm.upload(MERGE, "skeleton", &[&[u32::MAX], parameters.skeleton].concat()).unwrap();
        let b = vm.upload(MERGE, "b", &behind(parameters.b.data())).unwrap();
        let gate = vm.upload(MERGE, "gate", &behind(parameters.gate.data())).unwrap();
        let there = factors.map(|factors| {
            let lu = vm.upload(MERGE, "lu", &lu_columns(factors).unwrap()).unwrap();
            (lu, vm.upload(MERGE, "order", factors.order()).unwrap())
        });
        let w_there = vm.upload(MERGE, "w", w).unwrap();
        let mut z_there = vm.upload(MERGE, "z", &vec![f64::NAN; scratch(desc)]).unwrap();
        let after = |buffer, ld| View::at(vm.address(buffer) + 4, ld);
        let operands = MergeOperands {
            skeleton: after(&skeleton, 0),
            b: after(&b, parameters.b.ld()),
            gate: after(&gate, 0),
            scale: parameters.scale,
            undone: there
                .as_ref()
                .map(|(lu, order)| Undone { lu: View::whole(vm, lu, 0), order: View::whole(vm, order, 0) }),
        };
        vm.take_launches();
        let mut w_view = ViewMut::at(vm.address(&w_there) + 2 * start as u64, ld);
        let mut z_view = ViewMut::whole(vm, &mut z_there, pitch(desc));
        launch_merge(vm, desc, Dtype::BF16, &operands, &mut w_view, &mut z_view).unwrap();
        assert_eq!(vm.take_launches().len(), if factors.is_some() { 3 } else { 2 });
        let (mut z, mut after) = (vec![0.0; scratch(desc)], w.to_vec());
        vm.download(MERGE, &z_there, &mut z).unwrap();
        vm.download(MERGE, &w_there, &mut after).unwrap();
        (z, after)
    }
}
