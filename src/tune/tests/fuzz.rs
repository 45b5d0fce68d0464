//! Any bytes, and any damage to a record: never a panic, and never another choice that calls itself recorded.

use super::*;
use crate::tune::Source;
use proptest::prelude::*;
use std::sync::OnceLock;

/// A record with three entries. The one looked up has chosen the second way of three.
fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let (_folder, path) = place();
        for tokens in [300, 100, 1000] {
            let (gpu, problem) = pair();
            let problem = Problem { tokens, ..problem };
            let outcome = Tuner::full(&path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
            assert_eq!(outcome.config, config(2));
        }
        std::fs::read_to_string(path).unwrap()
    })
}

fn pair() -> (Fake, Problem) {
    fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5), Way::new(3, 0.75)])
}

fn choose(bytes: &[u8]) -> Outcome {
    let (_folder, path) = place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let (gpu, problem) = pair();
    let outcome = Tuner::cached(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert!(gpu.log().is_empty());
    outcome
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    /// A digit becomes another: what stays JSON most often.
    Digit(usize, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, by)| Damage::Flip(at, by)),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, what)| Damage::Insert(at, what)),
        (any::<usize>(), 1..500usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<usize>(), 1..500usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        (any::<usize>(), 0..10u8).prop_map(|(at, digit)| Damage::Digit(at, digit)),
    ]
}

fn damaged(bytes: &mut Vec<u8>, damage: &Damage) {
    let len = bytes.len().max(1);
    let range = |at: &usize, count: &usize| at % len..(at % len + count).min(bytes.len());
    match damage {
        _ if bytes.is_empty() => {}
        Damage::Flip(at, by) => bytes[at % len] ^= by,
        Damage::Insert(at, what) => drop(bytes.splice(at % len..at % len, what.iter().copied())),
        Damage::Remove(at, count) => drop(bytes.drain(range(at, count))),
        Damage::Repeat(at, count) => {
            let again = bytes[range(at, count)].to_vec();
            bytes.splice(at % len..at % len, again);
        }
        Damage::Digit(at, digit) => {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if let Some(&place) = digits.get(at % digits.len().max(1)) {
                bytes[place] = b'0' + digit;
            }
        }
    }
}

#[test]
fn an_undamaged_record_chooses() {
    let outcome = choose(text().as_bytes());
    assert_eq!((outcome.config, outcome.source, outcome.notices.len()), (config(2), Source::Record, 0));
}

proptest! {
    #[test]
    fn any_bytes_are_a_notice(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let outcome = choose(&bytes);
        prop_assert_eq!((outcome.config, outcome.source), (config(1), Source::Default));
        prop_assert_eq!(outcome.notices.len(), 1);
    }

    #[test]
    fn damage_never_makes_another_choice(damages in prop::collection::vec(damage(), 1..4)) {
        let mut bytes = text().as_bytes().to_vec();
        damages.iter().for_each(|damage| damaged(&mut bytes, damage));
        let outcome = choose(&bytes);
        match outcome.source {
            Source::Record => prop_assert_eq!(outcome.config, config(2)),
            source => {
                prop_assert_eq!((outcome.config, source), (config(1), Source::Default));
                prop_assert!(!outcome.notices.is_empty(), "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
