//! `Loop` and `Scan`. Rounds whose number is known are read one after the other, as long as they are not too many; the rest becomes a loop of the IR.

use super::call::Call;
use super::control::{Capture, Inside, body, captures};
use super::entry::{Dims, Entry};
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Loop, Reverse};
use crate::ir::{BodyId, Def, Dim, Op, Type, ValueId, normalize_axis};
use crate::limits;
use crate::onnx::proto::GraphProto;
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[row("Loop", 1, repeat), row("Scan", 8, scan)];

/// One element of a sequence in every round.
struct Scanned {
    value: ValueId,
    axis: usize,
    backwards: bool,
}

/// What runs in every round: a graph that takes the round, whether it goes on, and what is carried; or, of a scan, what is carried and the elements of
/// the round.
struct Rounds<'n> {
    graph: &'n GraphProto,
    /// The sequences of a scan.
    scan: Option<&'n [Scanned]>,
}

impl Rounds<'_> {
    /// One round, given its number, whether it goes on, and what is carried; `values` are those of the sequences. Gives whether to go on, what is
    /// carried on, and what is collected.
    fn run(
        &self,
        m: &mut Importer<'_>,
        mut given: Vec<Entry>,
        values: &[ValueId],
    ) -> Result<Vec<Entry>> {
        let Some(scanned) = self.scan else {
            return m.subgraph(self.graph, given);
        };
        let mut inputs = given.split_off(2);
        for (one, &value) in scanned.iter().zip(values) {
            m.count_node()?;
            inputs.push(element(m, one, value, &given[0])?);
        }
        let mut outputs = vec![given.swap_remove(1)];
        outputs.extend(m.subgraph(self.graph, inputs)?);
        Ok(outputs)
    }

    fn values(&self) -> Vec<ValueId> {
        let scanned = self.scan.unwrap_or_default();
        scanned.iter().map(|s| s.value).collect()
    }
}

/// The element of a sequence that a round is given.
fn element(m: &mut Importer<'_>, s: &Scanned, x: ValueId, round: &Entry) -> Result<Entry> {
    let last = m.b.shape(x)[s.axis].sub(&Dim::from(1));
    let y = match round {
        Entry::Dims(Dims { values, .. }) if values.len() == 1 => {
            let at = if s.backwards {
                last.sub(&values[0])
            } else {
                values[0].clone()
            };
            let part = m.b.part(x, s.axis, at.clone(), at.add(&Dim::from(1)))?;
            m.b.squeeze(part, &[s.axis])?
        }
        round @ (Entry::Value(_) | Entry::Dims(_) | Entry::Coded(..)) => {
            let mut at = m.value(round, "round")?;
            if s.backwards {
                let last = m.dims_value(&Dims::scalar(DType::I64, last), "last")?;
                at = m.b.bin(BinaryKind::Sub, last, at)?;
            }
            m.b.gather(x, at, s.axis)?
        }
    };
    Ok(Entry::Value(y))
}

fn repeat(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let graph = call.graph("body")?;
    let most = call.entry(0);
    let condition = call.entry(1);
    let carried: Vec<Entry> = (2..call.inputs.len())
        .map(|i| call.required(i))
        .collect::<std::result::Result<_, _>>()?;
    if graph.input.len() != carried.len() + 2 || graph.output.len() < carried.len() + 1 {
        return Err(call
            .wrong(
                "body",
                &format!("{} inputs", carried.len() + 2),
                graph.input.len(),
            )
            .into());
    }
    let first = |m: &Importer<'_>, e: &Option<Entry>| -> Result<Option<Dim>> {
        match e {
            Some(e) => Ok(m.dims(e)?.and_then(|d| d.values.first().cloned())),
            None => Ok(None),
        }
    };
    let most_rounds = first(m, &most)?;
    let begins = match &condition {
        Some(_) => first(m, &condition)?.and_then(|d| d.integer()),
        None => Some(1),
    };
    let rounds = Rounds { graph, scan: None };
    if let (Some(count), Some(begins)) = (most_rounds.as_ref().and_then(Dim::integer), begins)
        && count <= limits::UNROLLED_ROUNDS
    {
        let count = if begins == 0 { 0 } else { count.max(0) };
        if let Some((mut out, lists)) = unrolled(m, call, &rounds, count, carried.clone())? {
            for list in lists {
                let mut rows = Vec::with_capacity(list.len());
                for row in list {
                    rows.push(m.b.unsqueeze(row, &[0])?);
                }
                out.push(Entry::Value(m.b.join(&rows, 0)?));
            }
            return Ok(out);
        }
    }
    let most = match most {
        Some(entry) => m.plain(call, 0, &entry)?,
        None => {
            m.b.scalar("most", DType::I64, num::f64_of_i64(i64::MAX >> 11))?
        }
    };
    let condition = match condition {
        Some(entry) => m.plain(call, 1, &entry)?,
        None => yes(m)?,
    };
    let count = most_rounds.filter(|n| begins == Some(1) && m.bounds.is_natural(n));
    looped(m, call, &rounds, (most, condition, count), &carried)
}

