//! Records of cards that were measured, which come with the crate.

/// Texts as [`Record::to_json`](super::record::Record::to_json) writes them, a card each, tested to be read without a notice. No
/// card has been measured yet.
pub(super) const MEASURED: &[&str] = &[];
