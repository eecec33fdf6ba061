//! Control flow: what is decided when the model is read is read as plain nodes, the rest becomes bodies of the IR.

use std::collections::BTreeSet;

use super::Importer;
use super::call::Call;
use super::entry::{Dims, Entry};
use super::table::{Row, row};
use crate::error::{Context, Result};
use crate::ir::ops::{If, Loop};
use crate::ir::{BodyId, Builder, Def, Dim, Domain, Op, Type, ValueId, normalize_axis};
use crate::limits;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    row("If", 1, branch),
    row("Loop", 1, repeat),
    row("Scan", 9, scan),
];

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
    let (then_body, then_types) = body(m, "then", then, &captured, &[])?;
    let (else_body, else_types) = body(m, "else", other, &captured, &[])?;
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

/// A name that a body takes from its surroundings.
struct Capture {
    name: String,
    entry: Entry,
    /// The value outside, if it has to be handed in.
    value: Option<ValueId>,
    ty: Option<Type>,
}

impl Capture {
    fn operand(&self) -> Option<ValueId> {
        self.value
    }
}

/// Everything that graphs use and do not define.
fn captures(m: &Importer<'_>, graphs: &[&GraphProto]) -> Vec<Capture> {
    let mut names = BTreeSet::new();
    for graph in graphs {
        free_names(graph, &mut names);
    }
    names
        .into_iter()
        .filter_map(|name| {
            let entry = m.lookup(&name).ok()?;
            let value = match &entry {
                Entry::Value(v) | Entry::Coded(v, _) => match m.b.def(*v) {
                    Def::Const(_) => None,
                    Def::Param(_) | Def::Node(_) => Some(*v),
                },
                Entry::Dims(_) => None,
            };
            let ty = value.map(|v| m.b.ty(v).clone());
            Some(Capture {
                name,
                entry,
                value,
                ty,
            })
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

/// Reads a graph as a body of the module: parameters of its own first, then the captures. Gives the types of its outputs.
fn body(
    m: &mut Importer<'_>,
    name: &str,
    graph: &GraphProto,
    captured: &[Capture],
    own: &[Type],
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
        let result = inside(m, graph, &path, &names, captured, constants, own);
        std::mem::swap(&mut m.b, b);
        types = result?;
        Ok(())
    });
    m.b = builder;
    m.scopes = scopes;
    Ok((built?, types))
}

fn inside(
    m: &mut Importer<'_>,
    graph: &GraphProto,
    path: &str,
    names: &[String],
    captured: &[Capture],
    constants: Vec<Option<crate::ir::Constant>>,
    own: &[Type],
) -> Result<Vec<Type>> {
    let mut inputs = Vec::new();
    for (i, ty) in own.iter().enumerate() {
        let name = names.get(i).map_or("", String::as_str);
        let value =
            m.b.param(&format!("{path}/{name}"), ty.clone(), Domain::Any)?;
        inputs.push(Entry::Value(value));
    }
    for (capture, constant) in captured.iter().zip(constants) {
        let value = match (&capture.ty, constant) {
            (Some(ty), _) => {
                let name = format!("{path}/{}", capture.name);
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
        m.define(&capture.name, entry)?;
    }
    let outputs = m.subgraph(graph, inputs)?;
    let mut types = Vec::new();
    for (i, entry) in outputs.iter().enumerate() {
        let name = graph.output.get(i).and_then(|o| o.name.as_deref());
        let name = format!("{path}/{i}/{}", name.unwrap_or_default());
        let value = m.value(entry, &name).at_node(&name)?;
        types.push(m.b.ty(value).clone());
        m.b.output(&name, value)?;
    }
    Ok(types)
}

fn repeat(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let graph = call.graph("body")?;
    let most = call.entry(0);
    let condition = call.entry(1);
    let carried: Vec<Entry> = (2..call.inputs.len())
        .map(|i| call.required(i))
        .collect::<std::result::Result<_, _>>()?;
    let known = |m: &Importer<'_>, e: &Option<Entry>| -> Result<Option<i64>> {
        match e {
            Some(e) => Ok(m
                .dims(e)?
                .and_then(|d| d.integers())
                .and_then(|v| v.first().copied())),
            None => Ok(None),
        }
    };
    let rounds = known(m, &most)?;
    let begins = match &condition {
        Some(_) => known(m, &condition)?,
        None => Some(1),
    };
    if graph.input.len() != carried.len() + 2 || graph.output.len() < carried.len() + 1 {
        return Err(call
            .wrong(
                "body",
                &format!("{} inputs", carried.len() + 2),
                graph.input.len(),
            )
            .into());
    }
    if let (Some(rounds), Some(begins)) = (rounds, begins)
        && rounds <= limits::UNROLLED_ROUNDS
    {
        let rounds = if begins == 0 { 0 } else { rounds.max(0) };
        if let Some(out) = unrolled(m, call, graph, rounds, carried.clone())? {
            return Ok(out);
        }
    }
    looped(m, call, graph, most.as_ref(), condition.as_ref(), &carried)
}

/// The rounds one after the other; `None` when whether it goes on is only known at run time.
fn unrolled(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    graph: &GraphProto,
    rounds: i64,
    mut carried: Vec<Entry>,
) -> Result<Option<Vec<Entry>>> {
    let n = carried.len();
    let mut collected: Vec<Vec<ValueId>> = vec![Vec::new(); graph.output.len() - 1 - n];
    for round in 0..rounds {
        let mut inputs = vec![
            Entry::Dims(Dims::scalar(DType::I64, Dim::constant(round))),
            Entry::Dims(Dims::scalar(DType::Bool, Dim::from(1))),
        ];
        inputs.extend(carried.iter().cloned());
        let mut outputs = m.subgraph(graph, inputs)?.into_iter();
        let goes_on = match outputs.next() {
            Some(entry) => m.dims(&entry)?.and_then(|d| d.integers()),
            None => None,
        };
        let Some(goes_on) = goes_on.and_then(|v| v.first().copied()) else {
            return Ok(None);
        };
        carried = outputs.by_ref().take(n).collect();
        for (list, entry) in collected.iter_mut().zip(outputs) {
            let value = m.plain(call, 0, &entry)?;
            list.push(m.b.unsqueeze(value, &[0])?);
        }
        if goes_on == 0 {
            break;
        }
    }
    if rounds == 0 && !collected.is_empty() {
        return Ok(None);
    }
    let mut out = carried;
    for list in collected {
        out.push(Entry::Value(m.b.join(&list, 0)?));
    }
    Ok(Some(out))
}

fn looped(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    graph: &GraphProto,
    most: Option<&Entry>,
    condition: Option<&Entry>,
    carried: &[Entry],
) -> Result<Vec<Entry>> {
    let most = match most {
        Some(entry) => m.plain(call, 0, entry)?,
        None => {
            m.b.scalar("most", DType::I64, num::f64_of_i64(i64::MAX >> 11))?
        }
    };
    let most = scalar(m, most)?;
    let condition = match condition {
        Some(entry) => m.plain(call, 1, entry)?,
        None => {
            let yes = crate::tensor::Tensor::bool(vec![], vec![true])?;
            m.b.tensor("yes", &yes)?
        }
    };
    let condition = scalar(m, condition)?;
    let mut initial = Vec::new();
    for (i, entry) in carried.iter().enumerate() {
        initial.push(m.plain(call, i + 2, entry)?);
    }
    let mut types: Vec<Type> = initial.iter().map(|&v| m.b.ty(v).clone()).collect();
    let captured = captures(m, &[graph]);
    // Sizes that a round changes are open in the next reading of the body; each reading opens at least one.
    let sizes: usize = types.iter().map(Type::rank).sum();
    for _ in 0..=sizes {
        let mut own = vec![
            Type::new(DType::I64, vec![]),
            Type::new(DType::Bool, vec![]),
        ];
        own.extend(types.iter().cloned());
        let (body, outputs) = body(m, "loop", graph, &captured, &own)?;
        let (after, rest) = outputs
            .get(1..)
            .unwrap_or_default()
            .split_at(types.len().min(outputs.len().saturating_sub(1)));
        let mut changed = false;
        for (ty, new) in types.iter_mut().zip(after) {
            if ty.dtype != new.dtype || ty.rank() != new.rank() {
                return Err(call.wrong("body", &ty.to_string(), new).into());
            }
            for (d, n) in ty.shape.iter_mut().zip(&new.shape) {
                if d != n && !d.is_run_time() {
                    *d = m.b.run_time_size();
                    changed = true;
                }
            }
        }
        if changed {
            continue;
        }
        let mut results = types.clone();
        for ty in &mut results {
            for d in &mut ty.shape {
                if d.is_run_time() {
                    *d = m.b.run_time_size();
                }
            }
        }
        for ty in rest {
            let mut shape = vec![m.b.run_time_size()];
            for d in &ty.shape {
                shape.push(if d.is_run_time() {
                    m.b.run_time_size()
                } else {
                    d.clone()
                });
            }
            results.push(Type::new(ty.dtype, shape));
        }
        let op = Loop {
            body,
            carried: types.len(),
            results,
        };
        let mut operands = vec![most, condition];
        operands.extend(&initial);
        operands.extend(captured.iter().filter_map(Capture::operand));
        let values = m.b.push_all("loop", Op::Loop(op), &operands)?;
        return Ok(values.into_iter().map(Entry::Value).collect());
    }
    Err(call.unsupported("sizes that never settle").into())
}

/// One element as rank 0.
fn scalar(m: &mut Importer<'_>, x: ValueId) -> Result<ValueId> {
    m.b.reshape(x, vec![])
}

/// Rounds over the elements of the scanned inputs, one after the other.
fn scan(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let graph = call.graph("body")?;
    let scanned = call.int("num_scan_inputs")?.unwrap_or_default();
    let total = call.inputs.len();
    let scanned = usize::try_from(scanned)
        .ok()
        .filter(|&n| n >= 1 && n <= total)
        .ok_or_else(|| call.wrong("num_scan_inputs", "1 to the number of inputs", scanned))?;
    let states = total - scanned;
    if graph.output.len() < states {
        return Err(call
            .wrong("body", "an output per state", graph.output.len())
            .into());
    }
    let collected = graph.output.len() - states;
    let list = |call: &mut Call<'_>, name: &str, n: usize| -> Result<Vec<i64>> {
        let list = call.ints(name)?.unwrap_or_else(|| vec![0; n]);
        if list.len() == n {
            Ok(list)
        } else {
            Err(call.wrong(name, &format!("{n} numbers"), list.len()).into())
        }
    };
    let in_axes = list(call, "scan_input_axes", scanned)?;
    let in_directions = list(call, "scan_input_directions", scanned)?;
    let out_axes = list(call, "scan_output_axes", collected)?;
    let out_directions = list(call, "scan_output_directions", collected)?;
    let mut state: Vec<Entry> = (0..states)
        .map(|i| call.required(i))
        .collect::<std::result::Result<_, _>>()?;
    let mut inputs = Vec::new();
    let mut rounds = None;
    for (i, &axis) in in_axes.iter().enumerate() {
        let x = m.input(call, states + i)?;
        let axis = normalize_axis(axis, m.b.rank(x))?;
        let size = m.b.shape(x)[axis].known();
        let size = size.ok_or_else(|| call.unsupported("a scan over an axis whose size varies"))?;
        if *rounds.get_or_insert(size) != size {
            return Err(call.wrong("inputs", "scans of one length", size).into());
        }
        inputs.push((x, axis));
    }
    let rounds = rounds.unwrap_or(0);
    if rounds == 0
        || num::i64_of(rounds) > limits::UNROLLED_ROUNDS
        || rounds > limits::NODES.count()
    {
        return Err(call
            .unsupported(format!(
                "a scan of {rounds} rounds (at most {} are read)",
                limits::UNROLLED_ROUNDS
            ))
            .into());
    }
    let mut lists: Vec<Vec<ValueId>> = vec![Vec::new(); collected];
    for round in 0..rounds {
        let mut given = state.clone();
        for (&(x, axis), &direction) in inputs.iter().zip(&in_directions) {
            let at = if direction == 1 {
                rounds - 1 - round
            } else {
                round
            };
            let part = m.b.part(x, axis, at, at + 1)?;
            given.push(Entry::Value(m.b.squeeze(part, &[axis])?));
        }
        let mut outputs = m.subgraph(graph, given)?.into_iter();
        state = outputs.by_ref().take(states).collect();
        for (i, (list, entry)) in lists.iter_mut().zip(outputs).enumerate() {
            let value = m.plain(call, 0, &entry)?;
            let axis = normalize_axis(out_axes[i], m.b.rank(value) + 1)?;
            list.push(m.b.unsqueeze(value, &[axis])?);
        }
    }
    let mut out = state;
    for (i, mut list) in lists.into_iter().enumerate() {
        if out_directions[i] == 1 {
            list.reverse();
        }
        let rank = list.first().map_or(1, |&v| m.b.rank(v));
        let axis = normalize_axis(out_axes[i], rank)?;
        out.push(Entry::Value(m.b.join(&list, axis)?));
    }
    Ok(out)
}