fn yes(m: &mut Importer<'_>) -> Result<ValueId> {
    let yes = crate::tensor::Tensor::bool(vec![], vec![true])?;
    m.b.tensor("yes", &yes)
}

/// The rounds one after the other: what is carried in the end, and the rows that are collected. `None` when whether it goes on is only known at run
/// time, or nothing says what is collected in no round.
#[expect(clippy::type_complexity, reason = "two lists of different kinds")]
fn unrolled(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    rounds: &Rounds<'_>,
    count: i64,
    mut carried: Vec<Entry>,
) -> Result<Option<(Vec<Entry>, Vec<Vec<ValueId>>)>> {
    let n = carried.len();
    let given = if rounds.scan.is_some() { n } else { n + 1 };
    let mut collected = vec![Vec::new(); rounds.graph.output.len().saturating_sub(given)];
    if count == 0 && !collected.is_empty() {
        return Ok(None);
    }
    let values = rounds.values();
    for round in 0..count {
        m.count_node()?;
        let mut inputs = vec![
            Entry::Dims(Dims::scalar(DType::I64, Dim::constant(round))),
            Entry::Dims(Dims::scalar(DType::Bool, Dim::from(1))),
        ];
        inputs.extend(carried.iter().cloned());
        let mut outputs = rounds.run(m, inputs, &values)?.into_iter();
        let goes_on = match outputs.next() {
            Some(entry) => m.dims(&entry)?.and_then(|d| d.integers()),
            None => None,
        };
        let Some(goes_on) = goes_on.and_then(|v| v.first().copied()) else {
            return Ok(None);
        };
        carried = outputs.by_ref().take(n).collect();
        for (list, entry) in collected.iter_mut().zip(outputs) {
            list.push(m.plain(call, 0, &entry)?);
        }
        if goes_on == 0 {
            break;
        }
    }
    Ok(Some((carried, collected)))
}

