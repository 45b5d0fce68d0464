//! `idlora devices`.

use super::args::Devices;
use super::{Result, output, text};
use idlora::device::{Facts, Listing, list};

pub fn run(args: &Devices) -> Result<()> {
    let devices = list();
    if args.json { output::print_json(&json(&devices)) } else { output::print(&for_people(&devices)) }
}

#[derive(serde::Serialize)]
struct DevicesJson<'a> {
    devices: Vec<DeviceJson<'a>>,
}

#[derive(serde::Serialize)]
struct DeviceJson<'a> {
    device: &'a str,
    available: bool,
    #[serde(flatten)]
    found: FoundJson<'a>,
}

/// What is known of one kind of device, or why there is none.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum FoundJson<'a> {
    Cpu { threads: usize, simd: &'a str },
    Vm {},
    Cuda { name: &'a str, capability: String, multiprocessors: u32, memory: usize, driver: String },
    Missing { reason: &'a str },
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn json(devices: &[Listing]) -> DevicesJson<'_> {
    let devices = devices.iter().map(|listing| {
        let found = match &listing.found {
            Ok(Facts::Cpu { threads, simd }) => FoundJson::Cpu { threads: *threads, simd },
            Ok(Facts::Cuda { name, capability, multiprocessors, memory, driver }) => FoundJson::Cuda {
                name,
                capability: dotted(*capability),
                multiprocessors: *multiprocessors,
                memory: *memory,
                driver: dotted(*driver),
            },
            Ok(_) => FoundJson::Vm {},
            Err(reason) => FoundJson::Missing { reason },
        };
        DeviceJson { device: &listing.device, available: listing.found.is_ok(), found }
    });
    DevicesJson { devices: devices.collect() }
}

/// A line for each device: its name and what it is, or `-` and why it is not there.
fn for_people(devices: &[Listing]) -> String {
    let width = devices.iter().map(|listing| listing.device.len()).max().unwrap_or(0);
    let line = |listing: &Listing| {
        let (mark, words) = match &listing.found {
            Ok(facts) => ("yes", describe(facts)),
            Err(reason) => ("no ", reason.replace('\n', "\n             ")),
        };
        format!("{:width$}  {mark}  {words}\n", listing.device)
    };
    devices.iter().map(line).collect()
}

fn describe(facts: &Facts) -> String {
    match facts {
        Facts::Cpu { threads, simd } => format!("{}, vector instructions: {simd}", text::counted(*threads, "thread")),
        Facts::Cuda { name, capability, multiprocessors, memory, driver } => format!(
            "{name}, compute capability {}, {multiprocessors} multiprocessors, {}, driver for CUDA {}",
            dotted(*capability),
            text::bytes(*memory),
            dotted(*driver)
        ),
        _ => "the CUDA kernels on the CPU, checked and counted; for tests".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Vec<Listing> {
        let cuda = Facts::Cuda {
            name: "NVIDIA H100 PCIe".to_owned(),
            capability: (9, 0),
            multiprocessors: 114,
            memory: 80 << 30,
            driver: (13, 0),
        };
        vec![
            Listing { device: "cpu".to_owned(), found: Ok(Facts::Cpu { threads: 1, simd: "AVX2" }) },
            Listing { device: "cuda:0".to_owned(), found: Ok(cuda) },
            Listing { device: "vm".to_owned(), found: Err("no compiler; searched:\n  /nowhere".to_owned()) },
        ]
    }

    #[test]
    fn people_read_a_line_for_each_device() {
        let text = for_people(&devices());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "cpu     yes  1 thread, vector instructions: AVX2");
        let h100 = "NVIDIA H100 PCIe, compute capability 9.0, 114 multiprocessors, 80.0 GiB, driver for CUDA 13.0";
        assert_eq!(lines[1], format!("cuda:0  yes  {h100}"));
        assert_eq!(lines[2], "vm      no   no compiler; searched:");
        assert!(lines[3].starts_with("        ") && lines[3].ends_with("/nowhere"));
    }

    #[test]
    fn machines_read_the_same_in_json() {
        let value = serde_json::to_value(json(&devices())).unwrap();
        assert_eq!(
            value["devices"][0],
            serde_json::json!({
                "device": "cpu", "available": true, "threads": 1, "simd": "AVX2"
            })
        );
        assert_eq!(
            value["devices"][1],
            serde_json::json!({
                "device": "cuda:0", "available": true, "name": "NVIDIA H100 PCIe", "capability": "9.0",
                "multiprocessors": 114, "memory": 85_899_345_920u64, "driver": "13.0"
            })
        );
        assert_eq!(value["devices"][2]["available"], false);
        assert_eq!(value["devices"][2]["reason"], "no compiler; searched:\n  /nowhere");
    }
}
