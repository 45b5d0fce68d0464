//! Modes, keys, and what a record is used for.

use super::*;
use crate::error::Error;
use crate::gpu::tunable::Tunable;
use crate::tune::key::Key;
use crate::tune::{Mode, Source, Stage};
use std::sync::{Arc, Mutex};

/// The default takes 1 s, the second 0.5 s, whatever the model says.
fn pair() -> (Fake, Problem) {
    fake::pair(vec![Way::new(1, 1.0), Way::timed(2, 2.0, |_| 0.5), Way::timed(3, 0.7, |_| 0.9)])
}

fn choose(tuner: &Tuner, gpu: &Fake, problem: &Problem) -> Outcome {
    tuner.choose_by(&gpu.clock(), gpu, problem).unwrap()
}

/// A record in which the second way has won.
fn record() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let (gpu, problem) = pair();
    assert_eq!(choose(&Tuner::full(&path), &gpu, &problem).config, config(2));
    (folder, path)
}

fn untouched(gpu: &Fake) -> bool {
    gpu.log().is_empty() && gpu.state.prepared.get() == 0 && gpu.state.allocations.get() == 0
}

#[test]
fn off_is_the_models_choice() {
    let (gpu, problem) = pair();
    let outcome = choose(&Tuner::off(), &gpu, &problem);
    assert_eq!((outcome.config, outcome.source), (config(3), Source::Model));
    assert_eq!(verdicts(&outcome), ["not timed"; 3]);
    assert!(untouched(&gpu));
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 1.0)]);
    assert_eq!(choose(&Tuner::off(), &gpu, &problem).config, config(1), "the default among equals");
}

#[test]
fn cached_is_the_records_choice_and_else_the_default() {
    let (folder, path) = record();
    let (gpu, problem) = pair();
    let outcome = choose(&Tuner::cached(&path), &gpu, &problem);
    assert_eq!((outcome.config, outcome.source), (config(2), Source::Record));
    assert_eq!(verdicts(&outcome)[2], "winner: 2.00× the default over 3 pairs", "as the record has it");
    assert_eq!(outcome.candidates[2].measured, Some(0.5));
    let nothing = choose(&Tuner::cached(folder.path().join("none/tune.json")), &gpu, &problem);
    assert_eq!((nothing.config, nothing.source, nothing.notices.len()), (config(1), Source::Default, 0));
    assert!(!folder.path().join("none").exists());
    assert!(untouched(&gpu));
}

#[test]
fn full_measures_what_the_record_does_not_know_once() {
    let (_folder, path) = record();
    let (gpu, problem) = pair();
    let outcome = choose(&Tuner::full(&path), &gpu, &problem);
    assert_eq!((outcome.config, outcome.source), (config(2), Source::Record));
    assert!(untouched(&gpu));
    let (gpu, problem) = {
        let (gpu, problem) = pair();
        (gpu, Problem { tokens: 513, ..problem })
    };
    assert_eq!(choose(&Tuner::full(&path), &gpu, &problem).source, Source::Measured);
    assert_eq!(Record::load(&path).unwrap().entries().len(), 2, "merged");
}

/// A table that came with the crate: for those who do not measure and have no record of their own.
#[test]
fn a_shipped_table_is_asked_after_the_record() {
    let tables: &'static [&'static str] = vec!["", &*entry().0.leak()].leak();
    let (_folder, path) = place();
    let (gpu, problem) = pair();
    let cached = Tuner::cached(&path).with_tables(tables);
    let outcome = choose(&cached, &gpu, &problem);
    assert_eq!((outcome.config, outcome.source, outcome.notices.len()), (config(2), Source::Shipped, 0));
    let source = |change: &dyn Fn(&mut Fake, &mut Problem)| {
        let (mut gpu, mut problem) = pair();
        change(&mut gpu, &mut problem);
        choose(&cached, &gpu, &problem).source
    };
    assert_eq!(source(&|gpu, _| gpu.identity.driver = "9".to_owned()), Source::Shipped);
    assert_eq!(source(&|gpu, _| gpu.identity.device = "another".to_owned()), Source::Default);
    assert_eq!(source(&|gpu, _| gpu.identity.multiprocessors = 8), Source::Default);
    assert_eq!(source(&|_, problem| problem.tokens = 1), Source::Default);
    assert_eq!(source(&|_, problem| drop(problem.ways.remove(1))), Source::Default);
    assert_eq!(choose(&Tuner::off().with_tables(tables), &gpu, &problem).source, Source::Model);
    assert_eq!(choose(&Tuner::full(&path).with_tables(tables), &gpu, &problem).source, Source::Measured);
    assert_eq!(choose(&cached, &gpu, &problem).source, Source::Record);
}

