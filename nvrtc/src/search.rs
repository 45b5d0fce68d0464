//! Where NVRTC may be, and which files there are it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A place that may hold NVRTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// A folder, or a name for the system's loader.
    pub place: PathBuf,
    /// Which of the two.
    pub folder: bool,
}

/// The libraries to load, in this order: NVRTC looks for its builtins by name, and finds them when they are loaded
/// already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub builtins: Option<PathBuf>,
    pub nvrtc: PathBuf,
}

/// Folders inside a folder that may hold the libraries: itself, and where NVIDIA's wheels put them.
const INSIDE: [&str; 3] = ["", "nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"];

/// Names under which the system's loader may know NVRTC, newest first.
const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

/// Every place to look, in order.
pub(crate) fn candidates(variable: impl Fn(&str) -> Option<OsString>, current: &Path) -> Vec<Candidate> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = |place: PathBuf| Candidate { place: current.join(place), folder: true };
    if let Some(named) = variable("IDLORA_NVRTC") {
        return vec![folder(named)];
    }
    let installed = current.ancestors().map(|parent| parent.join(".nvrtc")).find(|place| place.is_dir());
    let toolkits =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).chain([PathBuf::from("/usr/local/cuda")]);
    let mut places: Vec<Candidate> =
        installed.into_iter().chain(toolkits.map(|toolkit| toolkit.join("lib64"))).map(folder).collect();
    places.dedup();
    places.extend(NAMES.map(|name| Candidate { place: PathBuf::from(name), folder: false }));
    places
}

/// The files of a candidate.
///
/// # Errors
///
/// Says what is not there.
pub(crate) fn libraries(candidate: Candidate) -> Result<Files, String> {
    if !candidate.folder {
        return Ok(Files { builtins: None, nvrtc: candidate.place });
    }
    if !candidate.place.is_dir() {
        return Err("no such folder".to_owned());
    }
    for inside in INSIDE {
        let folder = candidate.place.join(inside);
        if let Some(nvrtc) = newest(&folder, "libnvrtc.so") {
            // The loader takes a relative path for a name to search for.
            let absolute = |file: PathBuf| file.canonicalize().unwrap_or(file);
            let builtins = newest(&folder, "libnvrtc-builtins.so").map(absolute);
            return Ok(Files { builtins, nvrtc: absolute(nvrtc) });
        }
    }
    Err("no libnvrtc.so* in it".to_owned())
}

/// Of the files called `name` or `name.<version>`, the one with the highest version.
fn newest(folder: &Path, name: &str) -> Option<PathBuf> {
    let version = |file: &Path| -> Option<Vec<u32>> {
        let rest = file.file_name()?.to_str()?.strip_prefix(name)?;
        let numbers = if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }?;
        numbers.split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
    };
    let files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter_map(|file| Some((version(&file)?, file))).max().map(|(_, file)| file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder of its own for one test, removed afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("idlora-nvrtc-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Scratch(folder.canonicalize().unwrap())
        }

        fn touch(&self, file: &str) -> PathBuf {
            let file = self.0.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            file
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn places(variables: &[(&str, &str)], current: &Path) -> Vec<PathBuf> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        candidates(variable, current).into_iter().map(|candidate| candidate.place).collect()
    }

    #[test]
    fn places_come_in_the_documented_order() {
        let scratch = Scratch::new("order");
        scratch.touch(".nvrtc/keep");
        let below = scratch.0.join("a/b");
        fs::create_dir_all(&below).unwrap();
        let variables = [("CUDA_HOME", "/opt/home"), ("CUDA_PATH", "/opt/path")];
        let toolkit = ["/opt/home/lib64", "/opt/path/lib64", "/usr/local/cuda/lib64"];
        let expected =
            [scratch.0.join(".nvrtc")].into_iter().chain(toolkit.into_iter().chain(NAMES).map(PathBuf::from));
        assert_eq!(places(&variables, &below), expected.collect::<Vec<_>>());
    }

    #[test]
    fn the_nearest_installation_wins() {
        let scratch = Scratch::new("nearest");
        scratch.touch(".nvrtc/keep");
        scratch.touch("a/.nvrtc/keep");
        assert_eq!(places(&[], &scratch.0.join("a/b"))[0], scratch.0.join("a/.nvrtc"));
    }

    #[test]
    fn a_named_folder_is_the_only_place_and_an_empty_name_is_none() {
        let current = Path::new("/current");
        assert_eq!(places(&[("IDLORA_NVRTC", "here"), ("CUDA_HOME", "/opt")], current), [Path::new("/current/here")]);
        assert!(places(&[("IDLORA_NVRTC", "")], current).len() > 1);
    }

    #[test]
    fn the_newest_library_of_a_folder_is_taken_and_others_are_not_mistaken_for_it() {
        let scratch = Scratch::new("newest");
        let libraries = || super::libraries(Candidate { place: scratch.0.clone(), folder: true });
        assert!(libraries().unwrap_err().contains("libnvrtc.so"));
        for file in ["libnvrtc.so", "libnvrtc.so.9", "libnvrtc.alt.so.13", "libnvrtc.so.old", "libnvrtc_static.a"] {
            scratch.touch(file);
        }
        let nvrtc = scratch.touch("libnvrtc.so.13");
        assert_eq!(libraries(), Ok(Files { builtins: None, nvrtc: nvrtc.clone() }));
        scratch.touch("libnvrtc-builtins.alt.so.13.0");
        let builtins = scratch.touch("libnvrtc-builtins.so.13.0");
        assert_eq!(libraries(), Ok(Files { builtins: Some(builtins), nvrtc }));
    }

    #[test]
    fn wheels_are_understood() {
        for inside in &INSIDE[1..] {
            let scratch = Scratch::new(&inside.replace('/', "-"));
            let nvrtc = scratch.touch(&format!("{inside}/libnvrtc.so.12"));
            let found = libraries(Candidate { place: scratch.0.clone(), folder: true }).unwrap();
            assert_eq!(found.nvrtc, nvrtc);
        }
    }
}
