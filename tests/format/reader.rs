//! `docs/format.md` is true: its example is the file that is written, its tables list what the code knows, and its Python reads
//! and runs adapters.

use crate::common::matrices::Draw;
use crate::{GATES, Sandbox, adapter};
use idlora::adapter::{BInit, Config, Digest, IdLora, Parts, Scaling};
use idlora::cluster::{Axis, Space};
use idlora::format::native::FILE;
use idlora::lowrank::Gate;
use idlora::reference::lowrank as reference;
use idlora::select::Selection;
use idlora::{Dtype, Elem, Mat, MatRef, bf16, f16};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

const PAGE: &str = include_str!("../../docs/format.md");

/// The fenced blocks of one language, in order.
fn blocks(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            found.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    found
}

/// Runs the page's Python, then `driver`, which finds `asked` as `request`; returns the object that it prints.
fn python(driver: &str, asked: &Value) -> Value {
    let program = std::env::var_os("IDLORA_PYTHON").unwrap_or_else(|| "python3".into());
    let script = format!("{}\nimport sys\nrequest = json.load(sys.stdin)\n{driver}", blocks("python").concat());
    let mut child = Command::new(&program)
        .args(["-I", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("this test needs Python 3, as IDLORA_PYTHON or `python3`: {program:?}: {error}")
        });
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn singles(rows: &Value) -> Vec<u32> {
    let rows = rows.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    // Exact: Python prints the doubles that the single-precision numbers are, and they are read as such.
    rows.map(|x| (x.as_f64().unwrap() as f32).to_bits()).collect()
}

fn bits(values: MatRef<'_, f32>) -> Vec<u32> {
    values.iter_rows().flatten().map(|x| x.to_bits()).collect()
}

fn assert_read(read: &Value, saved: &IdLora) {
    let parts = saved.clone().into_parts();
    assert_eq!(
        (&read["name"], &read["rows"], &read["cols"]),
        (&json!(parts.name), &json!(parts.rows), &json!(parts.cols))
    );
    assert_eq!((&read["dtype"], &read["digest"]), (&json!(parts.dtype), &json!(parts.digest.to_string())));
    assert_eq!(serde_json::from_value::<Config>(read["config"].clone()).unwrap(), parts.config);
    let skeleton: Vec<Vec<u32>> = parts.skeleton.chunks(parts.config.rank).map(<[u32]>::to_vec).collect();
    assert_eq!(read["skeleton"], json!(skeleton));
    for (name, value) in [("b", saved.b()), ("gate", saved.gate())] {
        let heights: Vec<usize> =
            read[name].as_array().unwrap().iter().map(|row| row.as_array().unwrap().len()).collect();
        assert_eq!(heights, vec![value.cols(); value.rows()], "{name}");
        assert_eq!(singles(&read[name]), bits(value), "{name}");
    }
    assert_eq!((read["scale"].as_f64().unwrap() as f32).to_bits(), saved.scale().to_bits());
    assert_eq!(f64::from(read["scale"].as_f64().unwrap() as f32), read["scale"].as_f64().unwrap(), "κ is single");
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 64, ..ProptestConfig::with_cases(12) })]

    /// Every value of every module, bit for bit.
    #[test]
    fn the_reader_reads_what_is_saved(
        modules in prop::collection::vec(
            ((1usize..4, 1usize..5, 1usize..4, 0usize..9, 1usize..12), 0usize..5, 0usize..3, any::<f32>(), any::<u64>(), "[a-z.\"\\\\é]{0,6}"),
            1..5,
        ),
    ) {
        let adapters: Vec<IdLora> = modules
            .into_iter()
            .enumerate()
            .map(|(i, ((clusters, part, split, spare, cols), gate, scaling, alpha, seed, name))| {
                let scaling = SCALINGS[scaling];
                let alpha = if alpha.is_finite() { alpha } else { 0.1 };
                let rank = part * split;
                let config = Config { rank, clusters, split, alpha, scaling, gate: GATES[gate], seed, ..Config::default() };
                adapter(&format!("{}.{name}", 9 - i), clusters * rank + spare * split, cols, DTYPES[i % 3], config, seed)
            })
            .collect();
        let sandbox = Sandbox::new();
        sandbox.saved(&adapters);
        let path = sandbox.path("good").join(FILE);
        let read = python("print(json.dumps(read(request)))", &json!(path));
        prop_assert_eq!(read.as_array().unwrap().len(), adapters.len());
        read.as_array().unwrap().iter().zip(&adapters).for_each(|(read, saved)| assert_read(read, saved));
    }
}

const SCALINGS: [Scaling; 3] = [Scaling::AlphaOverRank, Scaling::AlphaOverSqrtRank, Scaling::One];
const DTYPES: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];

