//! ID-LoRA adapters from pretrained weights.
pub mod device;
pub mod elem;
mod error;
pub mod mat;

pub use device::Device;
pub use elem::{Dtype, Elem, bf16, f16};
pub use error::{Error, Result};
pub use mat::{Mat, MatMut, MatRef};
