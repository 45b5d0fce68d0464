//! Texts that are no records, and entries that are no measurements.

use super::*;
use crate::tune::record::Refusal;

fn broken(text: &str) -> String {
    match Record::parse(text) {
        Err(Refusal::Broken(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// The one entry of a text is not used: why.
fn unused(text: &str) -> String {
    let record = Record::parse(text).unwrap();
    assert_eq!(record.entries().len(), 0);
    let notices = record.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    notices[0].clone()
}

/// The text with a change to its one entry, sealed as if it had been measured so.
fn resealed(change: impl Fn(&mut Entry)) -> String {
    let (_, mut entry) = entry();
    change(&mut entry);
    let mut record = Record::default();
    record.insert(entry);
    record.to_json()
}

#[test]
fn a_text_that_is_no_record_is_broken() {
    let (text, _) = entry();
    let deep = "[".repeat(1 << 20);
    let many = format!(r#"{{"schema":1,"entries":[{}0]}}"#, "0,".repeat(1 << 14));
    for text in [
        "",
        "null",
        "{}",
        "[]",
        "\u{feff}{}",
        "NaN",
        r#"{"schema":1}"#,
        r#"{"schema":1,"entries":{}}"#,
        r#"{"schema":1,"entries":[],"more":0}"#,
        r#"{"schema":1,"schema":1,"entries":[]}"#,
        r#"{"schema":1,"entries":[],"entries":[]}"#,
        r#"{"schema":-1,"entries":[]}"#,
        r#"{"schema":1.5,"entries":[]}"#,
        r#"{"schema":"1","entries":[]}"#,
        r#"{"schema":123456789012345678901234567890,"entries":[]}"#,
        &format!("{text} more"),
        &text[..text.len() - 3],
        &deep,
        &format!(r#"{{"schema":1,"entries":{deep}"#),
        &many,
    ] {
        let reason = broken(text);
        assert!(reason.starts_with("no record: "), "{reason}");
    }
    for end in (0..text.len() - 2).filter(|&end| text.is_char_boundary(end)) {
        broken(&text[..end]);
    }
}

#[test]
fn an_entry_that_is_no_measurement_is_not_used() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (entry, reason) in [
        ("0", "an entry is not used: invalid type"),
        ("null", "an entry is not used"),
        (r#"{"entry":{"key":{}},"digest":""}"#, "missing field"),
        (&nested(100_000), "an entry is not used"),
        (&format!(r#"{{"entry":{},"digest":""}}"#, nested(100_000)), "an entry is not used"),
        (r#"{"entry":"\u001b[2J","digest":""}"#, "an entry is not used"),
    ] {
        let notice = unused(&format!(r#"{{"schema":1,"entries":[{entry}]}}"#));
        assert!(notice.contains(reason), "{notice}");
        assert!(!notice.chars().any(char::is_control) && notice.len() < 400, "{notice}");
    }
}

#[test]
fn an_entry_that_was_changed_is_not_used() {
    let (text, _) = entry();
    for (from, to) in [
        (r#""tokens":2,"#, r#""tokens":1,"#),    // the choice
        (r#""tokens":512"#, r#""tokens":1024"#), // the key
        (r#""samples":[1.0,1.0]"#, r#""samples":[1.0,2.0]"#),
        (r#""modelled":0.5"#, r#""modelled":1e308"#),
        ("winner: 2.00×", "winner: 3.00×"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let notice = unused(&text.replacen(from, to, 1));
        assert!(notice.starts_with("`shared_gemm bf16 m=8"), "{notice}");
        assert!(notice.ends_with("is not used: it was changed after it was measured"), "{notice}");
    }
    for (from, to, reason) in [
        (r#""tokens":2,"#, r#""tokens":99999999999,"#, "invalid value"),
        (r#""tokens":2,"#, r#""tokens":-2,"#, "invalid value"),
        (r#""tokens":2,"#, r#""tokens":2,"tokens":2,"#, "duplicate field"),
        (r#""tokens":2,"#, r#""tokens":2,"stages":3,"#, "unknown field"),
        (r#""kernel":"shared_gemm","tokens":2"#, r#""kernel":"faster_gemm","tokens":2"#, "unknown variant"),
        (r#""modelled":0.5"#, r#""modelled":null"#, "invalid type"),
        (r#""modelled":0.5"#, r#""modelled":"NaN""#, "invalid type"),
        (r#""modelled":0.5"#, r#""modelled":1e999"#, "number out of range"),
        (r#""driver":"1.2""#, r#""driver":"1.2","driver":"1.2""#, "duplicate field"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let notice = unused(&text.replacen(from, to, 1));
        assert!(notice.contains(reason), "{notice}");
    }
}

/// White space is nobody's change.
#[test]
fn a_record_may_be_reformatted() {
    let (text, entry) = entry();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let record = Record::parse(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
    assert_eq!(record.get(&entry.key), Some(&entry));
}

#[test]
fn even_a_sealed_entry_must_make_sense() {
    assert!(unused(&resealed(|entry| entry.measurements[0].samples[0] = -1.0)).contains("-1 are no seconds"));
    assert!(unused(&resealed(|entry| entry.finals[0].seconds[1][0] = -2.0)).contains("-2 are no seconds"));
    assert!(unused(&resealed(|entry| entry.key.device = "\x1b[2J".to_owned())).contains(r"`\u{1b}[2J` is no name"));
    assert!(unused(&resealed(|entry| entry.measurements[1].verdict = "\n".repeat(9))).contains("is no name"));
    assert!(unused(&resealed(|entry| entry.version = "1".repeat(600))).contains("is no name"));
}

#[test]
fn of_several_entries_for_a_key_none_is_used() {
    let (text, _) = entry();
    let line = text.lines().nth(1).unwrap();
    for count in [2, 3] {
        let twice = format!("{{\"schema\":1,\"entries\":[{}]}}", vec![line; count].join(","));
        let record = Record::parse(&twice).unwrap();
        assert_eq!((record.entries().len(), record.notices().len()), (0, count));
        assert!(record.notices()[0].ends_with("the record has several for this key"));
    }
}

/// Entries of a later version survive, but for the one whose key is measured anew.
#[test]
fn what_is_not_understood_is_kept() {
    let (text, entry) = entry();
    let later = text.replacen(r#""version""#, r#""power":300,"version""#, 1);
    let other = later.replacen(r#""tokens":512"#, r#""tokens":1024"#, 1);
    let lines: Vec<&str> = [&later, &other].into_iter().map(|text| text.lines().nth(1).unwrap()).collect();
    let mut record = Record::parse(&format!("{{\"schema\":1,\"entries\":[{}]}}", lines.join(","))).unwrap();
    assert_eq!((record.entries().len(), record.notices().len()), (0, 2));
    assert!(lines.iter().all(|line| record.to_json().contains(line)));
    record.insert(entry.clone());
    let text = record.to_json();
    assert!(!text.contains(lines[0]) && text.contains(lines[1]));
    let record = Record::parse(&text).unwrap();
    assert_eq!((record.entries().len(), record.notices().len()), (1, 1));
}

/// Thousands of entries that are not understood make few notices.
#[test]
fn a_choice_does_not_drown_in_notices() {
    let (_folder, path) = place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!(r#"{{"schema":1,"entries":[{}0]}}"#, "0,".repeat(9999))).unwrap();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0)]);
    let notices = Tuner::cached(&path).choose(&gpu, &problem).unwrap().notices;
    assert_eq!(notices.len(), 9);
    assert!(notices[8].ends_with("9992 more entries are not used"));
}
