//! Files: pretrained weights in, adapters in and out; as plain LoRA for other software, out.

pub mod checkpoint;
mod checkpoint_write;
mod folder;
mod header;
pub mod native;
pub mod peft;

pub use checkpoint_write::write_new_file;
