//! What an adapted layer never changes: the base layer and the choice of its rows.

use super::tensor::{self, OP, check_device, read, said, with_element};
use crate::adapter::{Config, Counters, Digest, IdLora, Parts, Report};
use crate::device::Device;
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::lowrank::{Bias, Desc, DownProjection};
use crate::mat::{Mat, MatRef};
use candle_core::Tensor;
use candle_nn::Linear;

/// The base layer and the choice of its rows, shared by all calls of a layer and by its copies.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Outside candle's graph, contiguous.
    base: Linear,
    name: String,
    config: Config,
    dtype: Dtype,
    digest: Digest,
    skeleton: Vec<u32>,
    counters: Counters,
    /// What it has on a CUDA device, made when first used there.
    #[cfg(feature = "candle-cuda")]
    pub cuda: super::cuda::Cache,
}

/// A base layer that an adapter can be put on.
#[derive(Clone, Debug)]
pub(super) struct Base {
    linear: Linear,
    dtype: Dtype,
    rows: usize,
    cols: usize,
}

impl Base {
    /// Checks the base layer and takes it out of candle's graph: it is not trained.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::Parameter`] for an element type, [`Error::Shape`], or [`Error::Candle`].
    pub fn new(linear: &Linear) -> Result<Self> {
        let weight = linear.weight();
        check_device(weight.device())?;
        let dtype = tensor::dtype("dtype of `weight`", weight)?;
        let &[rows, cols] = weight.dims() else {
            return Err(Error::shape(OP, "weight", "two dimensions [m, n]", format!("shape {:?}", weight.dims())));
        };
        if let Some(bias) = linear.bias() {
            if bias.dims() != [rows] {
                return Err(Error::shape(OP, "bias", format!("shape [{rows}]"), format!("shape {:?}", bias.dims())));
            }
            let found = tensor::dtype("dtype of `bias`", bias)?;
            if found != dtype {
                let expected = format!("{}, the weight's", dtype.name());
                return Err(Error::parameter(OP, "dtype of `bias`", expected, found.name()));
            }
            if !bias.device().same_device(weight.device()) {
                return Err(Error::operand(OP, "bias", "lies on another device than the weight"));
            }
        }
        let alone = |tensor: &Tensor| tensor.detach().contiguous().map_err(said);
        let linear = Linear::new(alone(weight)?, linear.bias().map(alone).transpose()?);
        Ok(Self { linear, dtype, rows, cols })
    }

    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Chooses rows, on the CPU wherever the weight lies: the same weight makes the same adapter.
    pub fn init(&self, name: &str, config: &Config) -> Result<(IdLora, Report)> {
        let (rows, cols) = self.shape();
        // Before a copy from a device.
        config.check(rows, cols)?;
        let weight = self.on_host()?;
        with_element!(self.dtype, T => read(&weight, |w: &[T]| {
            IdLora::init(&Device::Cpu, name, MatRef::new(w, rows, cols)?, config)
        }))
        .map_err(said)?
    }

    /// The adapter's numbers of rows, for this very weight if `checked`, or for any of its shape; and what is trained.
    pub fn freeze(self, adapter: IdLora, checked: bool) -> Result<(Frozen, Mat<f32>, Mat<f32>)> {
        let (rows, cols) = self.shape();
        let weight = self.on_host()?;
        let digest = with_element!(self.dtype, T => read(&weight, |w: &[T]| {
            let w = MatRef::new(w, rows, cols)?;
            match adapter.check_base(w) {
                Err(Error::Digest { .. }) if !checked => Ok(Digest::of(w)),
                result => result.map(|()| adapter.digest()),
            }
        }))
        .map_err(said)??;
        Ok(self.with_digest(adapter, digest))
    }

    /// The same for an adapter that [`Base::init`] has just made.
    pub fn with_own(self, adapter: IdLora) -> (Frozen, Mat<f32>, Mat<f32>) {
        let digest = adapter.digest();
        self.with_digest(adapter, digest)
    }

    fn with_digest(self, adapter: IdLora, digest: Digest) -> (Frozen, Mat<f32>, Mat<f32>) {
        let counters = adapter.counters();
        let Parts { name, config, skeleton, b, gate, .. } = adapter.into_parts();
        let frozen = Frozen {
            base: self.linear,
            name,
            config,
            dtype: self.dtype,
            digest,
            skeleton,
            counters,
            #[cfg(feature = "candle-cuda")]
            cuda: Default::default(),
        };
        (frozen, b, gate)
    }

    fn on_host(&self) -> Result<Tensor> {
        on_host(self.linear.weight())
    }
}

fn on_host(weight: &Tensor) -> Result<Tensor> {
    weight.to_device(&candle_core::Device::Cpu).map_err(said)
}

impl Frozen {
    pub fn base(&self) -> &Linear {
        &self.base
    }

    pub fn weight(&self) -> &Tensor {
        self.base.weight()
    }

    pub fn bias(&self) -> Option<&Tensor> {
        self.base.bias()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn skeleton(&self) -> &[u32] {
        &self.skeleton
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn scale(&self) -> f32 {
        self.config.scale()
    }

    /// `[m, n]`.
    pub fn shape(&self) -> (usize, usize) {
        // A base has been checked to have two.
        let dims = self.weight().dims();
        (dims[0], dims[1])
    }

    /// The problem of a call.
    pub fn desc(&self, down: DownProjection) -> Desc {
        let Config { rank, clusters, split, gate, .. } = self.config;
        let (rows, cols) = self.shape();
        // The adapter adds it: one pass fewer than candle's, and a bias much larger than `W h` costs `X` no digits.
        let bias = if self.bias().is_some() { Bias::Separate } else { Bias::None };
        Desc { rows, cols, rank, components: clusters, split, gate, down, bias }
    }

    /// The adapter with these trained values.
    pub fn adapter(&self, b: Mat<f32>, gate: Mat<f32>) -> Result<IdLora> {
        let (rows, cols) = self.shape();
        let (name, skeleton) = (self.name.clone(), self.skeleton.clone());
        let Self { config, dtype, digest, .. } = *self;
        IdLora::from_parts(Parts { name, rows, cols, dtype, config, skeleton, b, gate, digest })
    }

    /// The base layer with the update of an adapter of its own in a copy of its weight.
    pub fn merged(&self, adapter: &IdLora) -> Result<Linear> {
        let (rows, cols) = self.shape();
        let weight = on_host(self.weight())?;
        with_element!(self.dtype, T => {
            let copy = read(&weight, |w: &[T]| w.to_vec()).map_err(said)?;
            let mut w = Mat::from_vec(copy, rows, cols)?;
            adapter.merge(&Device::Cpu, w.as_mut())?;
            let merged = Tensor::from_vec(w.into_vec(), (rows, cols), self.weight().device()).map_err(said)?;
            Ok(Linear::new(merged, self.bias().cloned()))
        })
    }
}
