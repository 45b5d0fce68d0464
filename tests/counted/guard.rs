//! The guard: what every kernel of every variant costs at fixed shapes stands in `table.txt`, to the last instruction. A change
//! of it is a change of the table, in the same commit; `scripts/counters` writes it.
//!
//! Counters depend on nothing but kernels, operands and the order in which blocks run, and that is fixed here. Operands are
//! drawn without any function of the system's mathematics library, which may round otherwise elsewhere.

mod adapter;
mod gemm;
mod setup;
mod table;

use super::*;
use crate::common::on_threads;
use idlora::Dtype;
use idlora::kernels::{self, Image};
use idlora::vm::Settings;
use ptx_vm::Checks;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::{Figures, Key, Table};

/// Asks for the table to be written.
const WRITE: &str = "IDLORA_WRITE_COUNTERS";

/// What the machine remembers of its last launches.
const REMEMBERED: usize = 64;

/// A call of an operation, small enough to run in a blink.
struct Problem {
    name: &'static str,
    element: Option<Dtype>,
    run: Box<dyn Fn(&Device) + Send + Sync>,
}

impl Problem {
    /// Its name in a line of a variant: with its element where the variant has another, as for what a sketch is measured with.
    fn name_for(&self, variant: &str) -> String {
        let name = self.name;
        match self.element.map(|element| element.name().to_lowercase()) {
            Some(element) if variant.split('.').nth(1) != Some(&element) => format!("{name},{element}"),
            _ => name.to_owned(),
        }
    }
}

/// Problems of an element, or of none. Their names are words of the table: no spaces.
#[derive(Default)]
struct Problems {
    element: Option<Dtype>,
    list: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, name: &'static str, run: impl Fn(&Device) + Send + Sync + 'static) {
        self.list.push(Problem { name, element: self.element, run: Box::new(run) });
    }
}

/// Those that meet weights of an element, and for 16 bits those that only they can have.
fn of_element<T: Elem>() -> Vec<Problem> {
    let mut problems = Problems { element: Some(T::DTYPE), list: Vec::new() };
    setup::add::<T>(&mut problems);
    adapter::add::<T>(&mut problems);
    if size_of::<T>() == 2 {
        setup::add_narrow::<T>(&mut problems);
        gemm::add::<T>(&mut problems);
    }
    problems.list
}

fn all() -> Vec<Problem> {
    let mut problems = Problems::default();
    setup::add_without_element(&mut problems);
    [problems.list, of_element::<f16>(), of_element::<bf16>(), of_element::<f32>()].into_iter().flatten().collect()
}

/// Uniform in [-1, 1) and rounded to the element.
fn uniform<T: Elem>(seed: u64, len: usize) -> Vec<T> {
    let draw = &mut Draw::new(seed);
    (0..len).map(|_| T::from_f32((2.0 * draw.uniform() - 1.0) as f32)).collect()
}

/// Runs problems on as many threads as there are, and adds the launches of each kernel up.
fn measure(problems: &[Problem], images: &[Image]) -> BTreeMap<Key, Figures> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut own = BTreeMap::new();
        while let Some(problem) = problems.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.extend(measure_one(problem, images));
        }
        own
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut lines = BTreeMap::new();
        for (key, figures) in working.into_iter().flat_map(|thread| thread.join().expect("a problem failed")) {
            let twice = lines.insert(key.clone(), figures).is_some();
            assert!(!twice, "two problems have the name {key:?}");
        }
        lines
    })
}

fn measure_one(problem: &Problem, images: &[Image]) -> BTreeMap<Key, Figures> {
    // Counting needs no checks, and they cost more than it does.
    let vm = Vm::new(Settings { checks: Checks::NONE, seed: None, resident: 4 });
    (problem.run)(&Device::Vm(vm.clone()));
    let launches = vm.take_launches();
    assert!(launches.len() < REMEMBERED, "{}: launches are forgotten", problem.name);
    let mut kernels: BTreeMap<Key, Vec<Launched>> = BTreeMap::new();
    for launch in launches {
        let key = [launch.variant.clone(), launch.kernel.to_owned(), problem.name_for(&launch.variant)];
        kernels.entry(key).or_default().push(launch);
    }
    kernels.into_iter().map(|(key, launches)| (key.clone(), figures(&key, &launches, images))).collect()
}

