//! One node with its inputs and attributes resolved. What a family read is remembered; what is left at the end is an error.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Entry;
use super::error::OnnxImportError;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// One node.
#[derive(Debug)]
pub(super) struct Call<'n> {
    /// Operator, with its domain unless that is the standard one.
    pub(super) op: String,
    /// Version of the operator set.
    pub(super) version: i64,
    /// Names of the outputs; empty for those that are left out.
    pub(super) outputs: Vec<&'n str>,
    /// The inputs; `None` for those that are left out.
    pub(super) inputs: Vec<Option<Entry>>,
    /// Names of the inputs.
    pub(super) input_names: Vec<&'n str>,
    attributes: BTreeMap<&'n str, &'n AttributeProto>,
    read: BTreeSet<String>,
    taken: BTreeSet<usize>,
}

impl<'n> Call<'n> {
    /// The call of a node.
    pub(super) fn new(
        node: &'n NodeProto,
        op: String,
        version: i64,
        inputs: Vec<Option<Entry>>,
    ) -> Result<Self, OnnxImportError> {
        let mut attributes = BTreeMap::new();
        for attribute in &node.attribute {
            let name = attribute.name.as_deref().unwrap_or_default();
            if attribute
                .ref_attr_name
                .as_deref()
                .is_some_and(|r| !r.is_empty())
            {
                return Err(OnnxImportError::Wrong {
                    op,
                    what: name.to_owned(),
                    expected: "a value".into(),
                    found: "a reference to an attribute of a function".into(),
                });
            }
            if attributes.insert(name, attribute).is_some() {
                return Err(OnnxImportError::Duplicate {
                    name: name.to_owned(),
                });
            }
        }
        Ok(Call {
            op,
            version,
            outputs: node.output.iter().map(String::as_str).collect(),
            input_names: node.input.iter().map(String::as_str).collect(),
            inputs,
            attributes,
            read: BTreeSet::new(),
            taken: BTreeSet::new(),
        })
    }

    /// An input, if it is there.
    pub(super) fn entry(&mut self, index: usize) -> Option<Entry> {
        self.taken.insert(index);
        self.inputs.get(index).cloned().flatten()
    }

    /// Whether an input is there.
    pub(super) fn has(&self, index: usize) -> bool {
        self.inputs.get(index).is_some_and(Option::is_some)
    }

    /// Whether an output is named.
    pub(super) fn wants(&self, index: usize) -> bool {
        self.outputs.get(index).is_some_and(|o| !o.is_empty())
    }

    /// An input that has to be there.
    pub(super) fn required(&mut self, index: usize) -> Result<Entry, OnnxImportError> {
        self.entry(index)
            .ok_or_else(|| self.missing(&format!("input {index}")))
    }

    /// The name of an input, for messages.
    pub(super) fn input_name(&self, index: usize) -> &str {
        self.input_names.get(index).copied().unwrap_or_default()
    }

    /// Something that has to be there and is not.
    pub(super) fn missing(&self, what: &str) -> OnnxImportError {
        OnnxImportError::Missing {
            op: self.op.clone(),
            what: what.to_owned(),
        }
    }

    /// An attribute or input that is not what it has to be.
    pub(super) fn wrong(
        &self,
        what: &str,
        expected: &str,
        found: impl std::fmt::Display,
    ) -> OnnxImportError {
        OnnxImportError::Wrong {
            op: self.op.clone(),
            what: what.to_owned(),
            expected: expected.to_owned(),
            found: found.to_string(),
        }
    }

