//! Compiled kernels: embedded by the build script, or compiled from the embedded sources when first used.

use super::compile::compile;
use super::variants::{VARIANTS, Variant};
use idlora_nvrtc::{Compiled, Nvrtc};
use std::borrow::Cow;
use std::sync::OnceLock;

/// What the compiler made of a variant.
#[derive(Clone, Debug)]
#[allow(dead_code)] // which of them a device loads, depends on the device
pub(crate) struct Image {
    pub ptx: Cow<'static, str>,
    pub cubin: Cow<'static, [u8]>,
    /// Warnings, registers, spills and shared memory.
    pub log: Cow<'static, str>,
}

/// An image as the build script writes it down.
struct Embedded {
    ptx: &'static str,
    cubin: &'static [u8],
    log: &'static str,
}

// SOURCES: name and text of every file of `kernels/`; IMAGES: one per variant, or none without a compiler.
include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The image of a variant, by its index in the table.
///
/// # Errors
/// Where nothing is embedded and it cannot be compiled here either: why, and how to get a compiler.
pub(crate) fn image(variant: usize) -> Result<&'static Image, String> {
    static MADE: [OnceLock<Result<Image, String>>; VARIANTS.len()] = [const { OnceLock::new() }; VARIANTS.len()];
    let made = MADE[variant].get_or_init(|| match IMAGES.get(variant) {
        Some(image) => Ok(Image { ptx: image.ptx.into(), cubin: image.cubin.into(), log: image.log.into() }),
        None => compiled(&VARIANTS[variant], &Nvrtc::find().map_err(|missing| without_compiler(&missing))?),
    });
    made.as_ref().map_err(Clone::clone)
}

fn without_compiler(missing: &idlora_nvrtc::NotFound) -> String {
    format!("this build has no compiled kernels, and there is no compiler to make them: {missing}")
}

fn source(name: &str) -> &'static str {
    SOURCES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text)
}

fn compiled(variant: &Variant, nvrtc: &Nvrtc) -> Result<Image, String> {
    let Compiled { ptx, cubin, log } = compile(nvrtc, variant, |file| source(file).to_owned())?;
    Ok(Image { ptx: ptx.into(), cubin: cubin.into(), log: log.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spills, stack and warnings of every kernel, from the assembler's own log.
    #[test]
    fn no_variant_spills_or_draws_a_warning() {
        for (index, variant) in VARIANTS.iter().enumerate() {
            let image = match image(index) {
                Ok(image) => image,
                Err(reason) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{reason}"),
                Err(reason) => return println!("skipped: {reason}"),
            };
            let name = variant.name();
            let (log, entries) = (&image.log, variant.family.entries());
            assert!(!log.contains("warning"), "{name}: {log}");
            let clean = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
            assert_eq!(log.matches("bytes stack frame").count(), entries.len(), "{name}: {log}");
            assert_eq!(log.matches(clean).count(), entries.len(), "{name}: {log}");
            assert!(image.cubin.starts_with(b"\x7fELF"), "{name}: no machine code");
            for entry in entries {
                assert!(image.ptx.contains(&format!(".entry {}(", entry.name)), "{name} has no {}", entry.name);
            }
        }
    }

    /// What is compiled at run time is what the build script embeds.
    #[test]
    fn the_embedded_sources_compile_to_the_embedded_image() {
        let Ok(nvrtc) = Nvrtc::find() else { return println!("skipped: no NVRTC") };
        for (variant, embedded) in VARIANTS.iter().zip(IMAGES) {
            let image = compiled(variant, &nvrtc).unwrap();
            assert_eq!(image.ptx, embedded.ptx, "{}", variant.name());
        }
    }

    #[test]
    fn without_a_compiler_it_is_said_how_to_get_one() {
        let missing = idlora_nvrtc::NotFound { searched: vec![("/nowhere".into(), "no such folder".to_owned())] };
        let message = without_compiler(&missing);
        assert!(message.contains("scripts/get-nvrtc") && message.contains("/nowhere: no such folder"), "{message}");
    }
}
