//! What is refused, with what words, and that nothing is left behind.

use crate::common::matrices::Draw;
use crate::support::{MINILM, QUERY, Tensor, entries, folder, manifest_path, refuse, run, save, succeed};
use idlora::{Dtype, Mat};
use std::path::Path;

/// `init` on `weights`, which must fail and leave no folder.
#[track_caller]
fn refuse_init(weights: &Path, options: &str, expected: &[&str]) {
    let dir = folder();
    let out = dir.path().join("adapter");
    refuse(&format!("init {{weights}} {options} --out {{out}}"), &[("weights", weights), ("out", &out)], expected);
    assert!(entries(dir.path()).is_empty(), "{:?}", entries(dir.path()));
}

#[test]
fn files_that_are_no_weights() {
    let dir = folder();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let good = std::fs::read(manifest_path(MINILM)).unwrap();
    refuse_init(&write("empty.safetensors", b""), "", &["empty.safetensors", "the file is empty"]);
    refuse_init(&write("cut.safetensors", &good[..good.len() - 1]), "", &["cut.safetensors", "truncated"]);
    refuse_init(&write("head.safetensors", &good[..100]), "", &["head.safetensors", "truncated"]);
    let mut corrupt = good.clone();
    corrupt[20] = b'"';
    refuse_init(&write("corrupt.safetensors", &corrupt), "", &["corrupt.safetensors", "the header is corrupt"]);
    refuse_init(&write("model.bin", b"PK\x03\x04 some zip file"), "", &["model.bin", "PyTorch"]);
    refuse_init(&write("model.gguf", b"GGUF\x03\0\0\0 some more"), "", &["model.gguf", "GGUF"]);
    refuse_init(&write("x.index.json", b"{}"), "", &["x.index.json", "weight_map"]);
    refuse_init(dir.path(), "", &["is a folder"]);
    refuse_init(&dir.path().join("gone.safetensors"), "", &["gone.safetensors", "No such file"]);
}

#[test]
fn tensors_that_cannot_be_adapted() {
    let dir = folder();
    let path = dir.path().join("ids.safetensors");
    let file = |dtype: &str, bytes: usize| {
        let header = format!(r#"{{"a.weight":{{"dtype":"{dtype}","shape":[8,4],"data_offsets":[0,{bytes}]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + bytes, 0);
        std::fs::write(&path, file).unwrap();
    };
    for (dtype, bytes) in [("I64", 256), ("F8_E4M3", 32), ("F64", 256), ("F12", 48)] {
        file(dtype, bytes);
        refuse_init(&path, "", &["ids.safetensors", "`a.weight`", dtype]);
        refuse_init(&path, "--match weight", &["ids.safetensors", "`a.weight`", dtype, "only F16, BF16 and F32"]);
    }
    let vector = dir.path().join("vector.safetensors");
    save(&vector, &[Tensor::vector("norm.weight", Dtype::F32, &[1.0; 8])]);
    refuse_init(&vector, "", &["vector.safetensors", "no two-dimensional", "--match"]);
    refuse_init(&vector, "--match norm", &["--match `norm` finds no matrix", "[8]"]);
}

#[test]
fn nan_and_infinity_are_placed() {
    let dir = folder();
    let path = dir.path().join("w.safetensors");
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let mut draw = Draw::new(11);
            let mut w: Mat<f64> = draw.gaussian(64, 10);
            w.row_mut(41)[3] = value;
            w.row_mut(50)[0] = f64::NAN;
            save(
                &path,
                &[Tensor::matrix("a.weight", dtype, &draw.gaussian(64, 10)), Tensor::matrix("b.weight", dtype, &w)],
            );
            refuse_init(&path, "--rank 4", &["`b.weight`", text, "row 41, column 3"]);
        }
    }
}

