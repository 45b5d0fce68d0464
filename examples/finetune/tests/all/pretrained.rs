//! The real model, where `fetch` has put it: embeddings of a few sentences against BERT in numpy f64.

use candle_core::{Device, Tensor};
use idlora_finetune::model::Weights;
use idlora_finetune::tokens;
use std::path::Path;

/// A sentence, its tokens, the first numbers of its mean over tokens, and the sum of all.
type Case = (&'static str, &'static [u32], [f32; 8], f32);

const CASES: [Case; 3] = [
    (
        "A man is playing a guitar.",
        &[101, 1037, 2158, 2003, 2652, 1037, 2858, 1012, 102],
        [0.106_762, -0.023_971, -0.047_551, -0.312_445, -0.825_419, 0.023_046, 0.397_201, -0.118_974],
        0.198_424,
    ),
    (
        "The central bank raised interest rates by a quarter of a percentage point on Tuesday.",
        &[101, 1996, 2430, 2924, 2992, 3037, 6165, 2011, 1037, 4284, 1997, 1037, 7017, 2391, 2006, 9857, 1012, 102],
        [0.272_892, -0.168_844, -0.283_139, -0.085_159, 0.211_457, -0.216_374, -0.300_981, 0.217_074],
        -0.185_92,
    ),
    (
        "Café!",
        &[101, 7668, 999, 102],
        [0.262_407, -0.046_456, -0.181_583, 0.325_66, -0.314_119, 0.542_618, 0.517_702, -0.329_5],
        5.737_836,
    ),
];

#[test]
fn embeddings_are_the_references() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/model");
    if !model.exists() {
        eprintln!("skipped: examples/finetune/fetch has not been run");
        return;
    }
    let tokenizer = tokens::tokenizer(&model.join("tokenizer.json"), 64).unwrap();
    let ids: Vec<Vec<u32>> =
        CASES.iter().map(|case| tokenizer.encode(case.0, true).unwrap().get_ids().to_vec()).collect();
    let (width, lengths) = (ids.iter().map(Vec::len).max().unwrap(), ids.iter().map(Vec::len).collect::<Vec<_>>());
    let padded: Vec<u32> =
        ids.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat(0)).take(width)).collect();
    let padded = Tensor::from_vec(padded, (ids.len(), width), &Device::Cpu).unwrap();
    let pooled = Weights::read(&model).unwrap().bert().unwrap().pool(&padded, &lengths).unwrap();
    for ((case, ids), row) in CASES.iter().zip(&ids).zip(pooled.to_vec2::<f32>().unwrap()) {
        assert_eq!(ids, case.1);
        for (found, expected) in row.iter().zip(case.2) {
            assert!((found - expected).abs() < 5e-6, "{}: expected {expected}, found {found}", case.0);
        }
        let sum: f32 = row.iter().sum();
        assert!((sum - case.3).abs() < 1e-3, "{}: expected a sum of {}, found {sum}", case.0, case.3);
    }
}
