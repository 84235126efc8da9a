//! What is asked, of whom, and within which public bounds.

use super::{Image, Release, Standby, standby::first_slice};
use crate::{
    digest::{Digest, Hasher},
    fraction::Fraction,
    name::Name,
};
use consilium_protocol::graph::Shape;
use serde::{Serialize, Serializer, ser::SerializeSeq};

/// One question that a consortium answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    /// By which users and models refer to it.
    pub name: Name,
    /// What it is about, for people.
    pub title: String,
    /// What its models are and what its answer names.
    #[serde(skip_serializing_if = "Kind::is_vote")]
    pub kind: Kind,
    /// The pair that computes it, and is asked first.
    pub pair: Name,
    /// Shape of one input.
    #[serde(serialize_with = "shape")]
    pub input: Shape,
    /// The labels, in the order of the models' outputs; of a one-class task its owners and then [`NOBODY`].
    pub classes: Vec<String>,
    /// Public bound: no input value is larger in magnitude, after [`Features`] if there are any.
    pub input_abs_max: f64,
    /// Bits after the binary point of the fixed-point form.
    pub fraction_bits: u32,
    /// Public bound: every value on a wire stays below 2 to this power in magnitude.
    pub value_bits: u32,
    /// Public bound of a one-class task, which alone has it: every distance and every threshold, a sum of squares,
    /// stays below 2 to this power in magnitude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_bits: Option<u32>,
    /// Members that have a model, in the order in which votes are laid out.
    pub owners: Vec<Name>,
    /// Members that may ask.
    pub clients: Vec<Name>,
    /// Fewest owners whose models must vote for an answer to be given.
    pub owners_min: u32,
    /// Models of each owner, each trained on patients that no other one of them has seen. All of them vote,
    /// or none of that owner's.
    pub shards: u32,
    /// Queries evaluated side by side.
    #[serde(rename = "batch")]
    pub batch_queries: u32,
    /// How shared values are compared.
    pub comparison: Comparison,
    /// How many queries are prepared ahead.
    #[serde(rename = "pool")]
    pub stock: Stock,
    /// Pairs that are asked when those before them cannot answer, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub standby: Vec<Standby>,
    /// How a file of an image becomes raw inputs; `None` where the task takes numbers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Public normalisation of raw inputs, applied by the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// How the label is let out.
    pub release: Release,
}

impl Task {
    /// Most votes of an answer: all models of all owners; of a one-class task the one for whoever is nearest.
    pub fn votes(&self) -> usize {
        match self.kind {
            Kind::Vote => self.owners.len() * self.shards as usize,
            Kind::OneClass => 1,
        }
    }

    /// The pairs that compute it, in the order in which they are asked.
    pub fn pairs(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.pair).chain(self.standby.iter().map(|standby| &standby.pair))
    }

    /// The part of every budget that a pair may spend: `None` for all of it, where there is no other pair or no
    /// budget, and for a pair of another task. The parts of all pairs sum to exactly one.
    pub fn slice_of(&self, pair: &str) -> Option<Fraction> {
        match self.standby.iter().find(|standby| standby.pair.as_str() == pair) {
            Some(standby) => standby.slice,
            None if self.pair.as_str() == pair => {
                first_slice(self.standby.iter().filter_map(|one| one.slice))
            }
            None => None,
        }
    }

    /// Binds all that changes an answer or its price: everything but the title and the stock, by
    /// member names. With [`super::Roster::digest`] the names are bound to keys.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("consilium task 1");
        self.feed(&mut hasher);
        hasher.finish()
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        let names = |hasher: &mut Hasher, names: &[Name]| {
            hasher.list(names, |hasher, name| hasher.text(name.as_str()));
        };
        match self.kind {
            Kind::Vote => hasher.text(self.name.as_str()),
            // No name has a colon.
            Kind::OneClass => {
                hasher.text(&format!("one-class:{}", self.name));
                hasher.number(self.distance_bits.unwrap_or(0));
            }
        }
        hasher.text(self.pair.as_str());
        for side in [self.input.channels, self.input.height, self.input.width] {
            hasher.number(side);
        }
        hasher.list(&self.classes, |hasher, class| hasher.text(class));
        hasher.real(self.input_abs_max);
        hasher.number(self.fraction_bits);
        hasher.number(self.value_bits);
        names(hasher, &self.owners);
        names(hasher, &self.clients);
        hasher.number(self.owners_min);
        hasher.number(self.shards);
        hasher.number(self.batch_queries);
        hasher.text(self.comparison.name());
        hasher.list(self.image.as_slice(), |hasher, image| image.feed(hasher));
        hasher.list(self.features.as_slice(), |hasher, features| features.feed(hasher));
        self.release.feed(hasher);
        hasher.list(&self.standby, |hasher, standby| standby.feed(hasher));
    }
}