#[test]
fn parameters_outside_the_method() {
    let weights = manifest_path(MINILM);
    for (options, expected) in [
        ("--match query --rank 97", &["rank", "97 with 4 clusters", "384 rows"][..]),
        ("--match query --clusters 25", &["rank", "16 with 25 clusters", "384 rows"]),
        ("--match query --min-size 15", &["min_size", "at least the rank, 16"]),
        ("--match query --min-size 97", &["min_size", "97 with 4 clusters", "384 rows"]),
        ("--match query --split 3", &["split", "divisor"]),
        ("--match query --rank 15", &["split", "divisor of the rank, 15"]),
        ("--match query --rank 0", &["rank", "at least 1"]),
        ("--match query --clusters 0", &["clusters", "at least 1"]),
        ("--match query --split 0", &["split", "at least 1"]),
        ("--match query --alpha nan", &["alpha", "finite"]),
        ("--rank 18446744073709551615", &["rank", "18446744073709551615"]),
        ("--pattern query=97:1", &[QUERY, "97 with 4 clusters"]),
        ("--pattern key=8:8 --pattern nothing=4:4", &["--pattern `nothing`", "no module"]),
        ("--pattern .=8:8 --pattern query=4:4", &["--pattern `query`", "order of the patterns"]),
        ("--match nothing", &["--match `nothing` matches none of the 6 tensors"]),
        ("--rank 400", &["no matrix fits", "6 matrices left out", "400 with 4 clusters", "384 rows"]),
    ] {
        refuse_init(&weights, options, expected);
    }
}

#[test]
fn an_all_zero_row_has_no_direction() {
    let dir = folder();
    let path = dir.path().join("w.safetensors");
    let mut w = Draw::new(12).gaussian(64, 10);
    w.row_mut(9).fill(0.0);
    save(&path, &[Tensor::matrix("a.weight", Dtype::F32, &w)]);
    refuse_init(&path, "--rank 4 --cluster-by direction", &["a.weight", "row 9"]);
    // In the other spaces it is a row like any other.
    for space in ["full", "norm"] {
        let out = dir.path().join(space);
        let line = format!("init {{weights}} --rank 4 --cluster-by {space} --out {{out}}");
        succeed(&line, &[("weights", &path), ("out", &out)]);
    }
}

