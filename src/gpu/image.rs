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

/// The lines below a heading of a kernel file's header, without the comment's marks; `None` where it has no such heading.
pub(crate) fn header(file: &str, heading: &str) -> Option<String> {
    let comment = source(file).lines().map_while(|line| line.strip_prefix("//"));
    // Text is indented by three, headings by one; a heading may go on: `Launch (grids have one dimension)`.
    let is_text = |line: &str| line.is_empty() || line.starts_with("   ");
    let is_heading = |line: &str| {
        line.strip_prefix(' ')
            .and_then(|line| line.strip_prefix(heading))
            .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let mut lines = comment.skip_while(|line| !is_heading(line));
    let beside = lines.next()?.strip_prefix(' ')?.strip_prefix(heading)?.trim();
    let below = lines.take_while(|line| is_text(line)).map(|line| line.get(3..).unwrap_or_default());
    let text: Vec<&str> = std::iter::once(beside).filter(|beside| !beside.is_empty()).chain(below).collect();
    Some(text.join("\n"))
}

fn compiled(variant: &Variant, nvrtc: &Nvrtc) -> Result<Image, String> {
    let Compiled { ptx, cubin, log } =
        compile(variant, |file| source(file).to_owned(), |source| nvrtc.compile(source))?;
    Ok(Image { ptx: ptx.into(), cubin: cubin.into(), log: log.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::resources::resources;
    use crate::gpu::{assembler, ptx_version};

    /// An image, or `None`, said aloud, where there is no compiler and none is required.
    fn image_or_skip(index: usize) -> Option<&'static Image> {
        match image(index) {
            Ok(image) => Some(image),
            Err(reason) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{reason}"),
            Err(reason) => {
                println!("skipped: {reason}");
                None
            }
        }
    }

    /// Spills, stack and warnings of every kernel, from the assembler's own log.
    #[test]
    fn no_variant_spills_or_draws_a_warning() {
        for (index, variant) in VARIANTS.iter().enumerate() {
            let Some(image) = image_or_skip(index) else { return };
            let name = variant.name();
            assert!(!image.log.contains("warning"), "{name}: {}", image.log);
            let mut found: Vec<&str> = Vec::new();
            let logged = resources(&image.log).unwrap();
            for kernel in &logged {
                assert_eq!((kernel.stack, kernel.spills), (0, [0, 0]), "{name}: {kernel:?}");
                found.push(&kernel.name);
            }
            let mut entries: Vec<&str> = variant.family.entries().iter().map(|entry| entry.name).collect();
            found.sort_unstable();
            entries.sort_unstable();
            assert_eq!(found, entries, "{name}");
            assert!(image.cubin.starts_with(b"\x7fELF"), "{name}: no machine code");
        }
    }

    /// A spelling outside the table keeps the compiler's version, which older drivers refuse.
    #[test]
    fn the_version_of_every_variant_is_the_least() {
        for (index, variant) in VARIANTS.iter().enumerate() {
            let Some(image) = image_or_skip(index) else { return };
            let least = ptx_version::least(&image.ptx);
            let least = least.unwrap_or_else(|unknown| {
                panic!("{}: src/gpu/ptx_version/table.rs does not know `{unknown}`", variant.name())
            });
            assert_eq!(ptx_version::stated(&image.ptx), Some(least), "{}", variant.name());
        }
    }

    /// The machine code, which NVRTC made from its own PTX, is what the assembler makes of the PTX that is shipped.
    #[test]
    fn the_lowered_version_changes_no_machine_code() {
        let Some(ptxas) = assembler::ptxas() else { return };
        for (index, variant) in VARIANTS.iter().enumerate() {
            let Some(image) = image_or_skip(index) else { return };
            let name = variant.name();
            let assembled = assembler::assemble(&ptxas, &image.ptx, variant.arch);
            let assembled = assembler::sections(&assembled.unwrap_or_else(|log| panic!("{name}: {log}")));
            let shipped = assembler::sections(&image.cubin);
            assert_eq!(assembled.keys().collect::<Vec<_>>(), shipped.keys().collect::<Vec<_>>(), "{name}");
            for entry in variant.family.entries() {
                assert!(shipped.contains_key(&format!(".text.{}", entry.name)), "{name}: no code of {}", entry.name);
            }
            for (section, bytes) in &shipped {
                assert!(
                    assembled[section] == *bytes,
                    "{name}: {section} differs; is {} of NVRTC's version?",
                    ptxas.display()
                );
            }
        }
    }

    /// What is compiled at run time is what the build script embeds, or has kept from an earlier build.
    #[test]
    fn the_embedded_sources_compile_to_the_embedded_image() {
        let Ok(nvrtc) = Nvrtc::find() else { return println!("skipped: no NVRTC") };
        for (variant, embedded) in VARIANTS.iter().zip(IMAGES) {
            let image = compiled(variant, &nvrtc).unwrap();
            assert_eq!(image.ptx, embedded.ptx, "{}", variant.name());
            assert_eq!(image.cubin, embedded.cubin, "{}", variant.name());
        }
    }

    #[test]
    fn headings_of_a_header_are_found() {
        let launch = header("norms.cu", "Launch").unwrap();
        assert!(launch.starts_with("(grids have one dimension)\nnorm_rows"), "{launch}");
        assert!(launch.ends_with("256 threads"), "{launch}");
        assert!(header("norms.cu", "Requires").unwrap().starts_with("rows, cols >= 1"));
        assert_eq!(
            (header("norms.cu", "Lau"), header("norms.cu", "Nothing"), header("none.cu", "Math")),
            (None, None, None)
        );
    }

    #[test]
    fn without_a_compiler_it_is_said_how_to_get_one() {
        let missing = idlora_nvrtc::NotFound { searched: vec![("/nowhere".into(), "no such folder".to_owned())] };
        let message = without_compiler(&missing);
        assert!(message.contains("scripts/get-nvrtc") && message.contains("/nowhere: no such folder"), "{message}");
    }
}
