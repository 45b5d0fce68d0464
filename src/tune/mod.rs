//! Which way of running a kernel is the fastest on a device, found by measuring and kept in a record.
//!
//! All ways of running a kernel give the same bits, so a choice decides about time alone. A [`Tuner`] makes it: from the cost
//! model ([`Tuner::off`]), from a record of earlier measurements ([`Tuner::cached`]), or from the record and, where that says
//! nothing, from measurements now ([`Tuner::full`]).
//!
//! # How it measures
//!
//! The ways that are legal on the device are ranked by the cost model. At most eight are timed, the operation's default always
//! and first; then the best two are timed in pairs, alternating, so that a clock that drifts favours neither. One that ranks
//! later must win three pairs of four, and nothing is chosen that did not win against the default. The winner's outputs are
//! compared with the default's, byte for byte, before it is recorded: one that differs is refused, and the next is tried.
//!
//! # Records
//!
//! A [record] is one file of JSON for all devices, by default in the user's cache folder ([`record::default_path`]). What
//! is wrong with a file is said in [`Outcome::notices`] and is never an error: tuning goes on without it. A file that is broken
//! is not overwritten but moved aside; anything else that cannot be a record (a link, a folder, a record of another version) is
//! left as it is, and nothing is stored. Processes that tune at the same time lose nothing: each merges what it has found into
//! what is there, under a lock.
//!
//! Ranks that must run alike read one record: [`Tuner::full`] on one of them, [`Tuner::cached`] on all.

mod chosen;
mod config;
mod key;
mod measure;
mod ranking;
pub mod record;
mod search;
mod store;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod tuner;

pub(crate) use chosen::Chosen;
pub(crate) use chosen::bucket;
pub use config::Config;
pub use tuner::{Candidate, Mode, Outcome, Progress, Source, Stage, Tuner};
