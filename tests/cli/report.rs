//! `idlora report`: what its page holds, where its points lie, and what it refuses.

use crate::page::{Tag, parse};
use crate::support::{Outcome, entries, folder, idlora, manifest_path, refuse, succeed};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// A made-up sweep of four devices, two of them modelled.
const SWEEP: &str = "tests/data/sweep.json";

fn device(name: &str, model: bool, [memory, cache, peak]: [Value; 3]) -> Value {
    json!({
        "name": name, "description": format!("what {name} is"), "model": model,
        "memory": memory, "cache": cache, "peak": peak
    })
}

fn case(operation: &str, device: &str, bytes: f64, operations: f64, seconds: Value) -> Value {
    json!({
        "operation": operation, "shape": "a shape", "size": "t=8 m=16 n=16", "dtype": "bf16", "device": device,
        "least_bytes": bytes, "operations": operations, "seconds": seconds, "samples": [], "kernels": [], "peers": [],
        "failure": null
    })
}

fn sweep(devices: Value, cases: Value) -> Value {
    json!({ "schema": 1, "version": "0.1.0", "devices": devices, "cases": cases })
}

/// 1 TB/s and 100 Top/s.
fn card() -> Value {
    device("card", false, [json!(1e12), json!(null), json!(1e14)])
}

/// The page of some files.
#[track_caller]
fn page_of(files: &[Value]) -> String {
    let dir = folder();
    let mut words = vec!["report".to_owned()];
    for (i, file) in files.iter().enumerate() {
        let path = dir.path().join(format!("file-{i}.json"));
        std::fs::write(&path, file.to_string()).unwrap();
        words.push(path.to_str().unwrap().to_owned());
    }
    let out = dir.path().join("report.html");
    words.extend(["--out".to_owned(), out.to_str().unwrap().to_owned()]);
    let outcome = idlora(words);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    checked(std::fs::read_to_string(out).unwrap())
}

/// What holds of every page: strict syntax, unique names, targets that exist, nothing from elsewhere, no number that is none.
#[track_caller]
fn checked(page: String) -> String {
    let tags = parse(&page);
    let ids: Vec<&str> = tags.iter().filter_map(|tag| tag.get("id")).collect();
    let unique: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len(), "an id twice");
    for tag in &tags {
        for (key, value) in &tag.attributes {
            match key.as_str() {
                "href" if tag.name == "a" => assert!(unique.contains(value.strip_prefix('#').unwrap()), "{value}"),
                "href" => assert_eq!(value, "data:,"),
                "aria-labelledby" => assert!(value.split(' ').all(|id| unique.contains(id)), "{value}"),
                "src" | "srcset" | "action" => panic!("{tag:?}"),
                "style" | "d" | "x" | "y" | "transform" => {
                    assert!(!value.contains("NaN") && !value.contains("inf"), "{tag:?}");
                }
                _ => assert!(!key.starts_with("on"), "{tag:?}"),
            }
        }
        assert!(!["img", "iframe", "object", "base"].contains(&tag.name.as_str()), "{tag:?}");
    }
    assert_eq!(tags.iter().filter(|tag| tag.name == "script").count(), 1);
    assert!(!page.contains("://") && !page.contains("NaN") && !page.contains("@import"));
    for plot in tags.iter().filter(|tag| tag.has_class("roofline")) {
        assert!(plot.get("aria-labelledby").is_some() && plot.get("role").is_some());
    }
    page
}

fn with_class<'a>(tags: &'a [Tag], class: &'a str) -> Vec<&'a Tag> {
    tags.iter().filter(|tag| tag.has_class(class)).collect()
}

