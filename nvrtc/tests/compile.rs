//! What NVRTC is asked to do, it does. Without NVRTC these tests print that they were skipped, and fail where
//! `REQUIRE_NVRTC` is set.

use idlora_nvrtc::{Cache, Nvrtc, Source};
use std::io::Write;

fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find() {
        Ok(nvrtc) => Some(nvrtc),
        Err(missing) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{missing}"),
        Err(missing) => {
            // Straight to stderr: the test harness would keep it to itself.
            _ = writeln!(std::io::stderr(), "skipped: {missing}");
            None
        }
    }
}

const KERNEL: &str = r#"extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2.0f; }"#;

#[test]
fn ptx_cubin_and_the_assemblers_log_come_back() {
    let Some(nvrtc) = nvrtc() else { return };
    let source = Source { name: "twice.cu", text: KERNEL, options: &["--ptxas-options=-v"], ..Source::default() };
    let compiled = nvrtc.compile(&source).unwrap();
    assert!(compiled.ptx.contains(".visible .entry twice(") && compiled.ptx.contains(".target sm_80"));
    assert!(!compiled.ptx.contains('\0'));
    assert_eq!(&compiled.cubin[..4], b"\x7fELF");
    assert!(compiled.log.contains("registers"), "{}", compiled.log);
    // The log states the assembler's time, so only the code repeats.
    let again = nvrtc.compile(&source).unwrap();
    assert!(again.ptx == compiled.ptx && again.cubin == compiled.cubin);
}

#[test]
fn a_virtual_architecture_has_no_cubin() {
    let Some(nvrtc) = nvrtc() else { return };
    let source = Source { text: KERNEL, arch: "compute_80", ..Source::default() };
    let compiled = nvrtc.compile(&source).unwrap();
    assert!(compiled.cubin.is_empty() && !compiled.ptx.is_empty());
}

#[test]
fn headers_are_found_by_name_and_options_reach_the_compiler() {
    let Some(nvrtc) = nvrtc() else { return };
    let text = r#"
        #include "half.cuh"
        #include "folder/names.cuh"
        extern "C" __global__ void NAME(float *x) { x[0] = half_of(x[0]); }
    "#;
    let headers = [
        ("half.cuh", "__device__ float half_of(float x) { return x * FACTOR; }"),
        ("folder/names.cuh", "#define NAME named_by_header"),
    ];
    let source = Source { text, options: &["-DFACTOR=0.5f"], headers: &headers, ..Source::default() };
    let compiled = nvrtc.compile(&source).unwrap();
    assert!(compiled.ptx.contains("named_by_header") && compiled.ptx.contains("0f3F000000"), "{}", compiled.ptx);
}

#[test]
fn errors_carry_the_compilers_or_the_assemblers_words() {
    let Some(nvrtc) = nvrtc() else { return };
    let compile = |text| nvrtc.compile(&Source { name: "wrong.cu", text, ..Source::default() });
    let error = compile("\n__global__ void f() { undeclared = 1; }").unwrap_err();
    assert_eq!(error.status, "NVRTC_ERROR_COMPILATION");
    assert!(error.log.contains("wrong.cu(2)") && error.log.contains("undeclared"), "{error}");
    let error = compile(r#"extern "C" __global__ void f() { asm volatile("no.such.opcode;"); }"#).unwrap_err();
    assert!(error.log.contains("no"), "{error}");
    let error = compile("a\0b").unwrap_err();
    assert!(error.to_string().contains("byte 1"), "{error}");
}

#[test]
fn threads_compile_at_the_same_time() {
    let Some(nvrtc) = nvrtc() else { return };
    let source = Source { text: KERNEL, ..Source::default() };
    let expected = nvrtc.compile(&source).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| nvrtc.compile(&source).unwrap())).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == expected));
    });
}

/// Files of a folder, and what is in them.
fn entries(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Taken where nothing has changed, made anew where anything has or the entry is damaged; never in the way.
#[test]
fn a_cache_returns_what_the_compiler_would() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder = std::env::temp_dir().join(format!("idlora-nvrtc-{}", std::process::id()));
    let cache = Cache::new(&folder);
    let source =
        Source { name: "kernels/twice.cu", text: KERNEL, options: &["--ptxas-options=-v"], ..Source::default() };
    let made = cache.compile(&nvrtc, &source).unwrap();
    let first = entries(&folder);
    assert_eq!(first.len(), 1, "{first:?}");
    // The log states the assembler's time: it would differ if this were compiled again.
    assert_eq!(cache.compile(&nvrtc, &source).unwrap(), made);
    assert!(entries(&folder) == first);

    let (path, whole) = &first[0];
    std::fs::write(path, &whole[..whole.len() - 100]).unwrap();
    let again = cache.compile(&nvrtc, &source).unwrap();
    assert!(again.ptx == made.ptx && again.cubin == made.cubin, "a damaged entry");
    assert_eq!(entries(&folder)[0].1.len(), whole.len(), "and it is mended");

    let changed = KERNEL.replace("2.0f", "3.0f");
    let other = cache.compile(&nvrtc, &Source { text: &changed, ..source }).unwrap();
    assert!(other.ptx != made.ptx && other.ptx == nvrtc.compile(&Source { text: &changed, ..source }).unwrap().ptx);
    assert_eq!(entries(&folder).len(), 1, "in the place of the first");
    let wrong = cache.compile(&nvrtc, &Source { text: "not CUDA", ..source });
    assert!(wrong.is_err() && entries(&folder).len() == 1, "errors are not kept");
    std::fs::remove_dir_all(&folder).unwrap();

    // A file where the folder should be.
    std::fs::write(&folder, "").unwrap();
    assert!(cache.compile(&nvrtc, &source).unwrap().ptx == made.ptx);
    std::fs::remove_file(&folder).unwrap();
}
