//! Shapes of models: against the number of parameters that each is published with, and configurations that no model has.

use idlora::Error;
use idlora::models::{Linear, Model};

/// `config.json` as published, but for keys that say nothing of shapes; parameters beside the linear layers of the blocks; and
/// the published number of all parameters.
struct Published {
    name: &'static str,
    config: &'static str,
    others: usize,
    parameters: usize,
}

const PUBLISHED: [Published; 11] = [
    Published {
        name: "all-MiniLM-L6-v2",
        config: r#"{"architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": false,
            "hidden_act": "gelu", "hidden_size": 384, "intermediate_size": 1536, "max_position_embeddings": 512,
            "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 6, "type_vocab_size": 2,
            "vocab_size": 30522}"#,
        // Words, positions, types and their norm; two norms a block; the pooler.
        others: (30522 + 512 + 2) * 384 + 2 * 384 + 6 * 4 * 384 + 384 * 384 + 384,
        parameters: 22_713_216,
    },
    Published {
        name: "SmolLM2-135M",
        config: r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "hidden_act": "silu", "hidden_size": 576,
            "intermediate_size": 1536, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 9,
            "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rope_scaling": null,
            "rope_theta": 100000, "tie_word_embeddings": true, "vocab_size": 49152}"#,
        others: 49152 * 576 + (30 * 2 + 1) * 576,
        parameters: 134_515_008,
    },
    Published {
        name: "Meta-Llama-3-8B",
        config: r#"{"attention_bias": false, "hidden_size": 4096, "intermediate_size": 14336, "model_type": "llama",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "tie_word_embeddings": false,
            "vocab_size": 128256}"#,
        others: 2 * 128256 * 4096 + (32 * 2 + 1) * 4096,
        parameters: 8_030_261_248,
    },
    Published {
        name: "Mistral-7B-v0.1",
        config: r#"{"hidden_size": 4096, "intermediate_size": 14336, "model_type": "mistral", "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 32000}"#,
        others: 2 * 32000 * 4096 + (32 * 2 + 1) * 4096,
        parameters: 7_241_732_096,
    },
    Published {
        name: "Mistral-Nemo-Base-2407",
        config: r#"{"head_dim": 128, "hidden_size": 5120, "intermediate_size": 14336, "model_type": "mistral",
            "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8, "vocab_size": 131072}"#,
        others: 2 * 131072 * 5120 + (40 * 2 + 1) * 5120,
        parameters: 12_247_782_400,
    },
    Published {
        name: "Qwen2.5-14B",
        config: r#"{"hidden_size": 5120, "intermediate_size": 13824, "model_type": "qwen2", "num_attention_heads": 40,
            "num_hidden_layers": 48, "num_key_value_heads": 8, "use_sliding_window": false, "vocab_size": 152064}"#,
        others: 2 * 152064 * 5120 + (48 * 2 + 1) * 5120,
        parameters: 14_770_033_664,
    },
    Published {
        name: "Qwen3-0.6B",
        config: r#"{"attention_bias": false, "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072,
            "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
            "rope_scaling": null, "tie_word_embeddings": true, "vocab_size": 151936}"#,
        // Norms of queries and keys too.
        others: 151936 * 1024 + (28 * 2 + 1) * 1024 + 28 * 2 * 128,
        parameters: 596_049_920,
    },
    Published {
        name: "gemma-2b",
        config: r#"{"attention_bias": false, "head_dim": 256, "hidden_size": 2048, "intermediate_size": 16384,
            "model_type": "gemma", "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
            "vocab_size": 256000}"#,
        others: 256_000 * 2048 + (18 * 2 + 1) * 2048,
        parameters: 2_506_172_416,
    },
    Published {
        name: "Phi-3-mini-4k-instruct",
        config: r#"{"attention_bias": false, "hidden_size": 3072, "intermediate_size": 8192, "model_type": "phi3",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 32064}"#,
        others: 2 * 32064 * 3072 + (32 * 2 + 1) * 3072,
        parameters: 3_821_079_552,
    },
    Published {
        name: "gpt2",
        config: r#"{"model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
            "vocab_size": 50257}"#,
        others: (50257 + 1024) * 768 + (12 * 2 + 1) * 2 * 768,
        parameters: 124_439_808,
    },
    Published {
        name: "pythia-160m",
        config: r#"{"hidden_size": 768, "intermediate_size": 3072, "model_type": "gpt_neox", "num_attention_heads": 12,
            "num_hidden_layers": 12, "use_parallel_residual": true, "vocab_size": 50304}"#,
        others: 2 * 50304 * 768 + (12 * 2 + 1) * 2 * 768,
        parameters: 162_322_944,
    },
];

fn parameters(layer: &Linear) -> usize {
    layer.count * (layer.rows * layer.cols + if layer.bias { layer.rows } else { 0 })
}

