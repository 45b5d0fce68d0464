//! What is saved is what is loaded, to the bit, and is what the format's documentation says.

use crate::{GATES, Sandbox, adapter, assert_same, two_modules};
use idlora::Dtype;
use idlora::adapter::{BInit, Config, IdLora, Scaling};
use idlora::cluster::Space;
use idlora::format::native::load;
use idlora::select::Selection;
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn config() -> impl Strategy<Value = (usize, usize, Dtype, Config)> {
    let sizes = (1usize..4, 1usize..5, 1usize..4, 0usize..9, 1usize..12);
    let choices = (0..5usize, 0..3usize, 0..5usize, 0..3usize, 0..3usize, any::<bool>());
    let alpha = any::<f32>().prop_filter("finite", |alpha| alpha.is_finite());
    (sizes, choices, alpha, any::<u64>(), any::<u32>()).prop_map(|(sizes, choices, alpha, seed, steps)| {
        let (clusters, part, split, spare, cols) = sizes;
        let (gate, space, select, scaling, dtype, normal) = choices;
        let rank = part * split;
        let config = Config {
            rank,
            alpha,
            clusters,
            min_size: normal.then_some(rank),
            split,
            cluster_by: [Space::Full, Space::Direction, Space::Norm][space],
            select: [Selection::Centroid, Selection::PivotedQr, Selection::Sketch, Selection::Norm, Selection::Random]
                [select],
            gate: GATES[gate],
            scaling: [Scaling::AlphaOverRank, Scaling::AlphaOverSqrtRank, Scaling::One][scaling],
            b_init: if normal { BInit::Normal } else { BInit::Zero },
            max_iterations: steps as usize,
            seed,
            ..Config::default()
        };
        (clusters * rank + spare * split, cols, [Dtype::F16, Dtype::BF16, Dtype::F32][dtype], config)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Load gives back every bit, and saving what was loaded gives the same file.
    #[test]
    fn saved_adapters_come_back_to_the_bit(
        modules in prop::collection::vec((config(), any::<u64>(), "[a-z.\"\\\\é]{0,6}"), 1..5),
    ) {
        let adapters: Vec<IdLora> = modules
            .into_iter()
            .enumerate()
            .map(|(i, ((rows, cols, dtype, config), seed, name))| {
                // Descending, so that keeping the order differs from sorting.
                adapter(&format!("{}.{name}", 9 - i), rows, cols, dtype, config, seed)
            })
            .collect();
        let sandbox = Sandbox::new();
        let bytes = sandbox.saved(&adapters);
        let loaded = load(&sandbox.path("good")).unwrap();
        prop_assert_eq!(loaded.len(), adapters.len());
        for (loaded, saved) in loaded.iter().zip(&adapters) {
            assert_same(loaded, saved);
        }
        prop_assert!(sandbox.saved(&loaded) == bytes, "the file changed by being loaded and saved");
    }
}

/// The file is what the module's documentation says, to any safetensors reader.
#[test]
fn files_hold_what_the_format_says() {
    let sandbox = Sandbox::new();
    let adapters = two_modules();
    let bytes = sandbox.saved(&adapters);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 6);
    let mut data = 0;
    for adapter in &adapters {
        let tensor = |suffix: &str| file.tensor(&format!("{}.{suffix}", adapter.name())).unwrap();
        let skeleton = tensor("skeleton");
        assert_eq!((skeleton.dtype(), skeleton.shape()), (safetensors::Dtype::U32, &[3, 2][..]));
        let rows: Vec<u8> = adapter.skeleton().iter().flat_map(|row| row.to_le_bytes()).collect();
        assert_eq!(skeleton.data(), rows);
        data += rows.len();
        for (suffix, value) in [("b", adapter.b()), ("gate", adapter.gate())] {
            let stored = tensor(suffix);
            assert_eq!((stored.dtype(), stored.shape()), (safetensors::Dtype::F32, &[value.rows(), value.cols()][..]));
            let expected: Vec<u8> = value.data().iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(stored.data(), expected);
            data += expected.len();
        }
    }
    let counted: usize = adapters.iter().map(|adapter| adapter.counters().stored_bytes).sum();
    assert_eq!(counted, data, "the counter says what the file holds");
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 8 + length + data);
    assert_eq!(length % 8, 0, "data starts aligned");

    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap();
    assert_eq!((metadata["format"].as_str(), metadata["version"].as_str()), ("idlora", "1"));
    let modules: Value = serde_json::from_str(&metadata["modules"]).unwrap();
    assert_eq!(modules[0]["name"], "first");
    assert_eq!((&modules[1]["rows"], &modules[1]["cols"]), (&json!(12), &json!(5)));
    assert_eq!(modules[0]["dtype"], "bf16");
    assert_eq!(modules[0]["digest"], json!(adapters[0].digest().to_string()));
    assert_eq!(modules[0]["config"]["gate"], "linear");
    assert_eq!(modules[0]["config"]["select"], "pivoted-qr");
}
