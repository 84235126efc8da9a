//! A node of the graph with checked access to its attributes.

use super::error::{ImportError, NodeName, shown};
use crate::model::onnx::{AttributeMessage, MACHINE_LEARNING, NodeMessage};

/// A node that is being lowered.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    message: &'a NodeMessage,
}

impl<'a> Node<'a> {
    pub(super) fn new(message: &'a NodeMessage) -> Self {
        Self { message }
    }

    /// How errors name it.
    pub(super) fn name(&self) -> NodeName {
        let message = self.message;
        let unnamed = message.outputs.first().map_or("", String::as_str);
        let name = shown(if message.name.is_empty() { unnamed } else { &message.name });
        let operator = match message.domain.as_str() {
            "" | "ai.onnx" | MACHINE_LEARNING => shown(&message.operator),
            domain => format!("{}::{}", shown(domain), shown(&message.operator)),
        };
        NodeName { name, operator }
    }

    /// The operator; `None` for one of a domain that is not known here.
    pub(super) fn operator(&self) -> Option<&'a str> {
        let known = matches!(self.message.domain.as_str(), "" | "ai.onnx" | MACHINE_LEARNING);
        known.then_some(self.message.operator.as_str())
    }

    /// Name of an input; `None` where it is left out.
    pub(super) fn input(&self, index: usize) -> Option<&'a str> {
        self.message.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Number of inputs, with those left out in between.
    pub(super) fn input_count(&self) -> usize {
        self.message.inputs.len()
    }

    /// Name of an output; `None` where it is not used.
    pub(super) fn output(&self, index: usize) -> Option<&'a str> {
        self.message.outputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'a AttributeMessage> {
        self.message.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.attribute(name).and_then(|attribute| attribute.integer)
    }

    pub(super) fn integers(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| attribute.integers.as_slice()).filter(|list| !list.is_empty())
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.float)
    }

    pub(super) fn floats(&self, name: &str) -> &'a [f32] {
        self.attribute(name).map_or(&[], |attribute| attribute.floats.as_slice())
    }

    /// A short text, with everything that is not UTF-8 replaced.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.attribute(name).map(|attribute| shown(&String::from_utf8_lossy(&attribute.text)))
    }

    /// Fails unless the integer attribute is absent or `wanted`.
    pub(super) fn demand(&self, attribute: &'static str, wanted: i64) -> Result<(), ImportError> {
        match self.integer(attribute) {
            Some(found) if found != wanted => {
                let supported = if wanted == 0 { "0" } else { "1" };
                Err(self.refused(attribute, found, supported))
            }
            _ => Ok(()),
        }
    }

    /// Fails unless all integers of the attribute are `wanted`, or it is absent.
    pub(super) fn demand_all(&self, attribute: &'static str, wanted: i64) -> Result<(), ImportError> {
        match self.integers(attribute).and_then(|list| list.iter().find(|found| **found != wanted)) {
            Some(found) => {
                Err(self.refused(attribute, *found, if wanted == 0 { "only 0" } else { "only 1" }))
            }
            None => Ok(()),
        }
    }

    /// The error for an attribute value without support.
    pub(super) fn refused(
        &self,
        attribute: &'static str,
        found: impl ToString,
        supported: &'static str,
    ) -> ImportError {
        ImportError::Attribute { node: self.name(), attribute, found: found.to_string(), supported }
    }

    /// The error for operands of the wrong kind.
    pub(super) fn operand(&self, needs: &'static str) -> ImportError {
        ImportError::Operand { node: self.name(), needs }
    }
}
