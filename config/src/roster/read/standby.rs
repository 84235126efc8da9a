//! Further pairs of a task, as far as they can be judged alone.

use super::{Found, release};
use crate::{
    document::{Section, value},
    fraction::Fraction,
    limits::STANDBY_MAX,
    name::Name,
    roster::Standby,
};
use std::ops::Range;
use toml::Spanned;

/// A further pair as far as it could be read.
pub(in crate::roster) struct StandbyDraft {
    pub(in crate::roster) pair: Found<Name>,
    /// An absent slice is an inner `None`.
    pub(in crate::roster) slice: Option<Option<Spanned<Fraction>>>,
    /// Where it stands.
    pub(in crate::roster) place: Range<usize>,
}

impl StandbyDraft {
    /// All of a task; `None` where they could not be read as tables.
    pub(super) fn read_all(section: &mut Section<'_>) -> Option<Vec<Self>> {
        let sections = section.tables("standby", STANDBY_MAX)?;
        Some(sections.into_iter().map(Self::read).collect())
    }

    fn read(mut section: Section<'_>) -> Self {
        let draft = Self {
            place: section.place(),
            pair: section.required("pair", "pair = \"second\"", value::parsed),
            slice: section.optional("slice", release::slice),
        };
        section.finish();
        draft
    }

    pub(super) fn finish(self) -> Option<Standby> {
        Some(Standby { pair: self.pair?.into_inner(), slice: self.slice?.map(Spanned::into_inner) })
    }
}
