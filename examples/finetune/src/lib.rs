//! Fine-tunes all-MiniLM-L6-v2 on BBC News: a head alone, LoRA, and ID-LoRA with its gates and selections, on the CPU.
//!
//! [`model`] is BERT by hand on candle's tensors, with [`fused`] for what candle's CPU is slow at; [`method`] adapts it, [`train`] is a run,
//! [`checkpoint`] lets a killed one go on. [`run`], [`sweep`], [`tune`], [`cost`] and [`report`] are the commands.

pub mod adamw;
pub mod args;
pub mod checkpoint;
pub mod cost;
pub mod data;
pub mod disk;
pub mod error;
pub mod fused;
pub mod lora;
pub mod method;
pub mod model;
pub mod plot;
pub mod processes;
pub mod random;
pub mod report;
pub mod run;
pub mod statistics;
pub mod sweep;
pub mod task;
pub mod tokens;
pub mod train;
pub mod tune;
