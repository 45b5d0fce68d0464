//! The same sources compiled for newer architectures: every module loads, and what runs gives the same bits.

use crate::common::Cuda;
use crate::gemm;
use ptx_vm::Module;

/// Every CUDA file beside this one.
fn sources() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut sources: Vec<String> =
        names.filter(|name| name.ends_with(".cu")).map(|name| format!("kernels/{name}")).collect();
    sources.sort();
    assert!(sources.len() > 10, "{sources:?}");
    sources
}

fn check(arch: &str) {
    for file in sources() {
        let cuda = Cuda { arch, options: &["--device-int128"], ..Cuda::new(&file) };
        let Some(ptx) = cuda.ptx() else { return };
        let module = Module::load(&ptx).unwrap_or_else(|error| panic!("{file} for {arch}: {error}"));
        assert_eq!(module.target(), arch, "{file}");
        let (major, minor) = module.version();
        assert!(ptx.contains(&format!("\n.version {major}.{minor}\n")), "{file}: {major}.{minor}");
        assert!(module.kernels().count() > 0, "{file}");
        if file == "kernels/gemm.cu" {
            gemm::check(&module, [33, 31, 65]);
        }
    }
}

#[test]
fn modules_for_sm_90_load() {
    check("sm_90");
}

#[test]
fn modules_for_sm_100_load() {
    check("sm_100");
}
