//! LoRA in candle's own operations: what ID-LoRA is compared with.

use crate::fused;
use crate::random::{Stream, Use};
use candle_core::{Device, Result, Tensor, Var, bail};
use candle_nn::{Linear, VarMap};

/// `W x + b + κ B A x` with W and b frozen, `A [r, n]` and `B [m, r]` trained.
#[derive(Clone, Debug)]
pub struct Lora {
    base: Linear,
    a: Tensor,
    b: Tensor,
    scale: f64,
}

/// The choices of a LoRA adapter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Rank r.
    pub rank: usize,
    /// α; the update's factor is α/r.
    pub alpha: f64,
}

impl Default for Config {
    /// Rank 8 and α/r = 2.
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0 }
    }
}

impl Lora {
    /// Wraps a linear layer: A uniform in ±1/√n (Kaiming's rule with a = √5), B zero, so that it starts equal to the base.
    /// The trained tensors are `NAME.lora_a` and `NAME.lora_b` of `vars`. `number` tells the modules' random numbers apart.
    ///
    /// # Errors
    /// candle's, for a rank of 0 or a name that `vars` holds already.
    pub fn new(base: Linear, name: &str, config: Config, seed: u64, number: u32, vars: &VarMap) -> Result<Self> {
        let (rows, cols) = base.weight().dims2()?;
        let Config { rank, alpha } = config;
        if rank == 0 {
            bail!("LoRA: expected a rank of at least 1, found 0");
        }
        let bound = 1.0 / (cols as f64).sqrt();
        let mut stream = Stream::numbered(seed, Use::Lora, number);
        let a = (0..rank * cols).map(|_| stream.uniform(bound)).collect();
        let a = register(vars, &format!("{name}.lora_a"), Tensor::from_vec(a, (rank, cols), &Device::Cpu)?)?;
        let b = register(vars, &format!("{name}.lora_b"), base.weight().zeros_like()?.narrow(1, 0, rank.min(cols))?)?;
        if b.dims2()? != (rows, rank) {
            bail!("LoRA: expected a rank of at most {cols}, found {rank}");
        }
        Ok(Self { base, a, b, scale: alpha / rank as f64 })
    }

    /// The adapted output for `x [.., n]`.
    ///
    /// # Errors
    /// candle's, for operands that do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let base = fused::linear(&self.base, x)?;
        let flat = x.reshape(((), self.a.dim(1)?))?;
        let update = flat.matmul(&self.a.t()?)?.matmul(&self.b.t()?)?;
        &base + (update * self.scale)?.reshape(base.dims())?
    }
}

/// Makes a trained tensor and gives it a name.
///
/// # Errors
/// candle's, for a name that is taken.
pub fn register(vars: &VarMap, name: &str, value: Tensor) -> Result<Tensor> {
    let var = Var::from_tensor(&value.contiguous()?)?;
    let tensor = var.as_tensor().clone();
    let mut data = vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if data.insert(name.to_owned(), var).is_some() {
        bail!("trained tensors: expected a new name, found a second {name}");
    }
    Ok(tensor)
}