#[test]
fn the_reader_is_as_short_as_it_is_said_to_be() {
    let reader = &blocks("python")[0];
    assert!(reader.lines().count() <= 30, "{} lines", reader.lines().count());
}

/// The page's forward is the definition's, in f64 on both sides: sums of at most a few dozen terms in another order.
#[test]
fn the_forward_is_the_definition() {
    let draw = &mut Draw::new(11);
    let sandbox = Sandbox::new();
    for (gate, scaling, split) in [
        (Gate::Inner, Scaling::AlphaOverRank, 2),
        (Gate::RmsInner, Scaling::AlphaOverSqrtRank, 3),
        (Gate::Linear, Scaling::One, 1),
        (Gate::LinearSoftmax, Scaling::AlphaOverSqrtRank, 2),
        (Gate::Static, Scaling::AlphaOverRank, 3),
    ] {
        let (rows, cols, config) = (30, 7, Config { rank: 6, clusters: 4, gate, scaling, split, ..Config::default() });
        let mut parts = adapter("m", rows, cols, Dtype::F32, config, 3).into_parts();
        for values in [&mut parts.b, &mut parts.gate] {
            values.data_mut().iter_mut().for_each(|x| *x = draw.normal() as f32);
        }
        let adapter = IdLora::from_parts(parts).unwrap();
        sandbox.saved(std::slice::from_ref(&adapter));
        let (h, y0) = (draw.gaussian(1, cols), draw.gaussian(1, rows));
        let asked = json!({"path": sandbox.path("good").join(FILE), "h": h.data(), "y0": y0.data()});
        let y = python("print(json.dumps(forward(read(request['path'])[0], request['h'], request['y0'])))", &asked);
        let found: Vec<f64> = y.as_array().unwrap().iter().map(|y| y.as_f64().unwrap()).collect();

        let [b, parameters] = [adapter.b(), adapter.gate()].map(|value| wide(value));
        let definition = reference::Adapter {
            rank: 6,
            split,
            gate,
            skeleton: adapter.skeleton(),
            b: b.as_ref(),
            parameters: parameters.as_ref(),
            scale: adapter.scale().into(),
        };
        let x = reference::gather(y0.as_ref(), None, adapter.skeleton());
        let update = reference::update(&definition, x.as_ref(), Some(h.as_ref()), None);
        assert_eq!(found.len(), rows);
        for (i, y) in found.iter().enumerate() {
            let (expected, change) = (y0.data()[i] + update.data()[i], update.data()[i]);
            assert!(change != 0.0 && (y - expected).abs() <= 1e-11, "{gate:?}, output {i}: {y} instead of {expected}");
        }
    }
}

fn wide(a: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_vec(a.iter_rows().flatten().map(|&x| x.into()).collect(), a.rows(), a.cols()).unwrap()
}

fn digest_asked<T: Elem>(rows: usize, cols: usize) -> (Value, String) {
    let draw = &mut Draw::new(5);
    let values: Vec<T> = (0..rows * cols).map(|_| T::from_f32(draw.normal() as f32)).collect();
    let w = Mat::from_vec(values, rows, cols).unwrap();
    let bytes: &[u8] = bytemuck::cast_slice(w.data());
    (json!([serde_json::to_value(T::DTYPE).unwrap(), rows, cols, bytes]), Digest::of(w.as_ref()).to_string())
}

#[test]
fn digests_and_seeds_are_as_described() {
    let asked = [digest_asked::<f16>(3, 5), digest_asked::<bf16>(5, 3), digest_asked::<f32>(1, 7)];
    let names = ["layer.0.q", "é\"\\", "x"];
    let seeds = [0, 1, u64::MAX];
    let request =
        json!({"digests": asked.iter().map(|(asked, _)| asked).collect::<Vec<_>>(), "names": names, "seeds": seeds});
    let driver = "\
print(json.dumps({
    'digests': [digest(dtype, rows, cols, bytes(data)) for dtype, rows, cols, data in request['digests']],
    'seeds': [module_seed(seed, name) for seed in request['seeds'] for name in request['names']],
}))";
    let answer = python(driver, &request);
    assert_eq!(answer["digests"], json!(asked.iter().map(|(_, digest)| digest).collect::<Vec<_>>()));
    let expected: Vec<u64> = seeds
        .iter()
        .flat_map(|&seed| names.map(|name| Config { seed, ..Config::default() }.module_seed(name)))
        .collect();
    assert_eq!(answer["seeds"], json!(expected));
}

