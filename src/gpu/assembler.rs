//! The assembler, for tests: is PTX legal, and what machine code does it make?

use idlora_nvrtc::Tool;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// `ptxas`, or `None`, said aloud, where there is none and none is required.
pub(super) fn ptxas() -> Option<PathBuf> {
    match Tool::Ptxas.find() {
        Ok(found) => Some(found),
        Err(missing) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{missing}"),
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}

/// Machine code, or what the assembler says.
pub(super) fn assemble(ptxas: &PathBuf, ptx: &str, arch: &str) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (source, cubin) = (folder.path().join("a.ptx"), folder.path().join("a.cubin"));
    std::fs::write(&source, ptx).unwrap();
    let output =
        Command::new(ptxas).arg("-lineinfo").arg(format!("-arch={arch}")).arg(&source).arg("-o").arg(&cubin).output();
    let output = output.unwrap();
    if output.status.success() {
        Ok(std::fs::read(&cubin).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
    }
}

/// The sections of a 64-bit ELF file by name, without those that quote the PTX or name the tool.
pub(super) fn sections(elf: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let number =
        |at: usize, bytes: usize| elf[at..at + bytes].iter().rev().fold(0usize, |n, &b| (n << 8) | usize::from(b));
    let (headers, size, count, names) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
    let section = |index: usize| {
        let at = headers + index * size;
        let (name, kind, start, length) =
            (number(at, 4), number(at + 4, 4), number(at + 0x18, 8), number(at + 0x20, 8));
        const NO_BITS: usize = 8;
        let bytes = if kind == NO_BITS { length.to_le_bytes().to_vec() } else { elf[start..start + length].to_vec() };
        (name, bytes)
    };
    let (_, strings) = section(names);
    let named = (1..count).map(|index| {
        let (name, bytes) = section(index);
        let name = strings[name..].split(|&b| b == 0).next().unwrap();
        (String::from_utf8(name.to_vec()).unwrap(), bytes)
    });
    named.filter(|(name, _)| name != ".nv_debug_ptx_txt" && name != ".note.nv.tkinfo").collect()
}
