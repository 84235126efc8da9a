//! NeuraCrypt, a broken idea, with the attack that breaks it. Nothing here protects anything.
//!
//! Hospitals that encode images by secret random networks were to publish the encodings, with labels, for anybody to
//! train on. Who has candidates for the originals finds out which encoding is whose: random networks nearly keep
//! distances. So no encoding leaves this module without the share of its images that the attack in it found again,
//! measured on these very images.
//!
//! ```text
//! EncoderKey::draw -> encode -> Encodings -> measure -> Measured, which is what a file takes
//!                                   |
//!                         attack: shuffle undone, images matched by distances, then by patches, then by a clone
//! ```

mod attack;
mod date;
mod encodings;
mod fault;
mod file;
mod images;
mod joint;
mod key;
mod shape;
#[cfg(test)]
mod tests;
mod truth;

pub use attack::{
    Attack, AttackSetting, CloneSetting, Figure, Found, MEASURED_IMAGES_MAX, MEASURED_IMAGES_MIN, Matching,
    Stage, Undone, attack, figure, match_tables, undo_shuffle,
};
pub use date::today;
pub use encodings::{
    Encoded, Encodings, Making, Measured, Normalised, attempt, check_encodings, encode, measure,
    read_encodings, read_summary, shuffled, write_encodings,
};
pub use fault::LabError;
pub use images::Images;
pub use joint::{
    Parts, Quality, encoded_rows, plain_rows, quality, spread, together, token_recipe, try_classifier,
    write_classifier,
};
pub use key::{EncoderKey, read_key, write_key};
pub use shape::EncoderShape;
pub use truth::{Truth, read_truth, write_truth};

/// What every file and every command of the laboratory says.
pub const NOT_CONFIDENTIAL: &str = "NOT confidential: who has candidates for the images finds out which encoding is \
     whose. Never publish encodings of patients. To gain from each other's data without showing it, ask the consortium \
     (two compute parties see uniform shares), or compute in an attested enclave.";

/// Hears `(done, all)` of a work.
pub type Heard<'a> = &'a mut dyn FnMut(usize, usize);
