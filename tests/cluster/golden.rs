//! Golden vectors by scikit-learn, OR-tools and k-means-constrained; see tests/data/golden/make_cluster.py.

use super::*;

fn golden(group: &str) -> Vec<serde_json::Value> {
    let text = include_str!("../data/golden/cluster.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    all[group].as_array().unwrap().clone()
}

fn integer(value: &serde_json::Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn golden_labels(value: &serde_json::Value) -> Vec<u32> {
    numbers(value).into_iter().map(|label| label as u32).collect()
}

#[test]
fn lloyd_takes_the_steps_of_scikit_learn() {
    for case in golden("kmeans") {
        let (rows, cols, k) = (integer(&case["rows"]), integer(&case["cols"]), integer(&case["k"]));
        let w = Padded::<f32>::new(&Mat::from_vec(numbers(&case["x"]), rows, cols).unwrap(), 1);
        let start = Padded::<f32>::new(&Mat::from_vec(numbers(&case["start"]), k, cols).unwrap(), 0);
        let desc = desc((rows, cols), k, 1, Space::Full);
        for device in all_devices() {
            let run = |max_iterations, tolerance| {
                let options = Options { max_iterations, tolerance, start: Some(start.view()), seed: 0 };
                cluster(&device, w.view(), desc, &options)
            };
            for (step, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
                let got = run(step + 1, 0.0);
                assert_eq!(got.labels, golden_labels(&expected["labels"]), "{rows}×{cols}, step {step}");
                let inertia = expected["inertia"].as_f64().unwrap();
                assert!((got.info.inertia / inertia - 1.0).abs() < 1e-9, "{} for {inertia}", got.info.inertia);
            }
            let full = run(300, 0.0);
            assert_eq!(full.labels, golden_labels(&case["labels"]));
            assert_eq!((full.info.iterations, full.info.converged), (integer(&case["iterations"]), true));
            assert!((full.info.inertia / case["inertia"].as_f64().unwrap() - 1.0).abs() < 1e-9);
            let loose = run(300, case["loose_tolerance"].as_f64().unwrap());
            assert_eq!((loose.info.iterations, loose.info.converged), (integer(&case["loose_iterations"]), true));
        }
    }
}

#[test]
fn assignments_cost_what_a_min_cost_flow_costs() {
    for case in golden("assignments") {
        let costs = Mat::from_vec(numbers(&case["costs"]), integer(&case["rows"]), integer(&case["k"])).unwrap();
        let min_size = integer(&case["min_size"]);
        for labels in
            [assign_min_size(costs.as_ref(), min_size).unwrap(), reference::assign_min_size(costs.as_ref(), min_size)]
        {
            assert!((0..costs.cols()).all(|j| labels.iter().filter(|&&l| l as usize == j).count() >= min_size));
            assert_eq!(reference::objective(costs.as_ref(), &labels), case["optimum"].as_f64().unwrap());
        }
    }
}

#[test]
fn assignments_are_never_worse_than_those_of_k_means_constrained() {
    for case in golden("constrained") {
        let (rows, k) = (integer(&case["rows"]), integer(&case["k"]));
        let distances = Mat::from_vec(numbers(&case["distances"]), rows, k).unwrap();
        let ours = assign_min_size(distances.as_ref(), integer(&case["min_size"])).unwrap();
        let theirs = reference::objective(distances.as_ref(), &golden_labels(&case["labels"]));
        let found = reference::objective(distances.as_ref(), &ours);
        assert!(found <= theirs * (1.0 + 1e-14), "{found} for {theirs}");
    }
}
