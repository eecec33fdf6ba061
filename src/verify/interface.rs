//! What source and artifacts take in common: sizes of the symbols, seeded probes of these sizes, cases fitted to them, and what padding means for an output.

use std::collections::{BTreeMap, BTreeSet};

use super::cases::Case;
use super::claims::select;
use super::error::VerifyError;
use super::inputs::{Origin, Probe, Rng, cast_input, check_domain, draw, pad, tame};
use super::types::is_one_for_scalar;
use crate::error::Result;
use crate::ir::{
    Bindings, Claim, Dim, Domain, Function, Module, Param, SymbolRange, display_shape,
};
use crate::limits;
use crate::runtime::NamedTensors;
use crate::tensor::{Tensor, num};

/// What every model under comparison takes: the source's function, and the sizes that source and artifacts have in common.
#[derive(Clone, Debug)]
pub(super) struct Interface<'a> {
    pub(super) function: &'a Function,
    claims: &'a [Claim],
    sizes: BTreeMap<String, SymbolRange>,
}

impl<'a> Interface<'a> {
    pub(super) fn new(source: &'a Module, artifacts: &[&Module]) -> Result<Self> {
        let function = source.main()?;
        let mut sizes: BTreeMap<String, SymbolRange> = source
            .symbols
            .iter()
            .map(|s| (s.name.clone(), s.range.clone()))
            .collect();
        for artifact in artifacts {
            restrict(function, artifact, &mut sizes)?;
        }
        Ok(Interface {
            function,
            claims: &source.claims,
            sizes,
        })
    }

    /// The same interface with one symbol held to one size.
    pub(super) fn with_size(&self, symbol: &str, size: u64) -> Self {
        let mut fixed = self.clone();
        fixed
            .sizes
            .insert(symbol.to_owned(), SymbolRange::OneOf(vec![size]));
        fixed
    }

