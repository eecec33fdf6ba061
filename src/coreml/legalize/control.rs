//! Control flow. A loop of few rounds whose number is known becomes its rounds; another one carries what it collects in a tensor that has room
//! for the most rounds it may have.

use super::dtype::{legal, legal_type};
use super::lower::{Lower, Map, dims};
use crate::error::{Context, Result};
use crate::ir::ops::{BinaryKind, ExpandTo, If, Loop, ScatterMode, ScatterNd, SliceBy};
use crate::ir::{Def, Dim, Domain, Function, Node, Op, SymbolRange, Type, ValueId};
use crate::limits;
use crate::tensor::{DType, num};

/// Most rounds that are written one after the other.
const MAX_UNROLLED: i64 = 64;
/// Most rounds that a loop that collects results can have.
const MAX_COLLECTED: i64 = 65_536;

fn types(l: &Lower<'_>, results: &[Type]) -> Vec<Type> {
    results
        .iter()
        .map(|t| Type::new(legal(t.dtype, l.opset), t.shape.clone()))
        .collect()
}

pub(super) fn branch(l: &mut Lower<'_>, op: &If, operands: &[ValueId]) -> Result<Vec<ValueId>> {
    let condition = l.scalar_of(operands[0])?;
    let captures = &operands[1..];
    let op = If {
        then_body: l.body(op.then_body, 0, captures)?,
        else_body: l.body(op.else_body, 0, captures)?,
        results: types(l, &op.results),
    };
    let mut all = vec![condition];
    all.extend_from_slice(captures);
    l.push_all(Op::If(op), &all)
}

/// Whether a body always goes on: its first output is its own condition, or true.
fn goes_on(l: &Lower<'_>, body: &Function) -> Result<bool> {
    let Some(output) = body.outputs.first() else {
        return Ok(false);
    };
    Ok(match body.value(output.value).def {
        Def::Param(place) => place == 1,
        Def::Const(id) => truth(&l.module.constant(id).read()?),
        Def::Node(_) => match body.producer(output.value) {
            // A copy of the condition.
            Some(node) if matches!(node.op, Op::Cast(_) | Op::Reshape(_) | Op::Squeeze(_)) => node
                .operands
                .first()
                .is_some_and(|&v| body.value(v).def == Def::Param(1)),
            Some(_) | None => false,
        },
    })
}

fn truth(tensor: &crate::tensor::Tensor) -> bool {
    tensor.bools().is_ok_and(|b| b.first() == Some(&true))
}

pub(super) fn repeat(
    l: &mut Lower<'_>,
    op: &Loop,
    old: &Function,
    node: &Node,
    operands: &[ValueId],
) -> Result<Vec<ValueId>> {
    let body = l.module.body(op.body);
    let mut rounds = None;
    if let Def::Const(id) = old.value(node.operands[0]).def {
        rounds = l.module.constant(id).read()?.ints()?.first().copied();
    }
    let begins = match l.as_constant(operands[1]) {
        Some(constant) => truth(&constant.read()?),
        None => false,
    };
    let collects = op.results.len() > op.carried;
    if let Some(n) = rounds
        && (1..=MAX_UNROLLED).contains(&n)
        && begins
        && goes_on(l, body)?
    {
        return unrolled(l, op, body, n, operands);
    }
    let most = l.scalar_of(operands[0])?;
    let start = l.scalar_of(operands[1])?;
    let mut before = vec![most, start];
    before.extend_from_slice(&operands[2..]);
    if !collects {
        let op = Loop {
            body: l.body(op.body, 2 + op.carried, &before)?,
            carried: op.carried,
            results: types(l, &op.results),
        };
        return l.push_all(Op::Loop(op), &before);
    }
    let all = op.results.get(op.carried).and_then(|t| t.shape.first());
    let all = all.filter(|d| !d.is_run_time());
    let rounds = all.map_or(rounds, Dim::integer);
    let room = match (rounds, all) {
        (Some(n), all) if (1..=MAX_COLLECTED).contains(&n) => Room::Rounds {
            size: Dim::constant(n),
            all: all.is_some(),
        },
        (None, Some(size)) => Room::Rounds {
            size: size.clone(),
            all: true,
        },
        (None, None) => Room::Computed,
        (Some(_), _) => {
            return Err(l.refuse(
                "loop",
                "it collects results, so its rounds must be bounded: by a number that is computed, or by a constant up to 65536",
            ));
        }
    };
    collected(l, op, body, room, &before)
}

