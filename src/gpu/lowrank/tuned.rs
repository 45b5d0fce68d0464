//! What a tuner is told of the adapter's kernels: the forward, whose candidates are of two kernels, and the explicit
//! down-projection. The backward is not tuned: its cut is the order of its sums (`backward/cut.rs`), and every other one would
//! have other bits.

mod down;
#[cfg(all(test, feature = "vm"))]
mod tests;
mod work;

pub(crate) use down::Down;

use super::decode::Shares;
use super::group::{Module, Operands, Problem, SavedMut};
use super::layout::halves;
use super::step::{HEAD, Scratch};
use super::view::{View, ViewMut};
use super::way::Way;
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::draw::{Draw, of_sums};
use crate::gpu::model::{Card, Work};
use crate::gpu::tunable::{Prepared, Tunable, align};
use crate::gpu::variants::{Family, VARIANTS};
use crate::gpu::{Gpu, variants};
use crate::lowrank::{Bias, Desc, DownProjection, FORWARD};
use crate::tune::{Config, Outcome, Tuner, bucket};

/// Chooses for every kernel of the forward.
///
/// # Errors
/// Those of [`Plan::tune`](crate::lowrank::Plan::tune).
pub(crate) fn tune<G: Gpu>(gpu: &G, tuner: &Tuner, desc: &Desc, dtype: Dtype, tokens: usize) -> Result<Vec<Outcome>> {
    let problem = Problem { desc: *desc, dtype, tokens: bucket(tokens) };
    // So that there is a candidate.
    Way::default(&problem, 1, false, gpu.shared_limit() as usize)?;
    let mut outcomes = vec![tuner.choose(gpu, &Forward(problem))?];
    if desc.down == DownProjection::Gemm {
        outcomes.push(tuner.choose(gpu, &Down(problem))?);
    }
    Ok(outcomes)
}

/// Whether a configuration decides what another one does: the forward's are of two kernels.
pub(crate) fn same_choice(config: &Config) -> impl Fn(&Config) -> bool {
    let of_forward = is_forward(config);
    move |other| is_forward(other) == of_forward
}

fn is_forward(config: &Config) -> bool {
    matches!(config, Config::Lowrank { .. } | Config::LowrankDecode { .. })
}

/// The forward of one module, out of place, which saves everything and has no dropout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forward(pub Problem);

