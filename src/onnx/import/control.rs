//! Control flow: what is decided when the model is read is read as plain nodes, the rest becomes bodies of the IR. Owns `If` and bodies; `loops` owns
//! what runs again and again.

use std::collections::BTreeSet;

use super::Importer;
use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use crate::error::{Context, Result};
use crate::ir::ops::If;
use crate::ir::{BodyId, Builder, Def, Domain, Op, Type, ValueId};
use crate::onnx::proto::{GraphProto, NodeProto};

pub(super) const ROWS: &[Row] = &[row("If", 1, branch)];

fn branch(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (then, other) = (call.graph("then_branch")?, call.graph("else_branch")?);
    let condition = call.required(0)?;
    let known = m.dims(&condition)?.and_then(|d| d.integers());
    if let Some([decided]) = known.as_deref() {
        let graph = if *decided != 0 { then } else { other };
        return m.subgraph(graph, Vec::new());
    }
    let entry = condition;
    let condition = m.plain(call, 0, &entry)?;
    let captured = captures(m, &[then, other]);
    let (then_body, then_types) = body(m, "then", then, &captured, &[], plain)?;
    let (else_body, else_types) = body(m, "else", other, &captured, &[], plain)?;
    if then_types.len() != else_types.len() {
        return Err(call
            .wrong(
                "else_branch",
                &format!("{} outputs", then_types.len()),
                else_types.len(),
            )
            .into());
    }
    let mut results = Vec::new();
    for (a, b) in then_types.iter().zip(&else_types) {
        if a.dtype != b.dtype {
            return Err(call.wrong("else_branch", &a.to_string(), b).into());
        }
        if a.rank() != b.rank() {
            // Only a known condition says which of them it is.
            return Err(m.not_constant(call, 0, &entry).into());
        }
        let shape = a.shape.iter().zip(&b.shape).map(|(x, y)| {
            if x == y && !x.is_run_time() {
                x.clone()
            } else {
                m.b.run_time_size()
            }
        });
        let shape = shape.collect();
        results.push(Type::new(a.dtype, shape));
    }
    let mut operands = vec![condition];
    operands.extend(captured.iter().filter_map(Capture::operand));
    let op = If {
        then_body,
        else_body,
        results,
    };
    let values = m.b.push_all("if", Op::If(op), &operands)?;
    Ok(values.into_iter().map(Entry::Value).collect())
}

/// The nodes of a branch, which has no inputs of its own.
fn plain(m: &mut Importer<'_>, graph: &GraphProto, inside: Inside) -> Result<Vec<Entry>> {
    m.subgraph(graph, inside.own)
}

/// Something that a body takes from its surroundings.
pub(super) struct Capture {
    /// Its name there; empty for a value that the nodes of the body cannot name.
    name: String,
    entry: Entry,
    /// The value outside, if it has to be handed in.
    value: Option<ValueId>,
    ty: Option<Type>,
}

impl Capture {
    /// What `entry` stands for outside.
    pub(super) fn new(m: &Importer<'_>, name: String, entry: Entry) -> Self {
        let value = match &entry {
            Entry::Value(v) | Entry::Coded(v, _) => match m.b.def(*v) {
                Def::Const(_) => None,
                Def::Param(_) | Def::Node(_) => Some(*v),
            },
            Entry::Dims(_) => None,
        };
        let ty = value.map(|v| m.b.ty(v).clone());
        Capture {
            name,
            entry,
            value,
            ty,
        }
    }

    pub(super) fn operand(&self) -> Option<ValueId> {
        self.value
    }
}

/// Everything that graphs use and do not define.
pub(super) fn captures(m: &Importer<'_>, graphs: &[&GraphProto]) -> Vec<Capture> {
    let mut names = BTreeSet::new();
    for graph in graphs {
        free_names(graph, &mut names);
    }
    names
        .into_iter()
        .filter_map(|name| {
            let entry = m.lookup(&name).ok()?;
            Some(Capture::new(m, name, entry))
        })
        .collect()
}

fn free_names(graph: &GraphProto, into: &mut BTreeSet<String>) {
    let mut defined: BTreeSet<&str> = graph
        .input
        .iter()
        .filter_map(|i| i.name.as_deref())
        .chain(graph.initializer.iter().filter_map(|t| t.name.as_deref()))
        .collect();
    let mut used = BTreeSet::new();
    for node in &graph.node {
        names_of(node, &mut used);
        defined.extend(node.output.iter().map(String::as_str));
    }
    used.extend(graph.output.iter().filter_map(|o| o.name.clone()));
    into.extend(
        used.into_iter()
            .filter(|n| !n.is_empty() && !defined.contains(n.as_str())),
    );
}

