//! Compiles `kernels/` with NVRTC where the feature `kernels` asks for it. Needs no CUDA toolkit; without NVRTC the crate
//! builds all the same and compiles its kernels when it first needs them.

#[cfg(feature = "kernels")]
#[path = "src/gpu/compile.rs"]
mod compile;
#[cfg(feature = "kernels")]
#[allow(dead_code)] // the host code uses the rest
#[path = "src/gpu/ptx_version/mod.rs"]
mod ptx_version;
#[cfg(feature = "kernels")]
#[allow(dead_code)] // the host code uses the rest of the table
#[path = "src/gpu/variants/mod.rs"]
mod variants;

#[cfg(feature = "kernels")]
fn main() {
    images::embed();
}

#[cfg(not(feature = "kernels"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "kernels")]
mod images {
    use crate::compile::compile;
    use crate::variants::{HEADERS, VARIANTS};
    use idlora_nvrtc::{Cache, Nvrtc};
    use std::fmt::Write;
    use std::path::{Path, PathBuf};

    /// Makes the absence of NVRTC an error.
    const REQUIRE: &str = "IDLORA_REQUIRE_NVRTC";

    /// Writes `images.rs`: the sources, and an image for every variant, or none where there is no compiler.
    pub fn embed() {
        for watched in ["build.rs", "kernels", "src/gpu/compile.rs", "src/gpu/ptx_version", "src/gpu/variants"] {
            println!("cargo::rerun-if-changed={watched}");
        }
        for variable in ["IDLORA_NVRTC", REQUIRE, "CUDA_HOME", "CUDA_PATH"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        let mut text = sources();
        match Nvrtc::find() {
            Ok(nvrtc) => text += &images(&nvrtc, &out),
            Err(missing) if std::env::var_os(REQUIRE).is_some() => panic!("{REQUIRE} is set, but {missing}"),
            Err(_) => {
                println!(
                    "cargo::warning=no NVRTC (scripts/get-nvrtc installs it): kernels are compiled when first used"
                );
                text += "static IMAGES: &[Embedded] = &[];\n";
            }
        }
        std::fs::write(out.join("images.rs"), text).expect("OUT_DIR is writable");
    }

    /// Every file of `kernels/` that the table names.
    fn files() -> Vec<&'static str> {
        let mut files: Vec<&str> = VARIANTS.iter().map(|variant| variant.family.source()).collect();
        files.extend(HEADERS);
        files.sort_unstable();
        files.dedup();
        files
    }

    fn path(file: &str) -> PathBuf {
        Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("kernels").join(file)
    }

    fn read(file: &str) -> String {
        std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("kernels/{file}: {error}"))
    }

    fn sources() -> String {
        let mut text = "static SOURCES: &[(&str, &str)] = &[\n".to_owned();
        for file in files() {
            writeln!(text, "    ({file:?}, include_str!({:?})),", path(file)).unwrap();
        }
        text + "];\n"
    }

    /// The target directory, four levels up: for each set of features and each profile this script runs anew, and a minute of
    /// compiling need not.
    fn shared(out: &Path) -> &Path {
        out.ancestors().nth(4).unwrap_or(out)
    }

    fn images(nvrtc: &Nvrtc, out: &Path) -> String {
        let mut text = "static IMAGES: &[Embedded] = &[\n".to_owned();
        let cache = Cache::new(shared(out).join("kernel-images"));
        // One after the other: NVRTC holds a lock up to its assembler, and threads gain nothing.
        for variant in VARIANTS {
            let file = |suffix: &str| out.join(format!("{}.{suffix}", variant.name()));
            let compiled = compile(variant, read, |source| cache.compile(nvrtc, source));
            let compiled = compiled.unwrap_or_else(|error| panic!("{error}"));
            for (suffix, bytes) in
                [("ptx", compiled.ptx.as_bytes()), ("cubin", &compiled.cubin), ("log", compiled.log.as_bytes())]
            {
                std::fs::write(file(suffix), bytes).expect("OUT_DIR is writable");
            }
            let (ptx, cubin, log) = (file("ptx"), file("cubin"), file("log"));
            writeln!(
                text,
                "    Embedded {{ ptx: include_str!({ptx:?}), cubin: include_bytes!({cubin:?}), log: include_str!({log:?}) }},"
            )
            .unwrap();
        }
        text + "];\n"
    }
}