fn texts(tags: &[Tag]) -> String {
    tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn made_up() -> Value {
    serde_json::from_slice(&std::fs::read(manifest_path(SWEEP)).unwrap()).unwrap()
}

#[test]
fn the_page_of_a_sweep_shows_every_case_and_says_where_it_comes_from() {
    let dir = folder();
    let out = dir.path().join("report.html");
    let Outcome { stdout, stderr, .. } = succeed(&format!("report {SWEEP} --out {{out}}"), &[("out", &out)]);
    let value = made_up();
    let cases = value["cases"].as_array().unwrap();
    assert!(stdout.contains(&format!("report.html: {} cases on 4 devices, 1 failed", cases.len())), "{stdout}");
    assert_eq!((stderr.as_str(), entries(dir.path())), ("", vec!["report.html".to_owned()]));

    let page = checked(std::fs::read_to_string(out).unwrap());
    let tags = parse(&page);
    for id in ["devices", "failures", "rooflines", "floor", "traffic", "overhead", "cases"] {
        assert_eq!(tags.iter().filter(|tag| tag.name == "section" && tag.get("id") == Some(id)).count(), 1, "{id}");
    }
    assert_eq!(tags.iter().filter(|tag| tag.name == "tr").count(), cases.len() + 1);
    let timed = cases.iter().filter(|case| case["seconds"].is_number()).count();
    assert_eq!(with_class(&tags, "dot").len(), timed);
    let text = texts(&tags);
    for words in
        ["idlora report sweep.json --out report.html", "sweep.json", "idlora 0.1.0", "cannot allocate the Gram"]
    {
        assert!(text.contains(words), "{words}");
    }
    // Every point says its name, its size, its seconds and how much of the roof it reaches.
    for tag in tags.iter().filter(|tag| tag.name == "title").skip(1).filter(|tag| !tag.text.starts_with("Roofline")) {
        for words in [" · ", "t=", "s ", "% of the roof"] {
            assert!(tag.text.contains(words), "{words}: {}", tag.text);
        }
    }
}

/// With axes of half decades: x from 10^0.5 at 62 to 10^2.5 at 546, y from 10^11.5 at 346 to 10^14.5 at 34.
#[test]
fn points_lines_and_bars_lie_where_their_numbers_say() {
    // 10 operations a byte, 1e12 a second: a tenth of the roof of 1e13 there.
    let cases = json!([case("a", "card", 1e8, 1e9, json!(1e-3))]);
    let page = page_of(&[sweep(json!([card()]), cases)]);
    let tags = parse(&page);
    let paths: Vec<&str> = tags.iter().filter_map(|tag| tag.get("d")).collect();
    for path in [
        "M178 294A5 5 0 1 1 188 294A5 5 0 1 1 178 294Z", // a circle around (183, 294)
        "M62 242L425 86",                                // memory, up to the bend at 100 operations a byte
        "M425 86H546",                                   // the peak
    ] {
        assert!(paths.contains(&path), "{path}: {paths:?}");
    }
    let text = texts(&tags);
    for words in ["10 % of the roof, 10.0× its floor", "memory 1.00 TB/s", "peak 100 Top/s", "100 op/B"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(with_class(&tags, "fill")[0].get("style"), Some("width:100.00%"));

    // Bounded by arithmetic: 1e12 operations take 10 ms at the peak, the bytes a tenth of a millisecond.
    let cases = json!([case("a", "card", 1e8, 1e12, json!(0.02)), case("b", "card", 1e8, 1e9, json!(1e-2))]);
    let page = page_of(&[sweep(json!([card()]), cases)]);
    let tags = parse(&page);
    // b at 100 times its floor comes first, on a scale to 100; a at twice its floor is log10(2) / 2 of it.
    let bars: Vec<Option<&str>> = with_class(&tags, "fill").iter().map(|tag| tag.get("style")).collect();
    assert_eq!(bars, [Some("width:100.00%"), Some("width:15.05%")]);
}

#[test]
fn traffic_is_stacked_against_the_least() {
    let operands = json!([
        { "name": "Y", "read": 0, "written": 500 }, { "name": "W", "read": 1000, "written": 0 },
        { "name": "P", "read": 250, "written": 250 }
    ]);
    let counters = |operands: &Value, conflicts: u64| {
        json!({
            "operands": operands, "thread_instructions": 64, "warp_instructions": 2, "tensor_operations": 0,
            "bank_conflicts": conflicts
        })
    };
    let kernel =
        |counters: Value| json!({ "name": "k", "launches": 2, "seconds": null, "bound": null, "counters": counters });
    let mut first = case("a", "vm", 1000.0, 1.0, json!(null));
    // Two kernels add up; the same counts on another device are one bar.
    first["kernels"] = json!([kernel(counters(&operands, 3)), kernel(counters(&json!([]), 4))]);
    let mut second = first.clone();
    second["device"] = json!("card");
    let devices = json!([device("vm", false, [json!(null), json!(null), json!(null)]), card()]);
    let page = page_of(&[sweep(devices.clone(), json!([first, second]))]);
    let tags = parse(&page);
    let section = tags.iter().position(|tag| tag.get("id") == Some("traffic")).unwrap();
    let fills: Vec<_> = with_class(&tags[section..], "fill").iter().map(|tag| tag.get("style").unwrap()).collect();
    // The longest is twice the least, on a scale to 2 × 1.04.
    assert_eq!(fills, ["width:48.08%", "width:24.04%", "width:24.04%"]);
    let bar = with_class(&tags[section..], "bar")[0];
    assert_eq!(bar.get("data-d"), Some("0 1"));
    let text = texts(&tags[section..]);
    for words in ["2.00×", "7 conflicts", "Bank conflicts in 1 of 1", "250 B read, 250 B written"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut clean = case("a", "vm", 1000.0, 1.0, json!(null));
    clean["kernels"] = json!([kernel(counters(&operands, 0))]);
    assert!(texts(&parse(&page_of(&[sweep(devices, json!([clean]))]))).contains("No bank conflicts"));
}

/// Nobody may take a model for a measurement: hatched panels, hollow marks, and words.
#[test]
fn models_are_called_models_everywhere() {
    let model = device("model: H100", true, [json!(1e12), json!(2e12), json!(1e14)]);
    let cases = |device: &str| json!([case("a", device, 1e8, 1e9, json!(1e-3))]);
    let modelled = page_of(&[sweep(json!([model]), cases("model: H100"))]);
    let measured = page_of(&[sweep(json!([card()]), cases("card"))]);
    let (model, card) = (parse(&modelled), parse(&measured));
    for words in
        ["a model, not a measurement", "model, not measured", "Nothing on this page was measured", "by the model"]
    {
        assert!(texts(&model).contains(words), "{words}");
        assert!(!texts(&card).contains(words), "{words}");
    }
    assert!(texts(&card).contains("Roofline of card, measured"));
    let classes = |tags: &[Tag]| ["model", "modelled", "hollow", "hatch"].map(|class| with_class(tags, class).len());
    assert!(classes(&model).iter().all(|&count| count > 0), "{:?}", classes(&model));
    assert_eq!(classes(&card), [0; 4]);
    assert_eq!((with_class(&model, "measured").len(), with_class(&card, "measured").len()), (0, 4));
}

#[test]
fn components_are_held_against_the_kernel_without_and_peers_beside_it() {
    let mut with = case("shared_gemm", "card", 1e8, 1.1e9, json!(1.2e-3));
    with["size"] = json!("t=8 m=16 n=16 k=4 r=2 s=1");
    with["peers"] = json!([{ "name": "cuBLAS", "seconds": 0.6e-3 }, { "name": "shared_gemm frozen", "seconds": 1e-3 }]);
    let mut other = case("shared_gemm frozen", "card", 1e8, 1e9, json!(5e-3));
    other["size"] = json!("t=9 m=16 n=16");
    let without = case("shared_gemm frozen", "card", 1e8, 1e9, json!(1e-3));
    let page = page_of(&[sweep(json!([card()]), json!([with, other, without]))]);
    let tags = parse(&page);
    let section = tags.iter().position(|tag| tag.get("id") == Some("overhead")).unwrap();
    let end = tags.iter().position(|tag| tag.get("id") == Some("cases")).unwrap();
    let fills = with_class(&tags[section..end], "fill");
    let widths: Vec<_> = fills.iter().map(|tag| tag.get("style").unwrap()).collect();
    assert_eq!(widths, ["width:83.33%", "width:100.00%", "width:50.00%"]);
    let text = texts(&tags[section..end]);
    for words in ["1.000×", "1.200×", "0.600×", "cuBLAS", "1.100× that of the GEMM"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Hostile names change no tag and no attribute: the skeleton is that of the page with harmless ones.
#[test]
fn names_never_leave_their_text() {
    const HOSTILE: &str = " </script></style><img src=x onerror=alert(1)>\"'><svg onload=x>&lt;<!--]]>\u{0}\u{202e}";
    fn replaced(value: &mut Value, with: &str) {
        match value {
            Value::String(text) => *text += with,
            Value::Array(all) => all.iter_mut().for_each(|value| replaced(value, with)),
            Value::Object(all) => all.values_mut().for_each(|value| replaced(value, with)),
            _ => {}
        }
    }
    let skeleton = |with: &str| {
        let mut value = made_up();
        replaced(&mut value, with);
        let tags = parse(&page_of(&[value]));
        let names = |tag: &Tag| tag.attributes.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        tags.iter().map(|tag| (tag.name.clone(), names(tag))).collect::<Vec<_>>()
    };
    let harmless = skeleton(" x");
    assert_eq!(skeleton(HOSTILE), harmless);
    let long = HOSTILE.repeat(200);
    assert!(long.len() > 10_000);
    assert_eq!(skeleton(&long), harmless);
    let mut value = made_up();
    replaced(&mut value, &long);
    assert!(page_of(&[value]).len() < 3_000_000);
}

#[test]
fn what_is_missing_or_no_number_leaves_a_page() {
    let none = || json!(null);
    let text = |devices: Value, cases: Value| texts(&parse(&page_of(&[sweep(devices, cases)])));
    let empty = text(json!([]), json!([]));
    for words in ["0 cases", "The files hold no case", "nothing to draw", "Nothing to compare", "No case was counted"] {
        assert!(empty.contains(words), "{words}: {empty}");
    }
    let blank = device("card", false, [none(), none(), none()]);
    assert!(text(json!([blank.clone()]), json!([case("a", "card", 1e8, 1e9, json!(1.0))])).contains("No ceiling"));
    let memory = device("card", false, [json!(1e11), none(), none()]);
    let warned = text(json!([memory]), json!([case("a", "card", 1e8, 1e9, json!(1.0))]));
    assert!(warned.contains("The peak of this device is not known"), "{warned}");

    let numbers = [0.0, -1.0, 5e-324, 1e-300, 1.0, f64::MAX];
    for ceiling in numbers {
        let mut cases = Vec::new();
        for bytes in numbers {
            for operations in numbers {
                cases.extend(numbers.map(|seconds| case("shared_gemm", "card", bytes, operations, json!(seconds))));
            }
        }
        cases[0]["samples"] = json!([0.0, -1.0, 1e300]);
        cases[0]["peers"] = json!([{ "name": "p", "seconds": -1.0 }]);
        let odd = device("card", false, [json!(ceiling), json!(ceiling), json!(ceiling)]);
        page_of(&[sweep(json!([odd]), json!(cases))]);
    }
    let many: Vec<Value> =
        (0..500).map(|i| case(&format!("op {}", i % 70), "card", 1e8, 1e9, json!(1e-3 + f64::from(i)))).collect();
    let page = page_of(&[sweep(json!([card()]), json!(many))]);
    assert_eq!(with_class(&parse(&page), "dot").len(), 500);
    assert!(page.contains("476 more, nearer the floor"));
}

#[test]
fn several_files_are_one_page_and_the_same_files_the_same_bytes() {
    let other = device("card", false, [json!(2e12), json!(null), json!(1e14)]);
    let files = [
        sweep(json!([card()]), json!([case("a", "card", 1e8, 1e9, json!(1e-3))])),
        sweep(json!([card()]), json!([case("b", "card", 1e8, 1e9, json!(1e-3))])),
        sweep(json!([other]), json!([case("a", "card", 1e8, 1e9, json!(1e-3))])),
    ];
    let page = page_of(&files);
    assert_eq!(page, page_of(&files));
    let tags = parse(&page);
    let names: Vec<&str> = tags
        .iter()
        .filter(|tag| tag.name == "option" && tag.text.starts_with("card"))
        .map(|tag| tag.text.as_str())
        .collect();
    assert_eq!(names, ["card", "card (file-2.json)"]);
    assert!(texts(&tags).contains("3 cases of 2 operations on 2 devices"));
}

#[test]
fn files_that_are_no_results() {
    let dir = folder();
    let good = || sweep(json!([card()]), json!([case("a", "card", 1.0, 1.0, json!(1.0))]));
    let check = |contents: &str, expected: &[&str]| {
        let (file, out) = (dir.path().join("results.json"), dir.path().join("page.html"));
        std::fs::write(&file, contents).unwrap();
        let expected: Vec<&str> = ["results.json: "].into_iter().chain(expected.iter().copied()).collect();
        refuse("report {file} --out {out}", &[("file", &file), ("out", &out)], &expected);
        assert_eq!(entries(dir.path()), ["results.json"]);
    };
    check("", &["is not JSON"]);
    check("{\"schema\": 1, NaN}", &["is not JSON", "line 1"]);
    check(&"[".repeat(100_000), &["is not JSON"]);
    check("[]", &["`schema` is missing"]);
    check("{\"schema\": 2}", &["`schema` is 2", "reads 1"]);
    check("{\"schema\": \"1\"}", &["`schema` is \"1\""]);
    check("{\"schema\": 1, \"version\": \"0\", \"devices\": []}", &["`cases`"]);
    let kernel = json!({ "name": "k", "launches": 1, "seconds": null, "bound": null, "counters": { "operands": [] } });
    for (place, wrong, expected) in [
        ("/devices/0/memory", json!("fast"), "`devices[0].memory`: invalid type: string \"fast\""),
        ("/devices", json!({}), "`devices`: "),
        ("/devices/0", json!([]), "`devices[0]`: "),
        ("/cases/0/least_bytes", json!(null), "`cases[0].least_bytes`: invalid type: null"),
        ("/cases/0/operation", json!(7), "`cases[0].operation`: "),
        ("/cases/0/device", json!("cuda:9"), "`cases[0].device`: \"cuda:9\" is none of `devices`"),
        ("/cases/0/samples", json!([1.0, "x"]), "`cases[0].samples`: "),
        ("/cases/0/peers", json!([{ "name": "p" }]), "`cases[0].peers[0]`: missing field `seconds`"),
        ("/cases/0/kernels", json!([kernel]), "`cases[0].kernels[0].counters`: missing field `thread_instructions`"),
    ] {
        let mut value = good();
        *value.pointer_mut(place).unwrap() = wrong;
        check(&value.to_string(), &[expected]);
    }
    let mut value = good();
    value["devices"] = json!([card(), card()]);
    check(&value.to_string(), &["`devices[1].name`: \"card\" is there twice"]);
    value["devices"] = json!([card()]);
    value["cases"] = json!(vec![value["cases"][0].clone(); 10_001]);
    check(&value.to_string(), &["10,001 cases", "10,000"]);

    let large = dir.path().join("results.json");
    std::fs::File::create(&large).unwrap().set_len((32 << 20) + 1).unwrap();
    let out = dir.path().join("page.html");
    refuse("report {file} --out {out}", &[("file", &large), ("out", &out)], &["results.json", "32 MiB"]);
    refuse("report {file} --out {out}", &[("file", dir.path()), ("out", &out)], &["is a folder"]);
    let gone = dir.path().join("gone.json");
    refuse("report {file} --out {out}", &[("file", &gone), ("out", &out)], &["gone.json: reading"]);
}

#[test]
fn nothing_is_overwritten() {
    let dir = folder();
    let out = dir.path().join("page.html");
    std::fs::write(&out, "mine").unwrap();
    let paths: &[(&str, &Path)] = &[("out", &out)];
    refuse(&format!("report {SWEEP} --out {{out}}"), paths, &["page.html is there already", "nothing is overwritten"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    let nowhere = dir.path().join("no/page.html");
    refuse(&format!("report {SWEEP} --out {{out}}"), &[("out", &nowhere)], &["does not exist; make it first"]);
    assert_eq!(idlora(["report", "--out", "x.html"]).code, 2);
    assert_eq!(idlora(["report", SWEEP]).code, 2);
}
