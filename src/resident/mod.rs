//! Operands that lie on a device: what a trainer holds there, as the operations take it.
//!
//! [`MatRef`] and [`MatMut`] are the views of [`mat`](crate::mat) for memory of a device: an address, rows, columns, a leading
//! dimension, a lifetime. They are made from a [`Buffer`] of this crate, from `cudarc`'s slices (feature `cuda`), which is what
//! candle and burn hold, or from the address of memory that anybody else owns. [`Workspace`] is the memory that an
//! operation needs between its kernels, allocated once. [`lowrank::resident`](crate::lowrank::resident) runs on them.
//!
//! # Order, and who keeps what alive
//!
//! * **Everything is asynchronous.** A call checks its operands, queues its launches on the device's stream and returns; it
//!   allocates nothing on the device, copies nothing and waits for nothing. A kernel's own fault is told by the next call that
//!   waits, such as [`Buffer::to_vec`].
//! * **One stream.** All of a [`Cuda`](crate::cuda::Cuda)'s work is on its stream, in the order of the calls. What lies on another
//!   stream must be ordered with it: `cudarc`'s slices are, by their events, as long as the view lives; for an address it
//!   is the caller's part.
//! * **Lifetimes end when the call returns, kernels later.** That is right for memory that is freed or written in the order of
//!   the stream: a [`Buffer`], a `cudarc` slice. For an address see [`MatRef::from_raw`].
//! * **Devices are not mixed.** A buffer of one device, or of another stream, is refused where a plan is for another.
//!
//! ```
//! use idlora::Device;
//! use idlora::resident::{Buffer, MatRef};
//!
//! # #[cfg(feature = "vm")]
//! # fn main() -> idlora::Result<()> {
//! let device = Device::Vm(Default::default());
//! let buffer = Buffer::from_slice(&device, &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let right = MatRef::starting_at(&buffer, 1, 2, 2, 3)?; // columns 1 and 2 of two rows of three
//! assert_eq!((right.shape(), right.ld()), ((2, 2), 3));
//! assert_eq!(buffer.to_vec()?[4], 5.0);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "vm"))]
//! # fn main() {}
//! ```

mod buffer;
mod guard;
mod mat;
mod workspace;

pub use buffer::Buffer;
pub use mat::{MatMut, MatRef};
pub use workspace::Workspace;

use crate::device::Device;
use crate::error::Error;

/// The error of a device that has no memory of its own.
pub(crate) fn on_the_host(device: &Device) -> Error {
    let reason = "runs no kernels, so nothing lies on it; its operations take slices".to_owned();
    Error::Device { device: device.to_string(), reason }
}
