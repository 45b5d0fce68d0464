//! Row-major matrices on a device: borrowed views with a leading dimension.

use super::Buffer;
use super::guard::Guard;
use crate::error::{Error, Result};
use crate::gpu::Place;
use crate::gpu::lowrank::{View, ViewMut};
use crate::mat::check;
use std::marker::PhantomData;

const OP: &str = "matrix view";

/// What both kinds of view are.
#[derive(Clone, Debug)]
struct Shaped<'a> {
    address: u64,
    rows: usize,
    cols: usize,
    ld: usize,
    /// `None` for an address that came without.
    place: Option<Place>,
    #[allow(dead_code)] // held for its drop
    guard: Guard<'a>,
}

impl<'a> Shaped<'a> {
    /// A view of memory that starts at `address` and has `len` elements of `T`.
    fn new<T>(address: u64, len: usize, [rows, cols, ld]: [usize; 3], place: Option<Place>) -> Result<Self> {
        check(len, rows, cols, ld)?;
        if !address.is_multiple_of(align_of::<T>() as u64) {
            let expected = format!("a multiple of {}, the element's alignment", align_of::<T>());
            return Err(Error::parameter(OP, "address", expected, format!("{address:#x}")));
        }
        Ok(Self { address, rows, cols, ld, place, guard: Guard::default() })
    }

    fn of_buffer<T>(buffer: &'a Buffer<T>, start: usize, shape: [usize; 3]) -> Result<Self> {
        let Some(len) = buffer.len().checked_sub(start) else {
            return Err(Error::parameter(OP, "start", format!("at most {}, the buffer's length", buffer.len()), start));
        };
        Self::new::<T>(buffer.address() + (start * size_of::<T>()) as u64, len, shape, Some(buffer.place()))
    }
}

macro_rules! sizes {
    () => {
        /// Number of rows.
        pub fn rows(&self) -> usize {
            self.shaped.rows
        }

        /// Number of columns.
        pub fn cols(&self) -> usize {
            self.shaped.cols
        }

        /// Elements between the starts of two rows.
        pub fn ld(&self) -> usize {
            self.shaped.ld
        }

        /// `(rows, cols)`.
        pub fn shape(&self) -> (usize, usize) {
            (self.shaped.rows, self.shaped.cols)
        }

        /// Where the first element lies.
        pub fn address(&self) -> u64 {
            self.shaped.address
        }

        pub(crate) fn place(&self) -> Option<Place> {
            self.shaped.place
        }
    };
}

/// A borrowed row-major matrix `[rows, cols]` on a device, whose rows start `ld` elements apart. Elements between `cols` and `ld`
/// are never read.
#[derive(Clone, Debug)]
pub struct MatRef<'a, T> {
    shaped: Shaped<'a>,
    elements: PhantomData<&'a T>,
}

impl<'a, T> MatRef<'a, T> {
    /// The first `rows·cols` elements of a buffer.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is too short, [`Error::OutOfMemory`] if the size overflows.
    pub fn new(buffer: &'a Buffer<T>, rows: usize, cols: usize) -> Result<Self> {
        Self::with_ld(buffer, rows, cols, cols)
    }

    /// Rows that start `ld ≥ cols` elements apart.
    ///
    /// # Errors
    /// As [`MatRef::new`], and [`Error::Shape`] if `ld < cols`.
    pub fn with_ld(buffer: &'a Buffer<T>, rows: usize, cols: usize, ld: usize) -> Result<Self> {
        Self::starting_at(buffer, 0, rows, cols, ld)
    }

    /// The same, from element `start` of the buffer on.
    ///
    /// # Errors
    /// As [`MatRef::with_ld`], and [`Error::Parameter`] for a `start` beyond the buffer's end.
    pub fn starting_at(buffer: &'a Buffer<T>, start: usize, rows: usize, cols: usize, ld: usize) -> Result<Self> {
        Ok(Self { shaped: Shaped::of_buffer(buffer, start, [rows, cols, ld])?, elements: PhantomData })
    }

    /// Memory of the device that somebody else owns: `len` elements at `address`, of which `rows` rows of `cols` elements,
    /// `ld` apart, are the matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] if `len` is too short or `ld < cols`, [`Error::Parameter`] for an address that the element's alignment
    /// does not allow, [`Error::OutOfMemory`] if the size overflows.
    ///
    /// # Safety
    /// Wherever the view, or a copy of it, is passed to a launch on a device (and, if that launch is captured in a graph,
    /// at every launch of the graph):
    /// * `len` elements of type `T` lie at `address` in memory that kernels of that device may read, and hold values;
    /// * it stays allocated until the launched work has run, which is after the call has returned;
    /// * nothing writes it in that time: work on other streams, on other devices and on the host that does is ordered
    ///   before or behind the launch by the caller, with events or by waiting.
    #[allow(unsafe_code)] // to be unsafe to call; nothing is dereferenced here
    pub unsafe fn from_raw(address: u64, len: usize, rows: usize, cols: usize, ld: usize) -> Result<Self> {
        Ok(Self { shaped: Shaped::new::<T>(address, len, [rows, cols, ld], None)?, elements: PhantomData })
    }

