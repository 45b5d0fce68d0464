//! The Gram tier of pivoted QR: rows once for every block of rows of their group, then the Gram matrix alone, then `R`.

use super::*;
use idlora::qr::{Desc, Groups, Plan, Stop, Tier};

/// Rows of a tile of a Gram matrix, `BLOCK` of `kernels/qr_gram.cu`.
const BLOCK: usize = 128;
const GROUPS: usize = 4;
const RANK: usize = 32;

/// Bytes that a kernel asked of an operand: read, and written.
fn asked(launches: &[Launched], kernel: &str, operand: &str) -> (f64, f64) {
    let own = launches.iter().filter(|launch| launch.kernel == kernel);
    let traffic = own.flat_map(|launch| launch.counters.allocations()).filter(|(name, _)| name == operand);
    traffic.fold((0.0, 0.0), |(read, written), (_, t)| {
        (read + t.read.requested as f64, written + t.written.requested as f64)
    })
}

/// Products of 16 × 8 × 16 of the warps' parts, 64 × 32, that reach below the diagonal: all of a tile, six of eight on it.
fn products(size: usize, cols: usize) -> u64 {
    let blocks = size / BLOCK;
    let parts = blocks * (blocks - 1) / 2 * 8 + blocks * 6;
    (parts * 16 * cols.div_ceil(16)) as u64
}

fn count<T: Elem>(device: &Device, vm: &Vm, values: &Mat<f64>) {
    let (rows, cols) = values.shape();
    let data: Vec<T> = weights(values);
    let labels: Vec<u32> = (0..rows).map(|i| (i % GROUPS) as u32).collect();
    let groups = Groups::from_labels(&labels, GROUPS).unwrap();
    let plan = Plan::new(device, Desc { cols, rank: RANK, tier: Tier::Gram, seed: 0 }).unwrap();
    vm.take_launches();
    let factors = plan.run(MatRef::new(&data, rows, cols).unwrap(), &groups, &Stop::default()).unwrap();
    let launches = vm.take_launches();
    assert!(factors.iter().all(|f| f.jpvt.len() == RANK && f.info.handover.is_none()));

    let bytes = size_of_val(data.as_slice()) as f64;
    let size = rows / GROUPS;
    let gate = size as f64 / BLOCK as f64 + 1.0;
    let read = asked(&launches, "qr_gram", "w").0 / bytes;
    let gram = asked(&launches, "qr_gram", "gram").1 / bytes;
    let gram_read = asked(&launches, "qr_cholesky", "gram").0 / (GROUPS * RANK * size * 4) as f64;
    let again = asked(&launches, "qr_products", "w").0 / bytes;
    let r = (RANK * rows * 8) as f64;
    let (r_read, r_written) = asked(&launches, "qr_solve", "r");
    let of = |kernel: &'static str| {
        launches.iter().filter(move |launch| launch.kernel == kernel).map(|launch| &launch.counters)
    };
    let tensor: u64 = of("qr_gram").map(|counters| counters.tensor_products()).sum();
    let triangle = (size * (size + 1) / 2 * cols * GROUPS) as f64 / 2048.0;
    let conflicts = |kernel: &'static str| of(kernel).map(|counters| counters.shared().conflicts).sum::<u64>();
    let kernels = ["qr_gram", "qr_cholesky", "qr_products", "qr_solve"];
    println!(
        "{:>5} {rows:>5}×{cols:<5} Gram: w {read:.3} (gate {gate:.2}), G written {gram:.3}; its rows {gram_read:.3}; \
         products: w {again:.3}; R read {:.2}, written {:.2}; tensor {:.3} of a triangle; conflicts {:?}; \
         million instructions {:?}",
        T::DTYPE.name(),
        r_read / r,
        r_written / r,
        tensor as f64 / triangle,
        kernels.map(conflicts),
        kernels.map(|kernel| of(kernel).map(|c| c.thread_instructions()).sum::<u64>() / 1_000_000),
    );
    assert!(read >= 1.0 && read <= gate, "{rows}×{cols}: rows {read}, gate {gate}");
    assert!(gram_read <= 1.0, "a row of G for every pivot");
    // Every row for each tile of 32 pivots, every pivot for each tile of 32 rows.
    assert!(again <= 2.0 * (RANK as f64 / 32.0), "{rows}×{cols}: products {again}");
    assert_eq!(tensor, GROUPS as u64 * products(size, cols), "{rows}×{cols}");
    assert_eq!(kernels.map(conflicts), [0; 4], "{rows}×{cols}");
}

/// As multiples of the bytes of `W`, of `R` and of 32 rows of every Gram matrix.
#[test]
fn the_gram_tier_reads_rows_once_for_every_block() {
    for (device, vm) in machines() {
        for (rows, cols) in SHAPES {
            // Leads of 2 %, so that every step is decided.
            let mut values = Draw::new(4).gaussian(rows, cols);
            for i in 0..rows {
                values.row_mut(i).iter_mut().for_each(|x| *x *= 0.98f64.powi((i / GROUPS) as i32));
            }
            count::<f16>(&device, &vm, &values);
            count::<bf16>(&device, &vm, &values);
        }
    }
}
