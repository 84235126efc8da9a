//! What a task of encodings says about the members.

use super::{Directory, unique};
use crate::{document::Document, roster::read::EncodingsDraft};
use toml::Spanned;

/// Any member may be a hospital, also one that only dials: it sends, and takes from those that it has a connection to.
pub(super) fn task(document: &Document, directory: &Directory<'_>, task: &EncodingsDraft) {
    let hospitals = || task.hospitals.iter().flat_map(Spanned::get_ref);
    unique(document, "hospital", hospitals());
    for hospital in hospitals() {
        directory.member(document, hospital);
    }
}
