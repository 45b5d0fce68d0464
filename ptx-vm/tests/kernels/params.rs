//! Kernel parameters of every size, structs among them.

use crate::common;
use ptx_vm::Arg;

/// Lays out fields at the offsets that C gives them; padding is garbage, so nobody may rely on it.
fn structure<const N: usize>(fields: &[(usize, &[u8])]) -> [u8; N] {
    let mut bytes = [0xa5; N];
    for (offset, field) in fields {
        bytes[*offset..][..field.len()].copy_from_slice(field);
    }
    bytes
}

#[test]
fn structs_and_scalars_lie_where_c_puts_them() {
    let Some(module) = common::load("kernels/params.cu") else { return };
    let e = [-1i8, 2, -3, 4, -5];
    let h = [1u16, 20_000, 65_535];
    let w = [0.5f32, 1.5, -2.5, 4.0, 1e3];
    let (s, t) = ([9u8, 8, 255], [250u8, 1, 2]);
    let ragged: [u8; 64] = structure(&[
        (0, &[0xfe]), // -2
        (2, &(-300i16).to_le_bytes()),
        (4, &70_000i32.to_le_bytes()),
        (8, &2.5f64.to_le_bytes()),
        (16, &e.map(|e| e as u8)),
        (24, &0.75f32.to_le_bytes()),
        (32, &[100]),
        (40, &(-5_000_000_000i64).to_le_bytes()),
        (48, &h.map(u16::to_le_bytes).concat()),
        (54, &[1]),
        (56, &4_000_000_000u32.to_le_bytes()),
    ]);
    let wide: [u8; 32] = structure(&[(0, &w.map(f32::to_le_bytes).concat())]);
    let found = common::run(&module.kernel("parameters").unwrap(), &common::shape(1, 64), |memory| {
        let out = memory.allocate::<f64>(64).unwrap();
        let arguments = [Arg::value(-7i8), Arg::value(ragged), Arg::value(s), Arg::value(-999i16), Arg::value(t)];
        let rest = [Arg::value(wide), Arg::value(1u8), Arg::value(1i64 << 40), out.into()];
        (arguments.into_iter().chain(rest).collect(), out)
    });
    let t = t.map(f64::from);
    let third = (1u64 << 40) as f64;
    let values = [-7.0, -2.0, -300.0, 7e4, 2.5, 0.75, 100.0, -5e9, 1.0, 4e9, -999.0, 1.0, third, t[0], t[1], t[2]];
    for (i, found) in found.iter().enumerate() {
        // As the kernel is written; its compiler fuses each product into the sum.
        let sum = f64::from(e[i % 5]).mul_add(1000.0, values[i % 16]);
        let sum = f64::from(s[i % 3]).mul_add(1e9, f64::from(h[i % 3]).mul_add(1e6, sum));
        assert_eq!(*found, f64::from(w[i % 5]).mul_add(1e-3, sum), "thread {i}");
    }
}

#[test]
fn a_parameter_can_be_pointed_to_and_changed() {
    let Some(module) = common::load("kernels/params.cu") else { return };
    let table: [i32; 24] = std::array::from_fn(|i| 7 * i as i32 - 50);
    let run = |kernel: &str| {
        common::run(&module.kernel(kernel).unwrap(), &common::shape(1, 32), |memory| {
            let out = memory.allocate::<i32>(32).unwrap();
            (vec![Arg::value(table), out.into()], out)
        })
    };
    assert_eq!(run("grid_constant"), (0..32).map(|t| table[t * 5 % 24]).collect::<Vec<_>>());
    let changed = |t: usize| -> i32 {
        let mut table = table;
        table[t % 24] += 1000 + t as i32;
        (0..24).map(|i| table[(i + t) % 24] * (i as i32 + 1)).sum()
    };
    assert_eq!(run("changed"), (0..32).map(changed).collect::<Vec<_>>());
}
