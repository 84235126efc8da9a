//! No floating-point number between random bits and noise.
//!
//! Rounding shows: two doubles that noise can make from neighbouring counts need not be the same, and then the
//! noise names the count. Tables may be worked out with exact reals in software, which round where they say.

use crate::finding::{Finding, none};
use crate::lexer::Kind;
use crate::source::{Source, sources};

/// Every file that a draw passes through, and those that turn a contract into its tables and costs.
const PATH: [&str; 10] = [
    "protocol/src/algebra/prg.rs",
    "protocol/src/privacy/number.rs",
    "protocol/src/privacy/cost.rs",
    "protocol/src/privacy/mechanism.rs",
    "protocol/src/privacy/gaussian.rs",
    "protocol/src/privacy/geometric.rs",
    "protocol/src/privacy/sampler.rs",
    "attest/src/fallback.rs",
    "attest/src/share.rs",
    "attest/src/source.rs",
];

/// Types, and methods and vectors named after them.
const FLOATS: [&str; 2] = ["f32", "f64"];

/// `1.0`, `1e3` or `1f64`, but not `0x1e3` or `1usize`.
fn is_float(literal: &str) -> bool {
    let based = ["0x", "0o", "0b"].iter().any(|base| literal.starts_with(base));
    if based || !literal.starts_with(|first: char| first.is_ascii_digit()) {
        return false;
    }
    let exponent = literal.as_bytes().windows(2).any(|pair| {
        pair[0].eq_ignore_ascii_case(&b'e') && (pair[1].is_ascii_digit() || b"+-".contains(&pair[1]))
    });
    literal.contains('.') || exponent || FLOATS.iter().any(|name| literal.ends_with(name))
}

fn floats(source: &Source) -> Vec<Finding> {
    let float = |kind: &Kind| match kind {
        Kind::Ident(name) => FLOATS.iter().any(|float| name.contains(float)),
        Kind::Literal(text) => is_float(text),
        _ => false,
    };
    let found = source.tokens.iter().filter(|token| float(&token.kind) && !source.is_test(token.line));
    found.map(|token| Finding::new(&source.path, token.line, "a floating-point number")).collect()
}

#[test]
fn noise_is_drawn_without_floating_point() {
    let sources = sources();
    let path: Vec<&Source> = sources.iter().filter(|source| PATH.contains(&source.path.as_str())).collect();
    assert_eq!(path.len(), PATH.len(), "the samplers have moved");
    none("noise is integers", &path.into_iter().flat_map(floats).collect::<Vec<_>>());
}

#[test]
fn a_floating_point_number_is_caught() {
    let text = "fn a(x: f64) {}\nfn b() { 1.5 }\nfn c() { y.to_f32() }\nfn d() { 1e3; 2e-3; 1f32 }\n\
        fn e() { 0x1e3; 1usize; \"f64 1.0\"; 'e'; x.0; 0..1 } // f64\n\
        #[cfg(test)]\nmod tests { fn f() { 1.0f64; } }";
    let lines = |text| {
        let found = floats(&Source::new("protocol/src/privacy/sampler.rs", text));
        found.into_iter().map(|finding| finding.line).collect::<Vec<_>>()
    };
    assert_eq!(lines(text), [1, 2, 3, 4, 4, 4]);
}
