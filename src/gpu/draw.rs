//! Operands of a problem that is measured: never zero, of the size of one, the same every time.

use crate::elem::Dtype;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::mat::zeroed;
use crate::random::{Stream, Use};

/// Makes operands on a device.
pub(crate) struct Draw<'a, G: Gpu> {
    pub gpu: &'a G,
    pub op: &'static str,
}

impl<G: Gpu> Draw<'_, G> {
    /// Elements with magnitudes in [2^(e−1), 2^e): sign and fraction are drawn, the exponent is not. `e` from −13 to 15, what
    /// f16 has.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn elements(&self, name: &'static str, dtype: Dtype, len: usize, seed: u32, e: i8) -> Result<G::Buffer> {
        let (bias, fraction_bits) = match dtype {
            Dtype::F16 => (14, 10),
            Dtype::BF16 => (126, 7),
            Dtype::F32 => return self.floats(name, len, seed, e),
        };
        let exponent = (bias + i16::from(e)).unsigned_abs() << fraction_bits;
        let sign_and_fraction = 0x8000 | ((1 << fraction_bits) - 1);
        let mut bits = zeroed::<u16>(name, len)?;
        for (i, bits) in bits.iter_mut().enumerate() {
            *bits = exponent | (hash(i, seed) >> 16) as u16 & sign_and_fraction;
        }
        self.gpu.upload(self.op, name, &bits)
    }

    /// Floats with magnitudes in [2^(e−1), 2^e).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn floats(&self, name: &'static str, len: usize, seed: u32, e: i8) -> Result<G::Buffer> {
        let mut bits = zeroed::<u32>(name, len)?;
        for (i, bits) in bits.iter_mut().enumerate() {
            *bits = (126 + i32::from(e)).unsigned_abs() << 23 | hash(i, seed) & 0x807f_ffff;
        }
        self.gpu.upload(self.op, name, &bits)
    }

    /// Distinct rows of W.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn skeleton(&self, rows: usize, width: usize) -> Result<G::Buffer> {
        // Rows below 2^32, as launches require.
        let chosen = Stream::new(0, Use::Selection).sample(rows, width);
        let chosen: Vec<u32> = chosen.into_iter().map(|row| row as u32).collect();
        self.gpu.upload(self.op, "skeleton", &chosen)
    }
}

/// The exponent of values whose sums of `len` products are of the size of one; at least −13.
pub(crate) fn of_sums(len: usize) -> i8 {
    -((len.max(1).ilog2() / 2).min(13) as i8)
}

/// 32 bits of a counter.
fn hash(i: usize, seed: u32) -> u32 {
    let mixed = (i as u64 ^ u64::from(seed) << 40).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
}

#[cfg(all(test, feature = "vm"))]
mod tests {
    use super::Draw;
    use crate::elem::Dtype;
    use crate::gpu::Gpu as _;
    use crate::gpu::vm::Vm;

    /// Magnitudes in the octave that was asked for, and no two operands alike.
    #[test]
    fn operands_are_of_one_size_and_differ() {
        let vm = &Vm::default();
        let draw = Draw { gpu: vm, op: "test" };
        let all = [1, 2, 3].map(|seed| {
            let mut floats = vec![0f32; 500];
            vm.download("test", &draw.elements("x", Dtype::F32, 500, seed, -2).unwrap(), &mut floats).unwrap();
            let mut halves = vec![half::f16::ZERO; 500];
            vm.download("test", &draw.elements("x", Dtype::F16, 500, seed, -2).unwrap(), &mut halves).unwrap();
            (floats, halves)
        });
        for (floats, halves) in &all {
            let values = floats.iter().copied().chain(halves.iter().map(|x| x.to_f32()));
            assert!(values.map(f32::abs).all(|x| (0.125..0.25).contains(&x)));
        }
        for (i, one) in all.iter().enumerate() {
            for other in &all[..i] {
                let alike = one.0.iter().zip(&other.0).filter(|(a, b)| a == b).count();
                assert!(alike < 5 && one.1 != other.1, "{alike} of 500 floats are alike");
            }
        }
    }
}
