//! Files: pretrained weights in, adapters in and out.

pub mod checkpoint;
mod checkpoint_write;
mod header;
pub mod native;

pub use checkpoint_write::write_new_file;