    /// The beginning of a `CudaSlice`, a `CudaView` or a `CudaViewMut`, of whichever stream of the same context: what was queued
    /// to write it is done before what `cuda` runs from now on, and `cudarc` is told of the use when the view and its copies
    /// are dropped. So make it shortly before the launch and drop it shortly after.
    ///
    /// # Errors
    /// As [`MatRef::with_ld`], and [`Error::Operand`] for a slice of another context.
    #[cfg(feature = "cuda")]
    pub fn from_cuda<S: crate::cuda::cudarc::driver::DevicePtr<T>>(
        cuda: &'a crate::cuda::Cuda,
        slice: &'a S,
        rows: usize,
        cols: usize,
        ld: usize,
    ) -> Result<Self> {
        cuda.shares_context_with(slice.stream())?;
        let len = slice.len();
        let (address, event) = slice.device_ptr(cuda.stream());
        let shaped = Shaped::new::<T>(address, len, [rows, cols, ld], Some(crate::gpu::Gpu::place(cuda)))?;
        Ok(Self { shaped: Shaped { guard: Guard::of(event), ..shaped }, elements: PhantomData })
    }

    sizes!();

    pub(crate) fn view(&self) -> View<'_> {
        View::at(self.shaped.address, self.shaped.ld)
    }
}

/// A borrowed, writable row-major matrix `[rows, cols]` on a device, whose rows start `ld` elements apart. Elements between
/// `cols` and `ld` are neither read nor written.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    shaped: Shaped<'a>,
    elements: PhantomData<&'a mut T>,
}

impl<'a, T> MatMut<'a, T> {
    /// The first `rows·cols` elements of a buffer.
    ///
    /// # Errors
    /// As [`MatRef::new`].
    pub fn new(buffer: &'a mut Buffer<T>, rows: usize, cols: usize) -> Result<Self> {
        Self::with_ld(buffer, rows, cols, cols)
    }

    /// Rows that start `ld ≥ cols` elements apart.
    ///
    /// # Errors
    /// As [`MatRef::with_ld`].
    pub fn with_ld(buffer: &'a mut Buffer<T>, rows: usize, cols: usize, ld: usize) -> Result<Self> {
        Self::starting_at(buffer, 0, rows, cols, ld)
    }

    /// The same, from element `start` of the buffer on.
    ///
    /// # Errors
    /// As [`MatRef::starting_at`].
    pub fn starting_at(buffer: &'a mut Buffer<T>, start: usize, rows: usize, cols: usize, ld: usize) -> Result<Self> {
        Ok(Self { shaped: Shaped::of_buffer(buffer, start, [rows, cols, ld])?, elements: PhantomData })
    }

    /// Memory of the device that somebody else owns, as [`MatRef::from_raw`].
    ///
    /// # Errors
    /// As [`MatRef::from_raw`].
    ///
    /// # Safety
    /// What [`MatRef::from_raw`] demands, and:
    /// * kernels of the device may write the memory as well;
    /// * nothing else reads or writes the matrix while the launched work runs, through this launch's other operands neither,
    ///   unless their documentation says that they may share memory.
    #[allow(unsafe_code)] // to be unsafe to call; nothing is dereferenced here
    pub unsafe fn from_raw(address: u64, len: usize, rows: usize, cols: usize, ld: usize) -> Result<Self> {
        Ok(Self { shaped: Shaped::new::<T>(address, len, [rows, cols, ld], None)?, elements: PhantomData })
    }

    /// The beginning of a `CudaSlice` or a `CudaViewMut`, as [`MatRef::from_cuda`].
    ///
    /// # Errors
    /// As [`MatRef::from_cuda`].
    #[cfg(feature = "cuda")]
    pub fn from_cuda<S: crate::cuda::cudarc::driver::DevicePtrMut<T>>(
        cuda: &'a crate::cuda::Cuda,
        slice: &'a mut S,
        rows: usize,
        cols: usize,
        ld: usize,
    ) -> Result<Self> {
        cuda.shares_context_with(slice.stream())?;
        let len = slice.len();
        let (address, event) = slice.device_ptr_mut(cuda.stream());
        let shaped = Shaped::new::<T>(address, len, [rows, cols, ld], Some(crate::gpu::Gpu::place(cuda)))?;
        Ok(Self { shaped: Shaped { guard: Guard::of(event), ..shaped }, elements: PhantomData })
    }

    sizes!();

    /// A read-only view of the same matrix.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef { shaped: self.shaped.clone(), elements: PhantomData }
    }

    /// The same view for a shorter while.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { shaped: self.shaped.clone(), elements: PhantomData }
    }

    /// What is read where an operand is read and written in place.
    pub(crate) fn in_place(&self) -> View<'a> {
        View::at(self.shaped.address, self.shaped.ld)
    }

    pub(crate) fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut::at(self.shaped.address, self.shaped.ld)
    }
}
