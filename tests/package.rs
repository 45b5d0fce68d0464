//! What the manifest promises: the stated Rust version is true of every dependency, and the library pulls no
//! command-line crate.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// The platform's name, so that cargo asks for no crates of others.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

/// Of features that this build has not asked for, crates may still have to be fetched.
fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &host()])
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

/// Names of the crates that a user of the library compiles with these features. Not from `cargo metadata`, which takes the features
/// that other members of the workspace ask for as well.
fn library_tree(features: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "idlora", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_library_pulls_no_command_line_crate() {
    let command_line = ["clap", "comfy-table", "indicatif", "plotters", "regex", "criterion", "proptest"];
    let library = library_tree("");
    assert!(library.contains("rayon"), "the tree was walked: {library:?}");
    for crate_name in command_line.iter().chain(&["candle-core", "cudarc", "ptx-vm", "safetensors"]) {
        assert!(!library.contains(*crate_name), "the library pulls {crate_name}");
    }
    assert!(library_tree("cli").contains("clap"), "the feature `cli` does pull it");
    let candle = library_tree("candle");
    assert!(candle.contains("candle-core"), "the feature `candle` does pull it");
    // candle brings `regex` along.
    for crate_name in command_line.iter().filter(|name| **name != "regex") {
        assert!(!candle.contains(*crate_name), "the feature `candle` pulls {crate_name}");
    }
}
