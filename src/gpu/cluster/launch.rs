//! Launches of `kernels/cluster.cu`: what is on the device, and how blocks are cut.

use super::layout::{Layout, Shape, score_chunk};
use super::points::Points;
use crate::cluster::{Desc, OP, Space};
use crate::error::Result;
use crate::gpu::variants::{Entry, Family, cluster as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::mat::{Mat, zeroed};

/// `Problem` of `cluster.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
struct Problem {
    points: u64,
    cols: u64,
    min_size: u64,
    least_movement: f64,
    clusters: u32,
    rows: u32,
    chunk: u32,
    directions: u32,
}

/// `State` of `cluster.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct State {
    pub status: u32,
    /// Steps taken.
    pub steps: u32,
    changed: u32,
    arrived: u32,
}

/// The iteration goes on.
const RUNNING: u32 = 0;
/// No label changed, or centroids hardly moved.
pub(super) const CONVERGED: u32 = 1;
/// The nearest labels leave a cluster below the minimum size: centroids are as before, the labels there to read.
pub(super) const SHORT: u32 = 2;

const _: () = assert!(size_of::<Problem>() == tile::SCALARS && size_of::<State>() == 16);

/// The label of a point that has none yet.
const NONE: u32 = u32::MAX;

/// Blocks that a step aims at: about one a multiprocessor of the devices that this is for, each with as many rows.
const BLOCKS: usize = 128;

/// Rows of a block: from the number of points alone, so that sums have the same order on every device.
fn rows_per_block(points: usize) -> u32 {
    let rows = points.div_ceil(BLOCKS).next_multiple_of(tile::TILE_ROWS as usize);
    rows.clamp(16, tile::MAX_ROWS as usize) as u32
}

/// An iteration on the device.
pub(super) struct Steps<'a, G: Gpu> {
    gpu: &'a G,
    points: &'a Points<G>,
    problem: Problem,
    layout: Layout,
    shape: Shape,
    score_shared: u32,
    /// The mean of the points, as the kernels have it.
    host_mean: Vec<f64>,
    mean: G::Buffer,
    centred: G::Buffer,
    offsets: G::Buffer,
    /// Of the step before and of this one: steps write them in turn.
    labels: [G::Buffer; 2],
    partial: G::Buffer,
    sizes: G::Buffer,
    means: G::Buffer,
    movements: G::Buffer,
    arrivals: G::Buffer,
    state: G::Buffer,
    /// Steps taken, as last read from the device.
    pub steps: usize,
}

impl<'a, G: Gpu> Steps<'a, G> {
    /// Takes the starting centroids and the mean of the points.
    pub fn new(
        gpu: &'a G,
        points: &'a Points<G>,
        desc: &Desc,
        start: &Mat<f64>,
        mean: &[f64],
        least_movement: f64,
    ) -> Result<Self> {
        let (k, count) = (desc.clusters, points.count);
        let layout = Layout::new(points.dtype.into(), points.dim);
        let rows = rows_per_block(count);
        let (chunk, score_shared) = score_chunk(layout, k, gpu.shared_limit());
        let problem = Problem {
            points: count as u64,
            cols: points.dim as u64,
            min_size: desc.min_size as u64,
            least_movement,
            clusters: k as u32,
            rows,
            chunk,
            directions: u32::from(desc.space == Space::Direction),
        };
        let host_mean: Vec<f64> = mean.iter().map(|&m| f64::from(m as f32)).collect();
        let mut padded: Vec<f32> = zeroed("mean", layout.columns())?;
        host_mean.iter().enumerate().for_each(|(i, &m)| padded[layout.place(i)] = m as f32);
        let mut none: Vec<u32> = zeroed("labels", count)?;
        none.fill(NONE);
        let floats = layout.columns().saturating_mul(k);
        let partial = floats.saturating_mul(count.div_ceil(rows as usize));
        let mut steps = Self {
            gpu,
            points,
            problem,
            layout,
            shape: Shape::of(layout, k, gpu.shared_limit()),
            score_shared,
            host_mean,
            mean: gpu.upload(OP, "mean", &padded)?,
            centred: gpu.allocate::<f32>(OP, "centred", floats)?,
            offsets: gpu.allocate::<f64>(OP, "offsets", k)?,
            labels: [gpu.upload(OP, "labels", &none)?, gpu.allocate::<u32>(OP, "labels", count)?],
            partial: gpu.allocate::<f32>(OP, "partial", partial)?,
            sizes: gpu.zeroed::<u32>(OP, "sizes", k)?,
            means: gpu.allocate::<f64>(OP, "means", floats)?,
            movements: gpu.allocate::<f64>(OP, "movements", k)?,
            arrivals: gpu.zeroed::<u32>(OP, "arrivals", k)?,
            state: gpu.zeroed::<State>(OP, "state", 1)?,
            steps: 0,
        };
        steps.set_centroids(start)?;
        Ok(steps)
    }

