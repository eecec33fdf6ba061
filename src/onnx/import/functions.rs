//! Functions of a model: a call is replaced by the function's nodes, with its attributes filled in.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::error::OnnxImportError;
use super::{Importer, display_op, opsets, standard};
use crate::error::{Context, Result};
use crate::limits;
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use crate::tensor::num;

/// Domain, name, overload.
pub(super) type Key<'a> = (&'a str, &'a str, &'a str);

/// The key that nodes call a function by.
pub(super) fn key_of(function: &FunctionProto) -> Key<'_> {
    (
        standard(function.domain.as_deref()),
        function.name.as_deref().unwrap_or_default(),
        function.overload.as_deref().unwrap_or_default(),
    )
}

/// Refuses a graph that has too many nodes once every call is replaced by the nodes of its function. Functions that call the one before
/// twice double at each level: they are counted, each once, before anything is built.
pub(super) fn check_size(
    graph: &GraphProto,
    functions: &BTreeMap<Key<'_>, &FunctionProto>,
) -> Result<(), OnnxImportError> {
    let nodes = expanded(&graph.node, functions, &mut BTreeMap::new(), 0);
    if nodes > limits::NODES.get() {
        return Err(OnnxImportError::TooMany {
            what: "nodes, those of functions each time they are called",
            limit: limits::NODES.to_string(),
            found: num::usize_of(nodes),
        });
    }
    Ok(())
}

/// How many nodes there are with those of the functions that are called. What nests deeper than is read is not counted: it is refused there.
fn expanded<'a>(
    nodes: &'a [NodeProto],
    functions: &BTreeMap<Key<'a>, &'a FunctionProto>,
    counted: &mut BTreeMap<Key<'a>, u64>,
    depth: usize,
) -> u64 {
    let mut total = 0u64;
    if depth > limits::NESTING.count() {
        return total;
    }
    for node in nodes {
        total = total.saturating_add(1);
        let key = called(node);
        let inside = match (functions.get(&key), counted.get(&key)) {
            (Some(_), Some(&count)) => count,
            (Some(function), None) => {
                // What calls itself is refused as too deep.
                counted.insert(key, 0);
                let count = expanded(&function.node, functions, counted, depth + 1);
                counted.insert(key, count);
                count
            }
            (None, _) => 0,
        };
        total = total.saturating_add(inside);
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                let inside = expanded(&graph.node, functions, counted, depth + 1);
                total = total.saturating_add(inside);
            }
        }
    }
    total
}

/// The key of the function that a node calls, if there is one.
pub(super) fn called(node: &NodeProto) -> Key<'_> {
    (
        standard(node.domain.as_deref()),
        node.op_type.as_deref().unwrap_or_default(),
        node.overload.as_deref().unwrap_or_default(),
    )
}

impl Importer<'_> {
    /// The results of a call of `function`.
    pub(super) fn function(
        &mut self,
        function: &FunctionProto,
        node: &NodeProto,
        inputs: Vec<Option<Entry>>,
    ) -> Result<Vec<Entry>> {
        let op = display_op(
            standard(node.domain.as_deref()),
            node.op_type.as_deref().unwrap_or_default(),
        );
        if inputs.len() > function.input.len() {
            return Err(OnnxImportError::UnreadInput {
                op,
                index: function.input.len(),
            }
            .into());
        }
        let attributes = attributes(function, node, &op)?;
        let body: Vec<NodeProto> = function
            .node
            .iter()
            .map(|n| filled(n, &attributes))
            .collect();
        let opsets = opsets(&function.opset_import)?;
        self.deeper()?;
        // A function sees nothing but its own names.
        let scopes = std::mem::replace(&mut self.scopes, vec![BTreeMap::new()]);
        let opsets = std::mem::replace(&mut self.opsets, opsets);
        let result = self.body(function, &body, inputs);
        self.scopes = scopes;
        self.opsets = opsets;
        self.depth -= 1;
        result
    }

    fn body(
        &mut self,
        function: &FunctionProto,
        body: &[NodeProto],
        inputs: Vec<Option<Entry>>,
    ) -> Result<Vec<Entry>> {
        for (name, entry) in function.input.iter().zip(inputs) {
            if let Some(entry) = entry {
                self.define(name, entry)?;
            }
        }
        // An input that is left out is left out of the nodes inside as well.
        let known: std::collections::BTreeSet<&str> = body
            .iter()
            .flat_map(|n| &n.output)
            .map(String::as_str)
            .collect();
        let left_out: Vec<&String> = function
            .input
            .iter()
            .filter(|name| self.lookup(name).is_err() && !known.contains(name.as_str()))
            .collect();
        for node in super::order::sorted(body) {
            let mut node = node.clone();
            for input in &mut node.input {
                if left_out.contains(&&*input) {
                    input.clear();
                }
            }
            self.node(&node, &BTreeMap::new())?;
        }
        function
            .output
            .iter()
            .map(|name| self.lookup(name).at_node(name))
            .collect()
    }
}

/// The values of a function's attributes in a call: those of the node, else the function's defaults.
fn attributes<'n>(
    function: &'n FunctionProto,
    node: &'n NodeProto,
    op: &str,
) -> Result<BTreeMap<&'n str, &'n AttributeProto>, OnnxImportError> {
    let mut out: BTreeMap<&str, &AttributeProto> = BTreeMap::new();
    for default in &function.attribute_proto {
        out.insert(default.name.as_deref().unwrap_or_default(), default);
    }
    for attribute in &node.attribute {
        let name = attribute.name.as_deref().unwrap_or_default();
        let known = out.contains_key(name) || function.attribute.iter().any(|a| a == name);
        if !known {
            return Err(OnnxImportError::UnreadAttribute {
                op: op.to_owned(),
                attribute: name.to_owned(),
            });
        }
        out.insert(name, attribute);
    }
    Ok(out)
}

/// A node with references to attributes replaced by their values; what has no value is left out.
fn filled(node: &NodeProto, attributes: &BTreeMap<&str, &AttributeProto>) -> NodeProto {
    let mut out = node.clone();
    out.attribute = node
        .attribute
        .iter()
        .filter_map(|attribute| {
            let reference = attribute.ref_attr_name.as_deref().filter(|r| !r.is_empty());
            if let Some(reference) = reference {
                return attributes.get(reference).map(|&value| AttributeProto {
                    name: attribute.name.clone(),
                    ..value.clone()
                });
            }
            let mut attribute = attribute.clone();
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                for node in &mut graph.node {
                    *node = filled(node, attributes);
                }
            }
            Some(attribute)
        })
        .collect();
    out
}