/// The page's example.
fn example() -> IdLora {
    let w: Vec<f16> = (0..12).map(|i| f16::from_f32(i as f32 / 8.0)).collect();
    let config = Config { rank: 2, alpha: 4.0, clusters: 2, split: 2, gate: Gate::Static, ..Config::default() };
    IdLora::from_parts(Parts {
        name: "up.weight".to_owned(),
        rows: 4,
        cols: 3,
        dtype: Dtype::F16,
        config,
        skeleton: vec![2, 0, 3, 1],
        b: Mat::from_vec(vec![0.5, -0.25], 2, 1).unwrap(),
        gate: Mat::from_vec(vec![0.75, 0.25], 1, 2).unwrap(),
        digest: Digest::of(MatRef::new(&w, 4, 3).unwrap()),
    })
    .unwrap()
}

/// White space outside of strings removed; no string of the example has any quote in it.
fn compact(json: &str) -> String {
    json.split('"')
        .enumerate()
        .map(|(i, part)| if i % 2 == 0 { part.split_whitespace().collect() } else { format!("\"{part}\"") })
        .collect()
}

/// Sixteen bytes a line, as `hexdump -C` prints them.
fn hexdump(bytes: &[u8]) -> Vec<String> {
    let line = |(at, part): (usize, &[u8])| {
        let hex: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = part.iter().map(|&b| if (0x20..0x7f).contains(&b) { b as char } else { '.' }).collect();
        format!("{:08x}  {:<47}  |{text}|", 16 * at, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[test]
fn the_example_is_what_is_written() {
    let bytes = Sandbox::new().saved(&[example()]);
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json = blocks("json");
    let [header, modules] = &json[..] else { panic!("not two blocks of JSON") };
    let text = serde_json::to_string(&compact(modules)).unwrap();
    let header = compact(header).replace("\"MODULES\"", &text);
    assert_eq!(header, std::str::from_utf8(&bytes[8..data]).unwrap().trim_end_matches(' '));

    let expected = hexdump(&bytes);
    let shown = blocks("hexdump").concat();
    let mut missing: BTreeSet<usize> = (0..expected.len()).collect();
    for line in shown.lines().filter(|line| !line.starts_with('…')) {
        let at = usize::from_str_radix(&line[..8], 16).unwrap() / 16;
        // What follows is the annotation.
        assert!(line.starts_with(&expected[at]), "{line}\nshould begin with\n{}", expected.join("\n"));
        missing.remove(&at);
    }
    // Only lines of the header may be left out.
    let header_only = |at: &usize| *at > 0 && 16 * (at + 1) <= data;
    assert!(missing.iter().all(header_only), "not shown: {missing:?} of\n{}", expected.join("\n"));
}

/// The rows of the table under a heading: the first column without its backticks, and the words in quotes in the second.
fn table(heading: &str) -> Vec<(String, BTreeSet<String>)> {
    let section = PAGE.split_once(heading).expect(heading).1;
    let section = section.split("\n#").next().unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let values = cells[1].split("`\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        Some((cells[0].trim_end_matches('`').to_owned(), values.collect()))
    };
    section.lines().filter_map(row).collect()
}

fn spelled(values: &[impl Serialize]) -> BTreeSet<String> {
    values.iter().map(|value| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_tables_list_what_the_code_knows() {
    let bytes = Sandbox::new().saved(&[example()]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let modules = &header.metadata().as_ref().unwrap()["modules"];
    let module: Value = serde_json::from_str(modules).unwrap();
    // serde_json sorts keys: the order is that of the text.
    let order = |keys: &Value, from: &str| {
        let mut keys: Vec<String> = keys.as_object().unwrap().keys().cloned().collect();
        keys.sort_by_key(|key| from.find(&format!("\"{key}\":")).unwrap());
        keys
    };
    let names = |rows: &[(String, BTreeSet<String>)]| rows.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let of_module = table("### Fields of a module");
    assert_eq!(names(&of_module), order(&module[0], modules));
    assert_eq!(of_module[3].1, spelled(&DTYPES));

    let of_config = table("### Fields of `config`");
    assert_eq!(names(&of_config), order(&module[0]["config"], modules.split_once("\"config\"").unwrap().1));
    let selections = [Selection::Centroid, Selection::PivotedQr, Selection::Sketch, Selection::Norm, Selection::Random];
    for (field, values) in [
        ("axis", spelled(&[Axis::Rows, Axis::Cols])),
        ("cluster_by", spelled(&[Space::Full, Space::Direction, Space::Norm])),
        ("select", spelled(&selections)),
        ("gate", spelled(&GATES)),
        ("scaling", spelled(&SCALINGS)),
        ("b_init", spelled(&[BInit::Zero, BInit::Normal])),
    ] {
        let (_, listed) = of_config.iter().find(|(name, _)| name == field).unwrap();
        assert_eq!(*listed, values, "{field}");
    }
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for (field, _) in &of_config {
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{field}` |"))).unwrap();
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(last).unwrap(), defaults[field], "{field}");
    }
}
