//! Whether what a call writes lies apart from everything else that it was given.

use crate::operands::{Extent, idlora_matrix, idlora_matrix_mut};
use crate::status::{Answer, Refusal};
use std::ops::Range;

#[derive(Default)]
pub(crate) struct Spans(Vec<Span>);

struct Span {
    name: &'static str,
    bytes: Range<usize>,
    written: bool,
}

impl Spans {
    /// An operand that is read, of elements of so many bytes.
    pub fn read(&mut self, name: &'static str, matrix: &idlora_matrix, element: usize) -> Answer {
        self.add(name, matrix, element, false)
    }

    /// An operand that is written.
    pub fn write(&mut self, name: &'static str, matrix: &idlora_matrix_mut, element: usize) -> Answer {
        self.add(name, &matrix.as_const(), element, true)
    }

    fn add(&mut self, name: &'static str, matrix: &idlora_matrix, element: usize, written: bool) -> Answer {
        let bytes = Extent::of(name, matrix, element)?.span * element;
        let start = matrix.data.addr();
        let Some(end) = start.checked_add(bytes) else {
            return Err(Refusal::argument(format!("`{name}` lies at {start:#x} and would end beyond all memory")));
        };
        if start < end {
            self.0.push(Span { name, bytes: start..end, written });
        }
        Ok(())
    }

    /// Refuses the first pair that shares a byte, if one of it is written.
    pub fn check(&self) -> Answer {
        for (place, one) in self.0.iter().enumerate() {
            for other in &self.0[..place] {
                let apart = one.bytes.end <= other.bytes.start || other.bytes.end <= one.bytes.start;
                if !apart && (one.written || other.written) {
                    let written = if one.written { one.name } else { other.name };
                    return Err(Refusal::argument(format!(
                        "`{}` and `{}` overlap, and `{written}` is written",
                        other.name, one.name
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::{without_provenance, without_provenance_mut};

    #[test]
    fn only_written_operands_must_lie_apart() {
        let read = |at: usize, cols| idlora_matrix { data: without_provenance(at), rows: 2, cols, ld: 8 };
        let write = |at: usize, cols| idlora_matrix_mut { data: without_provenance_mut(at), rows: 2, cols, ld: 8 };
        let of = |at, second: Option<(usize, usize)>, third: Option<(usize, usize)>| {
            let mut spans = Spans::default();
            spans.read("a", &read(at, 4), 4).unwrap();
            if let Some((at, cols)) = second {
                spans.read("b", &read(at, cols), 4).unwrap();
            }
            if let Some((at, cols)) = third {
                spans.write("c", &write(at, cols), 4).unwrap();
            }
            spans.check().map_err(|refusal| refusal.message)
        };
        // a [2, 4] with ld 8 of floats: bytes 100..148.
        assert!(of(100, Some((100, 4)), None).is_ok(), "what is read may be read twice");
        assert!(of(100, None, Some((148, 4))).is_ok(), "ends where the next begins");
        assert_eq!(of(100, None, Some((147, 4))).unwrap_err(), "`a` and `c` overlap, and `c` is written");
        assert!(of(100, None, Some((52, 4))).is_ok(), "begins where the last ends");
        assert!(of(100, None, Some((53, 4))).is_err());
        assert!(of(100, None, Some((116, 4))).is_err(), "in the padding: the spans overlap");
        assert!(of(100, None, Some((100, 0))).is_ok(), "no columns, no elements");
        assert!(of(usize::MAX - 48, Some((1, 1)), None).is_ok(), "ends at the last address");
        let beyond = Spans::default().read("a", &read(usize::MAX - 47, 4), 4).unwrap_err();
        assert!(beyond.message.contains("beyond all memory"), "{}", beyond.message);
    }
}
