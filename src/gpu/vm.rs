//! The virtual machine as a device: kernels run on the CPU by `ptx-vm`, checked as by a sanitizer and counted as by a
//! profiler. For tests and for counting; it is slower than the CPU backend by orders of magnitude.

mod launched;
#[cfg(test)]
mod tests;

pub use launched::Launched;
#[cfg(test)]
pub(crate) use tests::machine;

use super::model::Card;
use super::occupancy::Need;
use super::variants::VARIANTS;
use super::{Gpu, Grid, Identity, Kernel, Place, image};
use crate::error::{Error, Result};
use bytemuck::Pod;
use ptx_vm::{Accumulation, Arg, Checks, Launch, LaunchError, Memory, MemoryError, Module, Schedule};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How launches are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is checked. Any finding fails the operation. The default is everything but races between blocks.
    pub checks: Checks,
    /// Draws the order of lanes, warps and blocks from this seed; without one they take turns.
    pub seed: Option<u64>,
    /// Blocks alive at a time; 0 stands for as many as the [model's card](Vm::on_card) holds of a kernel. Kernels whose blocks
    /// fetch work until there is none, or wait for each other, launch as many, so that the model of such a launch is that of the
    /// card only with 0.
    pub resident: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { checks: Checks::ALL, seed: None, resident: 4 }
    }
}

/// Launches that [`Vm::take_launches`] can still tell.
const KEPT: usize = 64;

#[derive(Debug)]
struct State {
    memory: Memory,
    /// Loaded images, by variant.
    modules: HashMap<usize, Module>,
    launches: Vec<Launched>,
    used: Used,
    /// What the model says of every launch since somebody asked for the time; why, where it says nothing.
    clock: Vec<std::result::Result<f64, String>>,
    /// How many ask.
    asking: usize,
}

/// What a [`Vm`] was asked for, beside launches. A step of an operation whose operands lie on the device asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Buffers that were allocated.
    pub allocations: u64,
    /// Copies to the device.
    pub writes: u64,
    /// Copies from the device.
    pub reads: u64,
}

/// A virtual machine. Copies are handles of the same one; two are equal if they run launches the same way, on a model of the
/// same card.
#[derive(Clone, Debug)]
pub struct Vm {
    settings: Settings,
    accumulation: Accumulation,
    card: Arc<Card>,
    state: Arc<Mutex<State>>,
}

impl Default for Vm {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl PartialEq for Vm {
    fn eq(&self, other: &Self) -> bool {
        // A card may be what its owner made of it, NaN and all; a handle is equal to itself all the same.
        let same_card = Arc::ptr_eq(&self.card, &other.card) || self.card == other.card;
        same_card && (&self.settings, self.accumulation) == (&other.settings, other.accumulation)
    }
}

impl Eq for Vm {}

impl Vm {
    /// A machine of its own.
    pub fn new(settings: Settings) -> Self {
        let (modules, launches, clock) = (HashMap::new(), Vec::new(), Vec::new());
        let state = State { memory: Memory::new(), modules, launches, used: Used::default(), clock, asking: 0 };
        let (accumulation, card) = (Accumulation::default(), Arc::new(Card::h100()));
        Self { settings, accumulation, card, state: Arc::new(Mutex::new(state)) }
    }

    /// The same machine, as a model of another card than an H100: it says how long launches should take, and how much shared
    /// memory a block can have.
    #[must_use]
    pub fn on_card(self, card: Card) -> Self {
        Self { card: Arc::new(card), ..self }
    }

    /// The same machine, with tensor cores that accumulate so.
    #[must_use]
    pub fn accumulating(self, accumulation: Accumulation) -> Self {
        Self { accumulation, ..self }
    }

    /// Makes sure that every kernel of this build can be run.
    ///
    /// # Errors
    /// [`Error::Device`] where nothing was compiled with the crate and no compiler is found now.
    pub fn probe(&self) -> Result<()> {
        (0..VARIANTS.len()).try_for_each(|variant| image::image(variant).map(drop).map_err(refused))
    }

    /// The last launches (at most 64), oldest first, and forgets them.
    pub fn take_launches(&self) -> Vec<Launched> {
        std::mem::take(&mut self.state().launches)
    }

    /// What was asked for since the machine was made.
    pub fn used(&self) -> Used {
        self.state().used
    }

    /// A panic elsewhere leaves memory and modules whole: no call of theirs is interrupted half-way through a change that
    /// the next would rely on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory of a [`Vm`].
#[derive(Debug)]
pub(crate) struct Buffer {
    handle: ptx_vm::Buffer<u8>,
    owner: Arc<Mutex<State>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut state = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        // Freed once, by its one owner, in the memory it came from: nothing to fail.
        let _ = state.memory.free(self.handle);
    }
}

impl Gpu for Vm {
    type Buffer = Buffer;

    fn allocate<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Buffer> {
        let bytes = len.saturating_mul(size_of::<T>());
        let mut state = self.state();
        state.used.allocations += 1;
        let too_much = |_: MemoryError| Error::OutOfMemory { op, what: name, bytes };
        let handle = state.memory.allocate::<u8>(bytes).map_err(too_much)?;
        state.memory.name(&handle, name).map_err(too_much)?;
        Ok(Buffer { handle, owner: self.state.clone() })
    }

    fn zeroed<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Buffer> {
        let mut buffer = self.allocate::<T>(op, name, len)?;
        self.write(op, &mut buffer, &crate::mat::zeroed::<u8>(name, len * size_of::<T>())?)?;
        Ok(buffer)
    }

