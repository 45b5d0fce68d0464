//! `include/idlora.h` is what cbindgen makes of the source. With `IDLORA_WRITE_HEADER=1` it is written.

mod common;

/// In the order of the header.
const SOURCES: [&str; 11] =
    ["lib", "status", "choices", "device", "memory", "config", "operands", "adapter", "merge", "files", "plan"];

fn generated() -> String {
    let root = common::root();
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for name in SOURCES {
        builder = builder.with_src(root.join(format!("src/{name}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_that_of_the_source() {
    let path = common::root().join("include/idlora.h");
    let header = generated();
    if std::env::var_os("IDLORA_WRITE_HEADER").is_some_and(|value| value == "1") {
        let temporary = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
        std::fs::write(temporary.path(), &header).unwrap();
        temporary.persist(&path).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == header, "include/idlora.h is not what the source says; IDLORA_WRITE_HEADER=1 writes it");
}

/// Every file with an exported function is asked for the header, and every such function answers through the one place
/// where panics stop.
#[test]
fn nothing_is_left_out() {
    let mut functions = 0;
    for entry in std::fs::read_dir(common::root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        for exported in source.split("#[unsafe(no_mangle)]").skip(1) {
            assert!(SOURCES.contains(&name.as_str()), "{name}.rs exports, and is not in the header");
            let (signature, body) = exported.split_once(" {\n").unwrap();
            let body: String = body.lines().take_while(|line| *line != "}").collect();
            functions += 1;
            if signature.contains("-> i32") {
                assert!(body.contains("answer(||"), "panics pass through {signature}");
            } else {
                assert!(
                    signature.starts_with("\npub extern \"C\" fn"),
                    "takes pointers and answers nothing: {signature}"
                );
            }
        }
    }
    assert!(functions > 30, "{functions}");
}
