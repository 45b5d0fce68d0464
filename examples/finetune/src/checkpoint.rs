//! A run on disk, so that a killed one goes on to the very same bits.
//!
//! One safetensors file: trained tensors and moments by name, `order`, and the history; the settings and the number of steps are in
//! its metadata. The order is kept rather than drawn again, and the settings are compared, so that a file is never continued
//! under another protocol.

use crate::error::{Error, Result};
use crate::train::{History, Trainer};
use crate::{adamw::AdamW, disk};
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use std::collections::HashMap;
use std::path::Path;

/// Raw tensors: name, type, shape, bytes.
type Raw = (String, Dtype, Vec<usize>, Vec<u8>);

impl Trainer {
    /// Writes the run to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`]; candle's.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut all = trained(&self.optimizer)?;
        let History { losses, accuracies, seconds } = &self.history;
        all.push(raw("order", Dtype::U32, &self.order, |x| x.to_le_bytes()));
        all.push(raw("history.losses", Dtype::F32, losses, |x| x.to_le_bytes()));
        all.push(raw("history.accuracies", Dtype::F32, accuracies, |x| x.to_le_bytes()));
        all.push(raw("history.seconds", Dtype::F64, seconds, |x| x.to_le_bytes()));
        let broken = |error: safetensors::SafeTensorError| Error::content(path, "checkpoint", "safetensors", error);
        let mut views = Vec::with_capacity(all.len());
        for (name, dtype, shape, bytes) in &all {
            views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(broken)?));
        }
        let metadata = HashMap::from([
            ("settings".to_owned(), self.fingerprint(path)?),
            ("steps".to_owned(), self.done().to_string()),
        ]);
        disk::write(path, &serialize(views, Some(metadata)).map_err(broken)?)
    }

    /// Continues from `path`, if that exists; says whether.
    ///
    /// # Errors
    /// [`Error::Content`] for a file of other settings, other documents, or that is no checkpoint.
    pub fn resume(&mut self, path: &Path) -> Result<bool> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("reading", path)(error)),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::content(path, "checkpoint", "safetensors", error))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let expected = self.fingerprint(path)?;
        let found = metadata.get("settings").cloned().unwrap_or_default();
        if found != expected {
            return Err(Error::content(path, "settings", expected, found));
        }
        let steps = metadata.get("steps").and_then(|steps| steps.parse().ok());
        let steps: usize = steps.ok_or_else(|| Error::content(path, "steps", "a number", "none"))?;
        let state = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let find =
            |name: &str| state.get(name).ok_or_else(|| Error::content(path, name, "a tensor of this name", "none"));
        let (order, history) = (
            find("order")?.to_vec1::<u32>()?,
            History {
                losses: find("history.losses")?.to_vec1()?,
                accuracies: find("history.accuracies")?.to_vec1()?,
                seconds: find("history.seconds")?.to_vec1()?,
            },
        );
        if sorted(&order) != sorted(&self.order) {
            return Err(Error::content(path, "order", "the documents of this run", "others"));
        }
        self.optimizer.restore(&state, steps)?;
        (self.order, self.history) = (order, history);
        Ok(true)
    }

    fn fingerprint(&self, path: &Path) -> Result<String> {
        serde_json::to_string(&self.settings)
            .map_err(|error| Error::content(path, "settings", "a value that JSON can hold", error))
    }
}

fn sorted(order: &[u32]) -> Vec<u32> {
    let mut order = order.to_vec();
    order.sort_unstable();
    order
}

fn trained(optimizer: &AdamW) -> Result<Vec<Raw>> {
    let mut state: Vec<(String, Tensor)> = optimizer.state()?.into_iter().collect();
    state.sort_by(|a, b| a.0.cmp(&b.0));
    let all = state.into_iter().map(|(name, tensor)| {
        let bytes = tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok((name, Dtype::F32, tensor.dims().to_vec(), bytes))
    });
    all.collect()
}

fn raw<T: Copy, const N: usize>(name: &str, dtype: Dtype, values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Raw {
    (name.to_owned(), dtype, vec![values.len()], values.iter().flat_map(|&value| bytes(value)).collect())
}
