//! What a CUDA file of planted bugs says about itself, in comments at the ends of lines.
//!
//! `// BUG` marks a line that must be reported. `// OR` marks one that may be reported instead or as well: the other party
//! of a race, which comes second under another schedule. `// OR SharedRace` and `// BUG SharedRace` allow that kind there,
//! besides the case's own.

use std::path::Path;

/// A marked line of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub line: u32,
    /// `BUG`, not `OR`.
    pub certain: bool,
    /// Another kind than the case's.
    pub kind: Option<String>,
}

/// The text of a file below `tests/planted`.
pub fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/planted").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The marked lines of a kernel: from its `void name(` to the brace that closes it.
pub fn marks(text: &str, kernel: &str) -> Vec<Mark> {
    let begin = format!("void {kernel}(");
    let numbered = text.lines().zip(1..).skip_while(|(line, _)| !line.contains(&begin));
    numbered.take_while(|(line, _)| *line != "}").filter_map(|(line, number)| mark(line, number)).collect()
}

fn mark(text: &str, line: u32) -> Option<Mark> {
    let (_, comment) = text.rsplit_once("// ")?;
    let mut words = comment.split_whitespace();
    let certain = match words.next()? {
        "BUG" => true,
        "OR" => false,
        _ => return None,
    };
    Some(Mark { line, certain, kind: words.next().map(str::to_owned) })
}

#[test]
fn marks_belong_to_their_kernel() {
    let text = "void a() {\n  x; // BUG\n}\nvoid b() {\n  y; // OR\n  z; // OR SharedRace\n  w; // no mark\n}\n";
    let mark = |line, certain, kind: Option<&str>| Mark { line, certain, kind: kind.map(str::to_owned) };
    assert_eq!(marks(text, "a"), [mark(2, true, None)]);
    assert_eq!(marks(text, "b"), [mark(5, false, None), mark(6, false, Some("SharedRace"))]);
    assert_eq!(marks(text, "c"), []);
}