    pub(super) fn name(&self, param: &Param) -> &'a str {
        &self.function.value(param.value).name
    }

    fn shape(&self, param: &Param) -> &'a [Dim] {
        &self.function.ty(param.value).shape
    }

    fn names(&self) -> String {
        quoted(self.function.params.iter().map(|p| self.name(p)))
    }

    /// The cases of which a case consists: its rows, as many at a time as the model takes, where that is fewer than the case has.
    pub(super) fn batches(&self, case: Case) -> Result<Vec<Case>> {
        let params = self.function.params.iter();
        let fixed: BTreeSet<Option<usize>> = params
            .map(|p| {
                let dim = self.shape(p).first()?;
                dim.known().or_else(|| self.only_size(dim))
            })
            .collect();
        let tensors = || case.inputs.values().chain(case.outputs.values());
        let found: BTreeSet<Option<usize>> =
            tensors().map(|t| t.shape().first().copied()).collect();
        let one = |set: &BTreeSet<Option<usize>>| match set.len() {
            1 => set.first().copied().flatten(),
            _ => None,
        };
        let (rows, all) = match (one(&fixed), one(&found)) {
            (Some(rows), Some(all)) if rows > 0 && all > rows && all % rows == 0 => (rows, all),
            (_, _) => return Ok(vec![case]),
        };
        (0..all)
            .step_by(rows)
            .map(|from| {
                let part = |tensors: &NamedTensors| -> Result<NamedTensors> {
                    let cut = |(name, tensor): (&String, &Tensor)| -> Result<(String, Tensor)> {
                        let width = tensor.len() / all;
                        let mut shape = tensor.shape().to_vec();
                        shape[0] = rows;
                        let range = from * width..(from + rows) * width;
                        Ok((name.clone(), select(tensor, shape, std::iter::once(range))?))
                    };
                    tensors.iter().map(cut).collect()
                };
                Ok(Case {
                    name: format!("{}[{from}..{}]", case.name, from + rows),
                    inputs: part(&case.inputs)?,
                    outputs: part(&case.outputs)?,
                })
            })
            .collect()
    }

    /// The size of a dimension that has but one.
    fn only_size(&self, dim: &Dim) -> Option<usize> {
        match dim.as_symbol().and_then(|s| self.sizes.get(s)) {
            Some(SymbolRange::OneOf(sizes)) => match sizes.as_slice() {
                [one] => Some(num::usize_of(*one)),
                [..] => None,
            },
            Some(SymbolRange::Between { min, max }) if min == max => Some(num::usize_of(*min)),
            Some(SymbolRange::Between { .. }) | None => None,
        }
    }

    /// The mask parameter, if there is one.
    pub(super) fn mask(&self) -> Option<&'a Param> {
        self.function
            .params
            .iter()
            .find(|p| p.domain == Domain::Mask)
    }

    /// Whether values after the end of a shorter input cannot matter for some output.
    pub(super) fn can_pad(&self) -> bool {
        self.claims.iter().any(|claim| match claim {
            Claim::Causal { .. } => true,
            Claim::IgnoresPadding { .. } => self.mask().is_some(),
        })
    }

    /// How an output stands towards padding.
    pub(super) fn padding(&self, output: &str) -> Padding {
        let mut padding = Padding::Matters;
        for claim in self.claims {
            match claim {
                Claim::IgnoresPadding {
                    per_position,
                    pooled,
                    ..
                } => {
                    if per_position.iter().any(|o| o == output) {
                        return Padding::PerPosition;
                    }
                    if pooled.iter().any(|o| o == output) {
                        return Padding::Pooled;
                    }
                }
                Claim::Causal { output: o, .. } if o == output => padding = Padding::Later,
                Claim::Causal { .. } => {}
            }
        }
        padding
    }

    /// The sizes of a symbol to probe, smallest first: of a range none above `longest` but its ends, the larger one up to `longest_end`.
    fn probe_sizes(
        &self,
        range: &SymbolRange,
        batch_like: bool,
        (longest, longest_end): (u64, u64),
    ) -> Vec<u64> {
        match range {
            SymbolRange::OneOf(sizes) => sizes.clone(),
            SymbolRange::Between { min, max } => {
                let wanted = if batch_like {
                    vec![1, 2]
                } else {
                    vec![*min, 7, 64, *max]
                };
                let mut sizes: BTreeSet<u64> = wanted
                    .into_iter()
                    .filter(|n| {
                        let end = n == min || n == max && *n <= longest_end && !batch_like;
                        (min..=max).contains(&n) && (*n <= longest || end)
                    })
                    .collect();
                if sizes.is_empty() {
                    sizes.insert(*min);
                }
                sizes.into_iter().collect()
            }
        }
    }

    /// Whether a symbol only ever stands at axis 0.
    fn batch_like(&self, symbol: &str) -> bool {
        self.function.params.iter().all(|p| {
            self.shape(p)
                .iter()
                .skip(1)
                .all(|d| d.as_symbol() != Some(symbol))
        })
    }

    /// The symbols' values of every seeded probe, the one that is used for tracing and claims first.
    pub(super) fn bindings(&self, longest: u64, longest_end: u64) -> Vec<Bindings> {
        let sizes: BTreeMap<&String, (Vec<u64>, bool)> = self
            .sizes
            .iter()
            .map(|(name, range)| {
                let batch_like = self.batch_like(name);
                (
                    name,
                    (
                        self.probe_sizes(range, batch_like, (longest, longest_end)),
                        batch_like,
                    ),
                )
            })
            .collect();
        // The first has batch 1 and a middle length; then every other length, with batches in turn.
        let rounds = sizes.values().map(|(s, _)| s.len()).max().unwrap_or(1);
        let mut all: Vec<Bindings> = Vec::new();
        for round in 0..rounds {
            let bindings = sizes
                .iter()
                .map(|(name, (sizes, batch_like))| {
                    let start = if *batch_like { 0 } else { sizes.len() / 2 };
                    ((*name).clone(), sizes[(start + round) % sizes.len()])
                })
                .collect();
            if !all.contains(&bindings) {
                all.push(bindings);
            }
        }
        all
    }

    /// One more set of values, in which symbols that take the same sizes have different ones; none if there are no such symbols.
    fn apart(&self, longest: u64, longest_end: u64) -> Option<Bindings> {
        let mut bindings = Bindings::new();
        let mut seen: Vec<Vec<u64>> = Vec::new();
        for (name, range) in &self.sizes {
            let sizes = self.probe_sizes(range, self.batch_like(name), (longest, longest_end));
            let before = seen.iter().filter(|s| **s == sizes).count();
            bindings.insert(name.clone(), sizes[before % sizes.len()]);
            seen.push(sizes);
        }
        let twice = |i: usize| seen[i].len() > 1 && seen[..i].contains(&seen[i]);
        (0..seen.len()).any(twice).then_some(bindings)
    }

    /// The values a symbol is enumerated over, for the sequence axis (axis 1) only.
    pub(super) fn enumerated_lengths(&self) -> Option<(&str, &[u64])> {
        self.sizes.iter().find_map(|(name, range)| match range {
            SymbolRange::OneOf(sizes) if sizes.len() > 1 && !self.batch_like(name) => {
                Some((name.as_str(), sizes.as_slice()))
            }
            SymbolRange::OneOf(_) | SymbolRange::Between { .. } => None,
        })
    }

    fn concrete(&self, param: &Param, bindings: &Bindings) -> Result<Vec<usize>, VerifyError> {
        self.shape(param)
            .iter()
            .map(|dim| {
                dim.eval(bindings)
                    .and_then(|n| usize::try_from(n).ok())
                    .ok_or_else(|| VerifyError::Unsized {
                        input: self.name(param).to_owned(),
                        dim: dim.to_string(),
                    })
            })
            .collect()
    }

    /// Seeded inputs for one set of sizes; with `padded`, every row of a mask ends in zeros where it is long enough.
    pub(super) fn seeded(&self, stream: u64, bindings: &Bindings, padded: bool) -> Result<Probe> {
        let mut inputs = NamedTensors::new();
        let (mut bytes, limit) = (0_u64, limits::MEMORY_BYTES.get());
        for (i, param) in self.function.params.iter().enumerate() {
            // A stream per parameter: the ids do not depend on how many masks are drawn before them.
            let mut rng = Rng::new((stream << 16) ^ num::u64_of(i));
            let shape = self.concrete(param, bindings)?;
            let dtype = self.function.ty(param.value).dtype;
            // Sizes of a file must not ask for any amount of memory: elements are drawn in eight bytes.
            let drawn = |n: u64, d: &usize| n.saturating_mul(num::u64_of(*d));
            bytes = bytes.saturating_add(shape.iter().fold(8, drawn));
            if bytes > limit {
                return Err(VerifyError::InputMemory {
                    input: self.name(param).to_owned(),
                    shape,
                    limit,
                }
                .into());
            }
            inputs.insert(
                self.name(param).to_owned(),
                draw(&mut rng, dtype, shape, &param.domain, padded)?,
            );
        }
        let sizes: Vec<String> = bindings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut name = format!("seeded {stream}");
        if !sizes.is_empty() {
            name = format!("{name} ({})", sizes.join(", "));
        }
        if padded {
            name.push_str(" padded");
        }
        Ok(Probe {
            name,
            origin: Origin::Seeded,
            inputs,
            expected: None,
            padded_from: None,
            instead: None,
            notes: Vec::new(),
        })
    }

    /// Seeded probes of every size, with padded ones beside the first, and of sizes that differ where they may be equal.
    pub(super) fn all_seeded(&self, longest: u64, longest_end: u64) -> Result<Vec<Probe>> {
        let mut probes = Vec::new();
        let all = self.bindings(longest, longest_end);
        let others = (all.len() > 1).then_some("what it computes of other sizes was compared");
        for (stream, bindings) in (0..).zip(&all) {
            probes.push(self.seeded(stream, bindings, false)?);
            // One padded probe for the first two sizes: the second has two rows where the batch is free.
            if stream < 2 && self.mask().is_some() {
                probes.push(self.seeded(stream, bindings, true)?);
            }
        }
        probes.iter_mut().for_each(|p| p.instead = others);
        if let Some(bindings) = self.apart(longest, longest_end) {
            let mut probe = self.seeded(num::u64_of(all.len()), &bindings, false)?;
            probe.instead = Some("sizes that may be equal were compared where they are");
            probes.push(probe);
        }
        Ok(probes)
    }

    /// A seeded probe with other values where nothing is known of what they may be: integers are all 0, then all 1, then either; floats lie
    /// between 0 and 1.
    pub(super) fn redrawn(&self, probe: &Probe, attempt: u64) -> Result<Probe> {
        let mut other = probe.clone();
        for (i, param) in self.function.params.iter().enumerate() {
            let Some(tensor) = other.inputs.get_mut(self.name(param)) else {
                continue;
            };
            if matches!(param.domain, Domain::Any) {
                let stream = ((attempt + 1) << 32) ^ num::u64_of(i);
                *tensor = tame(&mut Rng::new(stream), tensor, attempt)?;
            }
        }
        Ok(other)
    }

    /// A case of a file as a probe: checked, cast to the declared types, padded at the end of axis 1 where the model only takes longer inputs and claims not to mind.
    pub(super) fn fit(&self, case: &Case, origin: Origin) -> Result<Probe> {
        for name in case.inputs.keys() {
            if self.function.param(name).is_none() {
                return Err(VerifyError::UnknownInput {
                    input: name.clone(),
                    known: self.names(),
                }
                .into());
            }
        }
        let known: BTreeSet<&String> = self.function.outputs.iter().map(|o| &o.name).collect();
        if !case.outputs.keys().all(|output| known.contains(output)) {
            return Err(VerifyError::UnknownOutput {
                case: case.name.clone(),
                found: quoted(case.outputs.keys()),
                known: quoted(known),
            }
            .into());
        }
        let (bindings, length) = self.fit_sizes(case)?;
        let mut notes = Vec::new();
        let mut inputs = NamedTensors::new();
        for param in &self.function.params {
            let name = self.name(param);
            let dtype = self.function.ty(param.value).dtype;
            let shape = self.concrete(param, &bindings)?;
            let tensor = match case.inputs.get(name) {
                Some(found) => {
                    let tensor = cast_input(name, found, dtype)?;
                    check_domain(name, &tensor, &param.domain)?;
                    pad(name, &tensor, &shape, self.shape(param))?
                }
                None => {
                    let fill = match param.domain {
                        Domain::Mask => 1,
                        // What Hugging Face models take when it is not given.
                        Domain::Index { .. } if name == "token_type_ids" => 0,
                        Domain::Any | Domain::Index { .. } | Domain::Pixel => {
                            return Err(VerifyError::MissingInput {
                                input: name.to_owned(),
                                case: case.name.clone(),
                            }
                            .into());
                        }
                    };
                    notes.push(format!("`{name}` was not given and filled with {fill}"));
                    let mut given = shape.clone();
                    if let (Some((from, _)), Some(axis)) = (length, given.get_mut(1)) {
                        *axis = from;
                    }
                    let count = given.iter().product();
                    let tensor = Tensor::i64(given, vec![fill; count])?.cast(dtype);
                    pad(name, &tensor, &shape, self.shape(param))?
                }
            };
            inputs.insert(name.to_owned(), tensor);
        }
        self.function
            .bind(inputs.iter().map(|(k, v)| (k.as_str(), v.shape())))?;
        if let Some((from, to)) = length {
            notes.push(format!("padded from {from} to {to} positions"));
        }
        Ok(Probe {
            name: case.name.clone(),
            origin,
            inputs,
            expected: (!case.outputs.is_empty()).then(|| case.outputs.clone()),
            padded_from: length.map(|(from, _)| from),
            instead: None,
            notes,
        })
    }

    /// The symbols' values for a case, and the lengths before and after padding, if it has to be padded.
    fn fit_sizes(&self, case: &Case) -> Result<(Bindings, Option<(usize, usize)>), VerifyError> {
        let mut bindings = Bindings::new();
        let mut length: Option<(usize, usize)> = None;
        for param in &self.function.params {
            let name = self.name(param);
            let Some(tensor) = case.inputs.get(name) else {
                continue;
            };
            let declared = self.shape(param);
            let refuse = |note| VerifyError::InputShape {
                input: name.to_owned(),
                expected: self.describe(declared),
                found: tensor.shape().to_vec(),
                note,
            };
            if declared.len() != tensor.shape().len() {
                return Err(refuse(""));
            }
            for (axis, (dim, &found)) in declared.iter().zip(tensor.shape()).enumerate() {
                let range = match (dim.known(), dim.as_symbol()) {
                    (Some(n), _) => SymbolRange::OneOf(vec![num::u64_of(n)]),
                    (None, Some(symbol)) => match self.sizes.get(symbol) {
                        Some(range) => range.clone(),
                        None => return Err(refuse("")),
                    },
                    // An expression: checked once the symbols are bound.
                    (None, None) => continue,
                };
                let Some(size) = smallest_from(&range, num::u64_of(found)) else {
                    return Err(refuse(": it is longer than the model takes"));
                };
                if size != num::u64_of(found) {
                    let ids = matches!(param.domain, Domain::Index { .. } | Domain::Mask);
                    if axis != 1 || !ids {
                        return Err(refuse(""));
                    }
                    if !self.can_pad() {
                        return Err(refuse(
                            ", and the model does not claim that padding does not matter",
                        ));
                    }
                    let pair = (found, num::usize_of(size));
                    if *length.get_or_insert(pair) != pair {
                        return Err(refuse(": other inputs have another length"));
                    }
                }
                if let Some(symbol) = dim.as_symbol()
                    && *bindings.entry(symbol.to_owned()).or_insert(size) != size
                {
                    return Err(refuse(": other inputs have another size there"));
                }
            }
        }
        Ok((bindings, length))
    }

    /// `[batch 1..2, seq {64, 128}]`
    fn describe(&self, shape: &[Dim]) -> String {
        let dims: Vec<String> = shape
            .iter()
            .map(
                |dim| match dim.as_symbol().and_then(|s| self.sizes.get(s)) {
                    Some(SymbolRange::Between { min, max }) => format!("{dim} {min}..={max}"),
                    Some(SymbolRange::OneOf(sizes)) => {
                        let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                        format!("{dim} {{{}}}", sizes.join(", "))
                    }
                    None => dim.to_string(),
                },
            )
            .collect();
        format!("[{}]", dims.join(", "))
    }
}