#[test]
fn layers_hold_the_published_number_of_parameters() {
    for model in &PUBLISHED {
        let layers = Model::parse(model.name, model.config).unwrap().layers;
        let found: usize = layers.iter().map(parameters).sum::<usize>() + model.others;
        assert_eq!(found, model.parameters, "{}: {layers:?}", model.name);
    }
}

/// The tensors of the files themselves; that rows and columns are not swapped does not show in a number of parameters.
#[test]
fn shapes_are_those_of_the_stored_tensors() {
    let shape = |model: &Model, name: &str| {
        let layer = model.layers.iter().find(|layer| layer.name == name).unwrap_or_else(|| panic!("{name}: {model:?}"));
        (layer.rows, layer.cols, layer.count)
    };
    let parsed = |index: usize| Model::parse(PUBLISHED[index].name, PUBLISHED[index].config).unwrap();
    let (minilm, smollm) = (parsed(0), parsed(1));
    for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
        assert_eq!(shape(&minilm, name), (384, 384, 6), "{name}");
    }
    assert_eq!(shape(&minilm, "intermediate.dense"), (1536, 384, 6));
    assert_eq!(shape(&minilm, "output.dense"), (384, 1536, 6));
    assert_eq!(minilm.shapes(), [(384, 384), (1536, 384), (384, 1536)]);
    assert!(minilm.layers.iter().all(|layer| layer.bias));

    assert_eq!(shape(&smollm, "q_proj"), (576, 576, 30));
    assert_eq!((shape(&smollm, "k_proj"), shape(&smollm, "v_proj")), ((192, 576, 30), (192, 576, 30)));
    assert_eq!((shape(&smollm, "gate_proj"), shape(&smollm, "up_proj")), ((1536, 576, 30), (1536, 576, 30)));
    assert_eq!(shape(&smollm, "down_proj"), (576, 1536, 30));
    assert_eq!(smollm.shapes(), [(576, 576), (192, 576), (1536, 576), (576, 1536)]);

    // Heads of their own size make query and output rectangular, one the other way round.
    let nemo = parsed(4);
    assert_eq!((shape(&nemo, "q_proj"), shape(&nemo, "o_proj")), ((4096, 5120, 40), (5120, 4096, 40)));
    let phi = parsed(8);
    assert_eq!((shape(&phi, "qkv_proj"), shape(&phi, "gate_up_proj")), ((9216, 3072, 32), (16384, 3072, 32)));
    let gpt2 = parsed(9);
    assert_eq!((shape(&gpt2, "attn.c_attn"), shape(&gpt2, "mlp.c_proj")), ((2304, 768, 12), (768, 3072, 12)));
}

#[test]
fn models_known_by_name_are_those_of_their_files() {
    let named = [("all-MiniLM-L6-v2", 0), ("smollm2-135m", 1), ("LLaMA-3-8B", 2), ("Qwen2.5-14B", 5)];
    for (name, index) in named {
        let model = Model::named(name).unwrap();
        assert_eq!(model.name, name.to_ascii_lowercase());
        assert_eq!(model.layers, Model::parse(name, PUBLISHED[index].config).unwrap().layers, "{name}");
    }
    assert_eq!(Model::names().len(), named.len());
    assert!(Model::names().iter().all(|name| Model::named(name).is_some_and(|model| model.name == *name)));
    assert_eq!(Model::named("minilm"), None);
}

/// A Llama with one key set to something, or taken away.
fn with(key: &str, value: Option<&str>) -> Result<Model, Error> {
    let mut config: serde_json::Value = serde_json::from_str(PUBLISHED[1].config).unwrap();
    let keys = config.as_object_mut().unwrap();
    match value {
        Some(value) => drop(keys.insert(key.to_owned(), serde_json::from_str(value).unwrap())),
        None => assert!(keys.remove(key).is_some(), "{key}"),
    }
    Model::parse("hostile", &config.to_string())
}

