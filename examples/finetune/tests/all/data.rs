//! Documents, splits, batches.

use crate::tiny;
use idlora_finetune::data::{Corpus, Measure, Split, hold_out};
use idlora_finetune::tokens::{self, Batch, Example};
use std::collections::BTreeSet;
use std::fs;

fn counts(labels: &[usize], members: &[usize]) -> Vec<usize> {
    (0..5).map(|class| members.iter().filter(|&&member| labels[member] == class).count()).collect()
}

#[test]
fn a_split_is_a_stratified_partition() {
    let labels: Vec<usize> = (0..523).map(|i| i * i % 7 % 5).collect();
    let members: Vec<usize> = (0..523).filter(|i| i % 11 != 3).collect();
    let Split { train, held_out } = hold_out(&labels, &members, 5, 9);
    let both: BTreeSet<usize> = train.iter().chain(&held_out).copied().collect();
    assert_eq!((train.len() + held_out.len(), both.into_iter().collect::<Vec<_>>()), (members.len(), members.clone()));
    for (all, held) in counts(&labels, &members).into_iter().zip(counts(&labels, &held_out)) {
        assert_eq!(held, (all + 2) / 5);
    }
    assert_eq!(hold_out(&labels, &members, 5, 9), Split { train, held_out: held_out.clone() });
    assert_ne!(hold_out(&labels, &members, 5, 10).held_out, held_out);
}

#[test]
fn validation_never_sees_a_test_document() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_documents(dir.path(), 200);
    let corpus = Corpus::read(dir.path()).unwrap();
    let (test, validation) = (corpus.split(Measure::Test), corpus.split(Measure::Validation));
    assert_eq!((test.train.len(), test.held_out.len()), (160, 40));
    assert_eq!((validation.train.len(), validation.held_out.len()), (144, 16));
    let seen: BTreeSet<_> = validation.train.iter().chain(&validation.held_out).collect();
    assert!(test.held_out.iter().all(|document| !seen.contains(document)));
}

#[test]
fn a_text_counts_once_and_latin_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in
        [("b/1.txt", b"second".as_slice()), ("a/2.txt", b"a \xa3 sign"), ("a/1.txt", b"first"), ("b/2.txt", b"first")]
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(dir.path().join("a/read.me"), "not a document").unwrap();
    let corpus = Corpus::read(dir.path()).unwrap();
    let documents: Vec<_> = corpus.documents.iter().map(|document| (document.class, document.text.as_str())).collect();
    assert_eq!(documents, [(0, "first"), (0, "a £ sign"), (1, "second")]);
    assert_eq!(corpus.classes, ["a", "b"]);
    fs::remove_dir_all(dir.path().join("b")).unwrap();
    assert!(Corpus::read(dir.path()).unwrap_err().to_string().ends_with("expected at least two classes, found 1"));
}

#[test]
fn texts_are_cut_where_the_tokenizer_cuts_them() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let path = dir.path().join("tokenizer.json");
    let tokenizer = tokens::tokenizer(&path, 7).unwrap();
    // The last one: words that make no tokens come before words that do.
    let texts = [
        "Goal, goals!",
        "the bank and the bank and the bank of the bank",
        "a",
        "\u{1} \u{1} \u{1} \u{1} \u{1} \u{1} \u{1} \u{1} goal win",
    ];
    let documents = texts.map(|text| idlora_finetune::data::Document { class: 1, text: text.to_owned() }).to_vec();
    let corpus = Corpus { classes: vec!["x".to_owned(), "y".to_owned()], documents };
    let found = tokens::examples(&corpus, &tokenizer, 7).unwrap();
    assert_eq!(found[0].ids, [2, 4, 1, 4, 18, 1, 3]);
    for (example, text) in found.iter().zip(texts) {
        assert_eq!(example.ids, tokenizer.encode(text, true).unwrap().get_ids(), "{text}");
        assert!(example.ids.len() <= 7);
    }
    assert_eq!((found[1].ids.len(), found[3].ids.as_slice()), (7, [2, 4, 7, 3].as_slice()));
    assert!(tokens::tokenizer(&path, 2).unwrap_err().to_string().contains("found 2"));
    assert!(tokens::tokenizer(&dir.path().join("none.json"), 7).is_err());
}

#[test]
fn a_batch_is_as_wide_as_its_longest_document() {
    let examples = [vec![5, 6, 7], vec![8], vec![9, 10]].map(|ids| Example { ids, class: 1 });
    let batch = Batch::new(&examples, &[2, 1]).unwrap();
    assert_eq!(batch.ids.to_vec2::<u32>().unwrap(), [[9, 10], [8, 0]]);
    assert_eq!((batch.lengths, batch.classes.to_vec1::<u32>().unwrap()), (vec![2, 1], vec![1, 1]));
    assert!(Batch::new(&examples, &[]).is_err());
}
