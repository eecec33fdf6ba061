//! `bf16`, for which engines have no kernels: such values are written in single precision, which holds every one of them.

use crate::ir::{Function, Module, Op};
use crate::tensor::DType;

/// The module with `f32` in place of `bf16`, unless it has none. What converts to `bf16` still rounds to it.
pub(super) fn widened(module: &Module) -> Option<Module> {
    if !module.has(DType::BF16) {
        return None;
    }
    let mut wide = module.clone();
    for constant in &mut wide.constants {
        if constant.dtype() == DType::BF16 {
            *constant = constant.cast(DType::F32);
        }
    }
    wide.functions.iter_mut().for_each(widen);
    wide.bodies.iter_mut().for_each(widen);
    Some(wide)
}

fn widen(function: &mut Function) {
    for value in &mut function.values {
        if value.ty.dtype == DType::BF16 {
            value.ty.dtype = DType::F32;
        }
    }
    for node in &mut function.nodes {
        if let Op::Size(size) = &mut node.op
            && size.dtype == DType::BF16
        {
            size.dtype = DType::F32;
        }
    }
}