#[test]
fn usage_errors_are_told_before_anything_is_read() {
    let dir = folder();
    let out = dir.path().join("adapter");
    for (options, expected) in [
        ("--match (", "unclosed group"),
        ("--pattern (=4:4", "unclosed group"),
        ("--pattern query=4", "RANK:ALPHA"),
        ("--pattern query", "REGEX=RANK:ALPHA"),
        ("--plot x.pdf", ".svg or .png"),
        ("--plot x", ".svg or .png"),
        ("--select best", "pivoted-qr"),
        ("--gate none", "linear-softmax"),
        ("--cluster-by cosine", "direction"),
        ("--layout columns", "in-out"),
        ("--device tpu", "cpu"),
        ("--threads 0", "threads"),
        ("--rank -1", "-1"),
        ("--seed 1.5", "1.5"),
        ("--unknown", "--unknown"),
    ] {
        let outcome = run(&format!("init does-not-exist.safetensors {options} --out {{out}}"), &[("out", &out)]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{options}: {outcome:?}");
        assert!(
            outcome.stderr.starts_with("error: ") && outcome.stderr.contains(expected),
            "{options}: {}",
            outcome.stderr
        );
    }
    assert_eq!(run("init does-not-exist.safetensors", &[]).code, 2, "--out is needed");
    assert_eq!(run("", &[]).code, 2);
    assert!(entries(dir.path()).is_empty());
}

#[test]
fn outputs_that_cannot_be_made_are_refused_before_the_work() {
    let dir = folder();
    let weights = dir.path().join("gone.safetensors"); // never opened: the output is refused first
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("there")).unwrap();
    std::fs::write(path("file"), "mine").unwrap();
    std::fs::write(path("plot.svg"), "mine").unwrap();
    let with = |out: &str, options: &str, expected: &[&str]| {
        let (out, plot, far) = (path(out), path("plot.svg"), path("far/plot.svg"));
        let paths: &[(&str, &Path)] = &[("weights", &weights), ("out", &out), ("plot", &plot), ("far", &far)];
        refuse(&format!("init {{weights}} --out {{out}} {options}"), paths, expected);
    };
    with("there", "", &["there", "is there already"]);
    with("file", "", &["file", "is there already"]);
    with("no/folder", "", &["the folder", "does not exist"]);
    with("file/below", "", &["does not exist"]);
    with("new", "--plot {plot}", &["plot.svg", "is there already"]);
    with("new", "--plot {far}", &["far", "does not exist"]);
    with("new.svg", "--plot {out}", &["--plot and --out", "new.svg"]);
    assert_eq!(std::fs::read(path("file")).unwrap(), b"mine");
    assert_eq!(entries(dir.path()), ["file", "plot.svg", "there"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_refused_before_the_work() {
    // /proc refuses new files to everybody, root included.
    if !Path::new("/proc/self").exists() {
        eprintln!("skipped: no /proc");
        return;
    }
    refuse(&format!("init {MINILM} --out /proc/adapter"), &[], &["/proc/adapter", "cannot be written"]);
}

#[test]
fn adapters_that_are_none() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let (adapter, cut) = (path("adapter"), path("cut"));
    succeed(&format!("init {MINILM} --match query --out {{out}}"), &[("out", &adapter)]);
    let stored = std::fs::read(adapter.join("adapter.safetensors")).unwrap();
    std::fs::create_dir(&cut).unwrap();
    let with = |bytes: &[u8], expected: &[&str]| {
        std::fs::write(cut.join("adapter.safetensors"), bytes).unwrap();
        for line in ["inspect {cut}".to_owned(), format!("verify {MINILM} {{cut}}")] {
            refuse(&line, &[("cut", &cut)], expected);
        }
    };
    with(&stored[..stored.len() - 4], &["adapter.safetensors", "truncated"]);
    with(b"", &["adapter.safetensors", "empty"]);
    with(&std::fs::read(manifest_path(MINILM)).unwrap(), &["adapter.safetensors", "`pt`", "expected `idlora`"]);
    // The first row number out of range, then twice the same, then a trained number that is none.
    let header = 8 + u64::from_le_bytes(stored[..8].try_into().unwrap()) as usize;
    let changed = |at: usize, value: [u8; 4]| {
        let mut bytes = stored.clone();
        bytes[header + at..header + at + 4].copy_from_slice(&value);
        bytes
    };
    let second: [u8; 4] = stored[header + 4..header + 8].try_into().unwrap();
    with(&changed(0, 384u32.to_le_bytes()), &[QUERY, "384"]);
    with(&changed(0, second), &[QUERY, "twice"]);
    with(&changed(4 * 64, f32::NAN.to_le_bytes()), &[QUERY, "`b`", "NaN", "row 0, column 0"]);
    refuse("inspect {gone}", &[("gone", &path("gone"))], &["gone"]);
}

#[test]
fn verify_lists_every_module_that_fails() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let (weights, adapter, other) = (path("w.safetensors"), path("adapter"), path("other.safetensors"));
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("adapter", &adapter), ("other", &other)];
    let mut draw = Draw::new(13);
    let names = ["a.weight", "b.weight", "c.weight", "d.weight", "e.weight", "f.weight"];
    let matrices: Vec<Mat<f64>> = names.iter().map(|_| draw.gaussian(32, 12)).collect();
    let tensor = |i: usize, dtype: Dtype, values: &Mat<f64>| Tensor::matrix(names[i], dtype, values);
    let all: Vec<Tensor> = (0..6).map(|i| tensor(i, Dtype::F32, &matrices[i])).collect();
    save(&weights, &all);
    succeed("init {weights} --rank 4 --out {adapter}", paths);

    // b: one entry changed. c: another element type. d: not there. e: another shape. f: NaN.
    let mut changed = matrices[1].clone();
    changed.row_mut(31)[11] += 1e-3;
    let mut nan = matrices[5].clone();
    nan.row_mut(2)[1] = f64::NAN;
    save(
        &other,
        &[
            tensor(0, Dtype::F32, &matrices[0]),
            tensor(1, Dtype::F32, &changed),
            tensor(2, Dtype::F16, &matrices[2]),
            tensor(4, Dtype::F32, &draw.gaussian(32, 13)),
            tensor(5, Dtype::F32, &nan),
        ],
    );
    let outcome = run("verify {other} {adapter}", paths);
    assert_eq!(outcome.code, 1);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    for (line, expected) in lines.iter().zip([
        &["ok", "a.weight"][..],
        &["FAILED", "b.weight", "digest"],
        &["FAILED", "c.weight", "F16", "F32"],
        &["FAILED", "d.weight", "no such tensor"],
        &["FAILED", "e.weight", "[32, 13]", "[32, 12]"],
        &["FAILED", "f.weight", "NaN", "row 2, column 1"],
    ]) {
        assert!(expected.iter().all(|part| line.contains(part)), "{line}: {expected:?}");
    }
    assert_eq!(lines.len(), 6);
    assert!(outcome.stderr.starts_with("error: 5 of 6 modules"), "{}", outcome.stderr);
    assert_eq!(succeed("verify {weights} {adapter}", paths).stdout.lines().filter(|l| l.starts_with("ok")).count(), 6);
}
