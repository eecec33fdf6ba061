//! Rewrites that only Core ML needs, on the IR: operations that programs do not have become those that they have, narrow integers and wide
//! ones become types that they have, and types that interfaces do not have are cast there. Changes no name but those of inputs and outputs that
//! are no identifiers.
//!
//! Integers become `int32`, the only wide integer type of Core ML. Constants are proven to fit; of computed integers `ranges.rs` proves it where
//! interval arithmetic can, and verification looks at the others in every run. `record.rs` lists what changed its type. What each operation becomes
//! is in the file of its family; `lower.rs` builds it.

mod attention;
mod control;
mod conv;
mod dtype;
mod elementwise;
mod image;
mod index;
mod lower;
mod node;
mod norm;
mod parameters;
mod quant;
mod ranges;
mod record;
mod recurrent;
mod reduce;
mod shape;
mod suppress;
mod wide;

use std::collections::{BTreeMap, BTreeSet};

pub use parameters::with_stored_parameters;
pub use record::{Basis, Place, TypeChange, type_changes};

use super::error::CoremlError;
use super::export::kept;
use super::source_names;
use super::target::Opset;
use crate::error::{Context, Result};
use crate::ir::ops::{Squeeze, Unsqueeze};
use crate::ir::{self, Claim, Function, Module, Op, State, Type};
use dtype::{interface_dtype, legal_type};
use lower::{Lower, Map};

