//! `init --plot`.

use crate::support::{MINILM, entries, folder, init_json};
use std::path::Path;

/// The right end of a curve in the SVG: the last point of the path that has as many points as there are ranks.
fn ends(svg: &str, color: &str) -> Option<f64> {
    let line = svg.lines().filter(|line| line.starts_with("<poly") && line.contains(color));
    let points = line.filter_map(|line| line.split("points=\"").nth(1)?.split('"').next());
    let longest = points.max_by_key(|points| points.split_whitespace().count())?;
    longest.split_whitespace().last()?.split(',').nth(1)?.parse().ok()
}

#[test]
fn plots_are_pictures_with_the_curves_in_the_right_order() {
    let dir = folder();
    let plot = |name: &str| {
        let (out, file) = (dir.path().join(format!("{name}.adapter")), dir.path().join(name));
        let paths: &[(&str, &Path)] = &[("out", &out), ("plot", &file)];
        init_json(&format!("init {MINILM} --match query|value --json --plot {{plot}} --out {{out}}"), paths);
        std::fs::read(file).unwrap()
    };
    let svg = String::from_utf8(plot("curve.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for text in ["pivoted-qr", "sketch", "norm", "centroid", "random", "SVD optimum", "r = 16", "2 matrices"] {
        assert!(svg.contains(text), "{text}");
    }
    // Heights grow downwards: pivoted QR reaches a smaller error than random rows on real weights.
    let (pivoted, random) = (ends(&svg, "#0072B2"), ends(&svg, "#CC79A7"));
    assert!(pivoted.is_some() && random.is_some() && pivoted > random, "{pivoted:?} {random:?}");

    let png = plot("curve.PNG");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert!(png.windows(4).any(|chunk| chunk == b"IEND"));
    assert_eq!(entries(dir.path()), ["curve.PNG", "curve.PNG.adapter", "curve.svg", "curve.svg.adapter"]);
}
