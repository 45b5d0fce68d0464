//! A device whose kernels only pretend, and a problem for it.

use super::config;
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::model::{Card, Work};
use crate::gpu::occupancy::Need;
use crate::gpu::tunable::{Prepared, Tunable};
use crate::gpu::{Gpu, Grid, Identity, Kernel, Place};
use crate::tune::Config;
use bytemuck::Pod;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// A way of running the pretended kernel.
pub struct Way {
    pub config: Config,
    /// What the model says, as long as it says anything.
    pub modelled: Result<f64, &'static str>,
    /// Seconds of its n-th run; the device may have run others between.
    pub time: Box<dyn Fn(usize) -> f64>,
    /// From this run on, it fails.
    pub fails: usize,
    /// What it writes to both outputs; `None` leaves the second as it was.
    pub writes: Option<u8>,
    pub runs: Cell<usize>,
}

impl Way {
    /// Takes as long as the model says.
    pub fn new(number: u32, seconds: f64) -> Self {
        Self::timed(number, seconds, move |_| seconds)
    }

    pub fn timed(number: u32, modelled: f64, time: impl Fn(usize) -> f64 + 'static) -> Self {
        let (time, runs) = (Box::new(time), Cell::new(0));
        Self { config: config(number), modelled: Ok(modelled), time, fails: usize::MAX, writes: Some(7), runs }
    }
}

#[derive(Default)]
pub struct State {
    pub now: Cell<Duration>,
    /// Every run, in order.
    pub log: RefCell<Vec<Config>>,
    pub allocations: Cell<usize>,
    pub prepared: Cell<usize>,
    /// Seconds of the runs since the last look.
    spent: Cell<f64>,
    /// What the scratch holds: a run that fails leaves it dirty.
    dirty: Cell<bool>,
}

pub struct Fake {
    pub state: Rc<State>,
    pub identity: Identity,
    pub capturing: bool,
}

pub struct Problem {
    pub state: Rc<State>,
    pub ways: Vec<Way>,
    pub tokens: usize,
    pub shape: String,
    pub images: Vec<usize>,
}

/// A device and a problem whose kernel runs on it in these ways; its default is the first.
pub fn pair(ways: Vec<Way>) -> (Fake, Problem) {
    let state = Rc::new(State::default());
    let identity = Identity { device: "Pretender 9000".to_owned(), multiprocessors: 7, driver: "1.2".to_owned() };
    let gpu = Fake { state: state.clone(), identity, capturing: false };
    (gpu, Problem { state, ways, tokens: 300, shape: "m=8 n=8 align=16".to_owned(), images: Vec::new() })
}

impl Fake {
    /// The time that the pretended runs have taken.
    pub fn clock(&self) -> impl Fn() -> Duration + use<> {
        let state = self.state.clone();
        move || state.now.get()
    }

    /// Numbers of the ways that were run.
    pub fn log(&self) -> Vec<u32> {
        let number = |config: &Config| match config {
            Config::SharedGemm { tokens, .. } => *tokens,
            _ => 0,
        };
        self.state.log.borrow().iter().map(number).collect()
    }
}

impl Problem {
    fn way(&self, config: &Config) -> &Way {
        self.ways.iter().find(|way| way.config == *config).expect("a candidate")
    }
}

impl Gpu for Fake {
    type Buffer = Vec<u8>;

    fn allocate<T: Pod>(&self, _: &'static str, _: &'static str, len: usize) -> Result<Vec<u8>> {
        self.state.allocations.set(self.state.allocations.get() + 1);
        Ok(vec![0; len * size_of::<T>()])
    }

    fn zeroed<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Vec<u8>> {
        self.allocate::<T>(op, name, len)
    }

    fn write<T: Pod>(&self, _: &'static str, buffer: &mut Vec<u8>, data: &[T]) -> Result<()> {
        buffer.copy_from_slice(bytemuck::cast_slice(data));
        Ok(())
    }

