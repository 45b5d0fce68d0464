//! One run: steps over the training documents in a seeded order, then the accuracy on the documents held out.

use crate::adamw::AdamW;
use crate::data::Measure;
use crate::error::{Error, Result};
use crate::method::Method;
use crate::model::{Classifier, Weights};
use crate::random::{Stream, Use};
use crate::tokens::{Batch, Example};
use candle_core::{D, DType, Tensor};
use candle_nn::VarMap;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Everything that decides a run's result, apart from the files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What is trained.
    pub method: Method,
    /// Seed of everything random.
    pub seed: u64,
    /// The highest learning rate.
    pub rate: f64,
    /// What the accuracy is measured on.
    pub measure: Measure,
    /// Documents in a step.
    pub batch: usize,
    /// Tokens of a document that are read.
    pub max_tokens: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Mean loss of every step's documents.
    pub losses: Vec<f32>,
    /// Share of every step's documents that were right before the step.
    pub accuracies: Vec<f32>,
    /// Seconds of every step.
    pub seconds: Vec<f64>,
}

/// Accuracy and mean loss on the documents held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Share of documents that were right.
    pub accuracy: f64,
    /// Mean loss.
    pub loss: f64,
}

/// A model in training.
pub struct Trainer {
    classifier: Classifier,
    pub(crate) optimizer: AdamW,
    pub(crate) settings: Settings,
    /// Training documents in the order of the steps.
    pub(crate) order: Vec<u32>,
    pub(crate) history: History,
    /// Numbers trained in the encoder.
    pub adapter_parameters: usize,
    /// Numbers trained in the head.
    pub head_parameters: usize,
    /// Seconds that adapting took.
    pub setup_seconds: f64,
}

impl Trainer {
    /// Builds the model, adapts it and draws the order of the documents `train`.
    ///
    /// # Errors
    /// [`Error::Operand`] for fewer documents than a batch; those of the model and of the adapters.
    pub fn new(weights: &Weights, classes: usize, train: &[usize], settings: Settings) -> Result<Self> {
        if settings.batch == 0 || train.len() < settings.batch {
            let expected = format!("between 1 and the {} training documents", train.len());
            return Err(Error::operand("batch", expected, settings.batch));
        }
        let vars = VarMap::new();
        let mut classifier = Classifier::new(weights.bert()?, classes, settings.seed, &vars)?;
        let head_parameters = crate::method::count(&vars);
        let start = Instant::now();
        let adapter_parameters = settings.method.adapt(classifier.bert_mut(), settings.seed, &vars)?;
        let setup_seconds = start.elapsed().as_secs_f64();
        let mut order: Vec<u32> = train.iter().map(|&document| document as u32).collect();
        Stream::new(settings.seed, Use::Order).shuffle(&mut order);
        let optimizer = AdamW::new(&vars, settings.weight_decay);
        let history = History::default();
        Ok(Self { classifier, optimizer, settings, order, history, adapter_parameters, head_parameters, setup_seconds })
    }

    /// What decides the run's result.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Steps of a whole run: one epoch, without the last incomplete batch.
    pub fn total(&self) -> usize {
        self.order.len() / self.settings.batch
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.optimizer.steps()
    }

    /// What happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Trained tensors by name, to compare runs.
    ///
    /// # Errors
    /// candle's.
    pub fn state(&self) -> Result<std::collections::HashMap<String, Tensor>> {
        self.optimizer.state()
    }

    /// One step on the next documents of the order, which starts anew after an epoch, at a
    /// rate of 0.
    ///
    /// # Errors
    /// [`Error::Operand`] for a loss that is not finite; candle's.
    pub fn step(&mut self, examples: &[Example]) -> Result<()> {
        let start = Instant::now();
        let size = self.settings.batch;
        let from = self.done() % self.total() * size;
        let members: Vec<usize> = self.order[from..from + size].iter().map(|&member| member as usize).collect();
        let batch = Batch::new(examples, &members)?;
        let scores = self.classifier.forward(&batch.ids, &batch.lengths)?;
        let loss = candle_nn::loss::cross_entropy(&scores, &batch.classes)?;
        let value = loss.to_scalar::<f32>()?;
        if !value.is_finite() {
            return Err(Error::operand(format!("loss of step {}", self.done()), "a finite number", value));
        }
        let rate = self.settings.rate * schedule(self.done(), self.total());
        self.optimizer.step(&loss.backward()?, rate)?;
        self.history.losses.push(value);
        self.history.accuracies.push(correct(&scores, &batch)? as f32 / size as f32);
        self.history.seconds.push(start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Accuracy and loss on `documents`; `after` is told how many were looked at.
    ///
    /// # Errors
    /// [`Error::Operand`] for no documents; candle's.
    pub fn evaluate(
        &self,
        examples: &[Example],
        documents: &[usize],
        mut after: impl FnMut(usize),
    ) -> Result<Evaluation> {
        if documents.is_empty() {
            return Err(Error::operand("documents held out", "at least one", 0));
        }
        let (mut right, mut loss, mut seen) = (0, 0.0, 0);
        for members in documents.chunks(self.settings.batch) {
            let batch = Batch::new(examples, members)?;
            let scores = self.classifier.forward(&batch.ids, &batch.lengths)?.detach();
            right += correct(&scores, &batch)?;
            let mean = candle_nn::loss::cross_entropy(&scores, &batch.classes)?.to_scalar::<f32>()?;
            loss += f64::from(mean) * members.len() as f64;
            seen += members.len();
            after(seen);
        }
        Ok(Evaluation { accuracy: right as f64 / seen as f64, loss: loss / seen as f64 })
    }
}

/// The part of the learning rate at a step: up from 0 over the first tenth, then down to 0, both linearly.
pub fn schedule(step: usize, total: usize) -> f64 {
    let (at, total) = (step as f64 + 0.5, total as f64);
    let warm = (0.1 * total).max(1.0);
    (at / warm).min((total - at) / (total - warm).max(0.5)).clamp(0.0, 1.0)
}

fn correct(scores: &Tensor, batch: &Batch) -> Result<usize> {
    let right = scores.argmax(D::Minus1)?.eq(&batch.classes)?.to_dtype(DType::F32)?.sum_all()?;
    Ok(right.to_scalar::<f32>()? as usize)
}
