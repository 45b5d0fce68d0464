//! A model, a vocabulary and documents small enough for a test.

use crate::numbers;
use candle_core::{Device, Tensor};
use idlora_finetune::data::Measure;
use idlora_finetune::method::Method;
use idlora_finetune::tokens::Example;
use idlora_finetune::train::Settings;
use std::collections::HashMap;
use std::path::Path;

pub const FEATURES: usize = 64;
pub const INNER: usize = 96;
pub const HEADS: usize = 4;
pub const LAYERS: usize = 2;
pub const POSITIONS: usize = 16;
const WORDS: [&str; 20] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "goal", "match", "team", "win", "bank", "rate", "share", "profit", "the", "a",
    "of", "on", "in", "and", "##s", "##ing",
];

/// Makes a tensor: its name, shape, scale and middle.
type Add<'a> = dyn FnMut(String, &[usize], f32, f32) + 'a;

/// All tensors of a model by their names in BERT's checkpoints.
pub fn tensors() -> HashMap<String, Tensor> {
    let mut all = HashMap::new();
    let mut add = |name: String, shape: &[usize], scale: f32, middle: f32| {
        let count = shape.iter().product();
        let values = numbers(count, 1 + all.len() as u64).into_iter().map(|x| middle + scale * x).collect::<Vec<_>>();
        all.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    add("embeddings.word_embeddings.weight".to_owned(), &[WORDS.len(), FEATURES], 1.0, 0.0);
    add("embeddings.position_embeddings.weight".to_owned(), &[POSITIONS, FEATURES], 0.5, 0.0);
    add("embeddings.token_type_embeddings.weight".to_owned(), &[2, FEATURES], 0.5, 0.0);
    let norm = |add: &mut Add<'_>, name: &str| {
        add(format!("{name}.weight"), &[FEATURES], 0.5, 1.0);
        add(format!("{name}.bias"), &[FEATURES], 0.2, 0.0);
    };
    norm(&mut add, "embeddings.LayerNorm");
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, rows, cols) in [
            ("attention.self.query", FEATURES, FEATURES),
            ("attention.self.key", FEATURES, FEATURES),
            ("attention.self.value", FEATURES, FEATURES),
            ("attention.output.dense", FEATURES, FEATURES),
            ("intermediate.dense", INNER, FEATURES),
            ("output.dense", FEATURES, INNER),
        ] {
            add(format!("{}.weight", name(part)), &[rows, cols], 0.3, 0.0);
            add(format!("{}.bias", name(part)), &[rows], 0.2, 0.0);
        }
        norm(&mut add, &name("attention.output.LayerNorm"));
        norm(&mut add, &name("output.LayerNorm"));
    }
    all
}

/// Writes the model and its vocabulary as `fetch` leaves the real ones.
pub fn write_model(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    candle_core::safetensors::save(&tensors(), dir.join("model.safetensors")).unwrap();
    let config = format!(
        r#"{{"num_hidden_layers": {LAYERS}, "num_attention_heads": {HEADS}, "hidden_size": {FEATURES},
            "layer_norm_eps": 1e-12, "hidden_act": "gelu", "vocab_size": {}}}"#,
        WORDS.len()
    );
    std::fs::write(dir.join("config.json"), config).unwrap();
    let vocabulary: Vec<String> = WORDS.iter().enumerate().map(|(id, word)| format!("\"{word}\": {id}")).collect();
    let special =
        |token: &str, id: usize| format!(r#""{token}": {{"id": "{token}", "ids": [{id}], "tokens": ["{token}"]}}"#);
    let part = |kind: &str, id: &str| format!(r#"{{"{kind}": {{"id": "{id}", "type_id": 0}}}}"#);
    let single = [part("SpecialToken", "[CLS]"), part("Sequence", "A"), part("SpecialToken", "[SEP]")].join(", ");
    let tokenizer = format!(
        r###"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}},
            "pre_tokenizer": {{"type": "BertPreTokenizer"}},
            "post_processor": {{"type": "TemplateProcessing", "single": [{single}], "pair": [{single}, {}],
                "special_tokens": {{{}, {}}}}},
            "decoder": null,
            "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                "vocab": {{{}}}}}}}"###,
        part("Sequence", "B"),
        special("[CLS]", 2),
        special("[SEP]", 3),
        vocabulary.join(", ")
    );
    std::fs::write(dir.join("tokenizer.json"), tokenizer).unwrap();
}

/// Writes `count` documents, all different, of two classes that their words tell apart.
pub fn write_documents(dir: &Path, count: usize) {
    for (class, name) in ["business", "sport"].into_iter().enumerate() {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for document in 0..count / 2 {
            // The bits of its number, spelled in words that say nothing, tell documents apart.
            let filler =
                (0..9).map(|bit| if document >> bit & 1 == 1 { "the" } else { "a" }).collect::<Vec<_>>().join(" ");
            let word = WORDS[if class == 0 { 8 } else { 4 } + document % 4];
            std::fs::write(folder.join(format!("{document:04}.txt")), format!("{word} {filler}\n")).unwrap();
        }
    }
}

/// Documents of two classes that their tokens tell apart.
pub fn examples(count: usize) -> Vec<Example> {
    let example = |document: usize| {
        let class = document % 2;
        let own = if class == 0 { 8 } else { 4 } + (document / 2 % 4) as u32;
        let length = 2 + document * 5 % 11;
        let filler = numbers(length, document as u64).into_iter().map(|x| 12 + ((x + 1.0) * 3.0) as u32);
        let ids = [2, own].into_iter().chain(filler).chain([3]).collect();
        Example { ids, class: class as u32 }
    };
    (0..count).map(example).collect()
}

pub fn settings(method: Method) -> Settings {
    Settings {
        method,
        seed: 3,
        rate: 1e-2,
        measure: Measure::Test,
        batch: 4,
        max_tokens: POSITIONS,
        weight_decay: 0.01,
    }
}
