//! cuBLAS on the layer's own product, `Y = H Wᵀ`, where its library is there.
#![cfg(feature = "cuda")]

#[cfg(not(feature = "cublas"))]
pub use absent::Cublas;
#[cfg(feature = "cublas")]
pub use there::Cublas;

#[cfg(not(feature = "cublas"))]
mod absent {
    use crate::cases::Shape;
    use idlora::Dtype;
    use idlora::cuda::CudaStream;
    use std::sync::Arc;

    pub enum Cublas {}

    impl Cublas {
        pub fn open(_: &Arc<CudaStream>) -> Result<Self, String> {
            Err("this build has none (feature `cublas`)".to_owned())
        }

        pub fn seconds(&self, _: &Shape, _: Dtype, _: usize) -> Result<f64, String> {
            match *self {}
        }
    }
}

#[cfg(feature = "cublas")]
#[allow(unsafe_code)] // cuBLAS has no safe interface
mod there {
    use crate::cases::Shape;
    use idlora::Dtype;
    use idlora::cuda::CudaStream;
    use idlora::cuda::cudarc::cublas::{CudaBlas, result, sys};
    use idlora::cuda::cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut, DriverError};
    use std::sync::Arc;
    use std::time::Instant;

    /// Weights in turn are together as large, past any second cache.
    const PAST_CACHES: usize = 256 << 20;
    const PRODUCTS: usize = 20;

    pub struct Cublas(CudaBlas, Arc<CudaStream>);

    fn told(error: DriverError) -> String {
        error.to_string()
    }

    impl Cublas {
        /// `cudarc` panics where a library is not there, so it is looked for before.
        pub fn open(stream: &Arc<CudaStream>) -> Result<Self, String> {
            // SAFETY: loads and unloads a library; cuBLAS does nothing when that happens.
            if !unsafe { sys::is_culib_present() } {
                return Err("libcublas is not on this machine".to_owned());
            }
            let blas = CudaBlas::new(stream.clone()).map_err(|error| format!("{error:?}"))?;
            Ok(Self(blas, stream.clone()))
        }

        /// Seconds of a product: many in a row on the stream, weights in turn.
        pub fn seconds(&self, shape: &Shape, dtype: Dtype, tokens: usize) -> Result<f64, String> {
            let Self(_, stream) = self;
            let (e, rows, cols) = (dtype.size(), shape.rows, shape.cols);
            let filled = |elements: usize| stream.clone_htod(&noise(elements, dtype)).map_err(told);
            let first = filled(rows * cols)?;
            let mut weights = vec![first];
            while weights.len() < PRODUCTS && weights.len() * rows * cols * e < PAST_CACHES {
                let copy = stream.clone_dtod(&weights[0]).map_err(told)?;
                weights.push(copy);
            }
            let h = filled(tokens * cols)?;
            let mut y = stream.alloc_zeros::<u8>(tokens * rows * e).map_err(told)?;
            for w in &weights {
                self.product(w, &h, &mut y, [rows, tokens, cols], dtype)?; // warms up
            }
            stream.synchronize().map_err(told)?;
            let start = Instant::now();
            for product in 0..PRODUCTS {
                self.product(&weights[product % weights.len()], &h, &mut y, [rows, tokens, cols], dtype)?;
            }
            stream.synchronize().map_err(told)?;
            Ok(start.elapsed().as_secs_f64() / PRODUCTS as f64)
        }

        /// cuBLAS is column-major: there `Yᵀ [m, t] = Wᵀᵀ Hᵀ`, with row-major W and H read as `[n, m]` and `[n, t]`.
        fn product(
            &self,
            w: &CudaSlice<u8>,
            h: &CudaSlice<u8>,
            y: &mut CudaSlice<u8>,
            size: [usize; 3],
            dtype: Dtype,
        ) -> Result<(), String> {
            let Self(blas, stream) = self;
            let [m, t, n] = size.map(|size| i32::try_from(size).unwrap_or(i32::MAX));
            let kind = match dtype {
                Dtype::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
                Dtype::F16 => sys::cudaDataType_t::CUDA_R_16F,
                _ => sys::cudaDataType_t::CUDA_R_32F,
            };
            let (one, zero) = (1.0f32, 0.0f32);
            let ((w, _w), (h, _h), (y, _y)) = (w.device_ptr(stream), h.device_ptr(stream), y.device_ptr_mut(stream));
            // SAFETY: the three buffers hold m·n, t·n and t·m elements of this type and outlive the stream's work, which is
            // waited for before they are freed in its order; the scalars are of the type of the computation, on the host, and
            // read before the call returns.
            let done = unsafe {
                result::gemm_ex(
                    *blas.handle(),
                    sys::cublasOperation_t::CUBLAS_OP_T,
                    sys::cublasOperation_t::CUBLAS_OP_N,
                    m,
                    t,
                    n,
                    (&raw const one).cast(),
                    w as *const _,
                    kind,
                    n,
                    h as *const _,
                    kind,
                    n,
                    (&raw const zero).cast(),
                    y as *mut _,
                    kind,
                    m,
                    sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            };
            done.map_err(|error| format!("{error:?}"))
        }
    }

    /// The bytes of so many elements.
    fn noise(elements: usize, dtype: Dtype) -> Vec<u8> {
        use crate::cases::random;
        use idlora::{bf16, f16};
        match dtype {
            Dtype::BF16 => bytemuck::cast_slice(&random::<bf16>(11, elements, 1.0)).to_vec(),
            Dtype::F16 => bytemuck::cast_slice(&random::<f16>(11, elements, 1.0)).to_vec(),
            _ => bytemuck::cast_slice(&random::<f32>(11, elements, 1.0)).to_vec(),
        }
    }
}
