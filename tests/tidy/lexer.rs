//! Rust text as one flat row of tokens with line numbers, without comments and documentation.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::ops::RangeInclusive;

/// One token, or one end of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ident(String),
    Mark(char),
    Literal(String),
    Open(Delimiter),
    Close(Delimiter),
}

/// A token and the line on which it starts.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// A path such as `std::fs::File`; a grouped import gives one for each of its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl Path {
    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len()
            && self.segments.iter().zip(prefix).all(|(own, wanted)| own == wanted)
    }
}

/// A function with a body; the lines run from `fn` to the closing brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: RangeInclusive<usize>,
}

/// A module that the text declares, with or without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) inline: bool,
}

/// Splits Rust text.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, proc_macro2::LexError> {
    let mut flat = Vec::new();
    flatten(text.parse()?, &mut flat);
    Ok(flat)
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let kind = match tree {
            TokenTree::Ident(ident) => Kind::Ident(ident.to_string()),
            TokenTree::Punct(mark) => Kind::Mark(mark.as_char()),
            TokenTree::Literal(literal) => Kind::Literal(literal.to_string()),
            TokenTree::Group(group) if is_doc(&group) => {
                drop_attribute_head(into);
                continue;
            }
            TokenTree::Group(group) => {
                into.push(Token { kind: Kind::Open(group.delimiter()), line });
                flatten(group.stream(), into);
                let end = group.span_close().end().line;
                into.push(Token { kind: Kind::Close(group.delimiter()), line: end });
                continue;
            }
        };
        into.push(Token { kind, line });
    }
}

fn is_doc(group: &proc_macro2::Group) -> bool {
    let mut inside = group.stream().into_iter();
    group.delimiter() == Delimiter::Bracket
        && matches!(inside.next(), Some(TokenTree::Ident(name)) if name == "doc")
        && matches!(inside.next(), Some(TokenTree::Punct(mark)) if mark.as_char() == '=')
}

/// Takes back the `#` or `#!` before a documentation attribute.
fn drop_attribute_head(tokens: &mut Vec<Token>) {
    if tokens.last().is_some_and(|token| token.is('!')) {
        tokens.pop();
    }
    tokens.pop();
}

/// Where the group that opens at `open` closes.
fn close_of(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// The first `;` or the end of the first braces from `start` on, on the same level.
fn item_end(tokens: &[Token], start: usize) -> Option<usize> {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].kind {
            Kind::Mark(';') => return Some(at),
            Kind::Open(Delimiter::Brace) => return Some(close_of(tokens, at)),
            Kind::Open(_) => at = close_of(tokens, at),
            Kind::Close(_) => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

fn two_colons(tokens: &[Token], at: usize) -> bool {
    tokens.len() > at + 1 && tokens[at].is(':') && tokens[at + 1].is(':')
}

/// All paths, those of one segment included.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let continues = at >= 3
            && two_colons(tokens, at - 2)
            && (tokens[at - 3].ident().is_some() || tokens[at - 3].is('>'));
        let field = at >= 1 && tokens[at - 1].is('.');
        match tokens[at].ident() {
            Some(_) if !continues && !field => at = path(tokens, at, &[], &mut found),
            _ => at += 1,
        }
    }
    found
}

/// Reads the path at `at` and returns where to go on.
fn path(tokens: &[Token], at: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let line = tokens[at].line;
    let mut segments = prefix.to_vec();
    segments.extend(tokens[at].ident().map(str::to_owned));
    let mut next = at + 1;
    while two_colons(tokens, next) {
        match tokens.get(next + 2).map(|token| &token.kind) {
            Some(Kind::Ident(name)) => segments.push(name.clone()),
            Some(Kind::Open(Delimiter::Brace)) => {
                let end = close_of(tokens, next + 2);
                leaves(tokens, next + 3..=end, &segments, found);
                return end + 1;
            }
            _ => break,
        }
        next += 3;
    }
    found.push(Path { segments, line });
    next
}

/// The paths of the group of an import.
fn leaves(tokens: &[Token], within: RangeInclusive<usize>, prefix: &[String], found: &mut Vec<Path>) {
    let (mut at, end) = within.into_inner();
    while at < end {
        match tokens[at].ident() {
            Some("as") => at += 2,
            Some(_) => at = path(tokens, at, prefix, found),
            None => at += 1,
        }
    }
}

/// Lines of items that only tests see.
pub(crate) fn test_lines(tokens: &[Token]) -> Vec<RangeInclusive<usize>> {
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        if !(tokens[at].is('#') && tokens[at + 1].kind == Kind::Open(Delimiter::Bracket)) {
            continue;
        }
        let end = close_of(tokens, at + 1);
        let inside: Vec<&str> = tokens[at + 2..end].iter().filter_map(Token::ident).collect();
        let gated = inside.first() == Some(&"cfg") && inside.contains(&"test") && !inside.contains(&"not");
        if let Some(last) = (gated || inside == ["test"]).then(|| item_end(tokens, end + 1)).flatten() {
            found.push(tokens[at].line..=tokens[last].line);
        }
    }
    found
}

/// All functions with a body.
pub(crate) fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let (Some("fn"), Some(name)) = (pair[0].ident(), pair[1].ident()) else { continue };
        if let Some(end) = item_end(tokens, at).filter(|end| !tokens[*end].is(';')) {
            found.push(Function { name: name.into(), lines: pair[0].line..=tokens[end].line });
        }
    }
    found
}

/// All modules declared.
pub(crate) fn modules(tokens: &[Token]) -> Vec<Module> {
    let mut found = Vec::new();
    for three in tokens.windows(3) {
        let (Some("mod"), Some(name)) = (three[0].ident(), three[1].ident()) else { continue };
        let inline = three[2].kind == Kind::Open(Delimiter::Brace);
        if inline || three[2].is(';') {
            found.push(Module { name: name.into(), line: three[0].line, inline });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouped_imports_give_one_path_for_each_leaf() {
        let tokens = tokens("use a::{b::{c as d, self}, e::*};\nlet x = ::f::g::<u8>::h(y.z);").unwrap();
        let found: Vec<String> = paths(&tokens).iter().map(|path| path.segments.join("::")).collect();
        for wanted in ["a::b::c", "a::b::self", "a::e", "f::g"] {
            assert!(found.iter().any(|path| path == wanted), "{wanted} is missing from {found:?}");
        }
        assert!(!found.iter().any(|path| path == "d" || path == "z"), "{found:?}");
    }

    #[test]
    fn functions_run_from_the_keyword_to_the_brace() {
        let tokens =
            tokens("/// Long.\nfn a<T>(b: [u8; 2])\nwhere T: B {\n}\ntrait C { fn d(&self); }").unwrap();
        assert_eq!(functions(&tokens), [Function { name: "a".into(), lines: 2..=4 }]);
    }

    #[test]
    fn items_for_tests_are_known_by_their_attributes() {
        let text = "#[cfg(test)]\nmod a {\n}\n#[cfg(not(test))]\nmod b {}\n#[test]\nfn c() {\n}\n#[cfg(test)]\nmod d;";
        assert_eq!(test_lines(&tokens(text).unwrap()), [1..=3, 6..=8, 9..=10]);
    }

    #[test]
    fn documentation_leaves_no_tokens() {
        assert_eq!(tokens("//! a\n/// b\n// c\n/** d */").unwrap().len(), 0);
    }
}