    /// Queues a step: nearest labels and their sums.
    pub fn step(&mut self) -> Result<()> {
        self.step_after(self.steps)
    }

    /// Queues steps and updates one after another; those behind the first that does not go on do nothing.
    pub fn queue(&mut self, count: usize) -> Result<()> {
        for ahead in 0..count {
            self.step_after(self.steps + ahead)?;
            self.update()?;
        }
        Ok(())
    }

    fn step_after(&mut self, steps: usize) -> Result<()> {
        let Shape::Fused(entry, shared) = self.shape else {
            self.nearest(steps)?;
            return self.sums(steps);
        };
        let (kernel, grid) = (self.kernel(entry)?, Grid { blocks: self.blocks(1)?, shared });
        let (labels, next) = turn(&mut self.labels, steps);
        let Points { rows, scales, .. } = self.points;
        let inputs = [&rows.addresses, scales, &self.mean, &self.centred, &self.offsets, labels];
        let outputs = &mut [next, &mut self.partial, &mut self.sizes, &mut self.state];
        self.gpu.launch(&kernel, grid, &inputs, outputs, bytemuck::bytes_of(&self.problem))
    }

    /// The nearest labels alone.
    fn nearest(&mut self, steps: usize) -> Result<()> {
        let kernel = self.kernel(&tile::LABELS)?;
        let grid = Grid { blocks: self.blocks(1)?, shared: self.score_shared };
        let (_, next) = turn(&mut self.labels, steps);
        let Points { rows, scales, .. } = self.points;
        let inputs = [&rows.addresses, scales, &self.centred, &self.offsets, &self.state];
        self.gpu.launch(&kernel, grid, &inputs, &mut [next], bytemuck::bytes_of(&self.problem))
    }

    /// The sums of the labels that are there.
    fn sums(&mut self, steps: usize) -> Result<()> {
        let tiles = self.layout.vectors.div_ceil(32 * tile::SUM_WARPS as usize);
        let (kernel, grid) = (self.kernel(&tile::SUMS)?, self.blocks(tiles)?);
        let (labels, next) = turn(&mut self.labels, steps);
        let Points { rows, scales, .. } = self.points;
        let inputs = [&rows.addresses, scales, &self.mean, &self.centred, labels, next];
        let outputs = &mut [&mut self.partial, &mut self.sizes, &mut self.state];
        self.gpu.launch(&kernel, grid.into(), &inputs, outputs, bytemuck::bytes_of(&self.problem))
    }

    /// Sums of labels from the host, which a step with its update then takes for its own.
    pub fn adopt(&mut self, labels: &[u32]) -> Result<()> {
        self.resume()?;
        let (_, next) = turn(&mut self.labels, self.steps);
        self.gpu.write(OP, next, labels)?;
        self.sums(self.steps)?;
        self.update()
    }

    /// Queues the update that a step ends with.
    pub fn update(&mut self) -> Result<()> {
        let k = self.problem.clusters as usize;
        let tiles = self.layout.columns().div_ceil(32 * tile::UPDATE_WARPS as usize);
        let (kernel, grid) = (self.kernel(&tile::UPDATE)?, blocks(OP, k.saturating_mul(tiles))?);
        let outputs = &mut [
            &mut self.centred,
            &mut self.offsets,
            &mut self.sizes,
            &mut self.means,
            &mut self.movements,
            &mut self.arrivals,
            &mut self.state,
        ];
        let inputs = [&self.mean, &self.partial];
        self.gpu.launch(&kernel, grid.into(), &inputs, outputs, bytemuck::bytes_of(&self.problem))
    }

