//! Rewrites that only Core ML needs, on the IR: narrow integers, types that interfaces do not have, ranks. Changes no name.
//!
//! Integers become `int32`, the only wide integer type of Core ML. Constants are proven to fit; computed integers are indices and counts,
//! which fit wherever a tensor of that size does.

use super::error::CoremlError;
use super::target::Opset;
use crate::error::{Context, Result};
use crate::ir::ops::{ArgReduce, Cast, Iota, NonMaxSuppression, NonZero, Size, TopK, Unsqueeze};
use crate::ir::{
    self, Constant, Def, Dim, Function, Module, Node, NodeId, Op, Output, Param, Type, Value,
    ValueId, display_shape,
};
use crate::tensor::{DType, num};

/// Most axes of a tensor.
const MAX_RANK: usize = 5;

/// The module as `opset` can express it, and what the user should know about it.
///
/// # Errors
/// When a tensor has a type, rank or size that Core ML does not have.
pub(super) fn legalize(module: &Module, opset: Opset) -> Result<(Module, Vec<String>)> {
    let [function] = module.functions.as_slice() else {
        return Err(CoremlError::Functions {
            found: module.functions.len(),
        }
        .into());
    };
    let mut rewrite = Rewrite {
        old: function,
        new: Function::empty(&function.name),
        map: vec![ValueId(0); function.values.len()],
        warnings: Vec::new(),
    };
    rewrite.params(opset)?;
    rewrite.constants()?;
    rewrite.nodes()?;
    rewrite.outputs(opset)?;
    let (new, warnings) = (rewrite.new, rewrite.warnings);
    let constants = module
        .constants
        .iter()
        .map(narrow_constant)
        .collect::<Result<Vec<_>>>()?;
    let legal = Module {
        name: module.name.clone(),
        symbols: module.symbols.clone(),
        constants,
        functions: vec![new],
        bodies: module.bodies.clone(),
        claims: module.claims.clone(),
    };
    ir::verify(&legal)?;
    Ok((legal, warnings))
}

struct Rewrite<'a> {
    old: &'a Function,
    new: Function,
    map: Vec<ValueId>,
    warnings: Vec<String>,
}