/// ``a`, `b``
pub(super) fn quoted<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    names.join(", ")
}

/// How an output stands towards padding at the end of axis 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// It says something at each position; positions of padding say nothing.
    PerPosition,
    /// It has no sequence axis, and padding has no part in it.
    Pooled,
    /// Earlier positions do not see later ones, padding or not.
    Later,
    /// Padding changes it.
    Matters,
}

/// Narrows `sizes` to what an artifact takes too.
fn restrict(
    function: &Function,
    artifact: &Module,
    sizes: &mut BTreeMap<String, SymbolRange>,
) -> Result<()> {
    let other = artifact.main()?;
    let names = |f: &Function| -> BTreeSet<String> {
        f.params
            .iter()
            .map(|p| f.value(p.value).name.clone())
            .collect()
    };
    let (expected, found) = (names(function), names(other));
    if expected != found {
        return Err(VerifyError::Interface {
            expected: quoted(expected),
            found: quoted(found),
        }
        .into());
    }
    for param in &function.params {
        let name = &function.value(param.value).name;
        let Some(twin) = other.param(name) else {
            continue;
        };
        let (ours, theirs) = (&function.ty(param.value).shape, &other.ty(twin.value).shape);
        let clash = || VerifyError::NoCommonShape {
            input: name.clone(),
            source_shape: display_shape(ours),
            artifact_shape: display_shape(theirs),
        };
        let known: Option<Vec<usize>> = theirs.iter().map(Dim::known).collect();
        if known.is_some_and(|theirs| is_one_for_scalar(ours, &theirs)) {
            continue;
        }
        if ours.len() != theirs.len() {
            return Err(clash().into());
        }
        for (a, b) in ours.iter().zip(theirs) {
            let range = match (b.known(), b.as_symbol().and_then(|s| artifact.symbol(s))) {
                (Some(n), _) => SymbolRange::OneOf(vec![num::u64_of(n)]),
                (None, Some(symbol)) => symbol.range.clone(),
                (None, None) => continue,
            };
            if let Some(n) = a.known() {
                let n = num::u64_of(n);
                if smallest_from(&range, n) != Some(n) {
                    return Err(clash().into());
                }
            } else if let Some(known) = a.as_symbol().and_then(|s| sizes.get_mut(s)) {
                *known = common(known, &range).ok_or_else(clash)?;
            }
        }
    }
    Ok(())
}