impl Tunable for Forward {
    fn kernel(&self) -> &'static str {
        "lowrank"
    }

    fn dtype(&self) -> Dtype {
        self.0.dtype
    }

    fn tokens(&self) -> usize {
        self.0.tokens
    }

    fn shape(&self) -> String {
        let Desc { rows, cols, rank, components, split, gate, down, bias } = self.0.desc;
        let n = if gate.reads_input() { cols } else { 0 };
        let align = align(&[rows / split * self.0.dtype.size()]);
        format!(
            "m={rows} n={n} k={components} r={rank} s={split} gate={} x={} bias={} align={align}",
            gate.name(),
            if down == DownProjection::Gather { "gathered" } else { "given" },
            bias_name(bias)
        )
    }

    fn images(&self) -> Vec<usize> {
        [Family::Lowrank, Family::LowrankDecode].into_iter().filter_map(|family| image(family, self.0.dtype)).collect()
    }

    fn candidates(&self, card: &Card) -> Vec<Config> {
        let limit = card.multiprocessor.block_shared as usize;
        let Ok(default) = Way::default(&self.0, 1, false, limit) else { return Vec::new() };
        let few = Shares::candidates(&self.0)
            .map(|shares| Config::LowrankDecode { tokens: shares.tokens as u32, windows: shares.windows as u32 });
        let many = halves(&self.0.desc)
            .flat_map(|tokens| [true, false].map(|holds| Config::Lowrank { tokens: tokens as u32, holds }));
        let legal = few.chain(many).filter(|config| Way::of(config, &self.0, 1, false, limit).is_some());
        let default = default.config();
        std::iter::once(default).chain(legal.filter(|config| *config != default)).collect()
    }

    fn work(&self, card: &Card, config: &Config) -> Result<Vec<Work>> {
        let way = self.way(config, card.multiprocessor.block_shared as usize)?;
        Ok(vec![work::of_forward(&self.0, &way)])
    }

    fn prepare<G: Gpu>(&self, gpu: &G) -> Result<Prepared<G>> {
        let Problem { desc, dtype, tokens } = self.0;
        let Desc { rows, cols, rank, components, split, gate, down, bias } = desc;
        let (width, (gate_rows, gate_cols)) = (rank * components, gate.parameter_shape(rank, components, cols));
        let draw = Draw { gpu, op: FORWARD };
        let unless = |there: bool, len: usize| if there { len } else { 0 };
        let inputs = vec![
            draw.elements("y0", dtype, tokens.saturating_mul(rows), 1, 0)?,
            draw.skeleton(rows, width)?,
            draw.floats("b", rows / split * (rank / split), 5, 0)?,
            draw.floats("gate", gate_rows * gate_cols, 6, of_sums(gate_cols))?,
            draw.elements("h", dtype, unless(gate.reads_input(), tokens.saturating_mul(cols)), 2, 0)?,
            draw.elements("bias", dtype, unless(bias != Bias::None, rows), 3, 0)?,
            draw.elements("given", dtype, unless(down == DownProjection::Gemm, tokens.saturating_mul(width)), 4, 0)?,
        ];
        let output = |name, per_token: usize, size: usize| {
            let bytes = tokens.saturating_mul(per_token).saturating_mul(size);
            Ok((gpu.allocate::<u8>(FORWARD, name, bytes)?, bytes))
        };
        let size = dtype.size();
        let outputs = vec![
            output("y", rows, size)?,
            output("x", width, size)?,
            output("a", components, 4)?,
            output("z", rank, 4)?,
        ];
        Ok(Prepared { inputs, outputs, scratch: Some((gpu.zeroed::<u8>(FORWARD, "workspace", HEAD)?, HEAD)) })
    }

    fn run<G: Gpu>(&self, gpu: &G, prepared: &mut Prepared<G>, config: &Config) -> Result<()> {
        let Desc { rows, cols, rank, components, split, gate, down, .. } = self.0.desc;
        let way = self.way(config, gpu.shared_limit() as usize)?;
        let scratch = prepared.scratch.as_ref().map_or(0, |(buffer, _)| gpu.address(buffer));
        let from = |i: usize, ld| View::whole(gpu, &prepared.inputs[i], ld);
        let to = |i: usize, ld| ViewMut::at(gpu.address(&prepared.outputs[i].0), ld);
        let width = rank * components;
        let operands = Operands {
            skeleton: from(1, 0),
            b: from(2, rank / split),
            gate: from(3, gate.parameter_shape(rank, components, cols).1),
            scale: 1.0 / rank as f32,
            h: Some(from(4, cols)),
            w: None,
            bias: Some(from(5, 0)),
            dropout: None,
        };
        let module = Module {
            operands,
            y0: from(0, rows),
            y: to(0, rows),
            given: (down == DownProjection::Gemm).then(|| from(6, width)),
            saved: Some(SavedMut { x: to(1, width), gate: to(2, components), z: Some(to(3, rank)) }),
        };
        way.launch(gpu, &self.0, &[module], &Scratch::at(scratch, HEAD))
    }
}

impl Forward {
    fn way(&self, config: &Config, limit: usize) -> Result<Way> {
        Way::of(config, &self.0, 1, false, limit).ok_or_else(|| not_served(config))
    }
}

fn not_served(config: &Config) -> Error {
    Error::unsupported(FORWARD, format!("`{config}` does not serve this problem"))
}

/// The variant of a family for an element, as an index of the table.
fn image(family: Family, dtype: Dtype) -> Option<usize> {
    let element = Some(variants::Element::from(dtype));
    VARIANTS.iter().position(|variant| variant.family == family && variant.element == element)
}

/// As the command line has it.
fn bias_name(bias: Bias) -> &'static str {
    match bias {
        Bias::None => "none",
        Bias::Included => "included",
        Bias::Separate => "separate",
    }
}