/// How many rounds a loop has room for in what it collects.
enum Room {
    /// As many as this, and whether all of them run.
    Rounds { size: Dim, all: bool },
    /// As many as the loop is given, but one at least: Core ML has no tensors without elements.
    Computed,
}

fn unrolled(
    l: &mut Lower<'_>,
    op: &Loop,
    body: &Function,
    rounds: i64,
    operands: &[ValueId],
) -> Result<Vec<ValueId>> {
    let mut carried = operands[2..2 + op.carried].to_vec();
    let captures = &operands[2 + op.carried..];
    let mut rows: Vec<Vec<ValueId>> = vec![Vec::new(); op.results.len() - op.carried];
    let name = l.node_name().to_owned();
    for round in 0..rounds {
        l.at(&name);
        let mut map = Map::new();
        let round_dtype = body
            .params
            .first()
            .map_or(DType::I64, |p| body.ty(p.value).dtype);
        let number = l.scalar(legal(round_dtype, l.opset), num::f64_of_i64(round))?;
        let yes = crate::tensor::Tensor::bool(vec![], vec![true])?;
        let yes = l.tensor(&yes)?;
        let given = [number, yes].into_iter().chain(carried.iter().copied());
        for (param, value) in body
            .params
            .iter()
            .zip(given.chain(captures.iter().copied()))
        {
            map.insert(param.value, value);
        }
        l.nodes(body, &mut map)?;
        l.at(&name);
        let mut next = Vec::with_capacity(op.results.len());
        for output in body.outputs.iter().skip(1) {
            next.push(l.value(body, &map, output.value)?);
        }
        for (column, value) in rows.iter_mut().zip(next.split_off(op.carried)) {
            column.push(l.unsqueeze(value, vec![0])?);
        }
        carried = next;
    }
    let mut out = carried;
    for column in rows {
        out.push(l.concat(&column, 0)?);
    }
    Ok(out)
}

