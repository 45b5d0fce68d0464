//! What a launch moves and does, estimated. Bytes and tensor products follow from the kernels' headers. Instructions and passes over
//! shared memory are units of work times constants, which were fitted to the virtual machine's counters and are held against
//! them by a test.

use super::super::decode::all_windows;
use super::super::layout::Layout;
use super::super::way::Way;
use super::{Problem, image};
use crate::elem::Dtype;
use crate::gpu::image::image as compiled;
use crate::gpu::model::Work;
use crate::gpu::occupancy::Need;
use crate::gpu::resources::resources;
use crate::gpu::variants::lowrank_down::Tile;
use crate::gpu::variants::{Element, Entry, Family, lowrank, lowrank_decode, lowrank_down};
use crate::lowrank::{Bias, Desc, DownProjection, Gate};

/// Bytes of a sector, the least that moves.
const SECTOR: usize = 32;
/// Registers of a thread where there is no assembler's log: what two blocks of a multiprocessor leave each.
const REGISTERS: u32 = 128;

/// What a block of an entry point needs.
fn need(family: Family, dtype: Dtype, entry: &Entry, shared: u32) -> Need {
    let log = image(family, dtype).and_then(|variant| compiled(variant).ok()).map(|image| &image.log);
    let logged = log.and_then(|log| resources(log).ok()).unwrap_or_default();
    let found = logged.iter().find(|kernel| kernel.name == entry.name);
    let (registers, of_its_own) = found.map_or((REGISTERS, 0), |kernel| (kernel.registers, kernel.shared));
    Need { threads: entry.block[0] * entry.block[1], registers, shared: shared + of_its_own }
}

/// Static shared memory of a tile of the down-projection: where its rows start.
pub(super) fn static_shared(tile: &Tile) -> u32 {
    8 * (tile.tokens + tile.columns) as u32
}

/// Bytes of `rows` rows that are each read or written by themselves.
fn sectors(rows: usize, bytes: usize) -> f64 {
    rows as f64 * bytes.next_multiple_of(SECTOR) as f64
}

/// How a launch of the forward is cut.
struct Cut {
    /// Tokens of a block, blocks of tokens, and slices of their columns.
    of_block: usize,
    groups: usize,
    slices: usize,
    /// Whether it is the kernel for few tokens.
    few: bool,
    layout: Layout,
    /// Sub-rows that share a fragment of B, in tiles of 16, and how often a block of tokens goes through its columns.
    row_tiles: usize,
    passes: usize,
}

impl Cut {
    fn of(problem: &Problem, way: &Way) -> Self {
        let (layout, slices, few) = match way {
            Way::Many(layout) => (*layout, 1, false),
            Way::Few(shares, layout) => (*layout, shares.slices, true),
        };
        let of_block = layout.tokens();
        let row_tiles = if layout.term_rows() <= 16 { 1 } else { 2 };
        Self {
            of_block,
            groups: problem.tokens.div_ceil(of_block),
            slices,
            few,
            layout,
            row_tiles,
            passes: (of_block.min(problem.tokens) * problem.desc.split).div_ceil(16 * row_tiles),
        }
    }

    fn blocks(&self) -> usize {
        self.groups * self.slices
    }
}

/// The forward of one module, out of place, with everything saved.
pub(super) fn of_forward(problem: &Problem, way: &Way) -> Work {
    let cut = Cut::of(problem, way);
    let (memory, cache) = bytes_of_forward(problem, &cut);
    let units = units_of_forward(problem, &cut);
    let (instructions, wavefronts) = spent(&units, &COSTS, problem.dtype);
    let (family, entry, shared) = match way {
        Way::Many(layout) => (Family::Lowrank, &lowrank::FORWARD, layout.bytes(&problem.desc, problem.dtype.into())),
        Way::Few(shares, layout) => (Family::LowrankDecode, &lowrank_decode::FORWARD, shares.shared(problem, layout)),
    };
    let products = if problem.dtype == Dtype::F32 { 6.0 } else { 3.0 };
    Work {
        blocks: cut.blocks() as u64,
        need: need(family, problem.dtype, entry, shared),
        memory,
        cache,
        tensor: operations(units[Unit::Products as usize] * products),
        instructions,
        wavefronts,
    }
}

