//! CUDA devices, through the driver's library alone: no toolkit, nothing linked. Work runs in order on one stream.
#![allow(unsafe_code)] // the driver's API; everything that is not FFI is behind `cudarc`'s safe types

mod card;
mod device;
mod driver;
mod module;
#[cfg(test)]
mod tests;

use super::variants::VARIANTS;
use super::{Kernel, image};
use crate::error::{Error, Result};
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaEvent, DriverError};
use driver::{Properties, words};
use module::{Function, Module};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The crate whose streams [`Cuda::on_stream`] takes.
pub use cudarc;
pub use cudarc::driver::CudaStream;

/// What the kernels are compiled for: asynchronous copies, and `bf16` in the arithmetic units.
const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// Launches that [`Cuda::take_launches`] can still tell.
const KEPT: usize = 4096;

/// How long a launch took.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The variant that was compiled for, such as `norms.bf16.sm_80`.
    pub variant: String,
    /// Microseconds on the device, between events before and behind the kernel.
    pub microseconds: f64,
}

/// A launch between its events.
#[derive(Debug)]
struct Timed {
    kernel: &'static str,
    variant: usize,
    start: CudaEvent,
    end: CudaEvent,
}

#[derive(Debug, Default)]
struct State {
    /// Loaded images, by variant; as long as the last one that was asked for.
    modules: Vec<Option<Module>>,
    launches: VecDeque<Timed>,
    /// Kernels of which it is not known yet whether they did well.
    unfinished: Vec<&'static str>,
}

/// A CUDA device and the stream on it that work runs on. Copies are handles of the same one; two are equal if they use the
/// same stream in the same way.
#[derive(Clone, Debug)]
pub struct Cuda {
    stream: Arc<CudaStream>,
    properties: Arc<Properties>,
    timed: bool,
    state: Arc<Mutex<State>>,
}

impl PartialEq for Cuda {
    fn eq(&self, other: &Self) -> bool {
        (&self.stream, self.timed) == (&other.stream, other.timed)
    }
}

impl Eq for Cuda {}

impl Cuda {
    /// Opens a device by its number, with the default stream of its primary context: the one that PyTorch and candle share.
    ///
    /// # Errors
    /// [`Error::Device`] that names what is missing: the driver's library, a driver that is new enough, the device, its
    /// compute capability.
    pub fn new(ordinal: usize) -> Result<Self> {
        let properties = describe(ordinal).map_err(|reason| refused(ordinal, reason))?;
        let context = CudaContext::new(ordinal).map_err(|error| refused(ordinal, words(error)))?;
        Ok(Self::with(context.default_stream(), properties))
    }

