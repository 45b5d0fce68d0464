//! What the report says of runs that are made up here.

use idlora_finetune::cost::{Costs, MethodCost};
use idlora_finetune::method::Method;
use idlora_finetune::plot;
use idlora_finetune::report::{rows, sentences, table, thousands};
use idlora_finetune::run::Outcome;
use idlora_finetune::statistics::{deviation, mean, median, quantile};
use idlora_finetune::train::Settings;

fn outcome(method: Method, seed: u64, accuracy: f64, adapter_parameters: usize) -> Outcome {
    Outcome {
        settings: Settings { seed, ..crate::tiny::settings(method) },
        accuracy,
        loss: 0.1,
        documents: (80, 20),
        adapter_parameters,
        head_parameters: 10,
        losses: Vec::new(),
        accuracies: Vec::new(),
        step_seconds: 1.0,
        setup_seconds: 0.25,
        peak_memory: Some(1_000_000 * seed),
    }
}

fn outcomes(default: [f64; 3]) -> Vec<Outcome> {
    let lora =
        [0.96, 0.94, 0.95].into_iter().zip(1..).map(|(accuracy, seed)| outcome(Method::Lora, seed, accuracy, 1000));
    let own = default.into_iter().zip(1..).map(|(accuracy, seed)| outcome(Method::idlora(), seed, accuracy, 500));
    // Seeds come back in any order from a folder.
    lora.chain(own).collect::<Vec<_>>().into_iter().rev().collect()
}

#[test]
fn statistics_are_the_textbooks() {
    let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    assert_eq!((mean(&values), median(&values), median(&values[..3])), (5.0, 4.5, 4.0));
    assert!((deviation(&values) - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
    assert_eq!([0.0, 0.25, 0.5, 0.9, 1.0].map(|share| quantile(&[3.0, 1.0, 2.0], share)), [1.0, 1.5, 2.0, 2.8, 3.0]);
    assert!(deviation(&[1.0]).is_nan() && median(&[]).is_nan());
    assert_eq!([0, 999, 1000, 36_864, 1_234_567].map(thousands), ["0", "999", "1,000", "36,864", "1,234,567"]);
}

#[test]
fn a_row_is_a_method_and_a_column_its_own() {
    // The machine slows down for the second pair: the ratios do not know of it.
    let pairs = vec![[1.5, 2.0], [3.1, 4.0], [1.8, 2.25]];
    let costs = Costs { methods: vec![MethodCost { method: Method::idlora(), pairs }] };
    let rows = rows(&outcomes([0.94, 0.95, 0.93]), Some(&costs));
    assert_eq!(rows.iter().map(|row| row.method).collect::<Vec<_>>(), [Method::Lora, Method::idlora()]);
    assert_eq!(
        (rows[0].seeds.as_slice(), rows[0].accuracies.as_slice()),
        ([1, 2, 3].as_slice(), [0.96, 0.94, 0.95].as_slice())
    );
    let text = table(&rows, true).to_string();
    let cells = |line: &str| {
        line.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[2], ["lora", "95.00 ± 1.00", "3", "1,000", "1.000", "2.25", "1.00", "2", "0.250"]);
    let expected = [
        "idlora linear-softmax pivoted-qr",
        "94.00 ± 1.00",
        "3",
        "500",
        "0.500",
        "1.80",
        "0.78 (0.76–0.79)",
        "2",
        "0.250",
    ];
    assert_eq!(lines[3], expected);
}

#[test]
fn the_verdict_follows_the_numbers() {
    let verdict = |default: [f64; 3]| sentences(&rows(&outcomes(default), None))[0].clone();
    assert!(verdict([0.94, 0.95, 0.94]).ends_with("Found: -0.67 points, LoRA's standard deviation 1.00, 50 %. met."));
    assert!(
        verdict([0.93, 0.94, 0.94]).ends_with("Found: -1.33 points, LoRA's standard deviation 1.00, 50 %. not met.")
    );
    let mut heavy = outcomes([0.99; 3]);
    heavy.iter_mut().for_each(|outcome| outcome.adapter_parameters = 1000);
    assert!(sentences(&rows(&heavy, None))[0].ends_with("not met."));
    assert!(sentences(&rows(&[outcome(Method::Lora, 1, 0.9, 10)], None)).is_empty());
}

#[test]
fn differences_are_taken_seed_by_seed() {
    let mut all = outcomes([0.94, 0.95, 0.93]);
    let other = Method::all()[3];
    all.extend([(1, 0.95), (2, 0.97), (4, 0.5)].map(|(seed, accuracy)| outcome(other, seed, accuracy, 400)));
    let sentences = sentences(&rows(&all, None));
    assert!(sentences[1].contains("linear +1.50 ± 0.50."), "{sentences:?}");
}

#[test]
fn the_plot_shows_every_method() {
    let rows = rows(&outcomes([0.94, 0.95, 0.93]), None);
    let svg = plot::draw(&rows).unwrap();
    assert!(svg.starts_with("<svg width=\"960\" height=\"250\" viewBox=\"0 0 3840 1000\""), "{}", &svg[..90]);
    for text in ["lora", "idlora linear-softmax pivoted-qr", "1,000", "accuracy on the test documents"] {
        assert!(svg.contains(text), "{text}");
    }
    // A mean and three seeds for each.
    assert_eq!(svg.matches("<circle").count(), 8);
}
