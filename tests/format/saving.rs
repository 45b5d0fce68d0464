//! A save makes the whole folder or nothing.

use crate::{Sandbox, small, two_modules};
use idlora::Error;
use idlora::adapter::IdLora;
use idlora::format::native::{FILE, load, save};
use idlora::lowrank::Gate;
use std::path::{Path, PathBuf};

fn refusal(dir: &Path, adapters: &[IdLora]) -> (Error, String) {
    let error = save(dir, adapters).unwrap_err();
    let message = error.to_string();
    (error, message)
}

/// A save that fails says why and leaves everything as it was.
#[test]
fn failed_saves_leave_nothing_behind() {
    let sandbox = Sandbox::new();
    let adapters = two_modules();
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    std::fs::write(sandbox.path("file"), "mine").unwrap();
    let before = sandbox.entries();
    let long = "x".repeat(300); // the temporary folder is made and filled; only the renaming fails
    for (name, expected) in [
        ("folder", "it exists already"),
        ("file", "it exists already"),
        ("missing/adapter", "create a folder in it"),
        ("file/adapter", "create a folder in it"),
        (long.as_str(), "create the output folder"),
    ] {
        let (error, message) = refusal(&sandbox.path(name), &adapters);
        assert!(matches!(error, Error::Io { .. }), "{name}: {error:?}");
        assert!(message.contains(expected), "{name}: {message}");
        assert!(message.contains(name.split('/').next().unwrap()), "{name}: {message}");
        assert_eq!(sandbox.entries(), before, "{name}");
    }
    assert_eq!(std::fs::read(sandbox.path("file")).unwrap(), b"mine");
    assert!(std::fs::read_dir(sandbox.path("folder")).unwrap().next().is_none());

    let (error, message) = refusal(&sandbox.path("out"), &[]);
    assert!(matches!(error, Error::Operand { .. }) && message.contains("nothing to save"), "{message}");
    let twins = [small("twin", Gate::Inner), small("twin", Gate::Static)];
    let (error, message) = refusal(&sandbox.path("out"), &twins);
    assert!(matches!(error, Error::Operand { .. }) && message.contains("two modules named `twin`"), "{message}");
    let mut diverged = two_modules();
    let [_, mut gate] = diverged[1].parameters_mut();
    gate.value.row_mut(0)[2] = f32::INFINITY;
    let (error, message) = refusal(&sandbox.path("out"), &diverged);
    assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
    assert!(message.contains("`second.gate` has inf at row 0, column 2"), "{message}");
    assert_eq!(sandbox.entries(), before);
}

#[cfg(unix)]
#[test]
fn dangling_links_and_unwritable_parents_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink(sandbox.path("nowhere"), sandbox.path("link")).unwrap();
    let (_, message) = refusal(&sandbox.path("link"), &two_modules());
    assert!(message.contains("it exists already"), "{message}");

    let parent = sandbox.path("locked");
    std::fs::create_dir(&parent).unwrap();
    std::fs::set_permissions(&parent, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::create_dir(parent.join("probe")).is_ok() {
        println!("skipped: this user may write to a read-only folder");
    } else {
        let (error, message) = refusal(&parent.join("out"), &two_modules());
        assert!(matches!(error, Error::Io { .. }) && message.contains("create a folder in it"), "{message}");
        assert!(std::fs::read_dir(&parent).unwrap().next().is_none());
    }
    if cfg!(target_os = "linux") {
        // Nobody may, not even the superuser.
        let (error, message) = refusal(Path::new("/proc/adapter"), &two_modules());
        assert!(matches!(error, Error::Io { .. }) && message.contains("create a folder in it"), "{message}");
    }
}

/// The folder is as readable to others as any other that this user makes, although it starts as a temporary one.
#[cfg(unix)]
#[test]
fn saved_folders_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.saved(&two_modules());
    std::fs::create_dir(sandbox.path("ordinary")).unwrap();
    std::fs::write(sandbox.path("ordinary/file"), "").unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(sandbox.path("good")), mode(sandbox.path("ordinary")));
    assert_eq!(mode(sandbox.path("good").join(FILE)), mode(sandbox.path("ordinary/file")));
}

#[test]
fn loading_what_is_not_there_names_the_file() {
    let sandbox = Sandbox::new();
    let error = load(&sandbox.path("nothing")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert!(error.to_string().contains(FILE) && error.to_string().contains("read"), "{error}");
    std::fs::create_dir_all(sandbox.path("odd").join(FILE)).unwrap();
    let error = load(&sandbox.path("odd")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
}