/// Bytes of device memory, each operand once, and of the second cache.
fn bytes_of_forward(problem: &Problem, cut: &Cut) -> (f64, f64) {
    let Problem { desc, dtype, tokens } = *problem;
    let Desc { rows, cols, rank, components, split, gate, down, bias } = desc;
    let (e, width) = (dtype.size(), components * rank);
    let given = down == DownProjection::Gemm;
    let y = 2.0 * (tokens * rows * e) as f64;
    let saved = sectors(tokens, width * e) + sectors(tokens, components * 4) + sectors(tokens, rank * 4);
    let b = (rows / split * (rank / split) * 4) as f64;
    let shrunk = (tokens * cut.slices) as f64; // tokens, as often as one is taken up to z
    let blocks = cut.blocks() as f64;
    // 16 bytes at a time; where r/s is ragged 4, whose sectors are met four times.
    let whole = (rank / split).is_multiple_of(if cut.few { 4 } else { 16 });
    let b_often = b * (cut.groups * cut.passes * if whole { 1 } else { 4 }) as f64;
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
    let of_gate = sectors(gate_rows, gate_cols * 4);
    // Packed, rows share sectors.
    let packed =
        tokens * (width * e + 4 * (components + rank)) + 4 * (rows / split * (rank / split) + gate_rows * gate_cols);
    let mut once = y + (packed + width * 4) as f64;
    let mut often = y + saved + b_often + blocks * (width * 4) as f64;
    if gate.reads_input() {
        let h = (tokens * cols * e) as f64;
        once += h;
        often += h * (cut.slices * components.div_ceil(4)) as f64 + blocks * cut.of_block.div_ceil(8) as f64 * of_gate;
    } else {
        let readings = if gate == Gate::Static { 1 } else { components };
        often += shrunk * readings as f64 * of_gate;
    }
    if given {
        once += sectors(tokens, width * e);
        often += shrunk * sectors(1, width * e);
    } else if !cut.layout.holds() {
        often += shrunk * (width * SECTOR) as f64;
    }
    match bias {
        Bias::Included if !given => {
            once += (width * SECTOR).min(rows * e) as f64;
            often += shrunk * (width * (SECTOR + 4)) as f64;
        }
        Bias::Separate => {
            once += (rows * e) as f64;
            // A tile's lanes read two columns of a row each, of 8 rows at a time.
            let columns = (all_windows(problem) * lowrank_decode::window(dtype.into()) / 4) as f64;
            often += (cut.groups * cut.passes * cut.row_tiles * split.min(8) * SECTOR) as f64 * columns;
        }
        _ => {}
    }
    (once, often)
}

/// What instructions of the forward are spent on, counted in what a warp does at a time.
#[derive(Clone, Copy)]
enum Unit {
    /// Blocks: tables.
    Blocks,
    /// Words of zeroed terms, and the tables' entries.
    Words,
    /// Vectors of a held Y0.
    Tile,
    /// Columns of H for 8 tokens and 4 components; for one token.
    Logits,
    LogitsOfOne,
    /// Sums of logits over a warp, for 8 tokens and 4 components; for one token.
    Sums,
    SumsOfOne,
    /// Tokens.
    Tokens,
    /// Entries of X.
    Gathered,
    /// Entries of X that a gate reads, and those with squares in double.
    Gate,
    Squares,
    /// Softmaxes; tokens whose logits are added up.
    Softmax,
    Partials,
    /// Entries of X that are mixed.
    Mixed,
    /// Windows; steps of 16 in r/s of a tile's 8 columns of B; those times the tiles of 16 sub-rows.
    Windows,
    Columns,
    Products,
    /// Tiles of 16 sub-rows and 8 columns that are added to Y0.
    Added,
    /// Tiles of 16 sub-rows of a window that are copied, there or back.
    Copied,
}

