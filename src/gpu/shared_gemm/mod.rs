//! A layer with its components in one kernel on a device: `kernels/shared_gemm.cu`.
//!
//! Two layers, as of the adapter. [`launch`] takes operands that lie on the device, allocates nothing and waits for nothing.
//! [`run`] takes host memory there and back.

mod host;

pub(crate) use host::run;

use super::lowrank::step::{ALIGN, Scratch};
use super::lowrank::{SavedMut, View, ViewMut};
use super::variants::{Family, shared_gemm as tile};
use super::{Gpu, Grid, Kernel, blocks};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::lowrank::{Dropout, Gate};
use crate::shared_gemm::{Desc, OP};

/// A problem that [`Plan`](crate::shared_gemm::Plan) has checked, of so many tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub desc: Desc,
    pub dtype: Dtype,
    /// t.
    pub tokens: usize,
}

/// The layer: `H [t, n]`, `W [m, n]`, the bias `[m]` where there is one, and `Y [t, m]`.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    pub h: View<'a>,
    pub w: View<'a>,
    pub bias: Option<View<'a>>,
    pub y: ViewMut<'a>,
}

/// The components: `[k·r]` of u32, `B [m/s, r/s]` and the gate in f32, and what is left for the backward.
#[derive(Debug)]
pub(crate) struct Adapter<'a> {
    pub skeleton: View<'a>,
    pub b: View<'a>,
    pub gate: View<'a>,
    pub scale: f32,
    pub dropout: Option<Dropout>,
    pub saved: Option<SavedMut<'a>>,
}

/// `Problem` of `shared_gemm.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Scalars {
    h: u64,
    w: u64,
    bias: u64,
    skeleton: u64,
    b: u64,
    gate: u64,
    y: u64,
    x: u64,
    a: u64,
    z: u64,
    head: u64,
    terms: u64,
    ld_h: u64,
    ld_w: u64,
    ld_b: u64,
    ld_gate: u64,
    ld_y: u64,
    ld_x: u64,
    ld_a: u64,
    ld_z: u64,
    tokens: u64,
    seed: u64,
    offset: u64,
    rows: u32,
    cols: u32,
    rank: u32,
    components: u32,
    split: u32,
    gate_kind: u32,
    drops: u32,
    threshold: u32,
    kept: f32,
    scale: f32,
}

const _: () = assert!(size_of::<Scalars>() == tile::GEMM.scalars);

/// Bytes at the head of the scratch that are zero between launches: tickets, and two words for each block of tokens.
pub(crate) fn head_bytes(tokens: usize) -> usize {
    let words = tokens.div_ceil(tile::BLOCK as usize).saturating_mul(2).saturating_add(tile::COUNTERS);
    words.saturating_mul(4).saturating_add(ALIGN - 1) / ALIGN * ALIGN
}

/// Bytes of z as terms, and of X where it is not saved.
fn terms_and_x(problem: &Problem) -> (usize, usize) {
    let Problem { desc, dtype, tokens } = problem;
    if desc.components == 0 {
        return (0, 0);
    }
    let rows = tokens.saturating_mul(desc.split).saturating_mul((desc.rank / desc.split).div_ceil(tile::CHUNK));
    let x = tokens.saturating_mul(desc.components).saturating_mul(desc.rank).saturating_mul(dtype.size());
    (rows.saturating_mul(tile::CHUNK_BYTES).saturating_add(ALIGN - 1) / ALIGN * ALIGN, x)
}

/// Bytes of scratch that [`launch`] needs: the head, then what does not matter before or after.
pub(crate) fn scratch_bytes(problem: &Problem) -> usize {
    let (terms, x) = terms_and_x(problem);
    head_bytes(problem.tokens).saturating_add(terms).saturating_add(x)
}

/// Runs the layer, with its components where the problem has some. What the views say and the problem needs is there; `t` may
/// be 0. The head of the scratch is zero before and after.
///
/// # Errors
/// [`Error::Unsupported`] for f32, more components than a block takes or more tiles or columns than 32 bits count;
/// [`Error::Operand`] for an operand that the problem reads and is not there; [`Error::Shape`] for a scratch that is too small;
/// what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    layer: &mut Layer<'_>,
    adapter: Option<&mut Adapter<'_>>,
    scratch: &Scratch<'_>,
) -> Result<()> {
    let (desc, tokens) = (&problem.desc, problem.tokens);
    supported(problem)?;
    if tokens == 0 {
        return Ok(());
    }
    let needed = scratch_bytes(problem);
    if scratch.bytes < needed {
        let (expected, found) = (format!("at least {needed} bytes"), format!("{} bytes", scratch.bytes));
        return Err(Error::shape(OP, "workspace", expected, found));
    }
    let block = tile::BLOCK as usize;
    let columns = desc.rows.div_ceil(block) + desc.components.saturating_mul(desc.rank).div_ceil(block);
    let tiles = blocks(OP, tokens.div_ceil(block).saturating_mul(columns))?;
    let mut scalars = of_layer(problem, layer)?;
    scalars.head = scratch.address;
    match adapter {
        Some(adapter) if desc.components > 0 => add_adapter(&mut scalars, problem, adapter, scratch.address),
        None if desc.components > 0 => return Err(missing("adapter")),
        _ => {}
    }
    let kernel = Kernel::of(OP, Family::SharedGemm, Some(problem.dtype), &tile::GEMM)?;
    let grid = Grid { blocks: tiles.min(gpu.resident(&kernel, tile::RING)?), shared: tile::RING };
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&scalars))
}