impl Rewrite<'_> {
    fn add(&mut self, name: String, ty: Type, def: Def) -> ValueId {
        self.new.values.push(Value { name, ty, def });
        ValueId(self.new.values.len() - 1)
    }

    fn push(&mut self, name: String, op: Op, operands: Vec<ValueId>) -> Result<ValueId> {
        Ok(self.push_all(vec![name], op, operands)?[0])
    }

    /// Adds a node with one name per result.
    fn push_all(
        &mut self,
        names: Vec<String>,
        op: Op,
        operands: Vec<ValueId>,
    ) -> Result<Vec<ValueId>> {
        let types: Vec<&Type> = operands.iter().map(|&v| self.new.ty(v)).collect();
        let types = op.infer_all(&types).at_node(&names[0])?;
        let id = NodeId(self.new.nodes.len());
        let named = names.into_iter().zip(types);
        let results: Vec<ValueId> = named
            .map(|(name, ty)| self.add(name, ty, Def::Node(id)))
            .collect();
        self.new.nodes.push(Node {
            op,
            operands,
            results: results.clone(),
        });
        Ok(results)
    }

    /// Inputs first; where the interface cannot have a value's type, a cast follows.
    fn params(&mut self, opset: Opset) -> Result<()> {
        for param in &self.old.params {
            let value = self.old.value(param.value);
            if value.ty.rank() == 0 {
                return Err(CoremlError::ScalarInput).at_node(&value.name);
            }
            let inside = legal_type(&value.ty).at_node(&value.name)?;
            let outside = interface_dtype(inside.dtype, opset);
            let index = self.new.params.len();
            let ty = Type::new(outside, inside.shape.clone());
            let id = self.add(value.name.clone(), ty, Def::Param(index));
            self.new.params.push(Param {
                value: id,
                domain: param.domain.clone(),
            });
            self.map[param.value.index()] = id;
        }
        for param in &self.old.params {
            let value = self.old.value(param.value);
            let inside = narrow(value.ty.dtype);
            let id = self.map[param.value.index()];
            if self.new.ty(id).dtype != inside {
                self.warnings.push(format!(
                    "input `{}` is {} instead of {inside}, which this deployment target's interface does not have",
                    value.name,
                    self.new.ty(id).dtype,
                ));
                let name = format!("{}#{inside}", value.name);
                self.map[param.value.index()] =
                    self.push(name, Op::Cast(Cast { to: inside }), vec![id])?;
            }
        }
        Ok(())
    }

    fn constants(&mut self) -> Result<()> {
        for (i, value) in self.old.values.iter().enumerate() {
            if matches!(value.def, Def::Const(_)) {
                let ty = Type::new(narrow(value.ty.dtype), value.ty.shape.clone());
                self.map[i] = self.add(value.name.clone(), ty, value.def);
            }
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<()> {
        for node in &self.old.nodes {
            let mut names = Vec::with_capacity(node.results.len());
            for &result in &node.results {
                let value = self.old.value(result);
                legal_type(&value.ty).at_node(&value.name)?;
                names.push(value.name.clone());
            }
            let operands = node
                .operands
                .iter()
                .map(|v| self.map[v.index()])
                .collect::<Vec<_>>();
            let op = match &node.op {
                Op::Cast(o) => Op::Cast(Cast { to: narrow(o.to) }),
                Op::Iota(o) => Op::Iota(Iota {
                    dtype: narrow(o.dtype),
                    len: o.len.clone(),
                }),
                Op::Size(o) => Op::Size(Size {
                    dtype: narrow(o.dtype),
                    ..o.clone()
                }),
                Op::ArgReduce(o) => Op::ArgReduce(ArgReduce {
                    dtype: narrow(o.dtype),
                    ..*o
                }),
                Op::TopK(o) => Op::TopK(TopK {
                    dtype: narrow(o.dtype),
                    ..o.clone()
                }),
                Op::NonZero(o) => Op::NonZero(NonZero {
                    dtype: narrow(o.dtype),
                    ..o.clone()
                }),
                Op::NonMaxSuppression(o) => Op::NonMaxSuppression(NonMaxSuppression {
                    dtype: narrow(o.dtype),
                    ..o.clone()
                }),
                other => other.clone(),
            };
            let results = self.push_all(names, op, operands)?;
            for (old, new) in node.results.iter().zip(results) {
                self.map[old.index()] = new;
            }
        }
        Ok(())
    }

    fn outputs(&mut self, opset: Opset) -> Result<()> {
        for output in &self.old.outputs {
            let mut value = self.map[output.value.index()];
            if self.new.ty(value).rank() == 0 {
                let name = format!("{}#axis", output.name);
                self.warnings.push(format!(
                    "output `{}` has the shape [1]: Core ML has no outputs without axes",
                    output.name
                ));
                let op = Op::Unsqueeze(Unsqueeze { axes: vec![0] });
                value = self.push(name, op, vec![value])?;
            }
            let inside = self.new.ty(value).dtype;
            let outside = interface_dtype(inside, opset);
            if inside != outside {
                self.warnings.push(format!(
                    "output `{}` is {outside} instead of {inside}, which this deployment target's interface does not have",
                    output.name
                ));
                let name = format!("{}#{outside}", output.name);
                value = self.push(name, Op::Cast(Cast { to: outside }), vec![value])?;
            }
            self.new.outputs.push(Output {
                name: output.name.clone(),
                value,
            });
        }
        Ok(())
    }
}

/// Wide and unsigned integers become `int32`.
fn narrow(dtype: DType) -> DType {
    match dtype {
        DType::I64 | DType::U64 | DType::U32 => DType::I32,
        DType::Bool
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::I32
        | DType::F16
        | DType::BF16
        | DType::F8E4M3
        | DType::F8E5M2
        | DType::F32
        | DType::F64 => dtype,
    }
}

/// The type of inputs and outputs that stands for a type inside.
fn interface_dtype(dtype: DType, opset: Opset) -> DType {
    match dtype {
        DType::F16 if opset < Opset::CoreML6 => DType::F32,
        DType::F16 | DType::F32 => dtype,
        DType::BF16 | DType::F8E4M3 | DType::F8E5M2 | DType::F64 => DType::F32,
        DType::Bool
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::I32
        | DType::U32
        | DType::I64
        | DType::U64 => DType::I32,
    }
}

/// The type with narrow integers, if Core ML has it.
fn legal_type(ty: &Type) -> Result<Type, CoremlError> {
    if ty.rank() > MAX_RANK {
        return Err(CoremlError::Rank { found: ty.rank() });
    }
    if ty.shape.contains(&Dim::from(0)) {
        return Err(CoremlError::Empty {
            shape: display_shape(&ty.shape),
        });
    }
    let dtype = narrow(ty.dtype);
    match dtype {
        DType::BF16 | DType::F8E4M3 | DType::F8E5M2 | DType::F64 => {
            Err(CoremlError::Type { dtype })
        }
        DType::Bool
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::I32
        | DType::U32
        | DType::I64
        | DType::U64
        | DType::F16
        | DType::F32 => Ok(Type::new(dtype, ty.shape.clone())),
    }
}

fn narrow_constant(constant: &Constant) -> Result<Constant> {
    let to = narrow(constant.dtype());
    if to == constant.dtype() {
        return Ok(constant.clone());
    }
    let width = num::usize_of(u64::from(constant.dtype().bits() / 8));
    let wide = constant.dtype();
    let mut beyond = None;
    constant.stream(&mut |bytes| {
        for element in bytes.chunks_exact(width) {
            let mut raw = [0u8; 8];
            raw[..width].copy_from_slice(element);
            let value = i64::from_le_bytes(raw);
            // As `u64` a negative number is one beyond 2^63.
            if beyond.is_none() && i32::try_from(value).is_err() {
                beyond = Some(value);
            }
        }
        Ok(())
    })?;
    match beyond {
        Some(value) => Err(CoremlError::IntegerRange { value }).at_tensor(constant.name()),
        None if wide == to => Ok(constant.clone()),
        None => Ok(constant.cast(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::ir::ops::{Gather, Reduce, ReduceKind};
    use crate::ir::{Builder, Domain};
    use crate::tensor::Tensor;

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
        let (legal, warnings) = legalize(&module(9), Opset::CoreML7).unwrap();
        let f = legal.main().unwrap();
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