/// A module that can be written.
#[derive(Debug)]
pub(super) struct Legal {
    /// The module as the opset can express it.
    pub(super) module: Module,
    /// Name in the source → identifier, of the inputs and outputs that are called otherwise now.
    pub(super) names: BTreeMap<String, String>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// The module as `opset` can express it.
///
/// # Errors
/// When a tensor has a type, rank or size that Core ML does not have, or an operation cannot be made of Core ML's.
pub(super) fn legalize(module: &Module, opset: Opset) -> Result<Legal> {
    if module.functions.len() != 1 {
        return Err(CoremlError::Functions {
            found: module.functions.len(),
        }
        .into());
    }
    let mut lower = Lower::new(module, opset);
    let mut names = source_names::identifiers(module.main()?);
    let mut functions = Vec::with_capacity(module.functions.len());
    for function in &module.functions {
        functions.push(rewrite(&mut lower, function, &mut names)?);
    }
    let (constants, bodies, warnings, symbols) = lower.finish();
    let legal = Module {
        name: module.name.clone(),
        symbols,
        constants,
        functions,
        bodies,
        claims: module.claims.iter().map(|c| renamed(c, &names)).collect(),
    };
    ir::verify(&legal)?;
    Ok(Legal {
        module: legal,
        names,
        warnings,
    })
}

/// What an input or output is called in the program.
fn identifier<'a>(names: &'a BTreeMap<String, String>, name: &'a str) -> &'a str {
    names.get(name).map_or(name, String::as_str)
}

/// The claim about the inputs and outputs as they are called in the program.
fn renamed(claim: &Claim, names: &BTreeMap<String, String>) -> Claim {
    let one = |name: &String| identifier(names, name).to_owned();
    let all = |list: &[String]| list.iter().map(one).collect();
    match claim {
        Claim::Causal { inputs, output } => Claim::Causal {
            inputs: all(inputs),
            output: one(output),
        },
        Claim::IgnoresPadding {
            input,
            mask,
            per_position,
            pooled,
        } => Claim::IgnoresPadding {
            input: one(input),
            mask: one(mask),
            per_position: all(per_position),
            pooled: all(pooled),
        },
    }
}

fn rewrite(
    lower: &mut Lower<'_>,
    old: &Function,
    names: &mut BTreeMap<String, String>,
) -> Result<Function> {
    lower.begin(&old.name);
    let mut map = Map::new();
    params(lower, old, names, &mut map)?;
    lower.nodes(old, &mut map)?;
    outputs(lower, old, names, &mut map)?;
    let mut new = lower.end();
    for state in &old.states {
        let place = old.params.iter().position(|p| p.value == state.param);
        if let Some(param) = place.and_then(|i| new.params.get(i)) {
            new.states.push(State {
                name: state.name.clone(),
                param: param.value,
                output: identifier(names, &state.output).to_owned(),
            });
        }
    }
    let kept: BTreeSet<String> = kept(&new, lower.opset)
        .iter()
        .map(|s| s.name.clone())
        .collect();
    for state in &old.states {
        if !kept.contains(&state.name) {
            lower.warn(format!(
                "state `{}` is an input and the output `{}`, which the caller hands on",
                state.name,
                identifier(names, &state.output)
            ));
        } else {
            // Nobody sees the output of a state that the program keeps.
            names.remove(&state.output);
        }
    }
    for (name, identifier) in names {
        lower.warn(format!(
            "`{name}` is called `{identifier}`: Core ML takes identifiers only"
        ));
    }
    Ok(new)
}

/// Inputs first; where the interface cannot have a value's type, a cast follows, and a scalar is a vector of one.
fn params(
    lower: &mut Lower<'_>,
    old: &Function,
    names: &BTreeMap<String, String>,
    map: &mut Map,
) -> Result<()> {
    let mut added = Vec::with_capacity(old.params.len());
    for param in &old.params {
        let value = old.value(param.value);
        let inside = legal_type(&value.ty, lower.opset).at_node(&value.name)?;
        let outside = interface_dtype(inside.dtype, lower.opset);
        let mut ty = Type::new(outside, inside.shape.clone());
        if ty.rank() == 0 {
            ty.shape.push(ir::Dim::from(1));
            lower.warn(format!(
                "input `{}` has the shape [1]: Core ML has no inputs without axes",
                value.name
            ));
        }
        let name = identifier(names, &value.name);
        if name != value.name {
            // What is computed from the input must not be called as it was.
            lower.keep_free(&value.name);
        }
        let id = lower.param(name, ty, param.domain.clone());
        added.push((param.value, id, inside));
    }
    for (old_id, mut id, inside) in added {
        let name = &old.value(old_id).name;
        lower.at(name);
        let outside = lower.ty(id).dtype;
        if outside != inside.dtype {
            lower.warn(format!(
                "input `{name}` is {outside} instead of {}, which this deployment target's interface does not have",
                inside.dtype
            ));
        }
        if inside.rank() == 0 {
            id = lower.push(Op::Squeeze(Squeeze { axes: vec![0] }), &[id])?;
        }
        id = lower.cast(id, inside.dtype)?;
        map.insert(old_id, id);
    }
    Ok(())
}

fn outputs(
    lower: &mut Lower<'_>,
    old: &Function,
    names: &BTreeMap<String, String>,
    map: &mut Map,
) -> Result<()> {
    for output in &old.outputs {
        lower.at(&output.name);
        let mut value = lower.value(old, map, output.value)?;
        if lower.ty(value).rank() == 0 {
            lower.warn(format!(
                "output `{}` has the shape [1]: Core ML has no outputs without axes",
                output.name
            ));
            let op = Op::Unsqueeze(Unsqueeze { axes: vec![0] });
            value = lower.push(op, &[value])?;
        }
        let inside = lower.ty(value).dtype;
        let outside = interface_dtype(inside, lower.opset);
        if inside != outside {
            lower.warn(format!(
                "output `{}` is {outside} instead of {inside}, which this deployment target's interface does not have",
                output.name
            ));
            value = lower.cast(value, outside)?;
        }
        let name = identifier(names, &output.name);
        lower.output(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::ir::ops::{Gather, Reduce, ReduceKind};
    use crate::ir::{Builder, Domain};
    use crate::tensor::{DType, Tensor};

    fn module(ids: i64) -> Module {
        let mut b = Builder::new("m");
        let x = b
            .param("mask", Type::known(DType::Bool, &[3]), Domain::Any)
            .unwrap();
        let wide = b.cast("wide", x, DType::I64).unwrap();
        let table = b
            .tensor("t", &Tensor::i64(vec![2], vec![7, ids]).unwrap())
            .unwrap();
        let picked = b
            .push("picked", Op::Gather(Gather { axis: 0 }), &[table, wide])
            .unwrap();
        let sum = Op::Reduce(Reduce {
            kind: ReduceKind::Sum,
            axes: vec![0],
            keep_dims: false,
        });
        let sum = b.push("sum", sum, &[picked]).unwrap();
        b.output("sum", sum).unwrap();
        b.output("mask_out", x).unwrap();
        b.finish().unwrap()
    }

    #[test]
    fn integers_narrow_and_interfaces_have_their_types() {
        let legal = legalize(&module(9), Opset::CoreML7).unwrap();
        let (f, warnings) = (legal.module.main().unwrap(), &legal.warnings);
        let types: Vec<String> = f
            .params
            .iter()
            .map(|p| f.ty(p.value).to_string())
            .chain(f.outputs.iter().map(|o| f.ty(o.value).to_string()))
            .collect();
        assert_eq!(types, ["i32[3]", "i32[1]", "i32[3]"]);
        assert_eq!(warnings.len(), 3);
        assert!(f.values.iter().all(|v| v.ty.dtype != DType::I64));
    }

    #[test]
    fn a_constant_beyond_int32_is_refused() {
        let error = legalize(&module(1 << 31), Opset::CoreML7).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.to_string().contains("2147483648"), "{error}");
    }
}
