//! Records as files.

use super::*;
use crate::tune::store::path_from;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// Tunes into whatever is at the path. A choice is always made, from measurements.
fn full(path: &Path) -> Vec<String> {
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5)]);
    let outcome = Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!((outcome.config, gpu.log().is_empty()), (config(2), false));
    outcome.notices
}

/// Looks up in whatever is at the path: the default, with notices.
fn cached(path: &Path) -> Vec<String> {
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5)]);
    let outcome = Tuner::cached(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!(outcome.config, config(1));
    outcome.notices
}

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tune.json");
    (folder, path)
}

fn names(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_broken_record_is_moved_aside_and_never_over_another() {
    let (folder, path) = file();
    for (text, aside) in [("first", ".broken"), ("second", ".broken-2")] {
        fs::write(&path, text).unwrap();
        assert_eq!(cached(&path).len(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "reading changes nothing");
        let notices = full(&path);
        let moved = format!("{}{aside}", path.display());
        assert!(notices[1].ends_with(&format!("; moved to {moved}")), "{notices:?}");
        assert_eq!(fs::read_to_string(moved).unwrap(), text);
        assert_eq!(Record::load(&path).unwrap().entries().len(), 1);
    }
    for number in 3..10 {
        fs::write(format!("{}.broken-{number}", path.display()), "").unwrap();
    }
    fs::write(&path, "tenth").unwrap();
    let notices = full(&path);
    assert!(notices[1].contains("nothing is stored: moving a broken record aside: there are nine"), "{notices:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "tenth");
    assert_eq!(names(&folder).len(), 11, "nine, the record and its lock");
}

#[test]
fn a_record_of_another_version_stays() {
    let (_folder, path) = file();
    for text in [r#"{"schema":2,"better":[]}"#, r#"{"schema":0,"entries":[]}"#] {
        fs::write(&path, text).unwrap();
        assert!(cached(&path)[0].contains("has schema"));
        let notices = full(&path);
        assert!(notices[1].contains("nothing is stored: has schema"), "{notices:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_folder_in_its_place_stays() {
    let (_folder, path) = file();
    fs::create_dir_all(path.join("inside")).unwrap();
    assert!(cached(&path)[0].ends_with("is not a file"));
    assert!(full(&path)[1].ends_with("nothing is stored: is not a file"));
    assert!(path.join("inside").is_dir());
    assert!(Record::load(&path).unwrap_err().to_string().ends_with("is not a file"));
    assert!(Record::clear(&path).is_err());
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_neither_followed_nor_replaced() {
    let (folder, path) = file();
    let elsewhere = folder.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    for content in [None, Some("mine"), Some(entry().0.as_str())] {
        content.into_iter().for_each(|content| fs::write(&elsewhere, content).unwrap());
        assert!(cached(&path)[0].ends_with("is a symbolic link, which is not followed"));
        assert!(full(&path)[1].contains("nothing is stored: is a symbolic link"));
        assert_eq!(fs::read_to_string(&elsewhere).ok().as_deref(), content);
        assert!(path.is_symlink());
    }
    assert!(Record::clear(&path).unwrap() && elsewhere.exists(), "the link is cleared, not what it leads to");

    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(cached(&path)[0].ends_with("is not a file"), "and nobody waits for a writer");
    assert!(full(&path)[1].ends_with("nothing is stored: is not a file"));
    fs::remove_file(&path).unwrap();
    fs::remove_file(folder.path().join("tune.json.lock")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.path().join("tune.json.lock")).status().unwrap().success());
    assert!(full(&path)[0].ends_with("tune.json.lock is not a file"));
}

/// A gigabyte that takes no room.
#[test]
fn a_huge_file_is_not_read() {
    let (folder, path) = file();
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    assert!(cached(&path)[0].contains("has 1073741824 bytes; a record has at most 16777216"));
    assert!(full(&path)[1].contains("; moved to "));
    assert_eq!(names(&folder), ["tune.json", "tune.json.broken", "tune.json.lock"]);
}

#[test]
fn what_the_system_refuses_is_an_error_with_its_reason() {
    let (folder, path) = file();
    fs::write(&path, "").unwrap();
    let below = path.join("tune.json");
    let error = Record::load(&below).unwrap_err();
    assert!(matches!(&error, crate::Error::Io { action: "reading", .. }), "{error}");
    assert!(cached(&below)[0].contains("reading: "));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::write(&path, entry().0).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read(&path).is_err() {
            assert!(cached(&path)[0].contains("reading: "));
            assert!(full(&path)[1].contains("nothing is stored: reading: "));
        } else {
            println!("skipped: this user reads everything");
        }
    }
    drop(folder);
}

#[test]
fn leftovers_of_a_writer_that_was_killed_are_replaced() {
    let (folder, path) = file();
    fs::write(folder.path().join("tune.json.new"), "half a rec").unwrap();
    assert!(full(&path).is_empty());
    assert_eq!(names(&folder), ["tune.json", "tune.json.lock"]);
    Record::load(&path).unwrap();
}

#[test]
fn records_are_merged_exported_and_cleared() {
    let (_folder, path) = place();
    assert!(!Record::clear(&path).unwrap());
    assert_eq!(Record::load(&path).unwrap().entries().len(), 0);
    assert!(!path.parent().unwrap().exists(), "neither makes anything");
    let (text, entry) = entry();
    let record = Record::parse(&text).unwrap();
    assert_eq!(record.get(&entry.key), Some(&entry));
    assert!(record.merge_into(&path).unwrap().is_empty());
    assert!(record.merge_into(&path).unwrap().is_empty());
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "the same measurements are the same bytes");
    assert_eq!(record.to_json(), text);
    assert!(Record::clear(&path).unwrap() && !path.exists());
    fs::create_dir(&path).unwrap();
    assert!(record.merge_into(&path).unwrap_err().to_string().contains("nothing is stored: is not a file"));
}

#[cfg(unix)]
#[test]
fn the_folder_is_made_for_the_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = place();
    full(&path);
    assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[cfg(unix)]
#[test]
fn records_lie_in_the_users_cache() {
    let path = |os: &str, set: &[(&str, &str)]| {
        let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        path_from(os, variable).map(|path| path.to_str().unwrap().to_owned())
    };
    let home = ("HOME", "/home/u");
    let default = Some("/home/u/.cache/idlora/tune.json".to_owned());
    assert_eq!(path("linux", &[home]), default);
    assert_eq!(path("linux", &[home, ("XDG_CACHE_HOME", "/xdg")]), Some("/xdg/idlora/tune.json".to_owned()));
    assert_eq!(path("linux", &[home, ("XDG_CACHE_HOME", "relative")]), default, "as the XDG specification says");
    assert_eq!(path("linux", &[home, ("XDG_CACHE_HOME", "")]), default);
    assert_eq!(
        path("macos", &[home, ("XDG_CACHE_HOME", "/xdg")]),
        Some("/home/u/Library/Caches/idlora/tune.json".to_owned())
    );
    assert_eq!(path("windows", &[home, ("LOCALAPPDATA", "/l")]), Some("/l/idlora/tune.json".to_owned()));
    assert_eq!(path("linux", &[home, ("IDLORA_TUNE", "here.json")]), Some("here.json".to_owned()));
    assert_eq!(path("linux", &[home, ("IDLORA_TUNE", "")]), default);
    assert_eq!(path("linux", &[]), None);
    assert_eq!(path("windows", &[home]), None);
}
