//! `idlora kernels`.

use super::args::Kernels;
use super::{Failure, Result, output, text};
use idlora::kernels::{Image, Kernel, list};
use idlora_nvrtc::Tool;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn run(args: &Kernels) -> Result<()> {
    if let Some(dir) = &args.dump {
        output::check_free(dir)?;
    }
    let images = list()?;
    let json = KernelsJson { images: &images };
    if let Some(dir) = &args.dump {
        dump(dir, &json)?;
    }
    if args.json { output::print_json(&json) } else { output::print(&for_people(&images)) }
}

#[derive(serde::Serialize)]
struct KernelsJson<'a> {
    images: &'a [Image],
}

fn for_people(images: &[Image]) -> String {
    let kernels = || images.iter().flat_map(|image| image.kernels.iter().map(move |kernel| (image, kernel)));
    let head = ["kernel", "family", "element", "arch", "registers", "shared", "stack", "spills", "threads"];
    let occupancy = kernels().next().map(|(_, kernel)| kernel.occupancy.as_slice()).unwrap_or_default();
    let archs: Vec<&str> = occupancy.iter().map(|on| on.arch).collect();
    let head = head.into_iter().chain(archs.iter().copied()).chain(["PTX", "PTX bytes", "cubin bytes"]);
    let table = text::table(&head.collect::<Vec<_>>(), kernels().map(|(image, kernel)| row(image, kernel)));
    let sum = |bytes: fn(&Image) -> usize| text::bytes(images.iter().map(bytes).sum());
    table
        + &format!(
            "{} with {}; {} of PTX, {} of machine code. {}: blocks·warps that a multiprocessor holds, without dynamic \
             shared memory.\n",
            text::counted(images.len(), "image"),
            text::counted(kernels().count(), "kernel"),
            sum(|image| image.ptx_bytes),
            sum(|image| image.cubin_bytes),
            archs.join(", "),
        )
}

fn row(image: &Image, kernel: &Kernel) -> Vec<String> {
    let occupancy = kernel.occupancy.iter().map(|on| format!("{}·{}", on.blocks, on.warps));
    let own = [
        kernel.name.to_owned(),
        image.family.clone(),
        image.element.unwrap_or("-").to_owned(),
        image.arch.to_owned(),
        kernel.registers.to_string(),
        text::grouped(kernel.shared as usize),
        kernel.stack.to_string(),
        (kernel.spill_stores + kernel.spill_loads).to_string(),
        (kernel.block[0] * kernel.block[1]).to_string(),
    ];
    let code = [image.ptx_version.clone(), text::grouped(image.ptx_bytes), text::grouped(image.cubin_bytes)];
    own.into_iter().chain(occupancy).chain(code).collect()
}

/// Writes everything to a temporary folder beside `dir`, which is renamed at the end: `dir` holds all of it or is not there.
fn dump(dir: &Path, json: &KernelsJson) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".idlora-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777)); // less the umask, as for any new folder
    }
    let temporary = builder.tempdir_in(parent).map_err(|error| failed(parent, "create a folder in it", error))?;
    let disassembler = Disassembler::find();
    if disassembler.is_none() {
        output::message("no SASS: neither nvdisasm nor cuobjdump was found (scripts/get-nvrtc installs nvdisasm)");
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = temporary.path().join(name);
        std::fs::write(&path, bytes).map_err(|error| failed(&dir.join(name), "write", error))
    };
    for image in json.images {
        write(&format!("{}.ptx", image.name), image.ptx.as_bytes())?;
        write(&format!("{}.log", image.name), image.log.as_bytes())?;
        let cubin = format!("{}.cubin", image.name);
        write(&cubin, image.cubin)?;
        if let Some(disassembler) = &disassembler
            && !image.kernels.is_empty()
        {
            let sass = disassembler.sass(&temporary.path().join(&cubin));
            let sass = sass.map_err(|reason| Failure::command(format!("{}: {reason}", dir.join(&cubin).display())))?;
            write(&format!("{}.sass", image.name), &sass)?;
        }
    }
    let text = serde_json::to_string_pretty(json).map_err(|error| failed(&dir.join("kernels.json"), "write", error))?;
    write("kernels.json", (text + "\n").as_bytes())?;
    std::fs::rename(temporary.path(), dir).map_err(|error| failed(dir, "create the folder", error))?;
    let _renamed = temporary.keep(); // it is not there any more: nothing to delete
    Ok(())
}

fn failed(path: &Path, action: &str, error: impl std::fmt::Display) -> Failure {
    Failure::command(format!("{}: {action}: {error}", path.display()))
}

/// A program that turns machine code into SASS.
struct Disassembler {
    program: PathBuf,
    options: &'static [&'static str],
}

impl Disassembler {
    fn find() -> Option<Self> {
        let with = |tool: Tool, options| tool.find().ok().map(|program| Self { program, options });
        // Line information, names for jumps; cuobjdump needs nvdisasm for the same.
        with(Tool::Nvdisasm, &["-g", "-c"]).or_else(|| with(Tool::Cuobjdump, &["-sass"]))
    }

    fn sass(&self, cubin: &Path) -> Result<Vec<u8>, String> {
        let program = self.program.display();
        let output = Command::new(&self.program).args(self.options).arg(cubin).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}