fn names_of(node: &NodeProto, into: &mut BTreeSet<String>) {
    into.extend(node.input.iter().cloned());
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            free_names(graph, into);
        }
    }
}

/// What a body is given, as it is called inside.
pub(super) struct Inside {
    /// Its own parameters.
    pub(super) own: Vec<Entry>,
    /// The captures, in order.
    pub(super) captured: Vec<Entry>,
}

/// Reads a graph as a body of the module: parameters of its own first, then the captures. `read` reads its nodes and gives its outputs; what comes back
/// are their types.
pub(super) fn body(
    m: &mut Importer<'_>,
    name: &str,
    graph: &GraphProto,
    captured: &[Capture],
    own: &[Type],
    read: impl FnOnce(&mut Importer<'_>, &GraphProto, Inside) -> Result<Vec<Entry>>,
) -> Result<(BodyId, Vec<Type>)> {
    let names: Vec<String> = graph
        .input
        .iter()
        .map(|i| i.name.clone().unwrap_or_default())
        .collect();
    let constants: Vec<Option<crate::ir::Constant>> = captured
        .iter()
        .map(|c| {
            m.constant(&c.entry).or_else(|| match &c.entry {
                Entry::Coded(v, _) => m.b.as_constant(*v).cloned(),
                Entry::Value(_) | Entry::Dims(_) => None,
            })
        })
        .collect();
    let path = format!("{name}{}", m.nodes);
    let mut builder = std::mem::replace(&mut m.b, Builder::new(""));
    let scopes = std::mem::replace(&mut m.scopes, vec![Default::default()]);
    let mut types = Vec::new();
    let built = builder.body(&path, |b| {
        std::mem::swap(&mut m.b, b);
        let result = given(m, &path, &names, captured, constants, own)
            .and_then(|inside| read(m, graph, inside))
            .and_then(|outputs| outputs_of(m, graph, &path, outputs));
        std::mem::swap(&mut m.b, b);
        types = result?;
        Ok(())
    });
    m.b = builder;
    m.scopes = scopes;
    Ok((built?, types))
}

fn given(
    m: &mut Importer<'_>,
    path: &str,
    names: &[String],
    captured: &[Capture],
    constants: Vec<Option<crate::ir::Constant>>,
    own: &[Type],
) -> Result<Inside> {
    let mut inputs = Vec::new();
    for (i, ty) in own.iter().enumerate() {
        let name = names.get(i).map_or("", String::as_str);
        let value =
            m.b.param(&format!("{path}/{name}"), ty.clone(), Domain::Any)?;
        inputs.push(Entry::Value(value));
    }
    let mut entries = Vec::with_capacity(captured.len());
    for (i, (capture, constant)) in captured.iter().zip(constants).enumerate() {
        let value = match (&capture.ty, constant) {
            (Some(ty), _) => {
                let name = match capture.name.as_str() {
                    "" => format!("{path}/captured{i}"),
                    name => format!("{path}/{name}"),
                };
                Some(m.b.param(&name, ty.clone(), Domain::Any)?)
            }
            (None, Some(constant)) => Some(m.b.constant(constant)),
            (None, None) => None,
        };
        let entry = match (value, &capture.entry) {
            (Some(v), Entry::Coded(_, code)) => Entry::Coded(v, *code),
            (Some(v), Entry::Value(_) | Entry::Dims(_)) => Entry::Value(v),
            (None, entry) => entry.clone(),
        };
        if !capture.name.is_empty() {
            m.define(&capture.name, entry.clone())?;
        }
        entries.push(entry);
    }
    Ok(Inside {
        own: inputs,
        captured: entries,
    })
}

fn outputs_of(
    m: &mut Importer<'_>,
    graph: &GraphProto,
    path: &str,
    outputs: Vec<Entry>,
) -> Result<Vec<Type>> {
    // A body may give more than its graph does, ahead of it.
    let more = outputs.len().saturating_sub(graph.output.len());
    let mut types = Vec::new();
    for (i, entry) in outputs.iter().enumerate() {
        let output = i.checked_sub(more).and_then(|i| graph.output.get(i));
        let name = output.and_then(|o| o.name.as_deref());
        let name = format!("{path}/{i}/{}", name.unwrap_or_default());
        let value = m.value(entry, &name).at_node(&name)?;
        types.push(m.b.ty(value).clone());
        m.b.output(&name, value)?;
    }
    Ok(types)
}
