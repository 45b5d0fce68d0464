//! `idlora export`.

use super::tune::Element;
use clap::Args as ArgGroup;
use idlora::format::peft::Prefix;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, ArgGroup)]
pub struct Export {
    /// A .safetensors file, or the .index.json of a sharded checkpoint
    pub weights: PathBuf,

    /// The adapter's folder
    pub dir: PathBuf,

    /// Write what PEFT loads: adapter_config.json and adapter_model.safetensors, a plain LoRA; static gates only
    #[arg(long, required = true)]
    pub peft: bool,

    /// The folder to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// What the configuration names as the base model: a folder, or a name on a hub
    #[arg(long, value_name = "NAME")]
    pub base_model: Option<String>,

    /// Element type of the tensors; f16 and bf16 round A and B once more
    #[arg(long, value_enum, value_name = "f32|f16|bf16", default_value_t = Element::F32, hide_possible_values = true)]
    pub dtype: Element,

    /// Replace how every module's name begins, where the weights' names are not the paths of the model that will load the
    /// adapter: `=transformer.` puts something in front, `bert.=` takes something away
    #[arg(long, value_name = "FROM=TO")]
    pub prefix: Option<Replacement>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `FROM=TO`.
#[derive(Clone, Debug)]
pub struct Replacement(pub Prefix);

impl FromStr for Replacement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('=').ok_or("expected FROM=TO, either of which may be empty")?;
        Ok(Self(Prefix { from: from.to_owned(), to: to.to_owned() }))
    }
}