    fn write<T: Pod>(&self, op: &'static str, buffer: &mut Buffer, data: &[T]) -> Result<()> {
        let bytes = bytemuck::cast_slice(data);
        let refused = |_| length(op, "write", buffer.handle.len(), bytes.len());
        let mut state = self.state();
        state.used.writes += 1;
        state.memory.write(&buffer.handle, bytes).map_err(refused)
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        // Of a buffer that its owner still holds: never missing.
        self.state().memory.address(&buffer.handle).unwrap_or(0)
    }

    fn place(&self) -> Place {
        Place([Arc::as_ptr(&self.state).addr(), 0])
    }

    fn download<T: Pod>(&self, op: &'static str, buffer: &Buffer, data: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(data);
        let refused = || length(op, "download", buffer.handle.len(), bytes.len());
        let found = {
            let mut state = self.state();
            state.used.reads += 1;
            state.memory.download(&buffer.handle).map_err(|_| refused())?
        };
        if found.len() != bytes.len() {
            return Err(refused());
        }
        bytes.copy_from_slice(&found);
        Ok(())
    }

    fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        inputs: &[&Buffer],
        outputs: &mut [&mut Buffer],
        scalars: &[u8],
    ) -> Result<()> {
        kernel.check(inputs.len(), outputs.len(), scalars.len())?;
        let outputs = outputs.iter().map(|buffer| buffer.handle);
        let pointers = inputs.iter().map(|buffer| buffer.handle).chain(outputs);
        let args = pointers.map(Arg::from).chain([Arg::bytes(scalars)]).collect();
        let launch = Launch {
            grid: [grid.blocks, 1, 1],
            dynamic_shared: grid.shared,
            block: [kernel.entry.block[0], kernel.entry.block[1], 1],
            args,
            checks: self.settings.checks,
            schedule: if self.settings.seed.is_some() { Schedule::Random } else { Schedule::InOrder },
            seed: self.settings.seed.unwrap_or_default(),
            resident: self.resident(kernel, grid.shared)?,
            accumulation: self.accumulation,
            ..Launch::default()
        };
        self.run(kernel, &launch)
    }

    fn resident(&self, kernel: &Kernel, shared: u32) -> Result<u32> {
        if self.settings.resident > 0 {
            return Ok(self.settings.resident);
        }
        let (blocks, _) = self.card.multiprocessor.blocks(Need::of(kernel, shared)?);
        Ok(blocks.saturating_mul(self.card.multiprocessors).max(1))
    }

    fn shared_limit(&self) -> u32 {
        self.card.multiprocessor.block_shared
    }

    fn card(&self) -> Result<Card> {
        Ok(Card::clone(&self.card))
    }

    fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            device: format!("vm, a model of {}", self.card.name),
            multiprocessors: self.card.multiprocessors,
            driver: format!("idlora {}", env!("CARGO_PKG_VERSION")),
        })
    }

    fn seconds(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.card.check()?;
        let asked = Asked::new(self);
        run()?;
        let seconds = asked.launches().into_iter().sum::<std::result::Result<f64, String>>();
        seconds.map_err(refused)
    }

    fn capturing(&self) -> Result<bool> {
        Ok(false)
    }
}

/// Somebody who asked for the time, until dropped.
struct Asked<'a> {
    vm: &'a Vm,
    /// Launches before.
    from: usize,
}

impl<'a> Asked<'a> {
    fn new(vm: &'a Vm) -> Self {
        let mut state = vm.state();
        state.asking += 1;
        Self { vm, from: state.clock.len() }
    }

    /// What the model says of every launch since.
    fn launches(&self) -> Vec<std::result::Result<f64, String>> {
        self.vm.state().clock[self.from..].to_vec()
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.vm.state();
        state.asking -= 1;
        if state.asking == 0 {
            state.clock.clear();
        }
    }
}

impl Vm {
    fn run(&self, kernel: &Kernel, launch: &Launch) -> Result<()> {
        let failed = |findings| Error::Kernel { op: kernel.op, kernel: kernel.entry.name.to_owned(), findings };
        let not_run = |error: LaunchError| failed(vec![error.to_string()]);
        let mut state = self.state();
        let State { memory, modules, launches, clock, asking, .. } = &mut *state;
        let module = match modules.entry(kernel.variant) {
            std::collections::hash_map::Entry::Occupied(loaded) => loaded.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let image = image::image(kernel.variant).map_err(refused)?;
                place.insert(Module::load(&image.ptx).map_err(|error| failed(vec![format!("PTX {error}")]))?)
            }
        };
        let entry = module.kernel(kernel.entry.name).map_err(not_run)?;
        let outcome = launch.run(&entry, memory).map_err(not_run)?;
        if launches.len() == KEPT {
            launches.remove(0);
        }
        let launched = Launched::new(kernel, launch, outcome.counters);
        if *asking > 0 {
            let modelled = launched.modelled(&self.card).map_err(|error| error.to_string());
            clock.push(modelled.map(|modelled| modelled.seconds));
        }
        launches.push(launched);
        let mut findings: Vec<String> = outcome.findings.iter().map(ToString::to_string).collect();
        if !outcome.completed && findings.is_empty() {
            findings.push("did not run to its end".to_owned());
        }
        if findings.is_empty() { Ok(()) } else { Err(failed(findings)) }
    }
}

fn refused(reason: String) -> Error {
    Error::Device { device: "vm".to_owned(), reason }
}

fn length(op: &'static str, operand: &'static str, expected: usize, found: usize) -> Error {
    Error::shape(op, operand, format!("{expected} bytes"), format!("{found} bytes"))
}
