//! ID-LoRA adapters (arXiv 2602.20727) from pretrained weights, operation by operation.

pub mod cluster;
mod cpu;
pub mod device;
pub mod elem;
mod error;
pub mod interp;
pub mod lowrank;
pub mod mat;
pub mod norms;
pub mod qr;
mod random;
pub mod reference;
pub mod select;

pub use device::Device;
pub use elem::{Dtype, Elem, bf16, f16};
pub use error::{Error, Result};
pub use mat::{Mat, MatMut, MatRef};
