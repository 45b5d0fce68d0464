//! What keeps the memory behind a view in order with other streams.

#[cfg(feature = "cuda")]
use crate::cuda::cudarc::driver::SyncOnDrop;
#[cfg(feature = "cuda")]
use std::sync::Arc;

/// `cudarc`'s guard of a use: when the last copy goes, the slice's event is recorded behind everything launched so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard<'a> {
    #[cfg(feature = "cuda")]
    #[allow(dead_code)] // held for its drop
    event: Option<Arc<SyncOnDrop<'a>>>,
    lifetime: std::marker::PhantomData<&'a ()>,
}

/// So that views are borrowed for as long without `cuda` as with it, and what compiles with one compiles with the other.
impl Drop for Guard<'_> {
    fn drop(&mut self) {}
}

#[cfg(feature = "cuda")]
impl<'a> Guard<'a> {
    /// Nothing is kept, and nothing allocated, where there is no event.
    pub fn of(event: SyncOnDrop<'a>) -> Self {
        let event = match event {
            SyncOnDrop::Record(None) | SyncOnDrop::Sync(None) => None,
            _ => Some(Arc::new(event)),
        };
        Self { event, lifetime: std::marker::PhantomData }
    }
}
