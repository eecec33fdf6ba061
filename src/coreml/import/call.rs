//! The parameters of one operation. What a family takes is gone; what is left at the end is an error.

use std::collections::BTreeMap;

use super::entry::{Dims, Entry};
use super::error::ImportError;
use crate::coreml::dtype::{mil_name, to_mil};
use crate::coreml::table::{self, Row};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::{Dim, normalize_axis};
use crate::tensor::{Storage, num};

/// One operation with its parameters resolved.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Operation type.
    pub(super) op: String,
    /// Name of the result.
    pub(super) name: String,
    /// How many results the program declares.
    pub(super) results: usize,
    /// Element types of the declared results, by name in the table of operations.
    pub(super) opset: Opset,
    /// Sizes of the declared results, as far as the program says them.
    pub(super) declared: Vec<Option<Vec<Option<u64>>>>,
    args: BTreeMap<String, Vec<Entry>>,
}

impl Call {
    /// The call, after its parameters were compared with the table of operations.
    pub(super) fn new(
        op: &str,
        name: &str,
        results: usize,
        opset: Opset,
        args: BTreeMap<String, Vec<Entry>>,
    ) -> Result<Self, ImportError> {
        let row = table::find(op, opset).ok_or_else(|| ImportError::OpsetOperation {
            op: op.to_owned(),
            opset: opset.name(),
        })?;
        let call = Call {
            op: op.to_owned(),
            name: name.to_owned(),
            results,
            opset,
            declared: Vec::new(),
            args,
        };
        call.check(row)?;
        Ok(call)
    }

