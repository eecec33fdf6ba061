//! What a package holds in another type than its source, value by value, and why that is right or how it is checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::dtype::{interface_dtype, is_int, legal};
use super::ranges::{Found, Interval, is_wide, wide_integers};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::{Def, Dim, Module, Type, ValueId};
use crate::tensor::DType;

/// What a value is of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// An input.
    Input,
    /// An output.
    Output,
    /// A constant.
    Constant,
    /// A value inside.
    Value,
}

/// Why a change of type loses nothing, or how what it may lose is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The new type holds every value of the old one, or the element stays as it is.
    Exact,
    /// The values are proven to fit.
    Proof,
    /// The values are looked at in every run of the verification; beyond the new type they make it fail.
    RunTimeCheck,
    /// The values are rounded.
    Rounding,
}

/// A value whose type in the package is not that of the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TypeChange {
    /// What it is.
    pub place: Place,
    /// Its name in the source.
    pub value: String,
    /// Type in the source.
    pub from: String,
    /// Type in the package.
    pub to: String,
    /// What makes it right.
    pub basis: Basis,
    /// That in words.
    pub why: String,
}

/// The values of `source` whose types are others in a package of `opset`, sorted. `written` is the module in the precision of the package; what it
/// holds in half instead of single precision is not listed.
///
/// # Errors
/// When a constant cannot be read.
pub fn type_changes(source: &Module, written: &Module, opset: Opset) -> Result<Vec<TypeChange>> {
    let function = source.main()?;
    let twin = written.main()?;
    let precise: BTreeMap<&str, DType> = twin
        .values
        .iter()
        .map(|v| (v.name.as_str(), v.ty.dtype))
        .collect();
    let ranges = wide_integers(source)?;
    let params = function.params.iter().map(|p| {
        let name = &function.value(p.value).name;
        (Place::Input, name, p.value)
    });
    let outputs = function.outputs.iter();
    let outputs = outputs.map(|o| (Place::Output, &o.name, o.value));
    let mut changes: Vec<TypeChange> = params
        .chain(outputs)
        .filter_map(|(place, name, id)| {
            let value = function.value(id);
            interface(place, name, &value.ty, ranges.get(&value.name), opset)
        })
        .collect();
    let inner = source.bodies.iter().chain([function]);
    for function in inner {
        let nodes = function.nodes.iter().flat_map(|n| &n.operands);
        let outputs = function.outputs.iter().map(|o| &o.value);
        let used: BTreeSet<&ValueId> = nodes.chain(outputs).collect();
        for (index, value) in function.values.iter().enumerate() {
            let place = match value.def {
                Def::Param(_) => continue,
                Def::Const(_) if !used.contains(&ValueId(index)) => continue,
                Def::Const(_) => Place::Constant,
                Def::Node(_) => Place::Value,
            };
            let dtype = value.ty.dtype;
            let written = precise.get(value.name.as_str()).copied().unwrap_or(dtype);
            // Whether single precision became half is the precision's business.
            let kept = dtype.is_float() && dtype != DType::F64 || written == dtype;
            let to = legal(if kept { dtype } else { written }, opset);
            if to == dtype {
                continue;
            }
            let (basis, why) = reason(place, dtype, ranges.get(&value.name));
            changes.push(TypeChange {
                place,
                value: value.name.clone(),
                from: value.ty.to_string(),
                to: Type::new(to, value.ty.shape.clone()).to_string(),
                basis,
                why,
            });
        }
    }
    changes.sort();
    changes.dedup();
    Ok(changes)
}

/// An input or output that Core ML describes otherwise.
fn interface(
    place: Place,
    name: &str,
    ty: &Type,
    found: Option<&Found>,
    opset: Opset,
) -> Option<TypeChange> {
    let to = interface_dtype(legal(ty.dtype, opset), opset);
    let shape = if ty.rank() == 0 {
        vec![Dim::from(1)]
    } else {
        ty.shape.clone()
    };
    let new = Type::new(to, shape);
    if new == *ty {
        return None;
    }
    let from = ty.dtype;
    let mut whys = Vec::new();
    if ty.rank() == 0 {
        whys.push("Core ML has no inputs and outputs without axes".to_owned());
    }
    let basis = if from == to {
        Basis::Exact
    } else if is_wide(from) {
        let (basis, why) = integers(place, found);
        whys.push(why);
        basis
    } else if from == DType::F64 {
        whys.push("Core ML has no double precision".to_owned());
        Basis::Rounding
    } else {
        whys.push("cast at the interface, which has no such type".to_owned());
        Basis::Exact
    };
    Some(TypeChange {
        place,
        value: name.to_owned(),
        from: ty.to_string(),
        to: new.to_string(),
        basis,
        why: whys.join("; "),
    })
}

/// What makes another type of a value inside right.
fn reason(place: Place, from: DType, found: Option<&Found>) -> (Basis, String) {
    if from == DType::F64 {
        let why = "programs have no double precision".to_owned();
        return (Basis::Rounding, why);
    }
    if !is_wide(from) {
        let why = if is_int(from) {
            "programs of this opset have no such integers; what is computed is wrapped as they are"
        } else {
            "programs have no such floats"
        };
        return (Basis::Exact, why.to_owned());
    }
    integers(place, found)
}

/// What makes 32 bits enough for integers of more.
fn integers(place: Place, found: Option<&Found>) -> (Basis, String) {
    match (place, found) {
        (Place::Constant, _) => (Basis::Proof, "every element was looked at".to_owned()),
        (_, Some(Found::Proven(Interval { least, greatest }))) => {
            (Basis::Proof, format!("within {least}..={greatest}"))
        }
        (Place::Input, _) => (
            Basis::RunTimeCheck,
            "Core ML takes integers of 32 bits; verification refuses inputs beyond them".to_owned(),
        ),
        (_, Some(Found::Open(Some(Interval { least, greatest })))) => (
            Basis::RunTimeCheck,
            format!("may reach {least}..={greatest}"),
        ),
        (_, Some(Found::Open(None)) | None) => (
            Basis::RunTimeCheck,
            "nothing bounds what it is computed from".to_owned(),
        ),
    }
}
