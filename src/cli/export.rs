//! `idlora export`.

use super::args::Export;
use super::{Result, init, output, text};
use idlora::format::checkpoint::Checkpoint;
use idlora::format::native;
use idlora::format::peft::{self, Exported, Lora, Options};
use std::path::Path;

pub fn run(args: &Export) -> Result<()> {
    output::check_free(&args.out)?;
    let adapters = native::load(&args.dir)?;
    let weights = Checkpoint::open(&args.weights)?;
    let options = Options {
        base_model: args.base_model.clone(),
        dtype: args.dtype.into(),
        prefix: args.prefix.clone().map(|prefix| prefix.0),
    };
    let bar = init::progress_bar(adapters.len(), "modules");
    let factors = |adapter: &idlora::adapter::IdLora| {
        let lora = Lora::read(adapter, &weights)?;
        bar.inc(1);
        Ok(lora)
    };
    let exported = peft::export(&args.out, &adapters, factors, &options)?;
    bar.finish_and_clear();
    if args.json { output::print_json(&json(args, &exported)) } else { output::print(&for_people(args, &exported)) }
}

#[derive(serde::Serialize)]
struct ExportJson<'a> {
    weights: &'a Path,
    dir: &'a Path,
    out: &'a Path,
    modules: &'a [Exported],
    totals: Totals,
}

#[derive(serde::Serialize)]
struct Totals {
    modules: usize,
    parameters: usize,
}

fn parameters(modules: &[Exported]) -> usize {
    modules.iter().map(Exported::parameters).sum()
}

fn json<'a>(args: &'a Export, modules: &'a [Exported]) -> ExportJson<'a> {
    let totals = Totals { modules: modules.len(), parameters: parameters(modules) };
    ExportJson { weights: &args.weights, dir: &args.dir, out: &args.out, modules, totals }
}

fn for_people(args: &Export, modules: &[Exported]) -> String {
    let head = ["module of the model", "rows", "cols", "rank", "lora_alpha"];
    let rows = modules.iter().map(|module| {
        let sizes = [module.rows, module.cols, module.rank].map(|size| size.to_string());
        [vec![module.path.clone()], sizes.to_vec(), vec![module.alpha.to_string()]].concat()
    });
    text::table(&head, rows)
        + &format!(
            "{} as plain LoRA, {}, in {}\n",
            text::counted(modules.len(), "module"),
            text::counted(parameters(modules), "parameter"),
            args.out.display()
        )
}
