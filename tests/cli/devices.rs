//! `idlora devices`, and a device that is not there.

use crate::support::{idlora, run};

#[test]
fn devices_are_listed_whatever_is_there() {
    let outcome = idlora(["devices"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(lines[0].starts_with("cpu ") && lines[0].contains(" yes ") && lines[0].contains("thread"), "{lines:?}");
    for kind in ["cuda", "vm"] {
        assert!(lines.iter().any(|line| line.starts_with(kind)), "{kind}: {lines:?}");
    }

    let outcome = idlora(["devices", "--json"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let devices = value["devices"].as_array().unwrap();
    assert_eq!(devices.len(), lines.len());
    for (device, line) in devices.iter().zip(lines) {
        assert!(line.starts_with(device["device"].as_str().unwrap()), "{line}");
        assert_eq!(device["available"].as_bool().unwrap(), line.contains(" yes "), "{line}");
        assert_eq!(device["available"] == false, device["reason"].is_string(), "{device}");
    }
    assert!(devices[0]["threads"].as_u64().unwrap() > 0);
}

/// The flag's help names what this build takes; a device that does not open is refused before anything is read.
#[test]
fn the_flag_names_the_devices_of_this_build() {
    let help = idlora(["init", "--help"]).stdout;
    let taken = help.lines().find(|line| line.contains("--device <")).unwrap();
    assert!(taken.contains("cpu"), "{taken}");
    assert_eq!(taken.contains("cuda[:N]"), cfg!(feature = "cuda"), "{taken}");
    assert_eq!(taken.contains("vm"), cfg!(feature = "vm"), "{taken}");

    let outcome = run("init does-not-exist.safetensors --out does-not-exist --device cuda:9999", &[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("`cuda:9999`: "), "{}", outcome.stderr);
}