#[test]
fn hostile_numbers_name_the_key() {
    let sizes = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"];
    let values =
        ["0", "-1", "1e30", "16777217", "18446744073709551616", "576.5", "576.0", "\"576\"", "[576]", "true", "{}"];
    for key in sizes {
        for value in values {
            let error = with(key, Some(value)).unwrap_err();
            assert!(
                matches!(&error, Error::Parameter { parameter, .. } if *parameter == key),
                "{key} {value}: {error}"
            );
            assert!(error.to_string().contains("from 1 to 16777216"), "{error}");
        }
        if key != "num_key_value_heads" {
            let error = with(key, None).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}` is missing")), "{error}");
        }
    }
    for (key, value, expected) in [
        ("num_attention_heads", "7", "expected a divisor of `num_attention_heads`"),
        ("num_attention_heads", "30", "`num_attention_heads` is 30, expected a divisor of `hidden_size`, which is 576"),
        (
            "num_key_value_heads",
            "2",
            "`num_key_value_heads` is 2, expected a divisor of `num_attention_heads`, which is 9",
        ),
        ("num_key_value_heads", "18", "`num_key_value_heads` is 18, expected a divisor"),
        ("head_dim", "0", "`head_dim` is 0"),
        ("head_dim", "16777216", "`num_attention_heads` is 9, expected at most 1 heads of 16777216"),
        ("attention_bias", "1", "`attention_bias` is 1, expected true or false"),
        ("mlp_bias", "\"no\"", "`mlp_bias` is \"no\""),
        ("model_type", "7", "`model_type` is 7, expected one of `bert`"),
    ] {
        let error = with(key, Some(value)).unwrap_err().to_string();
        assert!(error.contains(expected), "{key} {value}: {error}");
    }
}

#[test]
fn what_is_unknown_is_told_with_what_is_known() {
    for kind in ["mamba", "t5", "qwen2_moe", "a\\u0007b", ""] {
        let error = with("model_type", Some(&format!("\"{kind}\""))).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("is not known; known are `bert`") && message.contains("`gpt_neox`"), "{message}");
        assert!(!message.contains('\u{7}'), "control characters are escaped");
        assert!(kind.contains('\\') || message.contains(&format!("model_type `{kind}`")), "{message}");
    }
    // As Mixtral and DeepSeek say it, whatever they call themselves.
    for key in ["num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size"] {
        let error = with(key, Some("8")).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(&format!("has `{key}`: mixtures of experts are not read")), "{error}");
        assert!(with(key, Some("null")).is_ok(), "null is as good as missing");
    }
    let message = with("model_type", None).unwrap_err().to_string();
    assert!(message.contains("`model_type` is missing, expected one of `bert`"), "{message}");
    let deep = "[".repeat(100_000);
    for text in ["", "{", "[]", "7", "null", "{\"model_type\": \"llama\"", deep.as_str()] {
        let error = Model::parse("broken", text).unwrap_err();
        assert!(matches!(error, Error::Format { .. }) && error.to_string().starts_with("broken: "), "{error}");
    }
}

/// Defaults are those of the architecture, and where they are numbers of its own, none are made up.
#[test]
fn defaults_are_the_architectures() {
    let bias = |model: &Model| model.layers.iter().map(|layer| layer.bias).collect::<Vec<_>>();
    for value in [None, Some("null")] {
        let model = with("num_key_value_heads", value).unwrap();
        assert_eq!(model.layers[1].rows, 576, "as many heads of keys as of queries");
    }
    for kind in ["mistral", "qwen2", "qwen3", "gemma"] {
        let text = PUBLISHED[1].config.replace("\"llama\"", &format!("\"{kind}\""));
        let without = text.replace("\"num_key_value_heads\": 3,", "");
        let message = Model::parse(kind, &without).unwrap_err().to_string();
        assert!(message.contains("`num_key_value_heads` is missing"), "{kind}: {message}");
        let heads = Model::parse(kind, &text).map_err(|error| error.to_string());
        match kind {
            "qwen3" | "gemma" => assert!(heads.unwrap_err().contains("`head_dim` is missing"), "{kind}"),
            _ => assert_eq!(heads.unwrap().layers[0].rows, 576, "{kind}"),
        }
    }
    assert_eq!(bias(&with("attention_bias", Some("true")).unwrap()), [true, true, true, true, false, false, false]);
    assert_eq!(bias(&with("mlp_bias", Some("true")).unwrap()), [false, false, false, false, true, true, true]);
    let qwen = Model::named("qwen2.5-14b").unwrap();
    assert_eq!(bias(&qwen), [true, true, true, false, false, false, false]);
    let gpt2 = PUBLISHED[9].config.replace("\"n_embd\"", "\"n_inner\": 100, \"n_embd\"");
    assert_eq!(Model::parse("gpt2", &gpt2).unwrap().shapes(), [(2304, 768), (768, 768), (100, 768), (768, 100)]);
    let neox = PUBLISHED[10].config.replace("\"vocab_size\"", "\"attention_bias\": false, \"vocab_size\"");
    assert_eq!(bias(&Model::parse("neox", &neox).unwrap()), [false, false, true, true]);
}

#[test]
fn files_and_folders_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("SmolLM2-135M");
    std::fs::create_dir(&model).unwrap();
    let file = model.join("config.json");
    std::fs::write(&file, PUBLISHED[1].config).unwrap();
    for path in [&model, &file] {
        let found = Model::read(path).unwrap();
        assert_eq!(found.name, "SmolLM2-135M");
        assert_eq!(found.layers, Model::named("smollm2-135m").unwrap().layers);
    }
    std::fs::write(&file, "{").unwrap();
    let message = Model::read(&model).unwrap_err().to_string();
    assert!(message.contains("config.json: "), "{message}");
    std::fs::File::create(&file).unwrap().set_len((1 << 24) + 1).unwrap();
    let message = Model::read(&model).unwrap_err().to_string();
    assert!(message.contains("has 16777217 bytes"), "{message}");
    assert!(matches!(Model::read(&model.join("nothing")), Err(Error::Io { .. })));
}