const UNITS: usize = Unit::Copied as usize + 1;

fn units_of_forward(problem: &Problem, cut: &Cut) -> [f64; UNITS] {
    let Problem { desc, dtype, tokens } = *problem;
    let Desc { rows, cols, rank, components, split, gate, .. } = desc;
    let element = Element::from(dtype);
    let (warps, vector) = (lowrank::WARPS as usize, element.vector() as usize);
    let (part, depth, width) = (rows / split, rank / split, components * rank);
    let blocks = cut.blocks();
    let shrunk = tokens * cut.slices;
    let tiles = lowrank_decode::window(element) / 8;
    let windows = cut.groups * cut.passes * all_windows(problem);
    let steps = windows * depth.div_ceil(16) * tiles;
    let rounds = warps * cols.div_ceil(warps * 32) * components.div_ceil(4);
    let one = cut.few && cut.of_block == 1;
    let groups_of_8 = cut.of_block.div_ceil(8);
    let reads = |units: usize, on: bool| if on { units } else { 0 };
    let logits = gate.reads_input();
    let mut units = [0.0; UNITS];
    let mut set = |unit: Unit, count: usize| units[unit as usize] = count as f64;
    set(Unit::Blocks, blocks);
    set(Unit::Words, blocks * (cut.layout.term_words(element).div_ceil(32) + width.div_ceil(32)));
    set(Unit::Tile, reads(tokens * split * part.div_ceil(32 * vector), cut.layout.holds()));
    set(Unit::Logits, reads(blocks * groups_of_8 * rounds, logits && !one));
    set(Unit::LogitsOfOne, reads(blocks * rounds, logits && one));
    set(Unit::Sums, reads(blocks * groups_of_8 * warps * components.div_ceil(4), logits && !one));
    set(Unit::SumsOfOne, reads(blocks * warps * components.div_ceil(4), logits && one));
    set(Unit::Tokens, shrunk);
    set(Unit::Gathered, shrunk * width.div_ceil(32));
    set(Unit::Gate, reads(shrunk * components * (1 + rank.div_ceil(32)), matches!(gate, Gate::Inner | Gate::RmsInner)));
    set(Unit::Squares, reads(shrunk * components * (1 + rank.div_ceil(32)), gate == Gate::RmsInner));
    set(Unit::Softmax, reads(shrunk, gate == Gate::LinearSoftmax));
    set(Unit::Partials, reads(shrunk, logits));
    set(Unit::Mixed, shrunk * rank.div_ceil(32) * components);
    set(Unit::Windows, windows);
    set(Unit::Columns, steps);
    set(Unit::Products, steps * cut.row_tiles);
    set(Unit::Added, windows * tiles * cut.row_tiles);
    set(Unit::Copied, windows * cut.row_tiles * (2 - usize::from(cut.layout.holds())));
    units
}

/// Warp instructions and passes over the banks of shared memory of each unit: of 16 bits, then of f32. Fitted to the counters of 644
/// launches, with every gate, of 1 to 64 tokens: instructions within 0.84 to 1.43 of what was counted, passes within 0.56 to 1.43.
const COSTS: [[f64; 4]; UNITS] = [
    [1800.0, 6.0, 2100.0, 0.0], // Blocks
    [5.0, 0.0, 6.0, 0.1],       // Words
    [8.0, 6.5, 8.0, 13.0],      // Tile
    [160.0, 0.0, 150.0, 0.0],   // Logits
    [31.0, 0.0, 31.0, 0.0],     // LogitsOfOne
    [850.0, 0.0, 880.0, 0.0],   // Sums
    [130.0, 0.7, 140.0, 0.6],   // SumsOfOne
    [270.0, 7.0, 250.0, 10.5],  // Tokens
    [38.0, 5.6, 36.0, 7.0],     // Gathered
    [20.0, 0.1, 20.0, 0.1],     // Gate
    [15.0, 0.1, 16.0, 0.1],     // Squares
    [260.0, 0.6, 270.0, 0.6],   // Softmax
    [65.0, 26.0, 61.0, 22.0],   // Partials
    [13.0, 1.3, 14.0, 1.5],     // Mixed
    [92.0, 0.1, 100.0, 0.1],    // Windows
    [33.0, 0.1, 56.0, 0.1],     // Columns
    [3.5, 1.6, 5.0, 4.2],       // Products
    [32.0, 1.9, 32.0, 1.2],     // Added
    [15.0, 6.3, 19.0, 6.5],     // Copied
];

