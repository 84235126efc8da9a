//! The house rules, held over the text of the whole workspace.
//!
//! Each rule is a test that lists its offenders as `file:line`, and each has a test beside it in which it
//! catches one. Rules that look at code work on its tokens, so that comments and strings do not count.

mod lexer;
mod source;
mod finding;
mod layout;
mod layers;
mod size;
mod words;
mod card;
mod command;
mod float;
