//! The programs beside the compiler: the assembler `ptxas`, the disassemblers `nvdisasm` and `cuobjdump`.

use crate::Nvrtc;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A program of NVIDIA's that runs without a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// PTX to machine code.
    Ptxas,
    /// Machine code to SASS.
    Nvdisasm,
    /// Machine code to SASS, by means of nvdisasm.
    Cuobjdump,
}

/// A program is nowhere to be found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{tool} was not found (scripts/get-nvrtc installs ptxas and nvdisasm, {variable} names another); searched:{}", list(.searched))]
pub struct ToolNotFound {
    /// The program's name.
    pub tool: &'static str,
    /// The environment variable that names it.
    pub variable: &'static str,
    /// The files that are not there, in order.
    pub searched: Vec<PathBuf>,
}

fn list(searched: &[PathBuf]) -> String {
    searched.iter().map(|file| format!("\n  {}", file.display())).collect()
}

impl Tool {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Ptxas => "ptxas",
            Tool::Nvdisasm => "nvdisasm",
            Tool::Cuobjdump => "cuobjdump",
        }
    }

    /// The environment variable that names the program's file. When it is set, nowhere else is searched.
    pub fn variable(self) -> &'static str {
        match self {
            Tool::Ptxas => "IDLORA_PTXAS",
            Tool::Nvdisasm => "IDLORA_NVDISASM",
            Tool::Cuobjdump => "IDLORA_CUOBJDUMP",
        }
    }

    /// The program's file: the one that its variable names, else in the nearest `.nvrtc`, beside the NVRTC that
    /// [`Nvrtc::find`] finds, or in `PATH`.
    ///
    /// # Errors
    ///
    /// [`ToolNotFound`], with every file that was looked for.
    pub fn find(self) -> Result<PathBuf, ToolNotFound> {
        let nvrtc = Nvrtc::find().ok();
        let current = std::env::current_dir().unwrap_or_default();
        let searched = self.candidates(|name| std::env::var_os(name), &current, nvrtc.as_ref().map(Nvrtc::path));
        match searched.iter().find(|file| file.is_file()) {
            Some(found) => Ok(found.clone()),
            None => Err(ToolNotFound { tool: self.name(), variable: self.variable(), searched }),
        }
    }

    fn candidates(
        self,
        variable: impl Fn(&str) -> Option<OsString>,
        current: &Path,
        nvrtc: Option<&Path>,
    ) -> Vec<PathBuf> {
        if let Some(named) = variable(self.variable()).filter(|value| !value.is_empty()) {
            return vec![current.join(named)];
        }
        let installed = current.ancestors().map(|parent| parent.join(".nvrtc")).find(|place| place.is_dir());
        let installed = installed.map(|place| place.join("nvidia/cu13/bin"));
        // A wheel's or toolkit's `lib` is beside its `bin`; some distributions have folders between.
        let folder = nvrtc.filter(|file| file.is_absolute()).and_then(Path::parent);
        let beside = folder.into_iter().flat_map(|lib| lib.ancestors().skip(1).take(3)).map(|root| root.join("bin"));
        let path = variable("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| current.join(folder)).collect();
        let mut files: Vec<PathBuf> =
            installed.into_iter().chain(beside).chain(path).map(|folder| folder.join(self.name())).collect();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(variables: &[(&str, &str)], current: &Path, nvrtc: Option<&str>) -> Vec<PathBuf> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Tool::Ptxas.candidates(variable, current, nvrtc.map(Path::new))
    }

    #[test]
    fn places_come_in_the_documented_order() {
        let root = std::env::temp_dir().join(format!("idlora-tools-{}", std::process::id()));
        std::fs::create_dir_all(root.join(".nvrtc")).unwrap();
        let below = root.join("a/b");
        let found = candidates(&[("PATH", "/usr/bin:/bin")], &below, Some("/opt/cuda/lib/libnvrtc.so.13"));
        std::fs::remove_dir_all(&root).unwrap();
        let expected = ["/opt/cuda/bin/ptxas", "/opt/bin/ptxas", "/bin/ptxas", "/usr/bin/ptxas", "/bin/ptxas"];
        let installed = root.join(".nvrtc/nvidia/cu13/bin/ptxas");
        assert_eq!(found, [installed].into_iter().chain(expected.map(PathBuf::from)).collect::<Vec<_>>());
    }

    #[test]
    fn a_named_file_is_the_only_place_and_an_empty_name_is_none() {
        let current = Path::new("/current");
        assert_eq!(
            candidates(&[("IDLORA_PTXAS", "here/ptxas"), ("PATH", "/bin")], current, Some("/opt/lib/libnvrtc.so")),
            [Path::new("/current/here/ptxas")]
        );
        assert_eq!(candidates(&[("IDLORA_PTXAS", ""), ("PATH", "/bin")], current, None), [Path::new("/bin/ptxas")]);
    }

    /// A library that the system's loader found has no known folder.
    #[test]
    fn a_bare_library_name_has_nothing_beside_it() {
        assert!(candidates(&[("PATH", "")], Path::new("/"), Some("libnvrtc.so.13")).len() <= 1);
    }

    #[test]
    fn a_missing_program_is_reported_with_every_place() {
        let missing = ToolNotFound { tool: "ptxas", variable: "IDLORA_PTXAS", searched: vec!["/nowhere/ptxas".into()] };
        let text = missing.to_string();
        for part in ["ptxas was not found", "scripts/get-nvrtc", "IDLORA_PTXAS", "\n  /nowhere/ptxas"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