/// What every round adds is put into a tensor of all rounds, of which those that ran are taken in the end.
fn collected(
    l: &mut Lower<'_>,
    op: &Loop,
    body: &Function,
    room: Room,
    operands: &[ValueId],
) -> Result<Vec<ValueId>> {
    let results = types(l, &op.results);
    let (size, computed, all_run) = match room {
        Room::Rounds { size, all } => (size, None, all),
        Room::Computed => {
            let range = SymbolRange::Between {
                min: 1,
                max: limits::DIMENSION,
            };
            let most = l.cast(operands[0], DType::I32)?;
            let most = l.with(BinaryKind::Max, most, 1.0)?;
            let most = l.reshape(most, dims(&[1]))?;
            (l.open_size("rounds", range), Some(most), false)
        }
    };
    let mut buffers = Vec::new();
    for ty in &results[op.carried..] {
        let row: Option<Vec<usize>> = ty.shape[1..].iter().map(Dim::known).collect();
        let Some(row) = row else {
            return Err(l.refuse("loop", "the sizes of what it collects must be known"));
        };
        let dtype = if ty.dtype.is_float() {
            ty.dtype
        } else {
            DType::I32
        };
        let zero = l.scalar(dtype, 0.0)?;
        let mut shape = vec![size.clone()];
        shape.extend(dims(&row));
        let buffer = match computed {
            None => l.expand(zero, shape)?,
            Some(most) => {
                let mut sizes = vec![most];
                if !row.is_empty() {
                    sizes.push(l.ints(row.into_iter().map(num::i64_of).collect())?);
                }
                let sizes = l.concat(&sizes, 0)?;
                l.push(Op::ExpandTo(ExpandTo { shape }), &[zero, sizes])?
            }
        };
        buffers.push(buffer);
    }
    let count = l.scalar(DType::I32, 0.0)?;
    let buffer_types: Vec<Type> = buffers.iter().map(|&v| l.ty(v).clone()).collect();
    let captures = &operands[2 + op.carried..];
    let fixed: Vec<_> = captures
        .iter()
        .map(|&v| l.as_constant(v).cloned())
        .collect();
    let name = body.name.clone();
    let new_body = l.build(&name, |l| {
        let mut map = Map::new();
        let mut given = Vec::new();
        for param in &body.params[..2 + op.carried] {
            let value = body.value(param.value);
            let ty = legal_type(&value.ty, l.opset).at_node(&value.name)?;
            given.push(l.param(&value.name, ty, Domain::Any));
        }
        l.at(&name);
        let count = l.param(
            &format!("{name}#count"),
            Type::known(DType::I32, &[]),
            Domain::Any,
        );
        let mut slots = Vec::new();
        for (i, ty) in buffer_types.iter().enumerate() {
            slots.push(l.param(&format!("{name}#rows{i}"), ty.clone(), Domain::Any));
        }
        for (param, fixed) in body.params[2 + op.carried..].iter().zip(fixed) {
            let value = body.value(param.value);
            let ty = Type::new(legal(value.ty.dtype, l.opset), value.ty.shape.clone());
            let mut id = l.param(&value.name, ty, Domain::Any);
            if let Some(constant) = fixed {
                id = l.constant(constant);
            }
            given.push(id);
        }
        for (param, value) in body.params.iter().zip(given) {
            map.insert(param.value, value);
        }
        l.nodes(body, &mut map)?;
        l.at(&name);
        let mut outputs = Vec::new();
        for output in &body.outputs {
            outputs.push(l.value(body, &map, output.value)?);
        }
        let rows = outputs.split_off(1 + op.carried);
        outputs.push(l.with(BinaryKind::Add, count, 1.0)?);
        let place = l.unsqueeze(count, vec![0, 1])?;
        for (slot, row) in slots.into_iter().zip(rows) {
            let dtype = l.ty(slot).dtype;
            let row = l.cast(row, dtype)?;
            let row = l.unsqueeze(row, vec![0])?;
            let mode = ScatterMode::Update;
            outputs.push(l.push(Op::ScatterNd(ScatterNd { mode }), &[slot, place, row])?);
        }
        for (i, value) in outputs.into_iter().enumerate() {
            l.output(&format!("{name}#{i}"), value);
        }
        Ok(())
    })?;
    let mut all = operands[..2 + op.carried].to_vec();
    all.push(count);
    all.extend(buffers);
    all.extend_from_slice(captures);
    let mut wanted = results[..op.carried].to_vec();
    wanted.push(Type::known(DType::I32, &[]));
    wanted.extend(buffer_types);
    let new = Loop {
        body: new_body,
        carried: wanted.len(),
        results: wanted,
    };
    let mut out = l.push_all(Op::Loop(new), &all)?;
    let buffers = out.split_off(op.carried + 1);
    let Some(count) = out.pop() else {
        return Ok(out);
    };
    let taken = if all_run {
        None
    } else {
        Some((l.ints(vec![0])?, l.unsqueeze(count, vec![0])?))
    };
    for (buffer, ty) in buffers.into_iter().zip(&results[op.carried..]) {
        let rows = match taken {
            None => buffer,
            Some((start, end)) => {
                let slice = SliceBy {
                    axes: vec![0],
                    steps: vec![1],
                    shape: ty.shape.clone(),
                };
                l.push(Op::SliceBy(slice), &[buffer, start, end])?
            }
        };
        out.push(l.cast(rows, ty.dtype)?);
    }
    Ok(out)
}