/// Refuses what the kernel is not made for.
fn supported(problem: &Problem) -> Result<()> {
    let desc = &problem.desc;
    if problem.dtype == Dtype::F32 {
        let reason = "the kernel multiplies f16 and bf16 on tensor cores, which have no exact products of f32; run f32 on the CPU";
        return Err(Error::unsupported(OP, reason));
    }
    if desc.components > tile::COMPONENTS {
        let reason = format!("{} components; the kernel takes at most {}", desc.components, tile::COMPONENTS);
        return Err(Error::unsupported(OP, reason));
    }
    for (what, size) in [("rows", desc.rows), ("columns", desc.cols)] {
        // The last tile's end is counted in 32 bits, too.
        if size > u32::MAX as usize - tile::BLOCK as usize {
            return Err(Error::unsupported(OP, format!("{size} {what} are more than the kernel counts")));
        }
    }
    Ok(())
}

fn missing(operand: &'static str) -> Error {
    Error::operand(OP, operand, "is missing; the problem reads it")
}

/// The plain product.
fn of_layer(problem: &Problem, layer: &Layer<'_>) -> Result<Scalars> {
    let desc = &problem.desc;
    let bias = match layer.bias {
        Some(bias) if desc.bias => bias.address,
        None if desc.bias => return Err(missing("bias")),
        _ => 0,
    };
    Ok(Scalars {
        h: layer.h.address,
        w: layer.w.address,
        bias,
        y: layer.y.address,
        ld_h: layer.h.ld as u64,
        ld_w: layer.w.ld as u64,
        ld_y: layer.y.ld as u64,
        tokens: problem.tokens as u64,
        rows: desc.rows as u32, // both fit, see `supported`
        cols: desc.cols as u32,
        split: 1,
        kept: 1.0,
        ..Scalars::default()
    })
}

/// The components' part of the scalars. What their sizes say fits 32 bits, as `k·r ≤ m` does.
fn add_adapter(scalars: &mut Scalars, problem: &Problem, adapter: &mut Adapter<'_>, scratch: u64) {
    let desc = &problem.desc;
    let width = desc.components * desc.rank;
    (scalars.rank, scalars.components) = (desc.rank as u32, desc.components as u32);
    (scalars.split, scalars.gate_kind) = (desc.split as u32, gate_kind(desc.gate));
    scalars.skeleton = adapter.skeleton.address;
    (scalars.b, scalars.ld_b) = (adapter.b.address, adapter.b.ld as u64);
    (scalars.gate, scalars.ld_gate) = (adapter.gate.address, adapter.gate.ld as u64);
    scalars.scale = adapter.scale;
    scalars.terms = scratch + head_bytes(problem.tokens) as u64;
    (scalars.x, scalars.ld_x) = (scalars.terms + terms_and_x(problem).0 as u64, width as u64);
    if let Some(SavedMut { x, gate, z }) = &adapter.saved {
        (scalars.x, scalars.ld_x) = (x.address, x.ld as u64);
        (scalars.a, scalars.ld_a) = (gate.address, gate.ld as u64);
        if let Some(z) = z {
            (scalars.z, scalars.ld_z) = (z.address, z.ld as u64);
        }
    }
    if let Some(dropout) = &adapter.dropout {
        (scalars.drops, scalars.seed, scalars.offset) = (1, dropout.seed, dropout.offset);
        scalars.threshold = dropout.threshold() as u32; // p < 1, so below 2^32
        scalars.kept = dropout.kept_scale();
    }
}

/// `Gate` of the kernel.
fn gate_kind(gate: Gate) -> u32 {
    match gate {
        Gate::Inner => 0,
        Gate::RmsInner => 1,
        Gate::Linear => 2,
        Gate::LinearSoftmax => 3,
        Gate::Static => 4,
    }
}

