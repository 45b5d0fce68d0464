//! All files together, and the numbers that follow from theirs.

use super::record::{Case, Counters, Device, Kernel, Results};

/// Where the times of a device come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Measured,
    /// The virtual machine: counts, no times.
    Counted,
    Model,
}

/// Everything that a page shows.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Names of the files, and the version of the crate that wrote each.
    pub files: Vec<(String, String)>,
    pub devices: Vec<Device>,
    pub cases: Vec<Entry>,
    /// In order of appearance; a case names them by index.
    pub operations: Vec<String>,
    pub dtypes: Vec<String>,
}

/// A case with what its names stand for.
#[derive(Debug)]
pub struct Entry {
    pub case: Case,
    pub device: usize,
    pub operation: usize,
    pub dtype: usize,
}

impl Sweep {
    /// Adds a file. A device that another file describes otherwise is another device: two machines have a `cpu`.
    pub fn add(&mut self, name: &str, results: Results) {
        self.files.push((name.to_owned(), results.version));
        let devices: Vec<(String, usize)> =
            results.devices.into_iter().map(|device| (device.name.clone(), self.device(device, name))).collect();
        for case in results.cases {
            let Some(&(_, device)) = devices.iter().find(|(name, _)| *name == case.device) else { continue };
            let operation = index(&mut self.operations, &case.operation);
            let dtype = index(&mut self.dtypes, &case.dtype);
            self.cases.push(Entry { case, device, operation, dtype });
        }
    }

    fn device(&mut self, mut device: Device, file: &str) -> usize {
        if let Some(known) = self.devices.iter().position(|known| *known == device) {
            return known;
        }
        let name = device.name.clone();
        let mut copy = 1;
        while self.devices.iter().any(|known| known.name == device.name) {
            let mark = if copy == 1 { file.to_owned() } else { format!("{file}, {copy}") };
            device.name = format!("{name} ({mark})");
            copy += 1;
        }
        self.devices.push(device);
        self.devices.len() - 1
    }

    pub fn kind(&self, device: usize) -> Kind {
        match &self.devices[device] {
            device if device.model => Kind::Model,
            device if device.name == "vm" || device.name.starts_with("vm (") => Kind::Counted,
            _ => Kind::Measured,
        }
    }

    /// The cases of a device.
    pub fn on(&self, device: usize) -> impl Iterator<Item = (usize, &Entry)> {
        self.cases.iter().enumerate().filter(move |(_, entry)| entry.device == device)
    }

    /// Seconds that nothing can be faster than: the least bytes from memory, or all operations at the peak.
    pub fn floor(&self, entry: &Entry) -> Option<f64> {
        let device = &self.devices[entry.device];
        let part = |work: f64, rate: Option<f64>| Some(positive(work)? / positive(rate?)?);
        let memory = part(entry.case.least_bytes, device.memory);
        let peak = part(entry.case.operations, device.peak);
        memory.into_iter().chain(peak).reduce(f64::max).and_then(positive)
    }

    /// How many times the floor a case takes.
    pub fn over_floor(&self, entry: &Entry) -> Option<f64> {
        positive(entry.seconds()? / self.floor(entry)?)
    }
}

impl Entry {
    pub fn seconds(&self) -> Option<f64> {
        self.case.seconds.and_then(positive)
    }

    /// Operations per byte that the operation cannot do without.
    pub fn intensity(&self) -> Option<f64> {
        positive(positive(self.case.operations)? / positive(self.case.least_bytes)?)
    }

    /// Operations a second.
    pub fn rate(&self) -> Option<f64> {
        positive(positive(self.case.operations)? / self.seconds()?)
    }

    /// Bytes a second, of those that it cannot do without.
    pub fn bandwidth(&self) -> Option<f64> {
        positive(positive(self.case.least_bytes)? / self.seconds()?)
    }

    /// What bounds its longest kernel, by a model.
    pub fn bound(&self) -> Option<&str> {
        let time = |kernel: &&Kernel| kernel.seconds.and_then(positive).unwrap_or(0.0);
        let longest = self.case.kernels.iter().max_by(|a, b| time(a).total_cmp(&time(b)))?;
        longest.bound.as_deref()
    }

    /// What the virtual machine has counted over all kernels.
    pub fn counters(&self) -> Option<Counters> {
        let mut sum: Option<Counters> = None;
        for counters in self.case.kernels.iter().filter_map(|kernel| kernel.counters.as_ref()) {
            let sum = sum.get_or_insert_with(Counters::default);
            sum.thread_instructions = sum.thread_instructions.saturating_add(counters.thread_instructions);
            sum.warp_instructions = sum.warp_instructions.saturating_add(counters.warp_instructions);
            sum.tensor_operations = sum.tensor_operations.saturating_add(counters.tensor_operations);
            sum.bank_conflicts = sum.bank_conflicts.saturating_add(counters.bank_conflicts);
            for operand in &counters.operands {
                match sum.operands.iter_mut().find(|known| known.name == operand.name) {
                    Some(known) => {
                        known.read = known.read.saturating_add(operand.read);
                        known.written = known.written.saturating_add(operand.written);
                    }
                    None => sum.operands.push(operand.clone()),
                }
            }
        }
        sum
    }
}

/// The value where it can be drawn on a logarithmic axis.
pub fn positive(value: f64) -> Option<f64> {
    (value > 0.0 && value.is_finite()).then_some(value)
}

fn index(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}
