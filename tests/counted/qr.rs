//! Truncated pivoted QR, exact tier: the rows once a step, and what the basis costs.

use super::*;
use idlora::qr::{Desc, Groups, Plan, Stop, Tier};

const GROUPS: usize = 4;

fn count<T: Elem>(device: &Device, vm: &Vm, values: &Mat<f64>, rank: usize) {
    let (rows, cols) = values.shape();
    let data: Vec<T> = weights(values);
    let bytes = size_of_val(data.as_slice()) as f64;
    let labels: Vec<u32> = (0..rows).map(|i| (i % GROUPS) as u32).collect();
    let groups = Groups::from_labels(&labels, GROUPS).unwrap();
    let plan = Plan::new(device, Desc { cols, rank, tier: Tier::Exact, seed: 0 }).unwrap();
    vm.take_launches();
    let factors = plan.run(MatRef::new(&data, rows, cols).unwrap(), &groups, &Stop::default()).unwrap();
    assert!(factors.iter().all(|f| f.jpvt.len() == rank));
    let launches = vm.take_launches();
    assert_eq!(launches.iter().filter(|launch| launch.kernel == "qr_exact").count(), 1, "all groups in one launch");
    let w = moved(&launches, "w") / bytes;

    // Step j reads the vectors so far twice and a half: for v, for their products with v, for Q h; it writes v, reads it
    // and writes q; and every block reads q. The machine has teams of `resident` blocks.
    let (parts, steps) = (4.0, rank as f64);
    let vectors = steps * (steps - 1.0) / 2.0 * 3.0 + steps * (3.0 + parts);
    let basis = moved(&launches, "basis") / (vectors * (GROUPS * cols * 8) as f64);
    let others = ["r", "residuals", "partial", "coeffs", "leaders", "squares", "rows"];
    let others = others.map(|operand| moved(&launches, operand)).iter().sum::<f64>() / bytes;
    let instructions: u64 = launches.iter().map(|launch| launch.counters.thread_instructions()).sum();
    let (each, conflicts) = (instructions as f64 / (data.len() * rank) as f64, conflicts(&launches));
    let gate = steps + 2.0;
    println!(
        "{:>5} {rows:>5}×{cols:<5} rank {rank}  w {w:.3}  gate {gate:.0}  basis {basis:.4} of its count  others {others:.3}  \
         {each:>4.1} instructions an element and step  {conflicts} bank conflicts",
        T::DTYPE.name()
    );
    assert!(w >= 1.0 && w <= gate, "{rows}×{cols}: w {w}, gate {gate}");
    assert!(basis <= 1.01, "{rows}×{cols}: basis {basis}");
    assert_eq!(conflicts, 0, "{rows}×{cols}");
}

/// As multiples of the bytes of `W`. No row of Gaussian ones falls to a tenth of its norm in so few steps, so none is
/// computed anew; that would show in `basis`.
#[test]
fn qr_reads_rows_once_a_step() {
    for (device, vm) in machines() {
        let [small, large] = SHAPES.map(|(rows, cols)| Draw::new(1).gaussian(rows, cols));
        count::<f16>(&device, &vm, &small, 16);
        count::<bf16>(&device, &vm, &small, 32);
        count::<f32>(&device, &vm, &small, 16);
        count::<bf16>(&device, &vm, &large, 16);
    }
}