fn figures([variant, kernel, _]: &Key, launches: &[Launched], images: &[Image]) -> Figures {
    let sum = |of: fn(&Launched) -> u64| launches.iter().map(of).sum::<u64>();
    let image = images.iter().find(|image| image.name == *variant).expect("every variant is listed");
    let built = image.kernels.iter().find(|built| built.name == kernel).expect("every kernel is listed");
    let mut figures = vec![
        ("launches", launches.len() as u64),
        ("threads", sum(|l| l.counters.thread_instructions())),
        ("warps", sum(|l| l.counters.warp_instructions())),
        ("tensor", sum(|l| l.counters.tensor_products())),
        ("passes", sum(|l| l.counters.shared().wavefronts)),
        ("conflicts", sum(|l| l.counters.shared().conflicts)),
        ("waits", sum(|l| l.counters.barrier_waits())),
        ("registers", built.registers.into()),
        ("static", built.shared.into()),
        ("spilled", u64::from(built.spill_stores) + u64::from(built.spill_loads)),
    ];
    let mut operands: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (name, traffic) in launches.iter().flat_map(|launch| launch.counters.allocations()) {
        let [read, written] = operands.entry(name).or_default();
        (*read, *written) = (*read + traffic.read.sectors, *written + traffic.written.sectors);
    }
    let mut named: Vec<(String, u64)> = figures.drain(..).map(|(name, figure)| (name.to_owned(), figure)).collect();
    for (name, sectors) in operands {
        let ways = ["read", "written"].into_iter().zip(sectors).filter(|(_, sectors)| *sectors > 0);
        named.extend(ways.map(|(way, sectors)| (format!("{name}.{way}"), sectors)));
    }
    Figures(named)
}

/// What the images say of the compiler that made them.
fn compiler(images: &[Image]) -> String {
    let line = |image: &Image| image.ptx.lines().find_map(|line| line.strip_prefix("// Cuda compilation tools, "));
    let mut found: Vec<&str> = images.iter().map(|image| line(image).expect("NVRTC says its version")).collect();
    found.dedup();
    assert_eq!(found.len(), 1, "images of different compilers");
    found[0].to_owned()
}

/// Everything, counted once for all tests; `None`, said aloud, where there is no virtual machine.
fn counted() -> Option<&'static (Vec<Image>, Table)> {
    static COUNTED: OnceLock<Option<(Vec<Image>, Table)>> = OnceLock::new();
    let count = || {
        machines().first()?;
        let images = kernels::list().expect("the machine could load every kernel");
        let table = Table { compiler: compiler(&images), lines: measure(&all(), &images) };
        Some((images, table))
    };
    COUNTED.get_or_init(count).as_ref()
}

fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/counted/table.txt")
}

/// Through a file beside it, so that no half of a table is ever there.
fn write(table: &Table) {
    let path = path();
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    file.write_all(table.text().as_bytes()).unwrap();
    file.persist(&path).unwrap();
    println!("{} lines in {}", table.lines.len(), path.display());
}

/// Nothing of the table of variants escapes.
#[test]
fn every_kernel_of_every_variant_is_counted() {
    let Some((images, found)) = counted() else { return };
    let mut missing = Vec::new();
    for image in images {
        let counted = |name| found.lines.keys().any(|[variant, kernel, _]| *variant == image.name && kernel == name);
        missing.extend(image.kernels.iter().filter(|k| !counted(k.name)).map(|k| format!("{} {}", image.name, k.name)));
    }
    assert!(missing.is_empty(), "no problem of tests/counted/guard launches\n  {}", missing.join("\n  "));
}

#[test]
fn kernels_cost_what_the_table_says() {
    let Some((_, found)) = counted() else { return };
    if std::env::var_os(WRITE).is_some() {
        return write(found);
    }
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let table = Table::parse(&text).expect("tests/counted/table.txt is a table; `scripts/counters` writes it anew");
    let same = table.compiler == found.compiler;
    if !same {
        let (of_table, now) = (&table.compiler, &found.compiler);
        println!("only its lines are checked: the table is of {of_table}, these kernels of {now}");
    }
    let differences = if same { table.differences(found) } else { table.incomplete(found) };
    assert!(
        differences.is_empty(),
        "kernels do not cost what tests/counted/table.txt says:\n  {}\nIf that is meant, `scripts/counters` writes the \
         table anew, to be committed with the change.",
        differences.join("\n  ")
    );
}

/// Neither a second run nor the number of threads changes a figure.
#[test]
fn counts_are_repeatable_on_any_number_of_threads() {
    let Some((images, found)) = counted() else { return };
    let again = |threads| {
        for problem in &of_element::<bf16>() {
            let again = on_threads(threads, || measure_one(problem, images));
            assert!(!again.is_empty(), "{} launches nothing", problem.name);
            for (key, figures) in again {
                assert_eq!(Some(&figures), found.lines.get(&key), "{key:?} on {threads} threads");
            }
        }
    };
    std::thread::scope(|scope| {
        [1, 3].map(|threads| scope.spawn(move || again(threads))).map(|run| run.join().unwrap())
    });
}
