//! Every refusal, by its message.

use super::*;
use idlora::Error;

fn message<T: std::fmt::Debug>(result: Result<T, Error>, parts: &[&str]) {
    let text = result.expect_err("must be refused").to_string();
    for part in parts {
        assert!(text.contains(part), "`{text}` does not mention `{part}`");
    }
}

#[test]
fn problems_are_refused_by_name() {
    let plan = |rows, cols, clusters, min_size| {
        Plan::new(&Device::Cpu, Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters, min_size })
    };
    message(plan(10, 3, 0, 1), &["cluster", "`clusters`", "is 0", "at least 1"]);
    message(plan(10, 3, 2, 0), &["`min_size`", "is 0", "at least 1"]);
    message(plan(10, 3, 3, 4), &["`min_size`", "is 4", "10 points / 3 clusters = 3"]);
    message(plan(10, 3, 11, 1), &["`min_size`", "10 points / 11 clusters = 0"]);
    message(plan(10, 3, usize::MAX, 2), &["`min_size`"]);
    message(plan(0, 3, 1, 1), &["`w`", "[0, 3]", "at least one row"]);
    message(plan(3, 0, 1, 1), &["`w`", "[3, 0]"]);
    let columns = Desc { rows: 3, cols: 10, axis: Axis::Cols, space: Space::Full, clusters: 10, min_size: 1 };
    assert!(Plan::new(&Device::Cpu, columns).is_ok(), "ten columns are ten points");
}

#[test]
fn operands_are_refused_by_name() {
    for device in all_devices() {
        operands_are_refused(&device);
    }
}

fn operands_are_refused(device: &Device) {
    let data = vec![1.0f32; 60];
    let w = MatRef::new(&data, 20, 3).unwrap();
    let plan = |space| Plan::new(device, desc((20, 3), 2, 1, space)).unwrap();
    let options = Options::default();
    message(plan(Space::Full).run(MatRef::new(&data, 3, 20).unwrap(), &options), &["`w`", "[3, 20]", "[20, 3]"]);
    message(plan(Space::Full).run(w, &Options { max_iterations: 0, ..options }), &["`max_iterations`", "at least 1"]);
    message(plan(Space::Full).run(w, &Options { tolerance: -1.0, ..options }), &["`tolerance`", "-1"]);
    message(plan(Space::Full).run(w, &Options { tolerance: f64::NAN, ..options }), &["`tolerance`", "NaN"]);
    let start = Some(MatRef::new(&data, 3, 2).unwrap());
    message(plan(Space::Full).run(w, &Options { start, ..options }), &["`start`", "[3, 2]", "[2, 3]"]);
    let start = Some(MatRef::new(&data, 2, 3).unwrap());
    message(plan(Space::Norm).run(w, &Options { start, ..options }), &["`start`", "norms"]);
    let broken = [1.0f32, 2.0, 3.0, 4.0, f32::INFINITY, 6.0];
    let start = Some(MatRef::new(&broken, 2, 3).unwrap());
    message(plan(Space::Full).run(w, &Options { start, ..options }), &["`start`", "inf", "row 1, column 1"]);
    let zero = [1.0f32, 2.0, 3.0, 0.0, 0.0, 0.0];
    let start = Some(MatRef::new(&zero, 2, 3).unwrap());
    message(plan(Space::Direction).run(w, &Options { start, ..options }), &["`start`", "all-zero row 1"]);
}

fn bad_entries_are_found<T: Elem>(device: &Device) {
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        for (row, col) in [(0, 0), (33, 40), (69, 16)] {
            let mut matrix = Draw::new(1).gaussian(70, 41);
            matrix.row_mut(row)[col] = value;
            let w = Padded::<T>::new(&matrix, 2);
            for axis in [Axis::Rows, Axis::Cols] {
                for space in [Space::Full, Space::Direction, Space::Norm] {
                    let desc = Desc { axis, ..desc((70, 41), 2, 1, space) };
                    let result = Plan::new(device, desc).unwrap().run(w.view(), &Options::default());
                    message(result, &["`w`", text, &format!("row {row}, column {col}")]);
                }
            }
        }
    }
    let mut matrix = Draw::new(1).gaussian(20, 30);
    matrix.row_mut(13).fill(0.0);
    (0..20).for_each(|i| matrix.row_mut(i)[21] = 0.0);
    let w = Padded::<T>::new(&matrix, 2);
    for (axis, text) in [(Axis::Rows, "all-zero row 13"), (Axis::Cols, "all-zero column 21")] {
        let desc = Desc { axis, ..desc((20, 30), 2, 1, Space::Direction) };
        message(Plan::new(device, desc).unwrap().run(w.view(), &Options::default()), &["`w`", text]);
    }
}

#[test]
fn bad_entries() {
    for device in all_devices() {
        for_every_element!(bad_entries_are_found(&device));
    }
}

#[test]
fn assignments_are_refused_by_name() {
    let costs = [1.0, 2.0, 3.0, f64::NAN, 5.0, 6.0];
    message(assign_min_size(MatRef::new(&costs, 3, 2).unwrap(), 1), &["`distances`", "NaN", "row 1, column 1"]);
    message(assign_min_size(MatRef::new(&costs[4..], 1, 2).unwrap(), 1), &["`min_size`", "1 points / 2 clusters"]);
    message(assign_min_size(MatRef::new(&costs[..2], 2, 1).unwrap(), 0), &["`min_size`", "is 0"]);
    message(assign_min_size(MatRef::new(&costs[..0], 0, 2).unwrap(), 1), &["`distances`", "[0, 2]"]);
    message(assign_min_size(MatRef::new(&costs[..0], 2, 0).unwrap(), 1), &["`distances`", "[2, 0]"]);
}