    /// Something legal that is not read.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> OnnxImportError {
        OnnxImportError::Unsupported {
            op: self.op.clone(),
            what: what.into(),
        }
    }

    /// Refuses what nothing read.
    pub(super) fn finish(&self) -> Result<(), OnnxImportError> {
        if let Some(name) = self.attributes.keys().find(|n| !self.read.contains(**n)) {
            return Err(OnnxImportError::UnreadAttribute {
                op: self.op.clone(),
                attribute: (*name).to_owned(),
            });
        }
        let unread = (0..self.inputs.len()).find(|i| self.has(*i) && !self.taken.contains(i));
        match unread {
            Some(index) => Err(OnnxImportError::UnreadInput {
                op: self.op.clone(),
                index,
            }),
            None => Ok(()),
        }
    }

    /// Names an attribute that changes nothing.
    pub(super) fn ignore(&mut self, name: &str) {
        self.read.insert(name.to_owned());
    }

    fn attribute(
        &mut self,
        name: &str,
        expected: AttributeType,
    ) -> Result<Option<&'n AttributeProto>, OnnxImportError> {
        self.read.insert(name.to_owned());
        let Some(&attribute) = self.attributes.get(name) else {
            return Ok(None);
        };
        let wrong = |found: &str| {
            let expected = expected.as_str_name().to_lowercase();
            self.wrong(name, &expected, found.to_lowercase())
        };
        // Files of the first IR version leave the type out.
        let found = attribute.r#type.unwrap_or_default();
        match AttributeType::try_from(found) {
            Ok(found) if found == expected || found == AttributeType::Undefined => {}
            Ok(found) => return Err(wrong(found.as_str_name())),
            Err(_) => return Err(wrong(&format!("type {found}"))),
        }
        match payloads(attribute).into_iter().find(|p| *p != expected) {
            Some(other) => Err(wrong(other.as_str_name())),
            None => Ok(Some(attribute)),
        }
    }

    /// Whether an attribute is there.
    pub(super) fn has_attribute(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// An integer.
    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>, OnnxImportError> {
        let attribute = self.attribute(name, AttributeType::Int)?;
        Ok(attribute.map(|a| a.i.unwrap_or_default()))
    }

    /// An integer with a default.
    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64, OnnxImportError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A truth value with a default.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, OnnxImportError> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(self.wrong(name, "0 or 1", other)),
        }
    }

    /// Integers.
    pub(super) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, OnnxImportError> {
        let attribute = self.attribute(name, AttributeType::Ints)?;
        Ok(attribute.map(|a| a.ints.clone()))
    }

    /// A float.
    pub(super) fn float(&mut self, name: &str) -> Result<Option<f32>, OnnxImportError> {
        let attribute = self.attribute(name, AttributeType::Float)?;
        Ok(attribute.map(|a| a.f.unwrap_or_default()))
    }

    /// A float with a default.
    pub(super) fn float_or(&mut self, name: &str, default: f32) -> Result<f32, OnnxImportError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// Floats.
    pub(super) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, OnnxImportError> {
        let attribute = self.attribute(name, AttributeType::Floats)?;
        Ok(attribute.map(|a| a.floats.clone()))
    }

    /// A string.
    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, OnnxImportError> {
        let Some(attribute) = self.attribute(name, AttributeType::String)? else {
            return Ok(None);
        };
        let bytes = attribute.s.clone().unwrap_or_default();
        match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.wrong(name, "text", "bytes that are not UTF-8")),
        }
    }

    /// A string with a default.
    pub(super) fn string_or(
        &mut self,
        name: &str,
        default: &str,
    ) -> Result<String, OnnxImportError> {
        Ok(self.string(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// Strings.
    pub(super) fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>, OnnxImportError> {
        let Some(attribute) = self.attribute(name, AttributeType::Strings)? else {
            return Ok(None);
        };
        let texts: Option<Vec<String>> = attribute
            .strings
            .iter()
            .map(|b| String::from_utf8(b.to_vec()).ok())
            .collect();
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.wrong(name, "text", "bytes that are not UTF-8")),
        }
    }

    /// A tensor.
    pub(super) fn tensor(
        &mut self,
        name: &str,
    ) -> Result<Option<&'n TensorProto>, OnnxImportError> {
        Ok(self
            .attribute(name, AttributeType::Tensor)?
            .and_then(|a| a.t.as_ref()))
    }

    /// The whole attribute, where its kind is the node's choice.
    pub(super) fn raw_attribute(&mut self, name: &str) -> Option<&'n AttributeProto> {
        self.read.insert(name.to_owned());
        self.attributes.get(name).copied()
    }

    /// A graph that has to be there.
    pub(super) fn graph(&mut self, name: &str) -> Result<&'n GraphProto, OnnxImportError> {
        self.attribute(name, AttributeType::Graph)?
            .and_then(|a| a.g.as_ref())
            .ok_or_else(|| self.missing(&format!("the attribute `{name}`")))
    }
}

/// The kinds of values that an attribute holds.
fn payloads(a: &AttributeProto) -> Vec<AttributeType> {
    let held = [
        (a.f.is_some(), AttributeType::Float),
        (a.i.is_some(), AttributeType::Int),
        (a.s.is_some(), AttributeType::String),
        (a.t.is_some(), AttributeType::Tensor),
        (a.g.is_some(), AttributeType::Graph),
        (!a.floats.is_empty(), AttributeType::Floats),
        (!a.ints.is_empty(), AttributeType::Ints),
        (!a.strings.is_empty(), AttributeType::Strings),
        (!a.tensors.is_empty(), AttributeType::Tensors),
        (!a.graphs.is_empty(), AttributeType::Graphs),
    ];
    let held = held.into_iter().filter(|(is_held, _)| *is_held);
    held.map(|(_, kind)| kind).collect()
}