/// The label of a one-class task for an input that no owner's model knows.
pub const NOBODY: &str = "nobody";

/// What the models of a task are, and what its answer names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Classifiers that vote; the answer is the class with most votes.
    #[default]
    Vote,
    /// One model of each owner that knows the owner's own data; the answer is the owner whose model is nearest to the
    /// input, or nobody.
    OneClass,
}

impl Kind {
    /// Whether models vote.
    pub fn is_vote(&self) -> bool {
        *self == Self::Vote
    }
}

/// How the compute parties compare shared values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// By keys where a dealer deals, the parties are far apart and the keys are small; by nibbles where
    /// there is no dealer and the parties are near; else by digits.
    #[default]
    Auto,
    /// By digits: little to deal, more rounds.
    Digits,
    /// By small digits: least to prepare for two parties, most rounds.
    Nibbles,
    /// By comparison keys from the pair's dealer: fewest rounds, much to prepare.
    Keys,
}

impl Comparison {
    /// All of them with their names in a file.
    pub(super) const NAMES: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("digits", Self::Digits), ("nibbles", Self::Nibbles), ("keys", Self::Keys)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

/// How many queries of a task are prepared ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stock {
    /// Below this many, a refill starts.
    pub low: u32,
    /// At this many, it stops; at least one batch.
    pub high: u32,
}

impl Stock {
    pub(super) fn feed(self, hasher: &mut Hasher) {
        hasher.number(self.low);
        hasher.number(self.high);
    }
}

impl Default for Stock {
    fn default() -> Self {
        Self { low: 64, high: 192 }
    }
}

/// Public normalisation of raw inputs: `(raw - offset) * scale`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Features {
    /// Names of the input values in order, or none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// One per input value, or one for all.
    pub offset: Vec<f64>,
    /// One per input value, or one for all; never zero.
    pub scale: Vec<f64>,
}

impl Features {
    /// The normalised form of the raw input value at a position.
    pub fn normalise(&self, index: usize, raw: f64) -> f64 {
        let pick = |values: &[f64], neutral: f64| match values {
            [all] => *all,
            each => each.get(index).copied().unwrap_or(neutral),
        };
        (raw - pick(&self.offset, 0.0)) * pick(&self.scale, 1.0)
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        hasher.list(&self.names, |hasher, name| hasher.text(name));
        hasher.list(&self.offset, |hasher, value| hasher.real(*value));
        hasher.list(&self.scale, |hasher, value| hasher.real(*value));
    }
}

/// A vector by its length, anything else by channels, rows and columns.
pub(super) fn shape<S: Serializer>(shape: &Shape, serializer: S) -> Result<S::Ok, S::Error> {
    let sides: &[u32] = match shape {
        Shape { channels, height: 1, width: 1 } => &[*channels],
        Shape { channels, height, width } => &[*channels, *height, *width],
    };
    let mut list = serializer.serialize_seq(Some(sides.len()))?;
    for side in sides {
        list.serialize_element(side)?;
    }
    list.end()
}
