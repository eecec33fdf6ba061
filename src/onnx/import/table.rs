//! The operators that are read: one row per domain and name, and the reason for every one that is refused on purpose.

use std::collections::BTreeMap;

use super::call::Call;
use super::entry::Entry;
use super::error::OnnxImportError;
use super::functions::{Key, called};
use super::{Importer, display_op, standard};
use crate::error::Result;
use crate::limits;
use crate::onnx::proto::{FunctionProto, GraphProto, NodeProto};

/// Reads one node.
pub(super) type Handler = fn(&mut Importer<'_>, &mut Call<'_>) -> Result<Vec<Entry>>;

/// One operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Domain; empty for the standard one.
    pub(super) domain: &'static str,
    /// Name.
    pub(super) op: &'static str,
    /// First operator set that has it.
    pub(super) since: i64,
    /// What reads it.
    pub(super) read: Handler,
}

/// A row of the standard domain.
pub(super) const fn row(op: &'static str, since: i64, read: Handler) -> Row {
    Row {
        domain: "",
        op,
        since,
        read,
    }
}

/// A row of `com.microsoft`.
pub(super) const fn microsoft(op: &'static str, read: Handler) -> Row {
    Row {
        domain: "com.microsoft",
        op,
        since: 1,
        read,
    }
}

/// Every family's rows.
const FAMILIES: &[&[Row]] = &[
    super::elementwise::ROWS,
    super::shape::ROWS,
    super::reduce::ROWS,
    super::linear::ROWS,
    super::norm::ROWS,
    super::index::ROWS,
    super::activation::ROWS,
    super::conv::ROWS,
    super::image::ROWS,
    super::recurrent::ROWS,
    super::quant::ROWS,
    super::layout::ROWS,
    super::control::ROWS,
    super::loops::ROWS,
    super::attention::ROWS,
    super::microsoft::ROWS,
    super::qlinear::ROWS,
    super::windows::ROWS,
    super::regions::ROWS,
    super::random::ROWS,
    super::loss::ROWS,
    super::einsum::ROWS,
    super::signal::ROWS,
];

/// What is refused on purpose, by part of the name, and why.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "strings",
        &[
            "StringConcat",
            "StringNormalizer",
            "StringSplit",
            "RegexFullMatch",
            "TfIdfVectorizer",
            "LabelEncoder",
        ],
    ),
    (
        "optional values",
        &["Optional", "OptionalGetElement", "OptionalHasElement"],
    ),
    ("random numbers", &["Bernoulli", "Multinomial"]),
    ("training", &["Adagrad", "Adam", "Gradient", "Momentum"]),
    ("decoding of images", &["ImageDecoder"]),
];

/// The row of an operator.
pub(super) fn find(domain: &str, op: &str) -> Option<&'static Row> {
    FAMILIES
        .iter()
        .flat_map(|rows| rows.iter())
        .find(|row| row.op == op && row.domain == domain)
}

/// Whether an operator is read, functions of the model aside.
pub(in crate::onnx) fn is_read(domain: &str, op: &str) -> bool {
    find(domain, op).is_some() || (domain.is_empty() && matches!(op, "Shape" | "Size"))
}

/// Refuses what is not read, all of it at once.
pub(super) fn check_operators(
    graph: &GraphProto,
    functions: &BTreeMap<Key<'_>, &FunctionProto>,
    opsets: &BTreeMap<String, i64>,
) -> Result<(), OnnxImportError> {
    let mut unknown: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut open: Vec<(&[NodeProto], usize)> = vec![(&graph.node, 0)];
    open.extend(functions.values().map(|f| (f.node.as_slice(), 0)));
    let mut total = 0;
    while let Some((nodes, depth)) = open.pop() {
        if depth > limits::NESTING.count() {
            return Err(OnnxImportError::TooMany {
                what: "nested graphs",
                limit: limits::NESTING.to_string(),
                found: depth,
            });
        }
        for node in nodes {
            total += 1;
            if total > limits::NODES.count() {
                return Err(OnnxImportError::TooMany {
                    what: "nodes",
                    limit: limits::NODES.to_string(),
                    found: total,
                });
            }
            let domain = standard(node.domain.as_deref());
            let op = node.op_type.as_deref().unwrap_or_default();
            let known = functions.contains_key(&called(node)) || is_read(domain, op);
            if !known {
                let place = node.name.as_deref().filter(|n| !n.is_empty());
                let place = place.or(node.output.first().map(String::as_str));
                unknown
                    .entry(display_op(domain, op))
                    .or_insert_with(|| (0, place.unwrap_or_default().to_owned()))
                    .0 += 1;
            }
            for attribute in &node.attribute {
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    open.push((&graph.node, depth + 1));
                }
            }
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let reason = |op: &str| {
        let name = op.rsplit('.').next().unwrap_or(op);
        let sequence = name.contains("Sequence") && name != "ReverseSequence";
        REFUSED
            .iter()
            .find(|(_, ops)| ops.contains(&name))
            .map(|(reason, _)| *reason)
            .or(sequence.then_some("sequences"))
    };
    let list: Vec<String> = unknown
        .iter()
        .map(|(op, (count, first))| {
            let why = match reason(op) {
                Some(reason) => format!(", out of scope: {reason}"),
                None => match op.rsplit_once('.') {
                    Some((domain, _)) if !opsets.contains_key(domain) => {
                        ", its domain is not imported".into()
                    }
                    Some(_) | None => String::new(),
                },
            };
            format!("`{op}` ({count}, first `{first}`{why})")
        })
        .collect();
    Err(OnnxImportError::Operators {
        list: list.join(", "),
    })
}