#[test]
fn the_shipped_tables_are_records() {
    for text in crate::tune::tables::MEASURED {
        let record = Record::parse(text).unwrap();
        assert!(record.entries().len() > 0 && record.notices().is_empty());
    }
}

/// Ranks whose clocks say different things, and whose threads read at the same time.
#[test]
fn one_record_is_one_choice_on_every_rank() {
    let (_folder, path) = record();
    let ranks: Vec<_> = (1..=8u32)
        .map(|rank| {
            let path = path.clone();
            std::thread::spawn(move || {
                let slow = f64::from(rank);
                let ways = vec![Way::timed(1, 1.0, move |_| slow), Way::new(2, 2.0), Way::new(3, 0.7)];
                let (gpu, problem) = fake::pair(ways);
                let tuner = Tuner::cached(path);
                let outcome = choose(&tuner, &gpu, &problem);
                assert_eq!(outcome, choose(&tuner.clone(), &gpu, &problem));
                outcome
            })
        })
        .collect();
    let outcomes: Vec<Outcome> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0] && outcome.source == Source::Record));
}

#[test]
fn every_part_of_a_key_decides() {
    let (_folder, path) = record();
    let with = |change: &dyn Fn(&mut Fake, &mut Problem)| {
        let (mut gpu, mut problem) = pair();
        change(&mut gpu, &mut problem);
        let outcome = choose(&Tuner::cached(&path), &gpu, &problem);
        (
            outcome.source,
            outcome.notices.into_iter().map(|notice| notice.replace(path.to_str().unwrap(), "…")).collect(),
        )
    };
    let expect = |change: &dyn Fn(&mut Fake, &mut Problem), source: Source, notice: &str| {
        let notices: Vec<String> = Vec::from_iter((!notice.is_empty()).then(|| notice.to_owned()));
        assert_eq!(with(change), (source, notices));
    };
    expect(&|_, problem| problem.tokens = 257, Source::Record, "");
    expect(&|_, problem| problem.tokens = 512, Source::Record, "");
    expect(&|_, problem| problem.tokens = 256, Source::Default, "");
    expect(&|_, problem| problem.shape = "m=8 n=8 align=8".to_owned(), Source::Default, "");
    let foreign =
        "…: foreign: shared_gemm 2×128, raster 1 was measured on Pretender 9000 (7 multiprocessors, driver 1.2)";
    expect(&|gpu, _| gpu.identity.device = "Pretender 9001".to_owned(), Source::Default, foreign);
    expect(&|gpu, _| gpu.identity.multiprocessors = 8, Source::Default, foreign);
    expect(&|gpu, _| gpu.identity.driver = "1.3".to_owned(), Source::Default, foreign);
    let illegal = "…: stale: shared_gemm 2×128, raster 1 is not legal now, though recorded for \
                   `shared_gemm bf16 m=8 n=8 align=16 t=512 on Pretender 9000 (7 multiprocessors, driver 1.2), image e3b0c44298fc`";
    expect(&|_, problem| drop(problem.ways.remove(1)), Source::Default, illegal);
    expect(&|_, problem| problem.ways[1].modelled = Err("too big"), Source::Default, illegal);
}

