//! `idlora kernels`: the table, its JSON, and the folder that it writes.

use crate::support::{entries, folder, refuse};
#[cfg(feature = "kernels")]
use std::path::Path;

#[cfg(not(feature = "kernels"))]
#[test]
fn a_build_without_kernels_says_so() {
    let dir = folder();
    let out = dir.path().join("dump");
    for line in ["kernels", "kernels --json", "kernels --dump {out}"] {
        refuse(line, &[("out", &out)], &["this build has no kernels", "--features cli,kernels"]);
    }
    assert!(entries(dir.path()).is_empty());
}

/// Refused by looking at the target, before any image is made.
#[cfg(feature = "kernels")]
#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("there")).unwrap();
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    let dump = |out: &Path, expected: &[&str]| {
        refuse("kernels --dump {out}", &[("out", out)], expected);
    };
    dump(&dir.path().join("there"), &["there", "is there already"]);
    dump(&dir.path().join("file"), &["file", "is there already"]);
    dump(&dir.path().join("no/folder"), &["the folder", "does not exist"]);
    dump(&dir.path().join("file/below"), &["does not exist"]);
    assert_eq!(entries(dir.path()), ["file", "there"]);
    assert!(entries(&dir.path().join("there")).is_empty());
}

#[cfg(feature = "kernels")]
mod with_kernels {
    use crate::support::{Outcome, command, entries, folder, manifest_path, refuse, run, succeed};
    use serde_json::Value;
    use std::path::Path;

    /// The JSON, or `None`, said aloud, where there is no compiler and none is required.
    fn json() -> Option<Value> {
        let outcome = run("kernels --json", &[]);
        if outcome.code == 1
            && outcome.stderr.contains("scripts/get-nvrtc")
            && std::env::var_os("REQUIRE_NVRTC").is_none()
        {
            println!("skipped: {}", outcome.stderr);
            return None;
        }
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        Some(serde_json::from_str(&outcome.stdout).expect("stdout is one JSON object"))
    }

    fn images(json: &Value) -> &[Value] {
        json["images"].as_array().unwrap()
    }

    fn kernels(image: &Value) -> &[Value] {
        image["kernels"].as_array().unwrap()
    }

    fn number(value: &Value) -> u64 {
        value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
    }

    fn text(value: &Value) -> &str {
        value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
    }

    #[test]
    fn the_table_has_a_row_for_every_kernel_of_every_image_and_says_what_the_json_says() {
        let Some(json) = json() else { return };
        let table = succeed("kernels", &[]).stdout;
        let lines: Vec<&str> = table.lines().collect();
        let rows: Vec<Vec<String>> = lines[2..lines.len() - 2]
            .iter()
            .map(|line| line.split_whitespace().map(|word| word.replace(',', "")).collect())
            .collect();
        let mut expected = Vec::new();
        for image in images(&json) {
            for kernel in kernels(image) {
                let block: u64 = kernel["block"].as_array().unwrap().iter().map(number).product();
                let mut row = vec![
                    text(&kernel["name"]).to_owned(),
                    text(&image["family"]).to_owned(),
                    image["element"].as_str().unwrap_or("-").to_owned(),
                    text(&image["arch"]).to_owned(),
                ];
                row.extend(["registers", "shared", "stack"].map(|key| kernel[key].to_string()));
                row.push((number(&kernel["spill_stores"]) + number(&kernel["spill_loads"])).to_string());
                row.push(block.to_string());
                for on in kernel["occupancy"].as_array().unwrap() {
                    row.push(format!("{}·{}", on["blocks"], on["warps"]));
                }
                row.push(text(&image["ptx_version"]).to_owned());
                row.extend(["ptx_bytes", "cubin_bytes"].map(|key| image[key].to_string()));
                expected.push(row);
            }
        }
        assert!(!expected.is_empty(), "there are kernels");
        assert_eq!(rows, expected);
        let last = lines[lines.len() - 1];
        assert!(
            last.starts_with(&format!("{} images with {} kernels;", images(&json).len(), expected.len())),
            "{last}"
        );
    }

    #[test]
    fn every_source_has_images_and_its_kernels_are_named_in_it() {
        let Some(json) = json() else { return };
        let sources = std::fs::read_dir(manifest_path("kernels")).unwrap().map(|entry| entry.unwrap().path());
        let sources = sources.filter(|path| path.extension().is_some_and(|extension| extension == "cu"));
        let mut seen = 0;
        for path in sources {
            let source = format!("kernels/{}", path.file_name().unwrap().to_str().unwrap());
            let code = std::fs::read_to_string(&path).unwrap();
            let of_source: Vec<&Value> = images(&json).iter().filter(|image| image["source"] == *source).collect();
            assert!(!of_source.is_empty(), "{source}");
            for kernel in of_source.iter().flat_map(|image| kernels(image)) {
                assert!(code.contains(text(&kernel["name"])), "{source}: {}", kernel["name"]);
            }
            seen += of_source.len();
        }
        assert_eq!(seen, images(&json).len());
    }

