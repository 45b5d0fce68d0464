//! A run that is killed ends with the very same bits.

use crate::tiny;
use idlora_finetune::disk;
use idlora_finetune::method::Method;
use idlora_finetune::model::Weights;
use idlora_finetune::run::{CHECKPOINT, Outcome, RESULT};
use idlora_finetune::tokens::Example;
use idlora_finetune::train::{Settings, Trainer, schedule};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// All numbers that a run leaves, as bits.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let of = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let state = trainer.state().unwrap();
    let mut all: Vec<_> =
        state.into_iter().map(|(name, tensor)| (name, of(tensor.flatten_all().unwrap().to_vec1().unwrap()))).collect();
    all.sort();
    all.push(("losses".to_owned(), of(trainer.history().losses.clone())));
    all.push(("accuracies".to_owned(), of(trainer.history().accuracies.clone())));
    all
}

fn start(weights: &Weights, settings: Settings) -> Trainer {
    Trainer::new(weights, 2, &(0..40).collect::<Vec<_>>(), settings).unwrap()
}

fn steps(trainer: &mut Trainer, examples: &[Example], count: usize) {
    (0..count).for_each(|_| trainer.step(examples).unwrap());
}

#[test]
fn resumed_is_uninterrupted_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let (weights, examples) = (Weights::read(dir.path()).unwrap(), tiny::examples(60));
    for method in [Method::Head, Method::Lora, Method::idlora()] {
        let (settings, path) = (tiny::settings(method), dir.path().join(method.folder()).join(CHECKPOINT));
        let mut whole = start(&weights, settings);
        assert_eq!(whole.total(), 10);
        steps(&mut whole, &examples, 10);

        let mut killed = start(&weights, settings);
        assert!(!killed.resume(&path).unwrap());
        steps(&mut killed, &examples, 4);
        killed.save(&path).unwrap();
        steps(&mut killed, &examples, 2); // lost
        drop(killed);
        let mut resumed = start(&weights, settings);
        assert!(resumed.resume(&path).unwrap());
        assert_eq!(resumed.done(), 4);
        steps(&mut resumed, &examples, 6);

        assert_eq!(bits(&whole), bits(&resumed), "{method}");
        assert_eq!(resumed.history().seconds.len(), 10);
        let held_out: Vec<usize> = (40..60).collect();
        let evaluate = |trainer: &Trainer| trainer.evaluate(&examples, &held_out, |_| ()).unwrap();
        assert_eq!(evaluate(&whole), evaluate(&resumed));
    }
}

#[test]
fn seeds_decide_and_training_helps() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let weights = Weights::read(dir.path()).unwrap();
    // Nothing but the words that tell the classes apart.
    let mut examples = tiny::examples(160);
    examples.iter_mut().for_each(|example| example.ids = vec![2, example.ids[1], example.ids[1], 3]);
    let run = |seed: u64| {
        let settings = Settings { seed, ..tiny::settings(Method::idlora()) };
        let mut trainer = Trainer::new(&weights, 2, &(0..160).collect::<Vec<_>>(), settings).unwrap();
        steps(&mut trainer, &examples, 40);
        trainer
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(bits(&one), bits(&again));
    assert_ne!(bits(&one), bits(&other));
    let losses = &one.history().losses;
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(mean(&losses[30..]) < 0.7 * mean(&losses[..5]), "{losses:?}");
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let (weights, examples) = (Weights::read(dir.path()).unwrap(), tiny::examples(60));
    let (settings, path) = (tiny::settings(Method::Head), dir.path().join(CHECKPOINT));
    let mut trainer = start(&weights, settings);
    steps(&mut trainer, &examples, 1);
    trainer.save(&path).unwrap();
    let refused = |trainer: &mut Trainer| trainer.resume(&path).unwrap_err().to_string();
    let message = refused(&mut start(&weights, Settings { seed: 4, ..settings }));
    assert!(message.contains("settings: expected") && message.contains("\"seed\":4"), "{message}");
    let mut others = Trainer::new(&weights, 2, &(20..60).collect::<Vec<_>>(), settings).unwrap();
    assert!(refused(&mut others).contains("order: expected the documents of this run"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(&mut start(&weights, settings)).contains("checkpoint: expected safetensors"));
    assert!(Trainer::new(&weights, 2, &[0, 1, 2], settings).is_err());
}

#[test]
fn the_rate_rises_and_falls_linearly() {
    let rates: Vec<f64> = (0..50).map(|step| schedule(step, 50)).collect();
    assert!(rates.iter().all(|&rate| rate > 0.0 && rate <= 1.0));
    assert!((rates[0] - 0.1).abs() < 1e-12 && (rates[4] - 0.9).abs() < 1e-12);
    assert!((rates[5] - 44.5 / 45.0).abs() < 1e-12 && (rates[49] - 0.5 / 45.0).abs() < 1e-12);
    for total in 1..5 {
        assert!((0..total).all(|step| schedule(step, total).is_finite()));
    }
}

fn spawn(data: &Path, out: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_finetune"))
        .args(["run", "--method", "idlora", "--seed", "5", "--batch", "4", "--max-tokens", "12", "--checkpoint", "1"])
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(out)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_process_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(&dir.path().join("model"));
    tiny::write_documents(&dir.path().join("documents"), 600);
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    assert!(spawn(dir.path(), &whole).wait().unwrap().success());

    let mut child = spawn(dir.path(), &killed);
    while !killed.join(CHECKPOINT).exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(killed.join(CHECKPOINT).exists() && !killed.join(RESULT).exists(), "the run ended before it was killed");

    assert!(spawn(dir.path(), &killed).wait().unwrap().success());
    let read = |out: &Path| disk::read_json::<Outcome>(&out.join(RESULT)).unwrap();
    let (whole, resumed) = (read(&whole), read(&killed));
    assert_eq!(whole.losses.len(), 120);
    assert_eq!((whole.losses, whole.accuracies), (resumed.losses, resumed.accuracies));
    assert_eq!((whole.accuracy, whole.loss), (resumed.accuracy, resumed.loss));
    assert_eq!(whole.documents, (480, 120));
    assert!(!killed.join(CHECKPOINT).exists());
}