    /// `½‖x_p − c_j‖²` up to a term of `p` alone, `[points, k]`.
    pub fn scores(&self) -> Result<Mat<f64>> {
        let mut scores: Mat<f64> = Mat::zeros(self.points.count, self.problem.clusters as usize)?;
        let mut buffer = self.gpu.allocate::<f64>(OP, "scores", scores.data().len())?;
        let kernel = self.kernel(&tile::SCORES)?;
        let grid = Grid { blocks: self.blocks(1)?, shared: self.score_shared };
        let Points { rows, scales, .. } = self.points;
        let inputs = [&rows.addresses, scales, &self.centred, &self.offsets];
        self.gpu.launch(&kernel, grid, &inputs, &mut [&mut buffer], bytemuck::bytes_of(&self.problem))?;
        self.gpu.download(OP, &buffer, scores.data_mut())?;
        Ok(scores)
    }

    /// Waits for all that is queued.
    pub fn read_state(&mut self) -> Result<State> {
        let mut state = [State::default()];
        self.gpu.download(OP, &self.state, &mut state)?;
        self.steps = state[0].steps as usize;
        Ok(state[0])
    }

    /// Goes on from where steps stopped, with nothing counted.
    pub fn resume(&mut self) -> Result<()> {
        let state = State { status: RUNNING, steps: self.steps as u32, ..State::default() };
        self.gpu.write(OP, &mut self.state, &[state])?;
        self.gpu.write(OP, &mut self.sizes, &zeroed::<u32>("sizes", self.problem.clusters as usize)?)
    }

    /// Labels of the last step, on the device.
    pub fn labels(&self) -> &G::Buffer {
        &self.labels[self.steps % 2]
    }

    /// Labels of a step that no update has taken, on the device.
    pub fn next(&self) -> &G::Buffer {
        &self.labels[(self.steps + 1) % 2]
    }

    pub fn download(&self, labels: &G::Buffer) -> Result<Vec<u32>> {
        let mut host = zeroed("labels", self.points.count)?;
        self.gpu.download(OP, labels, &mut host)?;
        Ok(host)
    }

    /// The centroids, to the bit.
    pub fn centroids(&self) -> Result<Mat<f64>> {
        let (k, columns) = (self.problem.clusters as usize, self.layout.columns());
        let mut centred: Vec<f32> = zeroed("centroids", k * columns)?;
        self.gpu.download(OP, &self.centred, &mut centred)?;
        let mut centroids: Mat<f64> = Mat::zeros(k, self.points.dim)?;
        for j in 0..k {
            for (i, (c, m)) in centroids.row_mut(j).iter_mut().zip(&self.host_mean).enumerate() {
                *c = m + f64::from(centred[j * columns + self.layout.place(i)]);
            }
        }
        Ok(centroids)
    }

    /// Takes other centroids, rounded as differences from the mean.
    pub fn set_centroids(&mut self, centroids: &Mat<f64>) -> Result<()> {
        let columns = self.layout.columns();
        let mut centred: Vec<f32> = zeroed("centroids", centroids.rows() * columns)?;
        let mut offsets: Vec<f64> = zeroed("offsets", centroids.rows())?;
        for (j, offset) in offsets.iter_mut().enumerate() {
            for (i, (c, m)) in centroids.row(j).iter().zip(&self.host_mean).enumerate() {
                let d = (c - m) as f32;
                centred[j * columns + self.layout.place(i)] = d;
                *offset += f64::from(d) * (0.5 * f64::from(d) + m);
            }
        }
        self.gpu.write(OP, &mut self.centred, &centred)?;
        self.gpu.write(OP, &mut self.offsets, &offsets)
    }

    /// Blocks of a launch with `tiles` for each block of rows.
    fn blocks(&self, tiles: usize) -> Result<u32> {
        blocks(OP, self.points.count.div_ceil(self.problem.rows as usize).saturating_mul(tiles))
    }

    fn kernel(&self, entry: &'static Entry) -> Result<Kernel> {
        Kernel::of(OP, Family::Cluster, Some(self.points.dtype), entry)
    }
}

/// The labels before step number `steps` (from 0), and those that it writes.
fn turn<B>(labels: &mut [B; 2], steps: usize) -> (&mut B, &mut B) {
    let [even, odd] = labels;
    if steps.is_multiple_of(2) { (even, odd) } else { (odd, even) }
}