/// The smallest size of a range that is at least `n`.
fn smallest_from(range: &SymbolRange, n: u64) -> Option<u64> {
    match range {
        SymbolRange::Between { min, max } => (n <= *max).then(|| n.max(*min)),
        SymbolRange::OneOf(sizes) => sizes.iter().copied().filter(|&s| s >= n).min(),
    }
}

/// The sizes that are in both ranges.
fn common(a: &SymbolRange, b: &SymbolRange) -> Option<SymbolRange> {
    match (a, b) {
        (SymbolRange::OneOf(list), other) | (other, SymbolRange::OneOf(list)) => {
            let both: Vec<u64> = list
                .iter()
                .copied()
                .filter(|&n| smallest_from(other, n) == Some(n))
                .collect();
            (!both.is_empty()).then_some(SymbolRange::OneOf(both))
        }
        (
            SymbolRange::Between { min, max },
            SymbolRange::Between {
                min: least,
                max: most,
            },
        ) => {
            let (min, max) = (*min.max(least), *max.min(most));
            (min <= max).then_some(SymbolRange::Between { min, max })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::tensor::DType;

    fn ids(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::int(DType::I32, shape.to_vec(), values.to_vec()).unwrap()
    }

    fn case(inputs: &[(&str, Tensor)]) -> Case {
        Case {
            name: "case0".into(),
            inputs: inputs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect(),
            outputs: NamedTensors::new(),
        }
    }

    #[test]
    fn probes_are_seeded_and_cover_the_ends() {
        let module = fixture::model(&[SymbolRange::Between { min: 1, max: 512 }], true);
        let interface = Interface::new(&module, &[]).unwrap();
        let all = interface.bindings(128, 128);
        let lengths: BTreeSet<u64> = all.iter().map(|b| b["seq"]).collect();
        assert_eq!(lengths, BTreeSet::from([1, 7, 64]));
        let ends = interface.bindings(128, 1024);
        assert!(ends.iter().any(|b| b["seq"] == 512));
        assert!(all[0]["seq"] > 1 && all[0]["batch"] == 1);
        assert!(all.iter().any(|b| b["batch"] == 2));
        let probe = interface.seeded(3, &all[0], true).unwrap();
        assert_eq!(
            probe.inputs,
            interface.seeded(3, &all[0], true).unwrap().inputs
        );
        assert_ne!(
            probe.inputs,
            interface.seeded(4, &all[0], true).unwrap().inputs
        );
        let ids = probe.inputs["input_ids"].ints().unwrap();
        assert_eq!((ids[0], *ids.last().unwrap()), (0, 15));
        assert!(ids.iter().all(|i| (0..16).contains(i)));
        let mask = probe.inputs["attention_mask"].ints().unwrap();
        assert!(mask[0] == 1 && *mask.last().unwrap() == 0);
    }

    #[test]
    fn every_enumerated_size_is_probed_even_a_long_one() {
        let module = fixture::model(&[SymbolRange::OneOf(vec![4, 8, 4096])], true);
        let interface = Interface::new(&module, &[]).unwrap();
        let lengths: BTreeSet<u64> = interface
            .bindings(64, 64)
            .iter()
            .map(|b| b["seq"])
            .collect();
        assert_eq!(lengths, BTreeSet::from([4, 8, 4096]));
        assert_eq!(
            interface.enumerated_lengths(),
            Some(("seq", [4, 8, 4096].as_slice()))
        );
    }

    #[test]
    fn an_artifact_narrows_the_sizes() {
        let source = fixture::model(&[SymbolRange::Between { min: 1, max: 512 }], true);
        let fixed = fixture::fixed(8, true);
        let interface = Interface::new(&source, &[&fixed]).unwrap();
        assert_eq!(interface.bindings(64, 64).len(), 1);
        assert_eq!(interface.bindings(64, 64)[0]["seq"], 8);
        let long = fixture::fixed(1024, true);
        let error = Interface::new(&source, &[&long]).unwrap_err();
        assert_eq!(error.code(), "interface_mismatch");
        let other = fixture::fixed(8, false);
        assert!(Interface::new(&source, &[&other]).is_err());
    }

    #[test]
    fn short_cases_are_padded_only_where_that_is_claimed() {
        let module = fixture::fixed(8, true);
        let interface = Interface::new(&module, &[]).unwrap();
        let given = case(&[("input_ids", ids(&[1, 3], &[5, 6, 7]))]);
        let probe = interface.fit(&given, Origin::InputsFile).unwrap();
        assert_eq!(probe.padded_from, Some(3));
        assert_eq!(
            probe.inputs["input_ids"].ints().unwrap().as_slice(),
            [5, 6, 7, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            probe.inputs["attention_mask"].ints().unwrap().as_slice(),
            [1, 1, 1, 0, 0, 0, 0, 0]
        );
        assert_eq!(probe.notes.len(), 2);
        let mut plain = fixture::fixed(8, true);
        plain.claims.clear();
        let interface = Interface::new(&plain, &[]).unwrap();
        let error = interface.fit(&given, Origin::InputsFile).unwrap_err();
        assert!(error.to_string().contains("does not claim"), "{error}");
        assert!(error.hint().unwrap().contains("--seq"));
    }

    #[test]
    fn a_case_of_several_rows_becomes_as_many_as_the_model_takes() {
        let module = fixture::fixed(2, true);
        let interface = Interface::new(&module, &[]).unwrap();
        let mut batch = case(&[("input_ids", ids(&[3, 2], &[1, 2, 3, 4, 5, 6]))]);
        batch.outputs.insert(
            "logits".into(),
            Tensor::f32(vec![3, 1], vec![7.0, 8.0, 9.0]).unwrap(),
        );
        let cases = interface.batches(batch.clone()).unwrap();
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[2].name, "case0[2..3]");
        assert_eq!(cases[2].inputs["input_ids"], ids(&[1, 2], &[5, 6]));
        assert_eq!(
            cases[2].outputs["logits"].floats().unwrap().as_slice(),
            [9.0]
        );
        // An output without rows of its own cannot be divided.
        batch.outputs.insert("logits".into(), ids(&[1], &[0]));
        assert_eq!(interface.batches(batch.clone()).unwrap().len(), 1);
        // A model that takes several rows takes them at once.
        let free = fixture::model(&[SymbolRange::Between { min: 1, max: 8 }], true);
        let free = Interface::new(&free, &[]).unwrap();
        batch.outputs.clear();
        assert_eq!(free.batches(batch).unwrap().len(), 1);
    }

    #[test]
    fn bad_inputs_are_named() {
        let module = fixture::fixed(4, true);
        let interface = Interface::new(&module, &[]).unwrap();
        let fit = |inputs: &[(&str, Tensor)]| {
            interface
                .fit(&case(inputs), Origin::InputsFile)
                .unwrap_err()
                .to_string()
        };
        let good = ids(&[1, 4], &[1, 2, 3, 4]);
        assert_eq!(
            fit(&[("input_ids", ids(&[1, 4], &[1, 2, 16, 3]))]),
            "input `input_ids` holds 16 at [0, 2], expected 0..16"
        );
        assert_eq!(
            fit(&[("input_ids", ids(&[1, 4], &[1, -1, 0, 3]))]),
            "input `input_ids` holds -1 at [0, 1], expected 0..16"
        );
        let mut named = case(&[("input_ids", good.clone())]);
        named.outputs.insert("score".into(), good.clone());
        let error = interface.fit(&named, Origin::ReferenceFile).unwrap_err();
        assert_eq!(
            error.to_string(),
            "case0 has references for `score`; the model gives `logits`"
        );
        assert!(fit(&[("ids", good.clone())]).contains("no input `ids`"));
        assert!(fit(&[]).contains("`input_ids` is missing"));
        assert!(fit(&[("input_ids", ids(&[1, 5], &[0; 5]))]).contains("longer than"));
        assert!(fit(&[("input_ids", ids(&[2, 4], &[0; 8]))]).contains("[2, 4], expected [1, 4]"));
        let mask = |values: &[i64]| {
            [
                ("input_ids", good.clone()),
                ("attention_mask", ids(&[1, 4], values)),
            ]
        };
        assert!(fit(&mask(&[0; 4])).contains("has no 1"));
        assert!(fit(&mask(&[1, 2, 0, 0])).contains("something else"));
        let floats = Tensor::f32(vec![1, 4], vec![1.0; 4]).unwrap();
        assert!(fit(&[("input_ids", floats)]).contains("is f32, expected i64"));
    }
}
