//! The words that a roster knows, for its schema.

use super::{
    Comparison, Role, Unit,
    image::{Colour, Resize, WINDOWS},
    kind::Word,
    read::mechanism_words,
    release::NOISE_WORDS,
};

fn of<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

/// Of roles.
pub(crate) fn roles() -> Vec<&'static str> {
    of(&Role::WORDS)
}

/// Of ways to compare.
pub(crate) fn comparisons() -> Vec<&'static str> {
    of(&Comparison::NAMES)
}

/// Of kinds of tasks.
pub(crate) fn kinds() -> Vec<&'static str> {
    of(&Word::NAMES)
}

/// Of mechanisms.
pub(crate) fn mechanisms() -> Vec<&'static str> {
    mechanism_words()
}

/// Of units of a promise.
pub(crate) fn units() -> Vec<&'static str> {
    of(&Unit::NAMES)
}

/// Of who draws noise.
pub(crate) fn noises() -> Vec<&'static str> {
    of(&NOISE_WORDS)
}

/// Of channels of an image.
pub(crate) fn colours() -> Vec<&'static str> {
    of(&Colour::NAMES)
}

/// Of what is done with an image of another size.
pub(crate) fn resizes() -> Vec<&'static str> {
    of(&Resize::NAMES)
}

/// Of windows.
pub(crate) fn windows() -> Vec<&'static str> {
    WINDOWS.to_vec()
}
