//! The counters as a report.

use super::{Counters, LineCount, Moved, SharedTraffic};
use crate::isa::Class;
use std::fmt;

/// Lines in the report.
const HOTTEST: usize = 10;

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.classes(f)?;
        self.memory(f)?;
        let SharedTraffic { requests, requested, wavefronts, conflicts } = self.shared;
        if requests != 0 {
            writeln!(f, "\nshared memory: {} requests, {} bytes", grouped(requests), grouped(requested))?;
            writeln!(f, "  {} passes, {} of them conflicts", grouped(wavefronts), grouped(conflicts))?;
        }
        if self.products != 0 {
            let (products, multiply_adds) = (grouped(self.products), grouped(self.multiply_adds));
            writeln!(f, "\ntensor cores: {products} products, {multiply_adds} multiply-adds")?;
        }
        if self.waits != 0 {
            writeln!(f, "\nbarriers: {} waits of a warp", grouped(self.waits))?;
        }
        self.hottest(f)
    }
}

impl Counters {
    fn classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:>15} {:>18} {:>7}", "instructions", "warps", "threads", "active")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, warps: u64, threads: u64| {
            let active = percent(threads, warps * 32);
            writeln!(f, "{name:<12} {:>15} {:>18} {active:>7}", grouped(warps), grouped(threads))
        };
        for class in Class::ALL.into_iter().filter(|class| self.class(*class) != 0) {
            row(f, &format!("  {class:?}"), self.class(class), self.class_threads(class))?;
        }
        row(f, "  all", self.warp_instructions(), self.thread_instructions())
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.allocations.is_empty() {
            return Ok(());
        }
        let [requests, requested, sectors, distinct] = ["requests", "requested", "sectors", "distinct"];
        write!(f, "\n{:<18} {:<7} {requests:>12} {requested:>15}", "device memory", "")?;
        writeln!(f, " {sectors:>12} {distinct:>15} {:>9}", "efficient")?;
        for (name, traffic) in &self.allocations {
            for (direction, moved) in [("read", traffic.read), ("written", traffic.written)] {
                let Moved { requests, requested, sectors, distinct } = moved;
                if requests != 0 {
                    write!(f, "  {name:<16} {direction:<7} {:>12} {:>15}", grouped(requests), grouped(requested))?;
                    write!(f, " {:>12} {:>15}", grouped(sectors), grouped(distinct))?;
                    writeln!(f, " {:>9}", percent(requested, sectors * 32))?;
                }
            }
        }
        Ok(())
    }

    fn hottest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<&LineCount> = self.lines.iter().filter(|line| line.source.is_some()).collect();
        if lines.is_empty() {
            return Ok(());
        }
        // Stable: equally hot lines stay in the order of the source.
        lines.sort_by_key(|line| std::cmp::Reverse(line.warp_instructions));
        let all = self.warp_instructions();
        let [sectors, passes, conflicts] = ["sectors", "passes", "conflicts"];
        write!(f, "\n{:<28} {:>15} {:>7}", "hottest lines", "warps", "share")?;
        writeln!(f, " {sectors:>12} {passes:>12} {conflicts:>12}")?;
        for line in lines.into_iter().take(HOTTEST) {
            let LineCount { source, warp_instructions, global, shared, .. } = line;
            let name = source.as_ref().map(|source| source.to_string()).unwrap_or_default();
            let (warps, share) = (grouped(*warp_instructions), percent(*warp_instructions, all));
            let sectors = grouped(global.read.sectors + global.written.sectors);
            write!(f, "  {name:<26} {warps:>15} {share:>7} {sectors:>12}")?;
            writeln!(f, " {:>12} {:>12}", grouped(shared.wavefronts), grouped(shared.conflicts))?;
        }
        Ok(())
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::{grouped, percent};

    #[test]
    fn numbers_for_readers() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.3 %", "-"]);
    }
}
