//! What an operator takes, by its place among the inputs: values of the function, and numbers that have to be known.

use std::ops::RangeInclusive;

use super::call::Call;
use super::entry::{Dims, Entry};
use super::{Importer, OnnxImportError};
use crate::error::Result;
use crate::ir::{Shape, ValueId};
use crate::tensor::Tensor;

impl Importer<'_> {
    /// Refuses a value that has fewer axes than the first, or more than the last of `ranks`.
    pub(super) fn expect_rank(
        &self,
        call: &Call<'_>,
        what: &str,
        value: ValueId,
        ranks: RangeInclusive<usize>,
    ) -> Result<()> {
        if ranks.contains(&self.b.rank(value)) {
            return Ok(());
        }
        let expected = match (ranks.start(), ranks.end()) {
            (low, high) if low == high => format!("rank {low}"),
            (low, &usize::MAX) => format!("rank {low} at least"),
            (low, high) => format!("rank {low} to {high}"),
        };
        Err(call.wrong(what, &expected, self.b.ty(value)).into())
    }

    /// An input as a value.
    pub(super) fn input(&mut self, call: &mut Call<'_>, index: usize) -> Result<ValueId> {
        let entry = call.required(index)?;
        self.plain(call, index, &entry)
    }

    /// An input as a value, if it is there.
    pub(super) fn optional(
        &mut self,
        call: &mut Call<'_>,
        index: usize,
    ) -> Result<Option<ValueId>> {
        match call.entry(index) {
            Some(entry) => Ok(Some(self.plain(call, index, &entry)?)),
            None => Ok(None),
        }
    }

    pub(super) fn plain(
        &mut self,
        call: &Call<'_>,
        index: usize,
        entry: &Entry,
    ) -> Result<ValueId> {
        match entry {
            Entry::Coded(..) => Err(call
                .unsupported(format!("a small floating-point type as input {index}"))
                .into()),
            Entry::Value(_) | Entry::Dims(_) => self.value(entry, call.input_name(index)),
        }
    }

    /// Every input from `first` on.
    pub(super) fn inputs_from(
        &mut self,
        call: &mut Call<'_>,
        first: usize,
    ) -> Result<Vec<ValueId>> {
        (first..call.inputs.len())
            .map(|i| self.input(call, i))
            .collect()
    }

    /// Whole numbers that have to follow from shapes or constants, if the input is there.
    pub(super) fn known(&mut self, call: &mut Call<'_>, index: usize) -> Result<Option<Dims>> {
        let Some(entry) = call.entry(index) else {
            return Ok(None);
        };
        match self.dims(&entry)? {
            Some(dims) => Ok(Some(dims)),
            None => Err(self.not_constant(call, index, &entry).into()),
        }
    }

    pub(super) fn not_constant(
        &self,
        call: &Call<'_>,
        index: usize,
        entry: &Entry,
    ) -> OnnxImportError {
        OnnxImportError::NotConstant {
            op: call.op.clone(),
            index,
            name: call.input_name(index).to_owned(),
            found: self.describe(entry),
        }
    }

    /// Numbers that have to be known, if the input is there.
    pub(super) fn ints(&mut self, call: &mut Call<'_>, index: usize) -> Result<Option<Vec<i64>>> {
        let Some(dims) = self.known(call, index)? else {
            return Ok(None);
        };
        match dims.integers() {
            Some(integers) => Ok(Some(integers)),
            None => Err(self.not_constant(call, index, &Entry::Dims(dims)).into()),
        }
    }

    /// One number that has to be known, if the input is there.
    pub(super) fn int(&mut self, call: &mut Call<'_>, index: usize) -> Result<Option<i64>> {
        match self.ints(call, index)?.as_deref() {
            None => Ok(None),
            Some([n]) => Ok(Some(*n)),
            Some(many) => Err(call
                .wrong(
                    call.input_name(index),
                    "one number",
                    format!("{} numbers", many.len()),
                )
                .into()),
        }
    }

    /// The elements of a constant, if the input is there.
    pub(super) fn tensor(&mut self, call: &mut Call<'_>, index: usize) -> Result<Option<Tensor>> {
        let Some(entry) = call.entry(index) else {
            return Ok(None);
        };
        if let Entry::Dims(d) = &entry {
            let value = self.dims_value(d, "")?;
            if let Some(constant) = self.b.as_constant(value) {
                return Ok(Some(constant.read()?));
            }
        }
        match self.constant(&entry) {
            Some(constant) => Ok(Some(constant.read()?)),
            None => Err(self.not_constant(call, index, &entry).into()),
        }
    }

    /// Floats of a constant, if the input is there.
    pub(super) fn floats(&mut self, call: &mut Call<'_>, index: usize) -> Result<Option<Vec<f64>>> {
        Ok(self.tensor(call, index)?.map(|t| t.to_f64()))
    }

    /// Axes from an input or attribute, normalised, ascending; `None` if neither is there.
    pub(super) fn axes(
        &self,
        call: &Call<'_>,
        axes: Option<Vec<i64>>,
        rank: usize,
    ) -> Result<Option<Vec<usize>>> {
        let Some(axes) = axes else {
            return Ok(None);
        };
        let mut out = Vec::with_capacity(axes.len());
        for axis in axes {
            out.push(crate::ir::normalize_axis(axis, rank)?);
        }
        out.sort_unstable();
        if out.windows(2).any(|w| w[0] == w[1]) {
            return Err(call
                .wrong("axes", "every axis once", format!("{out:?}"))
                .into());
        }
        Ok(Some(out))
    }

    /// The shape of an entry, without making it a value.
    pub(super) fn shape_of(
        &self,
        call: &Call<'_>,
        entry: &Entry,
    ) -> Result<Shape, OnnxImportError> {
        match self.entry_type(entry) {
            Some((ty, _)) => Ok(ty.shape),
            None => Err(call.unsupported("a sequence")),
        }
    }
}
