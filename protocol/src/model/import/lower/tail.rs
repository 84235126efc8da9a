//! What stands behind the logits: probabilities, labels, and how classifiers pack them.
//!
//! The protocol takes the largest logit, so whatever keeps their order is dropped. Two classes that
//! share one output `z` become the logits `0` and `z`.

use super::{Lowering, not_last};
use crate::model::import::error::{ImportError, shown};
use crate::model::import::node::Node;
use crate::model::import::tensor::Constant;
use crate::model::import::value::{Tail, TailKind, Value, Wire};

/// Class labels that a warning repeats.
const LABELS_SHOWN_MAX: usize = 16;
const SCORES: &str = "class scores of the last layer";
const PAIR: &str = "the probability of the first of two classes, then that of the second, along the classes";

impl Lowering {
    pub(super) fn softmax(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let wire = self.wire(node, 0, SCORES)?;
        self.check_axis(node, &wire, -1)?;
        self.warn(node, "was dropped: it keeps the order of the logits");
        self.set_tail(node, TailKind::Scores);
        Ok(())
    }

    pub(super) fn sigmoid(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let wire = self.wire(node, 0, SCORES)?;
        if wire.len() == 1 {
            self.expand(node);
            self.set_tail(node, TailKind::Probability);
        } else {
            self.warn(node, "was dropped: it keeps the order of the logits");
            self.set_tail(node, TailKind::Scores);
        }
        Ok(())
    }

    pub(super) fn arg_max(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("select_last_index", 0)?;
        let axis = node.integer("axis").unwrap_or(0);
        match self.value(node, 0, SCORES)?.clone() {
            Value::Wire(_) => {
                let wire = self.wire(node, 0, SCORES)?;
                self.check_axis(node, &wire, 0)?;
            }
            Value::Tail(tail) if tail.kind == TailKind::Scores && (axis == 1 || axis == -1) => {}
            _ => return Err(node.operand(SCORES)),
        }
        self.warn(node, "was dropped: the protocol takes the largest logit itself");
        self.set_tail(node, TailKind::Label);
        Ok(())
    }

    /// `ZipMap`, `Normalizer` and `ArrayFeatureExtractor`.
    pub(super) fn relabel(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let is_extractor = node.operator() == Some("ArrayFeatureExtractor");
        let (at, kind) = if is_extractor { (1, TailKind::Label) } else { (0, TailKind::Scores) };
        let tail = match self.value(node, at, SCORES)? {
            Value::Tail(tail) if tail.kind == kind => tail.clone(),
            Value::Tail(tail) => return Err(not_last(tail, node)),
            _ => return Err(node.operand(SCORES)),
        };
        if is_extractor {
            let classes = self.fixed(node, 0, "constant class labels")?;
            let labels = classes.integers().map(|labels| labels.iter().map(ToString::to_string).collect());
            self.tell_labels(node, labels.unwrap_or_default());
        } else {
            self.class_labels(node);
        }
        self.set(node, Value::Tail(tail));
        Ok(())
    }

    /// `1 - p` for the probability of the second of two classes.
    pub(super) fn complement(
        &mut self,
        node: Node<'_>,
        constant: &Constant,
        tail: &Tail,
    ) -> Result<(), ImportError> {
        let fits = node.operator() == Some("Sub") && constant.scalar() == Some(1.0);
        if !fits || tail.kind != TailKind::Probability {
            return Err(not_last(tail, node));
        }
        self.set_tail(node, TailKind::Complement);
        Ok(())
    }

    /// `[1 - p, p]`.
    pub(super) fn probabilities(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let mut kinds = Vec::with_capacity(2);
        for index in 0..node.input_count().min(3) {
            match self.value(node, index, PAIR)? {
                Value::Tail(tail) => kinds.push(tail.kind),
                _ => return Err(node.operand(PAIR)),
            }
        }
        let axis = node.integer("axis").unwrap_or(0);
        if kinds != [TailKind::Complement, TailKind::Probability] || !(axis == 1 || axis == -1) {
            return Err(node.operand(PAIR));
        }
        self.set_tail(node, TailKind::Scores);
        Ok(())
    }

    /// Reads the class labels of a classifier and returns their number.
    pub(super) fn class_labels(&mut self, node: Node<'_>) -> usize {
        let numbers =
            ["classlabels_ints", "classlabels_int64s"].into_iter().find_map(|name| node.integers(name));
        let labels: Vec<String> = match (numbers, node.attribute("classlabels_strings")) {
            (Some(numbers), _) => numbers.iter().map(ToString::to_string).collect(),
            (None, Some(texts)) => {
                texts.texts.iter().map(|text| shown(&String::from_utf8_lossy(text))).collect()
            }
            (None, None) => Vec::new(),
        };
        let count = labels.len();
        self.tell_labels(node, labels);
        count
    }

    /// One output stands for the second of two classes.
    pub(super) fn expand(&mut self, node: Node<'_>) {
        self.binary = Some(self.chain.position());
        self.warn(
            node,
            "gives one probability; the model has the logits 0 and z for the two classes instead",
        );
    }

    /// Labels that are not the indices 0, 1, ... do not travel with the model.
    fn tell_labels(&mut self, node: Node<'_>, labels: Vec<String>) {
        if labels.iter().enumerate().all(|(index, label)| *label == index.to_string()) {
            return;
        }
        let first = labels[..labels.len().min(LABELS_SHOWN_MAX)].join(", ");
        let more = if labels.len() > LABELS_SHOWN_MAX { ", ..." } else { "" };
        self.warn(node, &format!("names the classes {first}{more}; answers are their positions, from 0"));
    }

    fn set_tail(&mut self, node: Node<'_>, kind: TailKind) {
        let tail = Tail { position: self.chain.position(), kind, node: node.name() };
        self.set(node, Value::Tail(tail));
    }

    /// The axis must be that of the classes, which is the only one with more than one value.
    fn check_axis(&self, node: Node<'_>, wire: &Wire, absent: i64) -> Result<(), ImportError> {
        let axis = node.integer("axis").unwrap_or(absent);
        let rank = wire.dims.len() as i64 + 1;
        let place = if axis < 0 { axis.saturating_add(rank) } else { axis }.saturating_sub(1);
        let along = usize::try_from(place).ok().and_then(|place| wire.dims.get(place));
        match along {
            Some(classes) if *classes as usize == wire.len() => Ok(()),
            _ => Err(node.refused("axis", axis, "the axis of the classes")),
        }
    }
}