    fn check(&self, row: &Row) -> Result<(), ImportError> {
        let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, entries) in &self.args {
            let Some(param) = row.param(name) else {
                return Err(ImportError::UnknownParameter {
                    op: self.op.clone(),
                    opset: self.opset.name(),
                    parameter: name.clone(),
                });
            };
            if !param.tuple && entries.len() != 1 {
                return Err(self.wrong(name, "one value", &format!("{} values", entries.len())));
            }
            for entry in entries {
                if param.constant && !entry.is_constant() {
                    return Err(self.wrong(name, "a constant", &entry.describe()));
                }
                let dtype = entry.ty().map_or("string", |t| mil_name(to_mil(t.dtype)));
                if !param.dtypes.is_empty() && !param.dtypes.contains(&dtype) {
                    return Err(self.wrong(name, &param.dtypes.join(" or "), dtype));
                }
                // A constant of another type is read as it is meant; two values must agree.
                if !param.type_variable.is_empty() && !entry.is_constant() {
                    let first = variables.entry(param.type_variable).or_insert(dtype);
                    if *first != dtype {
                        return Err(self.wrong(name, first, dtype));
                    }
                }
            }
        }
        match row
            .params
            .iter()
            // What begins with an underscore lives in Apple's library only.
            .find(|p| p.required && !p.name.starts_with('_') && !self.args.contains_key(p.name))
        {
            Some(missing) => Err(self.missing(missing.name)),
            None => Ok(()),
        }
    }

    /// A parameter that is not what it has to be.
    pub(super) fn wrong(&self, parameter: &str, expected: &str, found: &str) -> ImportError {
        ImportError::Parameter {
            op: self.op.clone(),
            parameter: parameter.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    /// A legal value that is not read yet.
    pub(super) fn unsupported(&self, parameter: &str, found: impl Into<String>) -> ImportError {
        ImportError::ParameterValue {
            op: self.op.clone(),
            parameter: parameter.to_owned(),
            found: found.into(),
        }
    }

    fn missing(&self, parameter: &str) -> ImportError {
        ImportError::MissingParameter {
            op: self.op.clone(),
            parameter: parameter.to_owned(),
        }
    }

    /// Refuses what nothing read.
    pub(super) fn finish(&self) -> Result<(), ImportError> {
        match self.args.keys().next() {
            None => Ok(()),
            Some(parameter) => Err(ImportError::UnreadParameter {
                op: self.op.clone(),
                parameter: parameter.clone(),
            }),
        }
    }

    /// Looks at a parameter without taking it.
    pub(super) fn peek(&self, parameter: &str) -> Option<&Entry> {
        match self.args.get(parameter).map(Vec::as_slice) {
            Some([entry]) => Some(entry),
            Some(_) | None => None,
        }
    }

    /// Looks at a parameter of several values.
    pub(super) fn peek_list(&self, parameter: &str) -> &[Entry] {
        self.args.get(parameter).map_or(&[], Vec::as_slice)
    }

    /// A parameter that may be absent.
    pub(super) fn optional(&mut self, parameter: &str) -> Option<Entry> {
        self.args.remove(parameter).and_then(|mut v| v.pop())
    }

    /// A parameter that has to be there.
    pub(super) fn required(&mut self, parameter: &str) -> Result<Entry, ImportError> {
        self.optional(parameter)
            .ok_or_else(|| self.missing(parameter))
    }

    /// A parameter of several values.
    pub(super) fn list(&mut self, parameter: &str) -> Result<Vec<Entry>, ImportError> {
        match self.args.remove(parameter) {
            Some(entries) if !entries.is_empty() => Ok(entries),
            Some(_) | None => Err(self.missing(parameter)),
        }
    }

    /// Whole numbers that shapes or constants give.
    pub(super) fn dims(&mut self, parameter: &str) -> Result<Dims> {
        match self.optional_dims(parameter)? {
            Some(dims) => Ok(dims),
            None => Err(self.missing(parameter).into()),
        }
    }

    /// Whole numbers that shapes or constants give, if the parameter is there.
    pub(super) fn optional_dims(&mut self, parameter: &str) -> Result<Option<Dims>> {
        let Some(entry) = self.optional(parameter) else {
            return Ok(None);
        };
        match entry.dims()? {
            Some(dims) => Ok(Some(dims)),
            None => Err(self.unsupported(parameter, entry.describe()).into()),
        }
    }

    /// A list of numbers. A scalar counts as a list of one.
    pub(super) fn ints(&mut self, parameter: &str) -> Result<Option<Vec<i64>>> {
        let Some(entry) = self.optional(parameter) else {
            return Ok(None);
        };
        match entry.dims()?.and_then(|d| d.integers()) {
            Some(integers) => Ok(Some(integers)),
            None => Err(self
                .wrong(parameter, "constant integers", &entry.describe())
                .into()),
        }
    }

    /// A number.
    pub(super) fn int(&mut self, parameter: &str) -> Result<Option<i64>> {
        match self.ints(parameter)?.as_deref() {
            None => Ok(None),
            Some([n]) => Ok(Some(*n)),
            Some(many) => {
                let found = format!("{} integers", many.len());
                Err(self.wrong(parameter, "one integer", &found).into())
            }
        }
    }

    /// An axis of a tensor of this rank.
    pub(super) fn axis(&mut self, parameter: &str, rank: usize, default: i64) -> Result<usize> {
        let axis = self.int(parameter)?.unwrap_or(default);
        Ok(normalize_axis(axis, rank)?)
    }

    /// Axes, ascending; every axis when the parameter is absent.
    pub(super) fn axes(&mut self, parameter: &str, rank: usize) -> Result<Vec<usize>> {
        let Some(axes) = self.ints(parameter)? else {
            return Ok((0..rank).collect());
        };
        let mut out = Vec::with_capacity(axes.len());
        for axis in axes {
            out.push(normalize_axis(axis, rank)?);
        }
        out.sort_unstable();
        if out.windows(2).any(|w| w[0] == w[1]) {
            return Err(self
                .wrong(parameter, "every axis once", &format!("{out:?}"))
                .into());
        }
        Ok(out)
    }

    /// Truth values.
    pub(super) fn bools(&mut self, parameter: &str) -> Result<Option<Vec<bool>>> {
        let Some(entry) = self.optional(parameter) else {
            return Ok(None);
        };
        if let Entry::Constant { constant } = &entry
            && let Storage::Bool(v) = constant.read()?.storage()
        {
            return Ok(Some(v.to_vec()));
        }
        Err(self
            .wrong(parameter, "constant bool", &entry.describe())
            .into())
    }

    /// A truth value.
    pub(super) fn bool(&mut self, parameter: &str, default: bool) -> Result<bool> {
        match self.bools(parameter)?.as_deref() {
            None => Ok(default),
            Some([b]) => Ok(*b),
            Some(many) => {
                let found = format!("{} truth values", many.len());
                Err(self.wrong(parameter, "one bool", &found).into())
            }
        }
    }

    /// Truth values, one per value of a tuple.
    pub(super) fn bool_list(&mut self, parameter: &str) -> Result<Vec<bool>> {
        let mut out = Vec::new();
        for entry in self.list(parameter)? {
            match &entry {
                Entry::Constant { constant } if constant.len() == 1 => {
                    out.extend(constant.read()?.bools()?.iter().copied());
                }
                Entry::Constant { .. }
                | Entry::Value { .. }
                | Entry::Dims(_)
                | Entry::Text { .. }
                | Entry::List(_)
                | Entry::State { .. } => {
                    let found = entry.describe();
                    return Err(self.wrong(parameter, "constant bools", &found).into());
                }
            }
        }
        Ok(out)
    }

    /// The whole numbers of a constant of any shape, in order.
    pub(super) fn matrix(&mut self, parameter: &str) -> Result<Vec<i64>> {
        let entry = self.required(parameter)?;
        if let Entry::Constant { constant } = &entry
            && constant.dtype().is_int()
        {
            return Ok(constant.read()?.ints()?.to_vec());
        }
        Err(self
            .wrong(parameter, "constant integers", &entry.describe())
            .into())
    }

    /// A floating-point number.
    pub(super) fn float(&mut self, parameter: &str) -> Result<Option<f32>> {
        let Some(entry) = self.optional(parameter) else {
            return Ok(None);
        };
        if let Entry::Constant { constant } = &entry
            && constant.len() == 1
            && let Storage::Float(v) = constant.read()?.storage()
        {
            return Ok(v.first().copied());
        }
        Err(self
            .wrong(parameter, "one constant number", &entry.describe())
            .into())
    }

    /// A string.
    pub(super) fn string(&mut self, parameter: &str) -> Result<Option<String>> {
        match self.optional(parameter) {
            None => Ok(None),
            Some(Entry::Text { values, shape }) if shape.is_empty() => {
                Ok(values.into_iter().next())
            }
            Some(entry) => Err(self
                .wrong(parameter, "one string", &entry.describe())
                .into()),
        }
    }

    /// A parameter with an entry per axis.
    pub(super) fn per_axis<T>(
        &self,
        parameter: &str,
        found: Vec<T>,
        rank: usize,
    ) -> Result<Vec<T>, ImportError> {
        if found.len() == rank {
            Ok(found)
        } else {
            let n = found.len().to_string();
            Err(self.wrong(parameter, &format!("{rank} values, one per axis"), &n))
        }
    }
}

/// `ceil(n / d)` for positive `d`.
pub(super) fn ceil_div(n: &Dim, d: usize) -> Option<Dim> {
    n.add(&Dim::constant(num::i64_of(d) - 1))
        .floor_div(&Dim::from(d))
}