/// Kernels of another build: the record says so, is not used, and keeps both.
#[test]
fn other_kernels_make_a_record_stale() {
    let Some((gpu, problem)) = with_image(0) else { return };
    let (_folder, path) = record();
    let outcome = choose(&Tuner::cached(&path), &gpu, &problem);
    assert_eq!(outcome.source, Source::Default);
    assert!(outcome.notices[0].ends_with("stale: shared_gemm 2×128, raster 1 was measured with other kernels"));
    assert_eq!(choose(&Tuner::full(&path), &gpu, &problem).source, Source::Measured);
    assert_eq!(Record::load(&path).unwrap().entries().len(), 2);

    let key = |problem: &Problem| Key::of(&gpu, problem).unwrap().image;
    let image = |images: &[usize]| key(&Problem { images: images.to_vec(), ..pair().1 });
    assert_ne!(image(&[0]), image(&[1]));
    assert_ne!(image(&[0, 1]), image(&[1, 0]));
    assert_eq!(image(&[0]).len(), 64);
}

/// With a real image; `None`, said aloud, where there is no compiler and none is required.
fn with_image(image: usize) -> Option<(Fake, Problem)> {
    let (gpu, problem) = pair();
    let problem = Problem { images: vec![image], ..problem };
    match Key::of(&gpu, &problem) {
        Ok(_) => Some((gpu, problem)),
        Err(error) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn a_graph_capture_is_refused_before_anything_happens() {
    let (_folder, path) = place();
    let (gpu, problem) = pair();
    let gpu = Fake { capturing: true, ..gpu };
    let error = Tuner::full(&path).choose(&gpu, &problem).unwrap_err();
    assert!(matches!(error, Error::Unsupported { op: "shared_gemm", .. }));
    assert_eq!(error.to_string(), "shared_gemm: a graph is being captured, where nothing can be timed: tune before");
    assert!(untouched(&gpu) && !path.exists());
    // What measures nothing may go on.
    for tuner in [Tuner::cached(&path), Tuner::off()] {
        choose(&tuner, &gpu, &problem);
    }
    assert!(untouched(&gpu));
}

#[test]
fn a_key_reads_well() {
    let (gpu, problem) = pair();
    let expected = "shared_gemm bf16 m=8 n=8 align=16 t=512 on Pretender 9000 (7 multiprocessors, driver 1.2), \
                    image e3b0c44298fc";
    assert_eq!(choose(&Tuner::off(), &gpu, &problem).key, expected);
    assert_eq!(problem.kernel(), "shared_gemm");
}

#[test]
fn a_listener_hears_of_every_stage() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    let (_folder, path) = place();
    let tuner = Tuner::full(path).on_progress(move |progress| {
        assert!(progress.key.to_string().starts_with("shared_gemm bf16"));
        listener.lock().unwrap().push((progress.stage, progress.config, progress.done, progress.total));
    });
    let (gpu, problem) = pair();
    choose(&tuner, &gpu, &problem);
    let heard = heard.lock().unwrap();
    let timing: Vec<_> = heard.iter().filter(|(stage, ..)| *stage == Stage::Timing).collect();
    assert_eq!(timing.len(), 3);
    assert_eq!(*timing[2], (Stage::Timing, config(2), 2, 3));
    assert!(heard.contains(&(Stage::Comparing, config(2), 2, 9)));
    assert_eq!(heard.last().unwrap(), &(Stage::Verifying, config(2), 0, 1));
}

#[test]
fn a_tuner_can_be_shared() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>(_: &T) {}
    let tuner = Tuner::full("tune.json").on_progress(|_| ());
    shared(&tuner);
    assert_eq!(tuner.mode(), Mode::Full);
    assert!(format!("{tuner:?}").contains("listens: true"));
}

/// A choice is made wherever the record cannot be.
#[test]
fn a_place_that_cannot_be_written_is_a_notice() {
    let (folder, _) = place();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let (gpu, problem) = pair();
    let outcome = choose(&Tuner::full(file.join("tune.json")), &gpu, &problem);
    assert_eq!((outcome.config, outcome.source), (config(2), Source::Measured));
    assert!(outcome.notices.iter().any(|notice| notice.contains("nothing is stored")), "{:?}", outcome.notices);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
}
