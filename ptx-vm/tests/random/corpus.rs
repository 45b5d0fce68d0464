//! What the fuzzers start from, replayed; and a little fuzzing of it with fixed seeds on every run of the tests.

use crate::hostile::load_and_run;
use crate::program::{Numbers, check, generate};
use std::path::PathBuf;

/// Mutated texts of each seed.
const MUTANTS: usize = 120;

/// Files of a fuzz target's corpus, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

fn texts() -> Vec<(String, String)> {
    corpus("load").into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect()
}

/// Names starting with `bad` are texts that must be refused, `crash` those that once crashed and may do either; all others
/// load, and a kernel runs.
#[test]
fn texts_of_the_corpus_load_and_run() {
    for (name, text) in texts() {
        let stem = name.rsplit('/').next().unwrap_or_default();
        match load_and_run(&text, 1) {
            _ if stem.starts_with("crash") => {}
            Ok(ran) => assert!(!stem.starts_with("bad") && ran > 0, "{name}: {ran} kernels ran"),
            Err(error) => assert!(stem.starts_with("bad"), "{name}: {error}"),
        }
    }
}

#[test]
fn programs_of_the_corpus_compute_what_they_must() {
    for (name, bytes) in corpus("program") {
        check(&generate(&bytes)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Tokens swapped, dropped, doubled, replaced; numbers changed; texts cut off and spliced. Nothing panics, and an error points
/// into the text.
#[test]
fn mutated_texts_are_refused_with_a_place_or_run_to_an_end() {
    let texts = texts();
    let tokens = dictionary();
    let (mut loaded, mut refused) = (0, 0);
    for (i, (name, text)) in texts.iter().enumerate() {
        let mut numbers = Numbers(i as u64);
        for round in 0..MUTANTS {
            let other = &texts[numbers.below(texts.len())].1;
            let mutant = mutate(text, other, &tokens, &mut numbers);
            match load_and_run(&mutant, round as u64) {
                Ok(_) => loaded += 1,
                Err(error) => {
                    refused += 1;
                    let line = mutant.split('\n').nth(error.line as usize - 1);
                    let columns = line.map(|line| line.chars().count() + 1);
                    assert!(
                        columns.is_some_and(|columns| (1..=columns).contains(&(error.column as usize))),
                        "{name}, mutant {round}: {error} is not a place in\n{mutant}"
                    );
                }
            }
        }
    }
    // Both outcomes must be common, or the mutations are too wild or too tame to find anything.
    assert!(loaded * 10 > refused && refused * 10 > loaded, "{loaded} loaded, {refused} refused");
}

/// The tokens of the fuzzer's dictionary.
fn dictionary() -> Vec<&'static str> {
    let lines = include_str!("../../fuzz/ptx.dict").lines();
    let tokens: Vec<&str> = lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect();
    assert!(tokens.len() > 100);
    tokens
}

/// One to three changes of a text, mostly one.
fn mutate(text: &str, other: &str, dictionary: &[&str], numbers: &mut Numbers) -> String {
    let mut tokens = split(text);
    for _ in 0..[1, 1, 1, 3][numbers.below(4)] {
        if tokens.is_empty() {
            break;
        }
        let (i, j) = (numbers.below(tokens.len()), numbers.below(tokens.len()));
        match numbers.below(12) {
            0 => tokens.swap(i, j),
            1 => drop(tokens.remove(i)),
            2 => tokens.insert(i, tokens[j].clone()),
            3 => tokens[i] = dictionary[numbers.below(dictionary.len())].to_owned(),
            4 => tokens.insert(i, dictionary[numbers.below(dictionary.len())].to_owned()),
            5..=7 => change_number(&mut tokens, i, numbers),
            8 => drop(tokens.drain(i..(i + numbers.below(30)).min(tokens.len()))),
            9 if numbers.below(4) == 0 => tokens.truncate(i),
            _ => {
                // A few lines of another text.
                let from = split(other);
                let start = numbers.below(from.len().max(1));
                let piece = from.iter().skip(start).take(numbers.below(40)).cloned();
                tokens.splice(i..i, piece);
            }
        }
    }
    tokens.concat()
}

/// The next number after token `i` becomes another one.
fn change_number(tokens: &mut [String], i: usize, numbers: &mut Numbers) {
    const EDGES: [&str; 14] = [
        "0",
        "1",
        "-1",
        "3",
        "8",
        "31",
        "32",
        "255",
        "65536",
        "2147483647",
        "4294967295",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999",
    ];
    if let Some(token) = tokens[i..].iter_mut().find(|token| token.starts_with(|c: char| c.is_ascii_digit())) {
        *token = EDGES[numbers.below(EDGES.len())].to_owned();
    }
}

/// Words, numbers, single other characters: what a mutation exchanges.
fn split(text: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '%' || c == '$';
    let mut tokens: Vec<String> = Vec::new();
    let mut previous = ' ';
    for c in text.chars() {
        match tokens.last_mut() {
            Some(token) if word(previous) && word(c) => token.push(c),
            Some(token) if previous == '.' && word(c) => token.push(c),
            _ => tokens.push(c.to_string()),
        }
        previous = c;
    }
    tokens
}