/// Units times their costs: instructions, and passes over shared memory.
fn spent<const N: usize>(units: &[f64; N], costs: &[[f64; 4]; N], dtype: Dtype) -> (f64, f64) {
    let first = if dtype == Dtype::F32 { 2 } else { 0 };
    let of = |i: usize| units.iter().zip(costs).map(|(units, cost)| units * cost[first + i]).sum();
    (of(0), of(1))
}

/// Operations of so many products of tiles 16 × 8 × 16, each a multiplication and an addition.
fn operations(products: f64) -> f64 {
    products * (2 * 16 * 8 * 16) as f64
}

/// The down-projection of one module.
pub(super) fn of_down(problem: &Problem, width: usize, tile: &'static Tile) -> Work {
    let Problem { desc, dtype, tokens } = *problem;
    let (n, e) = (desc.cols, dtype.size());
    let (down, across) = (tokens.div_ceil(tile.tokens), width.div_ceil(tile.columns));
    let blocks = down * across;
    let (h, w, x) = ((tokens * n * e) as f64, (width * n * e) as f64, (tokens * width * e) as f64);
    let products = if dtype == Dtype::F32 { 6.0 } else { 1.0 };
    let units = units_of_down(problem, tile, blocks);
    let (instructions, wavefronts) = spent(&units, &DOWN_COSTS, dtype);
    Work {
        blocks: blocks as u64,
        need: need(Family::LowrankDown, dtype, &tile.entry, tile.shared),
        memory: h + w + x + (width * 4) as f64,
        cache: h * across as f64 + w * down as f64 + x + (down * width * 4) as f64,
        tensor: operations(units[3] * products),
        instructions,
        wavefronts,
    }
}

/// Blocks; vectors that are copied; fragments that are loaded; products of 16 × 8 × 16; their sums of a stage; vectors of X.
const DOWN_UNITS: usize = 6;

fn units_of_down(problem: &Problem, tile: &Tile, blocks: usize) -> [f64; DOWN_UNITS] {
    let vector = Element::from(problem.dtype).vector() as usize;
    let stages = problem.desc.cols.div_ceil(8 * vector);
    let rows = tile.tokens + tile.columns;
    let steps = problem.desc.cols.div_ceil(16);
    let products = tile.tokens / 16 * (tile.columns / 8);
    // Fragments of 16 rows: of a small tile one of H and one of W; each warp's of the others 2 + 1 or 2 + 2.
    let fragments = match (tile.tokens, tile.columns) {
        (16, _) => 2,
        (64, _) => 8 * 3,
        _ => 8 * 4,
    };
    // A small tile takes whole rounds of stages.
    let rounds = if tile.tokens == 16 { stages.next_multiple_of(lowrank_down::WARPS as usize) } else { stages };
    [
        blocks,
        blocks * rounds * rows * 8 / 32,
        blocks * steps * fragments,
        blocks * steps * products,
        blocks * stages * products,
        blocks * tile.tokens * tile.columns / vector / 32,
    ]
    .map(|units| units as f64)
}

/// As [`COSTS`], fitted to 30 launches of every tile: within 0.87 to 1.13.
const DOWN_COSTS: [[f64; 4]; DOWN_UNITS] = [
    [2150.0, 0.0, 60.0, 0.0],
    [59.0, 7.1, 63.0, 7.7],
    [0.0, 3.7, 50.0, 7.0],
    [1.6, 0.0, 6.0, 0.0],
    [6.6, 0.0, 40.0, 0.0],
    [52.0, 7.5, 58.0, 7.3],
];