/// A loop of the IR. `start` has the most rounds, whether it begins, and the number of rounds if it is known, unless the body ends it before.
fn looped(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    rounds: &Rounds<'_>,
    start: (ValueId, ValueId, Option<Dim>),
    carried: &[Entry],
) -> Result<Vec<Entry>> {
    let (most, condition) = (scalar(m, start.0)?, scalar(m, start.1)?);
    let mut initial = Vec::new();
    for (i, entry) in carried.iter().enumerate() {
        initial.push(m.plain(call, i + 2, entry)?);
    }
    let mut types: Vec<Type> = initial.iter().map(|&v| m.b.ty(v).clone()).collect();
    let mut captured = captures(m, &[rounds.graph]);
    let named = captured.len();
    for value in rounds.values() {
        captured.push(Capture::new(m, String::new(), Entry::Value(value)));
    }
    // Sizes that a round changes are open in the next reading of the body; each reading opens at least one.
    let sizes: usize = types.iter().map(Type::rank).sum();
    for _ in 0..=sizes {
        let mut own = vec![
            Type::new(DType::I64, vec![]),
            Type::new(DType::Bool, vec![]),
        ];
        own.extend(types.iter().cloned());
        let (body, outputs) = body(
            m,
            "loop",
            rounds.graph,
            &captured,
            &own,
            |m, _, inside: Inside| {
                let mut values = Vec::new();
                for entry in inside.captured.get(named..).unwrap_or_default() {
                    values.push(m.value(entry, "scanned")?);
                }
                rounds.run(m, inside.own, &values)
            },
        )?;
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
        let count = start.2.clone().filter(|_| goes_on(m, body));
        for ty in rest {
            let first = match &count {
                Some(count) => count.clone(),
                None => m.b.run_time_size(),
            };
            let mut shape = vec![first];
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

/// Whether a body hands on the condition that it is given.
fn goes_on(m: &Importer<'_>, body: BodyId) -> bool {
    let body = m.b.body_function(body);
    let first = body.outputs.first();
    first.is_some_and(|o| body.value(o.value).def == Def::Param(1))
}

/// One element as rank 0.
fn scalar(m: &mut Importer<'_>, x: ValueId) -> Result<ValueId> {
    m.b.reshape(x, vec![])
}

/// How a scan collects: the axis of the rounds, and whether the last one comes first.
struct Collected {
    axis: i64,
    backwards: bool,
}

fn scan(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let graph = call.graph("body")?;
    let batched = call.version < 9;
    let first = usize::from(batched);
    let scanned = call.int("num_scan_inputs")?.unwrap_or_default();
    let total = call.inputs.len().saturating_sub(first);
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
    let directions = |call: &mut Call<'_>, name: &str, n: usize| -> Result<Vec<bool>> {
        let list = list(call, name, n)?;
        match list.iter().find(|d| !matches!(d, 0 | 1)) {
            None => Ok(list.into_iter().map(|d| d == 1).collect()),
            Some(d) => Err(call.wrong(name, "0 or 1", d).into()),
        }
    };
    if batched {
        let backwards = directions(call, "directions", scanned)?;
        return batches(m, call, graph, &backwards, states, collected);
    }
    let in_axes = list(call, "scan_input_axes", scanned)?;
    let in_directions = directions(call, "scan_input_directions", scanned)?;
    let out_axes = list(call, "scan_output_axes", collected)?;
    let out_directions = directions(call, "scan_output_directions", collected)?;
    let carried: Vec<Entry> = (0..states)
        .map(|i| call.required(i))
        .collect::<std::result::Result<_, _>>()?;
    let mut inputs = Vec::new();
    for (i, (&axis, &backwards)) in in_axes.iter().zip(&in_directions).enumerate() {
        let value = m.input(call, states + i)?;
        let axis = normalize_axis(axis, m.b.rank(value))?;
        inputs.push(Scanned {
            value,
            axis,
            backwards,
        });
    }
    let outputs: Vec<Collected> = out_axes
        .into_iter()
        .zip(out_directions)
        .map(|(axis, backwards)| Collected { axis, backwards })
        .collect();
    over(
        m,
        call,
        graph,
        carried,
        (&inputs, &outputs),
        limits::UNROLLED_ROUNDS,
    )
}

/// Rounds over the elements of the sequences, `most` of them one after the other.
fn over(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    graph: &GraphProto,
    carried: Vec<Entry>,
    (inputs, outputs): (&[Scanned], &[Collected]),
    most: i64,
) -> Result<Vec<Entry>> {
    for input in inputs {
        let ranks = input.axis.saturating_add(1)..=usize::MAX;
        m.expect_rank(call, "a scanned input", input.value, ranks)?;
    }
    let mut lengths = inputs.iter().map(|s| m.b.shape(s.value)[s.axis].clone());
    let length = lengths.next().unwrap_or_else(|| Dim::from(0));
    if let Some(other) = lengths.find(|other| *other != length) {
        return Err(call
            .wrong("inputs", &format!("scans of the length {length}"), other)
            .into());
    }
    let rounds = Rounds {
        graph,
        scan: Some(inputs),
    };
    let states = carried.len();
    if let Some(count) = length.integer()
        && count <= most
        && let Some((mut out, lists)) = unrolled(m, call, &rounds, count, carried.clone())?
    {
        for (mut list, how) in lists.into_iter().zip(outputs) {
            if how.backwards {
                list.reverse();
            }
            let rank = list.first().map_or(0, |&v| m.b.rank(v));
            let axis = normalize_axis(how.axis, rank + 1)?;
            let mut rows = Vec::with_capacity(list.len());
            for row in list {
                rows.push(m.b.unsqueeze(row, &[axis])?);
            }
            out.push(Entry::Value(m.b.join(&rows, axis)?));
        }
        return Ok(out);
    }
    let all = Dims::scalar(DType::I64, length.clone());
    let all = m.dims_value(&all, "rounds")?;
    let start = (all, yes(m)?, Some(length));
    let mut out = looped(m, call, &rounds, start, &carried)?;
    for (entry, how) in out.iter_mut().skip(states).zip(outputs) {
        let mut y = m.value(entry, "collected")?;
        if how.backwards {
            y = m.b.node(Op::Reverse(Reverse { axes: vec![0] }), &[y])?;
        }
        let rank = m.b.rank(y);
        let axis = normalize_axis(how.axis, rank)?;
        if axis > 0 {
            let mut order: Vec<usize> = (1..rank).collect();
            order.insert(axis, 0);
            y = m.b.transpose(y, &order)?;
        }
        *entry = Entry::Value(y);
    }
    Ok(out)
}

/// `Scan` of operator set 8: every state and sequence has a first axis of samples, each of which is scanned on its own along the second one.
fn batches(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    graph: &GraphProto,
    backwards: &[bool],
    states: usize,
    collected: usize,
) -> Result<Vec<Entry>> {
    if call.entry(0).is_some() {
        return Err(call
            .unsupported("`sequence_lens`, sequences of lengths of their own,")
            .into());
    }
    let all = m.inputs_from(call, 1)?;
    let sizes: Vec<Dim> = all
        .iter()
        .filter_map(|&x| m.b.shape(x).first().cloned())
        .collect();
    let samples = sizes.first().and_then(Dim::known).filter(|&n| {
        num::i64_of(n) <= limits::UNROLLED_ROUNDS && sizes.iter().all(|s| *s == sizes[0])
    });
    let Some(samples) = samples else {
        let expected = format!(
            "of one known number, at most {} samples",
            limits::UNROLLED_ROUNDS
        );
        let found: Vec<String> = sizes.iter().map(Dim::to_string).collect();
        return Err(call.wrong("inputs", &expected, found.join(", ")).into());
    };
    let most = limits::UNROLLED_ROUNDS / num::i64_of(samples).max(1);
    let outputs: Vec<Collected> = (0..collected)
        .map(|_| Collected {
            axis: 0,
            backwards: false,
        })
        .collect();
    let mut columns: Vec<Vec<ValueId>> = vec![Vec::new(); states + collected];
    for sample in 0..samples {
        m.count_node()?;
        let mut own = Vec::with_capacity(all.len());
        for &x in &all {
            let part = m.b.part(x, 0, sample, sample + 1)?;
            own.push(m.b.squeeze(part, &[0])?);
        }
        let sequences = own.split_off(states);
        let inputs: Vec<Scanned> = sequences
            .into_iter()
            .zip(backwards)
            .map(|(value, &backwards)| Scanned {
                value,
                axis: 0,
                backwards,
            })
            .collect();
        let carried = own.into_iter().map(Entry::Value).collect();
        let results = over(m, call, graph, carried, (&inputs, &outputs), most)?;
        for (column, entry) in columns.iter_mut().zip(results) {
            let value = m.value(&entry, "sample")?;
            column.push(m.b.unsqueeze(value, &[0])?);
        }
    }
    let mut out = Vec::with_capacity(columns.len());
    for column in columns {
        out.extend(one(m.b.join(&column, 0)?)?);
    }
    Ok(out)
}
