//! `Einsum`: letters to axes, one matrix product per operand.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{CompareKind, ReduceKind};
use crate::ir::{Dim, ValueId};
use crate::tensor::DType;

pub(super) const ROWS: &[Row] = &[row("Einsum", 12, einsum)];

/// An axis: a letter, or one of those that `...` stands for, counted from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Dots(usize),
    Letter(char),
}

/// A tensor with its axes named.
#[derive(Clone, Debug)]
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

fn labels(call: &Call<'_>, text: &str, rank: Option<usize>) -> Result<Vec<Label>> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let letters = text.replace("...", "").chars().count();
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            let n = rank.map_or(0, |r| r.saturating_sub(letters));
            out.extend((0..n).rev().map(Label::Dots));
            rest = after;
        } else if c.is_ascii_alphabetic() {
            out.push(Label::Letter(c));
            rest = &rest[1..];
        } else {
            return Err(call.wrong("equation", "letters and dots", &text).into());
        }
    }
    if rank.is_some_and(|r| r != out.len()) {
        return Err(call
            .wrong("equation", "one letter per axis", format!("`{text}`"))
            .into());
    }
    Ok(out)
}

fn einsum(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let equation = call
        .string("equation")?
        .ok_or_else(|| call.missing("`equation`"))?;
    let values = m.inputs_from(call, 0)?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != values.len() || values.is_empty() {
        return Err(call
            .wrong("equation", &format!("{} terms", values.len()), parts.len())
            .into());
    }
    let mut terms = Vec::new();
    for (part, &value) in parts.iter().zip(&values) {
        let labels = labels(call, part, Some(m.b.rank(value)))?;
        terms.push(diagonal(m, Term { value, labels })?);
    }
    let dots = terms
        .iter()
        .flat_map(|t| &t.labels)
        .filter(|l| matches!(l, Label::Dots(_)))
        .max()
        .map_or(0, |l| match l {
            Label::Dots(n) => n + 1,
            Label::Letter(_) => 0,
        });
    let output: Vec<Label> = match right {
        Some(text) => {
            let letters = text
                .replace("...", "")
                .chars()
                .filter(char::is_ascii_alphabetic)
                .count();
            let has_dots = text.contains("...");
            labels(call, text, Some(letters + if has_dots { dots } else { 0 }))?
        }
        None => {
            // Letters that occur once, in alphabetical order, after the dots.
            let all = left.replace("...", "");
            let mut letters: Vec<char> = all
                .chars()
                .filter(|c| c.is_ascii_alphabetic() && all.matches(*c).count() == 1)
                .collect();
            letters.sort_unstable();
            let dots = (0..dots).rev().map(Label::Dots);
            dots.chain(letters.into_iter().map(Label::Letter)).collect()
        }
    };
    let mut rest = terms.into_iter();
    let Some(mut all) = rest.next() else {
        return Err(call.missing("a term").into());
    };
    let waiting: Vec<Term> = rest.collect();
    for (i, term) in waiting.iter().enumerate() {
        let needed: Vec<Label> = output
            .iter()
            .chain(waiting[i + 1..].iter().flat_map(|t| &t.labels))
            .copied()
            .collect();
        all = product(m, all, term.clone(), &needed)?;
    }
    let all = summed(m, all, &output)?;
    let perm: Option<Vec<usize>> = output
        .iter()
        .map(|l| all.labels.iter().position(|a| a == l))
        .collect();
    let perm =
        perm.ok_or_else(|| call.wrong("equation", "an output made of its terms", &equation))?;
    one(m.b.transpose(all.value, &perm)?)
}

/// A letter that names two axes takes the elements where both are equal.
fn diagonal(m: &mut Importer<'_>, mut term: Term) -> Result<Term> {
    loop {
        let twice = (0..term.labels.len()).find_map(|j| {
            (0..j)
                .find(|&i| term.labels[i] == term.labels[j])
                .map(|i| (i, j))
        });
        let Some((i, j)) = twice else {
            return Ok(term);
        };
        let shape = m.b.shape(term.value);
        let after = |axis: usize| -> Vec<usize> { (1..shape.len() - axis).collect() };
        let a = m.b.iota(DType::I32, shape[i].clone())?;
        let a = m.b.unsqueeze(a, &after(i))?;
        let b = m.b.iota(DType::I32, shape[j].clone())?;
        let b = m.b.unsqueeze(b, &after(j))?;
        let on = m.b.cmp(CompareKind::Equal, a, b)?;
        let zero = m.b.number(term.value, 0.0)?;
        let kept = m.b.select(on, term.value, zero)?;
        term.value = m.b.reduce(ReduceKind::Sum, kept, &[j], false)?;
        term.labels.remove(j);
    }
}