    /// Runs on a stream of the caller's. What is on it before is done first.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Self> {
        let ordinal = stream.context().ordinal();
        let properties = describe(ordinal).map_err(|reason| refused(ordinal, reason))?;
        Ok(Self::with(stream, properties))
    }

    fn with(stream: Arc<CudaStream>, properties: Properties) -> Self {
        Self { stream, properties: Arc::new(properties), timed: false, state: Arc::default() }
    }

    /// How many devices the driver has.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no driver, or none that is new enough.
    pub fn count() -> Result<usize> {
        count().map_err(|reason| Error::Device { device: "cuda".to_owned(), reason })
    }

    /// A handle that times every launch by events, for [`Cuda::take_launches`].
    #[must_use]
    pub fn timed(self) -> Self {
        Self { timed: true, ..self }
    }

    /// Makes sure that every kernel of this build can be run.
    ///
    /// # Errors
    /// [`Error::Device`] where an image cannot be had, or the driver does not take it.
    pub fn probe(&self) -> Result<()> {
        self.bind()?;
        let mut state = self.state();
        (0..VARIANTS.len()).try_for_each(|variant| self.module(&mut state, variant).map(drop))
    }

    /// The last launches of timed handles (at most 4096), oldest first, and forgets them. Waits for the last.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn take_launches(&self) -> Result<Vec<Launched>> {
        let launches = std::mem::take(&mut self.state().launches);
        let timed = |launch: Timed| {
            let microseconds =
                driver::microseconds(&launch.start, &launch.end).map_err(|reason| self.refused(reason))?;
            Ok(Launched { kernel: launch.kernel, variant: VARIANTS[launch.variant].name(), microseconds })
        };
        launches.into_iter().map(timed).collect()
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.stream.context().ordinal()
    }

    /// The stream that work runs on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Refuses what lies in another context, whose addresses mean nothing here.
    pub(crate) fn shares_context_with(&self, stream: &CudaStream) -> Result<()> {
        let (here, there) = (self.stream.context(), stream.context());
        if here == there {
            return Ok(());
        }
        let (here, there) = (here.ordinal(), there.ordinal());
        let reason = format!("is of cuda:{there}, whose addresses mean nothing on cuda:{here}");
        Err(Error::operand("matrix view", "slice", reason))
    }

    /// A panic elsewhere leaves the state whole: every change to it is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|error| self.refused(words(error)))
    }

    fn refused(&self, reason: String) -> Error {
        refused(self.ordinal(), reason)
    }

    /// The error of a call: what a kernel did that was launched before, or what the driver refuses.
    fn failed(&self, op: &'static str, error: DriverError) -> Error {
        let unfinished = std::mem::take(&mut self.state().unfinished);
        if driver::by_a_kernel(error.0 as u32) && !unfinished.is_empty() {
            return Error::Kernel { op, kernel: unfinished.join(", "), findings: vec![words(error)] };
        }
        self.refused(words(error))
    }

    /// Waits for everything launched so far.
    fn wait(&self, op: &'static str) -> Result<()> {
        self.stream.synchronize().map_err(|error| self.failed(op, error))?;
        self.state().unfinished.clear();
        Ok(())
    }

    /// The loaded image of a variant; the context is current.
    fn module<'a>(&self, state: &'a mut State, variant: usize) -> Result<&'a mut Module> {
        if state.modules.len() <= variant {
            state.modules.resize_with(variant + 1, || None);
        }
        match &mut state.modules[variant] {
            Some(loaded) => Ok(loaded),
            place => {
                let image = image::image(variant).map_err(|reason| self.refused(reason))?;
                let (context, capability) = (self.stream.context(), self.properties.capability);
                let not_taken = |reason| self.refused(format!("image {}: {reason}", VARIANTS[variant].name()));
                let loaded = Module::load(context, image, VARIANTS[variant].arch, capability).map_err(not_taken)?;
                Ok(place.insert(loaded))
            }
        }
    }

    fn function(&self, state: &mut State, kernel: &Kernel, shared: u32) -> Result<Function> {
        let found = self.module(state, kernel.variant)?.function(kernel.entry.name, shared);
        found.map_err(|error| not_run(kernel, words(error)))
    }

    /// An event at this point of the stream that remembers when it passed.
    fn timestamp(&self) -> std::result::Result<CudaEvent, DriverError> {
        self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
    }

    /// The same, if launches are timed.
    fn event(&self) -> Result<Option<CudaEvent>> {
        self.timed.then(|| self.timestamp()).transpose().map_err(|error| self.refused(words(error)))
    }
}

/// How many devices the driver has.
pub(crate) fn count() -> std::result::Result<usize, String> {
    driver::open().map(|driver| driver.devices)
}

/// A device that is there and runs the kernels.
pub(crate) fn describe(ordinal: usize) -> std::result::Result<Properties, String> {
    let properties = driver::describe(ordinal)?;
    if properties.capability >= OLDEST_CAPABILITY {
        return Ok(properties);
    }
    let ((x, y), (major, minor)) = (properties.capability, OLDEST_CAPABILITY);
    Err(format!("{} has compute capability {x}.{y}, the kernels need {major}.{minor}", properties.name))
}

fn refused(ordinal: usize, reason: String) -> Error {
    Error::Device { device: format!("cuda:{ordinal}"), reason }
}

fn not_run(kernel: &Kernel, reason: String) -> Error {
    Error::Kernel { op: kernel.op, kernel: kernel.entry.name.to_owned(), findings: vec![reason] }
}