    fn address(&self, _: &Vec<u8>) -> u64 {
        0
    }

    fn place(&self) -> Place {
        Place([0; 2])
    }

    fn download<T: Pod>(&self, _: &'static str, buffer: &Vec<u8>, data: &mut [T]) -> Result<()> {
        bytemuck::cast_slice_mut(data).copy_from_slice(buffer);
        Ok(())
    }

    fn launch(&self, _: &Kernel, _: Grid, _: &[&Vec<u8>], _: &mut [&mut Vec<u8>], _: &[u8]) -> Result<()> {
        unreachable!("the problem pretends to launch")
    }

    fn resident(&self, _: &Kernel, _: u32) -> Result<u32> {
        Ok(1)
    }

    fn shared_limit(&self) -> u32 {
        0
    }

    fn card(&self) -> Result<Card> {
        Ok(Card { launch: 0.0, latency: 0.0, ..Card::h100() })
    }

    fn identity(&self) -> Result<Identity> {
        Ok(self.identity.clone())
    }

    fn seconds(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.state.spent.set(0.0);
        run()?;
        Ok(self.state.spent.get())
    }

    fn capturing(&self) -> Result<bool> {
        Ok(self.capturing)
    }
}

impl Tunable for Problem {
    fn kernel(&self) -> &'static str {
        "shared_gemm"
    }

    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn tokens(&self) -> usize {
        self.tokens
    }

    fn shape(&self) -> String {
        self.shape.clone()
    }

    fn images(&self) -> Vec<usize> {
        self.images.clone()
    }

    fn candidates(&self, _: &Card) -> Vec<Config> {
        self.ways.iter().map(|way| way.config).collect()
    }

    /// Two launches of one block, which take their time in shared memory alone.
    fn work(&self, card: &Card, config: &Config) -> Result<Vec<Work>> {
        let seconds = self.way(config).modelled.map_err(|reason| Error::unsupported("shared_gemm", reason))?;
        let need = Need { threads: 32, registers: 32, shared: 0 };
        let none = Work { blocks: 1, need, memory: 0.0, cache: 0.0, tensor: 0.0, instructions: 0.0, wavefronts: 0.0 };
        let half = Work { wavefronts: seconds / 2.0 * card.clock, ..none };
        Ok(vec![half, half])
    }

    fn prepare<G: Gpu>(&self, gpu: &G) -> Result<Prepared<G>> {
        self.state.prepared.set(self.state.prepared.get() + 1);
        self.state.dirty.set(false);
        let output = || gpu.allocate::<u8>("shared_gemm", "y", 3);
        Ok(Prepared { inputs: Vec::new(), outputs: vec![(output()?, 3), (output()?, 3)], scratch: None })
    }

    fn run<G: Gpu>(&self, gpu: &G, prepared: &mut Prepared<G>, config: &Config) -> Result<()> {
        let way = self.way(config);
        let run = way.runs.replace(way.runs.get() + 1);
        self.state.log.borrow_mut().push(*config);
        if self.state.dirty.get() {
            return Err(Error::unsupported("shared_gemm", "the scratch is dirty"));
        }
        if run >= way.fails {
            self.state.dirty.set(true);
            return Err(Error::unsupported("shared_gemm", "too much shared memory"));
        }
        let seconds = (way.time)(run);
        self.state.spent.set(self.state.spent.get() + seconds);
        let passed = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.state.now.set(self.state.now.get() + passed);
        let [first, second] = &mut prepared.outputs[..] else { unreachable!("two outputs") };
        gpu.write("shared_gemm", &mut first.0, &[7u8; 3])?;
        match way.writes {
            Some(0) => gpu.write("shared_gemm", &mut second.0, &[0u8; 3]),
            Some(byte) => gpu.write("shared_gemm", &mut second.0, &[7, 7, byte]),
            None => Ok(()),
        }
    }
}
