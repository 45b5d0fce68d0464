//! The virtual machine: what kernels count, and what a model of a card makes of it. No time here is a measurement.

#[cfg(not(feature = "vm"))]
pub fn run(_: &crate::arguments::Arguments, _: &mut crate::record::Results) -> Result<bool, String> {
    Err("this build has no virtual machine (feature `vm`)".to_owned())
}

#[cfg(feature = "vm")]
pub use there::run;

#[cfg(feature = "vm")]
mod there {
    use crate::arguments::Arguments;
    use crate::cases::Extent;
    use crate::record::{self, Counters, Kernel, Operand, Results};
    use crate::sweep::{Asked, sweep};
    use crate::table;
    use idlora::Device;
    use idlora::model::Card;
    use idlora::vm::{Launched, Settings, Vm};

    const NAME: &str = "vm";
    const EXTENT: Extent = Extent { tokens: 256, steps: 2 };

    /// Cases of more operations take the machine many seconds: left out but by `--full`.
    const MOST_OPERATIONS: f64 = 5e8;
    /// And of more bytes.
    const MOST_BYTES: f64 = 4e7;

    /// What the machine can still tell of one run.
    const KEPT: usize = 64;

    pub fn run(arguments: &Arguments, results: &mut Results) -> Result<bool, String> {
        // As many blocks at a time as the card holds: counters of fewer would not be the card's.
        let vm = Vm::new(Settings { resident: 0, ..Settings::default() });
        vm.probe().map_err(|error| error.to_string())?;
        let description = "the virtual machine: counters, no times".to_owned();
        let device =
            record::Device { name: NAME.to_owned(), description, model: false, memory: None, cache: None, peak: None };
        table::heading(&device);
        results.devices.push(device);
        let cards = [Card::h100(), Card::a100()];
        for card in &cards {
            let device = of(card);
            table::heading(&device);
            results.devices.push(device);
        }
        table::columns();
        let mut left_out = 0;
        let well = sweep(arguments, results, (NAME, EXTENT, true), &mut |asked| {
            let least = asked.case.least;
            if !arguments.full && (least.operations > MOST_OPERATIONS || least.bytes > MOST_BYTES) {
                left_out += 1;
                return Ok(Vec::new());
            }
            count(&vm, &cards, asked)
        });
        if left_out > 0 {
            println!("{NAME}: {left_out} cases would take long and are left out; --full runs them");
        }
        Ok(well)
    }

    fn model_name(card: &Card) -> String {
        format!("model: {}", card.name)
    }

    fn of(card: &Card) -> record::Device {
        record::Device {
            name: model_name(card),
            description: format!(
                "a model of an {}, from counters of the virtual machine; nothing here was measured on one",
                card.name
            ),
            model: true,
            memory: Some(card.memory),
            cache: Some(card.cache),
            peak: Some(card.tensor),
        }
    }

    /// The counters, and the time of each model. Moving less than the least shows that its formula is wrong.
    fn count(vm: &Vm, cards: &[Card], asked: Asked<'_>) -> Result<Vec<record::Case>, String> {
        let Asked { case, mut blank, .. } = asked;
        vm.take_launches();
        let least = (case.run)(&Device::Vm(vm.clone())).map_err(|error| error.to_string())?;
        let launches = vm.take_launches();
        if launches.len() >= KEPT {
            return Err(format!("{KEPT} launches or more: the machine has forgotten the first"));
        }
        (blank.least_bytes, blank.operations) = (least.bytes, least.operations);
        let kernels = counted(&launches);
        let operands = kernels.iter().filter_map(|kernel| kernel.counters.as_ref()).flat_map(|all| &all.operands);
        let moved: u64 = operands.map(|operand| operand.read + operand.written).sum();
        if (moved as f64) < least.bytes {
            return Err(format!("kernels moved {moved} bytes, {} is not the least", least.bytes));
        }
        let mut all = vec![record::Case { kernels, ..blank.clone() }];
        for card in cards {
            let blank = record::Case { device: model_name(card), ..blank.clone() };
            all.push(match modelled_kernels(&launches, card) {
                Ok(kernels) => {
                    let seconds = kernels.iter().filter_map(|kernel| kernel.seconds).sum();
                    record::Case { seconds: Some(seconds), kernels, ..blank }
                }
                // Launches are those of the machine's own card; another may hold less.
                Err(reason) => record::Case { failure: Some(reason), ..blank },
            });
        }
        Ok(all)
    }

    /// By kernel, in the order of first launch.
    fn counted(launches: &[Launched]) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = Vec::new();
        for launch in launches {
            let kernel = entry(&mut kernels, launch.kernel);
            kernel.launches += 1;
            let (from, to) = (&launch.counters, kernel.counters.get_or_insert_with(Counters::default));
            to.thread_instructions += from.thread_instructions();
            to.warp_instructions += from.warp_instructions();
            to.tensor_operations += 2 * from.tensor_multiply_adds();
            to.bank_conflicts += from.shared().conflicts;
            for (name, traffic) in from.allocations() {
                let place = to.operands.iter().position(|operand| operand.name == *name).unwrap_or_else(|| {
                    to.operands.push(Operand { name: name.clone(), ..Operand::default() });
                    to.operands.len() - 1
                });
                to.operands[place].read += 32 * traffic.read.sectors;
                to.operands[place].written += 32 * traffic.written.sectors;
            }
        }
        kernels
    }

    /// By kernel; what bounds one is what bounds its longest launch.
    fn modelled_kernels(launches: &[Launched], card: &Card) -> Result<Vec<Kernel>, String> {
        let mut kernels: Vec<Kernel> = Vec::new();
        let mut longest = Vec::new();
        for launch in launches {
            let (seconds, bound) = modelled(launch, card)?;
            let kernel = entry(&mut kernels, launch.kernel);
            kernel.launches += 1;
            *kernel.seconds.get_or_insert(0.0) += seconds;
            match longest.iter_mut().find(|(name, _)| *name == launch.kernel) {
                Some((_, most)) if seconds <= *most => continue,
                Some((_, most)) => *most = seconds,
                None => longest.push((launch.kernel, seconds)),
            }
            kernel.bound = Some(bound);
        }
        Ok(kernels)
    }

    fn entry<'a>(kernels: &'a mut Vec<Kernel>, name: &str) -> &'a mut Kernel {
        match kernels.iter().position(|kernel| kernel.name == name) {
            Some(place) => &mut kernels[place],
            None => {
                kernels.push(Kernel { name: name.to_owned(), ..Kernel::default() });
                kernels.last_mut().expect("one was pushed")
            }
        }
    }

    /// What the model says of a launch: seconds, and what bounds it.
    fn modelled(launch: &Launched, card: &Card) -> Result<(f64, String), String> {
        let found = launch.modelled(card).map_err(|error| error.to_string())?;
        let bound = serde_json::to_value(found.bound).map_err(|error| error.to_string())?;
        Ok((found.seconds, bound.as_str().unwrap_or_default().to_owned()))
    }
}