#[cfg(all(test, feature = "vm"))]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::gpu::vm::Vm;
    use crate::lowrank::Parameters;
    use crate::mat::{MatMut, MatRef};
    use crate::shared_gemm::{Operands, Plan};
    use half::bf16;

    const TOKENS: usize = 140;
    const DESC: Desc =
        Desc { rows: 150, cols: 21, rank: 66, components: 2, split: 2, gate: Gate::LinearSoftmax, bias: true };

    /// `len` values between −1 and 1, after `start` that are NaN.
    fn values(start: usize, len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
        std::iter::repeat_n(f32::NAN, start).chain((0..len).map(value)).collect()
    }

    fn narrow(values: &[f32]) -> Vec<bf16> {
        values.iter().map(|&x| bf16::from_f32(x)).collect()
    }

    /// Y by way of [`Plan`].
    fn expected(vm: &Vm, skeleton: &[u32], sizes: [usize; 5]) -> Vec<bf16> {
        let Desc { rows, cols, rank, components, split, .. } = DESC;
        let [h, w, bias, b, gate] = std::array::from_fn(|i| values(0, sizes[i], i));
        let [h, w, bias] = [h, w, bias].map(|values| narrow(&values));
        let adapter = Parameters {
            skeleton,
            b: MatRef::new(&b, rows / split, rank / split).unwrap(),
            gate: MatRef::new(&gate, components, cols).unwrap(),
            scale: 0.5,
        };
        let operands = Operands {
            h: MatRef::new(&h, TOKENS, cols).unwrap(),
            w: MatRef::new(&w, rows, cols).unwrap(),
            bias: Some(&bias),
            adapter: Some(adapter),
            dropout: None,
        };
        let mut y = vec![bf16::ZERO; TOKENS * rows];
        let plan = Plan::new(&Device::Vm(vm.clone()), DESC).unwrap();
        plan.run(&operands, MatMut::new(&mut y, TOKENS, rows).unwrap(), None).unwrap();
        y
    }

    /// What [`launch`] is given and [`run`] never gives it: operands somewhere in their buffers, and a scratch that is used
    /// again, whose head every launch leaves as zeros.
    #[test]
    fn operands_start_anywhere_and_the_scratch_is_used_again() {
        let vm = Vm::default();
        if let Err(error) = vm.probe() {
            assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
            return println!("skipped: {error}");
        }
        let Desc { rows, cols, rank, components, split, .. } = DESC;
        let skeleton: Vec<u32> = (0..132).map(|i| (i * 41 % 150) as u32).collect();
        let sizes = [TOKENS * cols, rows * cols, rows, rows / split * rank / split, components * cols];
        let y = expected(&vm, &skeleton, sizes);

        let there = |name, start: usize, i: usize| vm.upload(OP, name, &narrow(&values(start, sizes[i], i))).unwrap();
        let [h, w, bias] = [("h", 3, 0), ("w", 7, 1), ("bias", 5, 2)].map(|(name, start, i)| there(name, start, i));
        let b = vm.upload(OP, "b", &values(2, sizes[3], 3)).unwrap();
        let gate = vm.upload(OP, "gate", &values(9, sizes[4], 4)).unwrap();
        let chosen = vm.upload(OP, "skeleton", &[&[u32::MAX][..], &skeleton].concat()).unwrap();
        let at = |buffer, start: usize, bytes: usize, ld| View::at(vm.address(buffer) + (start * bytes) as u64, ld);
        let problem = Problem { desc: DESC, dtype: Dtype::BF16, tokens: TOKENS };
        let bytes = scratch_bytes(&problem);
        let scratch = vm.zeroed::<u8>(OP, "workspace", bytes).unwrap();
        for turn in 0..3 {
            let y_there = vm.upload(OP, "y", &narrow(&values(1, y.len(), 9))).unwrap();
            let mut layer = Layer {
                h: at(&h, 3, 2, cols),
                w: at(&w, 7, 2, cols),
                bias: Some(at(&bias, 5, 2, 0)),
                y: ViewMut::at(vm.address(&y_there) + 2, rows),
            };
            let mut adapter = Adapter {
                skeleton: at(&chosen, 1, 4, 0),
                b: at(&b, 2, 4, rank / split),
                gate: at(&gate, 9, 4, cols),
                scale: 0.5,
                dropout: None,
                saved: None,
            };
            let scratch_view = Scratch::at(vm.address(&scratch), bytes);
            launch(&vm, &problem, &mut layer, Some(&mut adapter), &scratch_view).unwrap();
            let mut found = vec![bf16::ZERO; 1 + y.len()];
            vm.download(OP, &y_there, &mut found).unwrap();
            assert!(found[0].is_nan() && found[1..] == y, "turn {turn}");
            let mut head = vec![1u8; bytes];
            vm.download(OP, &scratch, &mut head).unwrap();
            assert!(head[..head_bytes(TOKENS)].iter().all(|&x| x == 0), "turn {turn}");

            let short = Scratch::at(scratch_view.address, bytes - 1);
            let error = launch(&vm, &problem, &mut layer, Some(&mut adapter), &short).unwrap_err().to_string();
            assert!(error.starts_with("shared gemm: `workspace` has"), "{error}");
            let error = launch(&vm, &problem, &mut layer, None, &scratch_view).unwrap_err().to_string();
            assert_eq!(error, "shared gemm: operand `adapter` is missing; the problem reads it");
        }
    }
}
