//! Interpolation coefficients: R once, T once.

use super::*;
use idlora::interp;
use idlora::qr::{Factor, Info};

/// A random R whose pivots are spread over the rows.
fn factor(draw: &mut Draw, j: usize, c: usize) -> Factor {
    let jpvt: Vec<u32> = (0..j).map(|b| (b * c / j) as u32).collect();
    let mut r = draw.gaussian(j, c);
    for (b, &p) in jpvt.iter().enumerate() {
        (b + 1..j).for_each(|a| r.row_mut(a)[p as usize] = 0.0);
        r.row_mut(b)[p as usize] = 2.0 + (j as f64).sqrt();
    }
    Factor { jpvt, r, info: Info::default() }
}

/// As multiples of the bytes of R, which are T's too; R₁₁, which every block reads, apart.
#[test]
fn coefficients_read_r_once_and_write_t_once() {
    for (device, vm) in machines() {
        for (groups, c, j) in [(4, 384, 16), (4, 1024, 32), (2, 1024, 64), (1, 1024, 128), (1, 516, 256)] {
            let draw = &mut Draw::new(7);
            let factors: Vec<Factor> = (0..groups).map(|_| factor(draw, j, c)).collect();
            vm.take_launches();
            interp::coeffs_many(&device, &factors).unwrap();
            let launches = vm.take_launches();
            assert_eq!(launches.len(), 1);
            let bytes = (groups * c * j * size_of::<f64>()) as f64;
            let [r, t, panels, tables] = [&["r"][..], &["t"], &["panels"], &["groups", "tiles", "jpvt"]]
                .map(|names| names.iter().map(|name| moved(&launches, name)).sum::<f64>() / bytes);
            let instructions = launches[0].counters.thread_instructions() as f64 / (groups * c * j) as f64;
            let conflicts = conflicts(&launches);
            println!(
                "{groups} × R [{j}, {c}]  r {r:.4}  t {t:.4}  R₁₁ {panels:.4}  tables {tables:.4}  {instructions:>6.1} \
                 instructions an element  {conflicts} bank conflicts"
            );
            assert!((r - 1.0).abs() < 1e-9 && (t - 1.0).abs() < 1e-9, "[{j}, {c}]: r {r}, t {t}");
            assert_eq!(conflicts, 0, "[{j}, {c}]");
        }
    }
}
