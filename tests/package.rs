//! What the manifest promises: the stated Rust version is true of every dependency, and the library pulls no
//! command-line crate.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// The platform's name, so that cargo asks only for crates that this build has already fetched.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", &host()])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn every_dependency_builds_with_the_stated_rust_version() {
    let metadata = metadata(&["--all-features"]);
    let packages = metadata["packages"].as_array().unwrap();
    let stated = |package: &Value| package["rust_version"].as_str().map(version);
    let own =
        packages.iter().find(|package| package["name"] == "idlora").and_then(stated).expect("rust-version is set");
    assert!(packages.len() > 20, "the dependency tree was read");
    for package in packages {
        if let Some(needed) = stated(package) {
            assert!(needed <= own, "{} needs Rust {needed:?}, rust-version says {own:?}", package["name"]);
        }
    }
}

/// Names of the crates that a user of the library compiles.
fn library_tree(metadata: &Value) -> BTreeSet<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap();
    let mut reached = BTreeSet::new();
    let mut open = vec![metadata["resolve"]["root"].as_str().unwrap().to_owned()];
    while let Some(id) = open.pop() {
        if !reached.insert(id.clone()) {
            continue;
        }
        for dependency in node(&id)["deps"].as_array().unwrap() {
            let normal = dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            if normal {
                open.push(dependency["pkg"].as_str().unwrap().to_owned());
            }
        }
    }
    let packages = metadata["packages"].as_array().unwrap();
    let name = |id: &String| packages.iter().find(|package| package["id"] == **id).unwrap()["name"].clone();
    reached.iter().map(|id| name(id).as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_library_pulls_no_command_line_crate() {
    let library = library_tree(&metadata(&[]));
    assert!(library.contains("rayon"), "the tree was walked: {library:?}");
    for crate_name in ["clap", "comfy-table", "indicatif", "plotters", "regex", "criterion", "proptest"] {
        assert!(!library.contains(crate_name), "the library pulls {crate_name}");
    }
    assert!(library_tree(&metadata(&["--all-features"])).contains("clap"), "the feature `cli` does pull it");
}