    /// What a caller in any language needs: launch shapes, pointers and scalars as the PTX lays them out, the header's words.
    #[test]
    fn the_json_says_how_a_kernel_is_called() {
        let Some(json) = json() else { return };
        for image in images(&json) {
            for kernel in kernels(image) {
                let name = format!("{} {}", image["name"], kernel["name"]);
                let parameters = kernel["parameters"].as_array().unwrap();
                let pointers = number(&kernel["inputs"]) + number(&kernel["outputs"]);
                assert_eq!(parameters.len() as u64, pointers + 1, "{name}");
                let bytes: Vec<u64> = parameters.iter().map(|parameter| number(&parameter["bytes"])).collect();
                assert_eq!(bytes.last(), Some(&number(&kernel["scalars"])), "{name}");
                assert!(bytes[..bytes.len() - 1].iter().all(|&bytes| bytes == 8), "{name}");
                assert!(parameters.iter().all(|parameter| number(&parameter["align"]).is_power_of_two()), "{name}");
                let archs: Vec<&str> =
                    kernel["occupancy"].as_array().unwrap().iter().map(|on| text(&on["arch"])).collect();
                assert_eq!(archs, ["sm_80", "sm_90"], "{name}");
                assert!(!text(&image["launch"]).is_empty() && !text(&image["requires"]).is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn the_dump_holds_every_image_and_the_json() {
        let Some(json) = json() else { return };
        let dir = folder();
        let out = dir.path().join("dump");
        let outcome = succeed("kernels --json --dump {out}", &[("out", &out)]);
        assert_eq!(serde_json::from_str::<Value>(&outcome.stdout).unwrap(), json);
        assert_eq!(entries(dir.path()), ["dump"]);
        let read = |name: String| std::fs::read(out.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(serde_json::from_slice::<Value>(&read("kernels.json".to_owned())).unwrap(), json);

        let sass = outcome.stderr.is_empty();
        assert!(sass || outcome.stderr.starts_with("no SASS: "), "{outcome:?}");
        assert!(sass || std::env::var_os("REQUIRE_NVRTC").is_none(), "{outcome:?}");
        let mut files = vec!["kernels.json".to_owned()];
        for image in images(&json) {
            let name = text(&image["name"]);
            let ptx = String::from_utf8(read(format!("{name}.ptx"))).unwrap();
            let (cubin, log) = (read(format!("{name}.cubin")), read(format!("{name}.log")));
            let log = String::from_utf8(log).unwrap();
            assert_eq!(
                (ptx.len() as u64, cubin.len() as u64),
                (number(&image["ptx_bytes"]), number(&image["cubin_bytes"]))
            );
            assert!(ptx.contains(&format!("\n.version {}\n", text(&image["ptx_version"]))), "{name}");
            assert!(cubin.starts_with(b"\x7fELF"), "{name}");
            files.extend(["ptx", "cubin", "log"].map(|suffix| format!("{name}.{suffix}")));
            if sass && !kernels(image).is_empty() {
                let sass = String::from_utf8(read(format!("{name}.sass"))).unwrap();
                files.push(format!("{name}.sass"));
                for kernel in kernels(image) {
                    assert!(sass.contains(&format!(".text.{}", text(&kernel["name"]))), "{name}: {}", kernel["name"]);
                }
            }
            for kernel in kernels(image) {
                let kernel = text(&kernel["name"]);
                assert!(ptx.contains(&format!(".entry {kernel}(")) && log.contains(&format!("'{kernel}'")), "{name}");
            }
        }
        files.sort();
        assert_eq!(entries(&out), files);
        refuse("kernels --dump {out}", &[("out", &out)], &["dump", "is there already"]);
        assert_eq!(entries(&out), files);
    }

    /// Runs `--dump` with another disassembler.
    fn dump_with(variables: &[(&str, &Path)], out: &Path) -> Outcome {
        let output = command().arg("kernels").arg("--dump").arg(out).envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[test]
    fn a_disassembler_that_is_missing_is_said_and_one_that_fails_leaves_nothing() {
        if json().is_none() {
            return;
        }
        let dir = folder();
        let (out, gone) = (dir.path().join("dump"), Path::new("/gone/disassembler"));
        let missing = dump_with(&[("IDLORA_NVDISASM", gone), ("IDLORA_CUOBJDUMP", gone)], &out);
        assert_eq!(missing.code, 0, "{missing:?}");
        assert!(missing.stderr.starts_with("no SASS: neither nvdisasm nor cuobjdump was found"), "{missing:?}");
        assert!(entries(&out).iter().all(|name| !name.ends_with(".sass")));

        std::fs::remove_dir_all(&out).unwrap();
        let failing = dump_with(&[("IDLORA_NVDISASM", Path::new("/bin/false"))], &out);
        assert_eq!((failing.code, failing.stdout.as_str()), (1, ""), "{failing:?}");
        for part in ["error: ", "dump/", ".cubin: /bin/false: exit status: 1"] {
            assert!(failing.stderr.contains(part), "{failing:?}");
        }
        assert!(entries(dir.path()).is_empty(), "nothing is left behind");
    }
}
