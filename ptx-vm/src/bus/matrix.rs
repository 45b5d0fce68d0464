//! `ldmatrix`: 8 × 8 matrices of 16-bit elements from shared memory into the registers of a warp.

use super::report::{Request, Verb};
use super::shared::low;
use super::{BlockMemory, Bus, Lanes32, Lanes64, lanes};
use crate::check::At;
use crate::isa::{Order, Space};
use crate::memory::POISON;

impl Bus<'_> {
    /// `ldmatrix`: row r of matrix i is 16 bytes at lane 8i+r's address. `out[i]` is register i of every lane.
    pub fn load_matrix(
        &mut self,
        block: &mut BlockMemory,
        at: At,
        transposed: bool,
        address: &Lanes64,
        out: &mut [Lanes32],
    ) {
        let count = out.len().min(4);
        let mask = u32::MAX >> (32 - 8 * count.max(1));
        let request = Request { at, verb: Verb::Read, space: Space::Shared, size: 16, order: Order::Weak };
        let offset = low(address);
        let valid = self.shared_bounds(block, request, mask, &offset);
        let clean = self.shared_read(block, request, valid, &offset);
        let row = |lane: usize| {
            let start = offset[lane] as usize;
            let bytes = if valid >> lane & 1 == 1 { block.shared.bytes.get(start..start + 16) } else { None };
            bytes.and_then(|bytes| bytes.first_chunk()).copied().unwrap_or(std::array::from_fn(|i| POISON[i % 2]))
        };
        for (i, out) in out.iter_mut().enumerate().take(count) {
            let rows: [[u8; 16]; 8] = std::array::from_fn(|r| row(8 * i + r));
            let element = |row: usize, column: usize| {
                u32::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]))
            };
            for (lane, out) in out.iter_mut().enumerate() {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                *out = match transposed {
                    false => element(row, column) | element(row, column + 1) << 16,
                    true => element(column, row) | element(column + 1, row) << 16,
                };
            }
        }
        for i in 0..count {
            self.matrix_race(block, at, transposed, clean >> (8 * i), &offset[8 * i..8 * i + 8]);
        }
        self.recorder.matrix(at.pc, count as u32, &offset);
    }

    /// Every lane reads the elements that it receives, whoever named their row.
    fn matrix_race(&mut self, block: &mut BlockMemory, at: At, transposed: bool, clean: u32, rows: &[u64]) {
        if block.shared.races.is_none() {
            return;
        }
        let mut read = |size: u32, place: &dyn Fn(usize) -> (usize, usize)| {
            let request = Request { at, verb: Verb::Read, space: Space::Shared, size, order: Order::Weak };
            let mask = lanes::select(u32::MAX, |lane| clean >> place(lane).0 & 1 == 1);
            let offset = std::array::from_fn(|lane| {
                let (row, byte) = place(lane);
                rows[row] + byte as u64
            });
            self.shared_race(block, request, mask, &offset, |_, _| true);
        };
        if transposed {
            read(2, &|lane| (2 * (lane % 4), 2 * (lane / 4)));
            read(2, &|lane| (2 * (lane % 4) + 1, 2 * (lane / 4)));
        } else {
            read(4, &|lane| (lane / 4, 4 * (lane % 4)));
        }
    }
}
