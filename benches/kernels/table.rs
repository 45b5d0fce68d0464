//! Results as lines to read.

use crate::record::{Case, Device, Kernel};

/// A device, and what its columns are.
pub fn heading(device: &Device) {
    println!("\n{}: {}", device.name, device.description);
    if let Some(memory) = device.memory {
        println!(
            "memory: {:.1} GB/s{}",
            memory / 1e9,
            if device.model { ", of the data sheet" } else { ", by a copy" }
        );
    }
}

/// What the columns of cases are.
pub fn columns() {
    println!(
        "{:<24} {:<37} {:<4} {:>11} {:>10} {:>8} {:>9} {:>7}  ",
        "operation", "layer", "", "µs", "least MB", "GB/s", "GF/s", "× floor"
    );
}

/// A case, its kernels, and what it is held against; `memory` in bytes a second.
pub fn print(case: &Case, memory: Option<f64>) {
    let name = format!("{:<24} {:<37} {:<4}", case.operation, case.shape, case.dtype);
    if let Some(reason) = &case.failure {
        println!("{name} FAILED on {}: {reason}", case.device);
        return;
    }
    let megabytes = case.least_bytes / 1e6;
    match case.seconds {
        Some(seconds) => {
            let floor = memory.map_or("-".to_owned(), |memory| format!("{:.2}", seconds * memory / case.least_bytes));
            let (rate, pace) = (case.least_bytes / seconds / 1e9, case.operations / seconds / 1e9);
            println!(
                "{name} {:>11.1} {megabytes:>10.3} {rate:>8.1} {pace:>9.1} {floor:>7}  {}",
                seconds * 1e6,
                tail(case)
            );
        }
        None => println!("{name} {:>11} {megabytes:>10.3} {:>8} {:>9} {:>7}  {}", "-", "", "", "", tail(case)),
    }
    case.kernels.iter().for_each(line);
    for peer in &case.peers {
        let ratio = case.seconds.map_or(String::new(), |seconds| format!(", ×{:.3}", seconds / peer.seconds));
        println!("    against {} {:.1} µs{ratio}", peer.name, peer.seconds * 1e6);
    }
}

fn tail(case: &Case) -> String {
    format!("{}  {}", case.device, case.size)
}

fn line(kernel: &Kernel) {
    let mut text = format!("    {:<22} ×{:<3}", kernel.name, kernel.launches);
    if let Some(seconds) = kernel.seconds {
        text += &format!(" {:>9.1} µs", seconds * 1e6);
    }
    if let Some(bound) = &kernel.bound {
        text += &format!(" bound by {bound}");
    }
    if let Some(counters) = &kernel.counters {
        text += &format!(
            " {} thread instructions, {} tensor operations, {} bank conflicts;",
            counters.thread_instructions, counters.tensor_operations, counters.bank_conflicts
        );
        for operand in &counters.operands {
            let [read, written] = [operand.read, operand.written].map(|bytes| bytes as f64 / 1e3);
            text += &match (operand.read, operand.written) {
                (_, 0) => format!(" {} {read:.1} kB", operand.name),
                (0, _) => format!(" {} →{written:.1} kB", operand.name),
                _ => format!(" {} {read:.1} →{written:.1} kB", operand.name),
            };
        }
    }
    println!("{text}");
}
