//! Cut and damaged texts: an error or a module, never a panic.

use ptx_vm::Module;

const SAMPLE: &str = include_str!("sample.ptx");

const MARKS: &[u8] = b"{}()[]<>.,;:@%$_+-*/!|\"0123456789eEfFxX \n";

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % bound as u64) as usize
    }
}

#[test]
fn the_text_cut_anywhere() {
    let mut refused = 0;
    for end in 0..SAMPLE.len() {
        if let Err(error) = Module::load(&SAMPLE[..end]) {
            refused += 1;
            let lines = SAMPLE[..end].lines().count().max(1) as u32 + 1;
            assert!(error.line >= 1 && error.line <= lines && error.column >= 1, "cut at {end}: {error}");
        }
    }
    assert!(refused > SAMPLE.len() / 2, "{refused} refused");
}

#[test]
fn one_to_eight_bytes_changed() {
    let mut numbers = Numbers(1);
    let mut refused = 0;
    for _ in 0..3000 {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for _ in 0..=numbers.below(8) {
            let place = numbers.below(bytes.len());
            bytes[place] = match numbers.below(3) {
                0 => numbers.below(128) as u8,
                1 => MARKS[numbers.below(MARKS.len())],
                _ => bytes[numbers.below(bytes.len())],
            };
        }
        let text = String::from_utf8_lossy(&bytes);
        refused += usize::from(Module::load(&text).is_err());
    }
    assert!(refused > 1000, "{refused} refused");
}

#[test]
fn lines_swapped_repeated_and_dropped() {
    let mut numbers = Numbers(2);
    for _ in 0..1000 {
        let mut lines: Vec<&str> = SAMPLE.lines().collect();
        for _ in 0..=numbers.below(4) {
            let (a, b) = (numbers.below(lines.len()), numbers.below(lines.len()));
            match numbers.below(3) {
                0 => lines.swap(a, b),
                1 => lines.insert(a, lines[b]),
                _ => drop(lines.remove(a)),
            }
        }
        drop(Module::load(&lines.join("\n")));
    }
}