/// Sums over the axes that nothing needs.
fn summed(m: &mut Importer<'_>, mut term: Term, needed: &[Label]) -> Result<Term> {
    let axes: Vec<usize> = (0..term.labels.len())
        .filter(|&i| !needed.contains(&term.labels[i]))
        .collect();
    if !axes.is_empty() {
        term.value = m.b.reduce(ReduceKind::Sum, term.value, &axes, false)?;
        term.labels.retain(|l| needed.contains(l));
    }
    Ok(term)
}

/// The product of two terms, summed over the letters that both have and nothing else needs.
fn product(m: &mut Importer<'_>, a: Term, b: Term, needed: &[Label]) -> Result<Term> {
    let keep_a: Vec<Label> = needed.iter().chain(&b.labels).copied().collect();
    let keep_b: Vec<Label> = needed.iter().chain(&a.labels).copied().collect();
    let a = summed(m, a, &keep_a)?;
    let b = summed(m, b, &keep_b)?;
    let both: Vec<Label> = a
        .labels
        .iter()
        .copied()
        .filter(|l| b.labels.contains(l))
        .collect();
    let batch: Vec<Label> = both
        .iter()
        .copied()
        .filter(|l| needed.contains(l))
        .collect();
    let inner: Vec<Label> = both
        .iter()
        .copied()
        .filter(|l| !needed.contains(l))
        .collect();
    let rows: Vec<Label> = a
        .labels
        .iter()
        .copied()
        .filter(|l| !both.contains(l))
        .collect();
    let columns: Vec<Label> = b
        .labels
        .iter()
        .copied()
        .filter(|l| !both.contains(l))
        .collect();
    let shape_of = |m: &Importer<'_>, t: &Term, labels: &[Label]| -> Vec<Dim> {
        let shape = m.b.shape(t.value);
        labels
            .iter()
            .filter_map(|l| Some(shape[t.labels.iter().position(|x| x == l)?].clone()))
            .collect()
    };
    // Sizes of 1 in one term stretch to the other's.
    let mut batch_shape = shape_of(m, &a, &batch);
    for (d, other) in batch_shape.iter_mut().zip(shape_of(m, &b, &batch)) {
        if d.integer() == Some(1) {
            *d = other;
        }
    }
    let size = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |n, d| n.mul(d));
    let (row_shape, column_shape) = (shape_of(m, &a, &rows), shape_of(m, &b, &columns));
    let inner_size = size(&shape_of(m, &a, &inner));
    let arranged = |m: &mut Importer<'_>, t: &Term, order: [&[Label]; 3]| -> Result<ValueId> {
        let perm: Vec<usize> = order
            .iter()
            .flat_map(|ls| ls.iter())
            .filter_map(|l| t.labels.iter().position(|x| x == l))
            .collect();
        m.b.transpose(t.value, &perm)
    };
    let left = arranged(m, &a, [&batch, &rows, &inner])?;
    let mut shape = shape_of(m, &a, &batch);
    shape.extend([size(&row_shape), inner_size.clone()]);
    let left = m.b.reshape(left, shape)?;
    let right = arranged(m, &b, [&batch, &inner, &columns])?;
    let mut shape = shape_of(m, &b, &batch);
    shape.extend([inner_size, size(&column_shape)]);
    let right = m.b.reshape(right, shape)?;
    let y = m.b.matmul(left, right)?;
    let mut shape = batch_shape;
    shape.extend(row_shape);
    shape.extend(column_shape);
    let value = m.b.reshape(y, shape)?;
    let labels = [batch, rows, columns].concat();
    Ok(Term { value, labels })
}
