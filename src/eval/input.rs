//! Checks what a caller hands in against the declared parameters, and finds the sizes of the symbols.

use super::layout::position;
use super::{EvalError, Mode, round};
use crate::error::Result;
use crate::ir::{Bindings, Domain, Function, IrError, Module, Param, SymbolRange, Type, looks_up};
use crate::tensor::{DType, NamedTensors, Storage, Tensor, num};

/// The parameters' tensors, in order and of the declared element types, and the sizes of the symbols.
pub(super) fn bind(
    module: &Module,
    function: &Function,
    inputs: &NamedTensors,
    mode: Mode,
) -> Result<(Vec<Tensor>, Bindings)> {
    let name = |p: &Param| function.value(p.value).name.as_str();
    for found in inputs.keys() {
        if !function.params.iter().any(|p| name(p) == found) {
            let known: Vec<String> = function
                .params
                .iter()
                .map(|p| format!("`{}`", name(p)))
                .collect();
            return Err(EvalError::UnknownInput {
                name: found.clone(),
                known: known.join(", "),
            }
            .into());
        }
    }
    let mut bindings = Bindings::new();
    let mut tensors = Vec::with_capacity(function.params.len());
    for (index, param) in function.params.iter().enumerate() {
        let (name, ty) = (name(param), function.ty(param.value));
        let Some(tensor) = inputs.get(name) else {
            return Err(EvalError::MissingInput {
                name: name.to_owned(),
                expected: ty.to_string(),
            }
            .into());
        };
        let converted = convert(name, ty, tensor)?;
        bind_symbols(module, name, ty, tensor, &mut bindings)?;
        let tensor = converted;
        check_index(function, index, &tensor)?;
        tensors.push(round(tensor, mode)?);
    }
    // Only now does every expression over symbols have a value.
    for (param, tensor) in function.params.iter().zip(&tensors) {
        let ty = function.ty(param.value);
        for (dim, &found) in ty.shape.iter().zip(tensor.shape()) {
            let expected = dim.eval(&bindings).ok_or_else(|| IrError::Unbound {
                dim: dim.to_string(),
            })?;
            if usize::try_from(expected) != Ok(found) {
                return Err(mismatch(name(param), ty, tensor));
            }
        }
    }
    Ok((tensors, bindings))
}

fn mismatch(name: &str, ty: &Type, tensor: &Tensor) -> crate::error::Error {
    EvalError::InputType {
        name: name.to_owned(),
        expected: ty.to_string(),
        found: Type::known(tensor.dtype(), tensor.shape()).to_string(),
    }
    .into()
}

fn bind_symbols(
    module: &Module,
    name: &str,
    ty: &Type,
    tensor: &Tensor,
    bindings: &mut Bindings,
) -> Result<()> {
    if tensor.shape().len() != ty.rank() {
        return Err(mismatch(name, ty, tensor));
    }
    for (dim, &found) in ty.shape.iter().zip(tensor.shape()) {
        if dim.known().is_some_and(|n| n != found) {
            return Err(mismatch(name, ty, tensor));
        }
        let Some(symbol) = dim.as_symbol() else {
            continue;
        };
        let found = num::u64_of(found);
        let expected = match module.symbol(symbol).map(|s| &s.range) {
            Some(SymbolRange::Between { min, max }) if !(min..=max).contains(&&found) => {
                Some(format!("in {min}..={max}"))
            }
            Some(SymbolRange::OneOf(sizes)) if !sizes.contains(&found) => {
                let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
                Some(format!("one of {}", sizes.join(", ")))
            }
            Some(SymbolRange::Between { .. } | SymbolRange::OneOf(_)) | None => None,
        };
        if let Some(expected) = expected {
            return Err(EvalError::SymbolRange {
                name: name.to_owned(),
                symbol: symbol.to_owned(),
                expected,
                found,
            }
            .into());
        }
        let expected = *bindings.entry(symbol.to_owned()).or_insert(found);
        if expected != found {
            return Err(EvalError::SymbolConflict {
                name: name.to_owned(),
                symbol: symbol.to_owned(),
                expected,
                found,
            }
            .into());
        }
    }
    Ok(())
}

/// The same elements under the declared element type: any float for a float, any integer that fits for an integer.
fn convert(name: &str, ty: &Type, tensor: &Tensor) -> Result<Tensor> {
    let fits = match tensor.storage() {
        Storage::Float(_) => ty.dtype.is_float(),
        Storage::Int(_) => ty.dtype.is_int(),
        Storage::Bool(_) => ty.dtype == DType::Bool,
    };
    if !fits {
        return Err(mismatch(name, ty, tensor));
    }
    if tensor.dtype() == ty.dtype {
        return Ok(tensor.clone());
    }
    if let Storage::Int(values) = tensor.storage() {
        let (from, to) = (tensor.dtype(), ty.dtype);
        let fits = |x: i64| {
            // The sign as the types see it: `u64` is stored wrapped.
            let same_sign = x >= 0 || (from != DType::U64 && to != DType::U64);
            same_sign && num::wrap(x, to.bits(), to.is_signed_int()) == x
        };
        if let Some(i) = values.iter().position(|&x| !fits(x)) {
            return Err(EvalError::InputValue {
                name: name.to_owned(),
                value: values[i],
                position: position(i, tensor.shape()),
                expected: to,
            }
            .into());
        }
    }
    Ok(Tensor::from_storage(
        ty.dtype,
        tensor.shape().to_vec(),
        tensor.storage().clone(),
    )?)
}

/// Refuses indices outside the range that a parameter declares, for engines that do not.
///
/// # Errors
/// When there is one.
pub fn check_indices(function: &Function, inputs: &NamedTensors) -> Result<()> {
    for (index, param) in function.params.iter().enumerate() {
        if let Some(tensor) = inputs.get(&function.value(param.value).name)
            && tensor.dtype().is_int()
        {
            check_index(function, index, tensor)?;
        }
    }
    Ok(())
}

fn check_index(function: &Function, index: usize, tensor: &Tensor) -> Result<()> {
    let param = &function.params[index];
    let name = &function.value(param.value).name;
    let checked = check_domain(name, &param.domain, tensor);
    // One that is only compared with indices is none of them.
    if checked.is_err() && looks_up(function, index) {
        return checked;
    }
    Ok(())
}

fn check_domain(name: &str, domain: &Domain, tensor: &Tensor) -> Result<()> {
    let below = match domain {
        Domain::Any | Domain::Mask | Domain::Pixel => return Ok(()),
        Domain::Index { below } => *below,
    };
    let values = tensor.ints()?;
    let inside = |x: i64| u64::try_from(x).is_ok_and(|x| x < below);
    match values.iter().position(|&x| !inside(x)) {
        None => Ok(()),
        Some(i) => Err(EvalError::InputIndex {
            name: name.to_owned(),
            below,
            value: values[i],
            position: position(i, tensor.shape()),
        }
        .into()),
    }
}
