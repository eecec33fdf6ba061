//! Sizes that are known only at run time: read from the shapes of values that have them, computed as `int32` vectors of one element, each once.

use super::emit::{Arg, Emitter, Var};
use super::value::int32;
use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::{Context, Result};
use crate::ir::{Dim, DimOp, DimTree, Type};
use crate::tensor::DType;

impl Emitter<'_> {
    /// A size as a vector of one `int32`.
    pub(super) fn size(&mut self, dim: &Dim) -> Result<Var> {
        if let Some(var) = self.sizes.get(dim) {
            return Ok(var.clone());
        }
        let var = match (dim.integer(), dim.as_symbol()) {
            (Some(n), _) => {
                let tensor = int32(vec![1], vec![n])?;
                let name = format!("size#{n}");
                self.weight(&name, &crate::ir::Constant::from_tensor(&name, &tensor)?)?
            }
            (None, Some(symbol)) => self.symbol(symbol)?,
            (None, None) => self.expression(&dim.tree(), &format!("size#{dim}"))?,
        };
        self.sizes.insert(dim.clone(), var.clone());
        Ok(var)
    }

    /// Sizes as one `int32` vector.
    pub(super) fn sizes(&mut self, step: &str, dims: &[Dim]) -> Result<Var> {
        let known: Option<Vec<i64>> = dims.iter().map(Dim::integer).collect();
        if let Some(values) = known {
            let tensor = int32(vec![values.len()], values)?;
            return self.tensor(step, &tensor);
        }
        let parts = dims
            .iter()
            .map(|d| self.size(d))
            .collect::<Result<Vec<_>>>()?;
        let params = [
            ("values", Arg::Vars(&parts)),
            ("axis", Arg::Int(0)),
            ("interleave", Arg::Bool(false)),
        ];
        let ty = Type::known(DType::I32, &[dims.len()]);
        self.step(step, "concat", ty, &params)
    }

    /// The parameters of `gather` that came with later opsets.
    pub(super) fn gather_params(&self) -> Vec<(&'static str, Arg<'static>)> {
        let mut params = Vec::new();
        if self.opset >= Opset::CoreML6 {
            params.push(("batch_dims", Arg::Int(0)));
        }
        if self.opset >= Opset::CoreML7 {
            params.push(("validate_indices", Arg::Bool(false)));
        }
        params
    }

    fn symbol(&mut self, symbol: &str) -> Result<Var> {
        let Some((x, axis)) = self.with_symbol(symbol) else {
            let dim = symbol.to_owned();
            return Err(CoremlError::Size { dim }).at_node(self.name());
        };
        let shape = match self.shapes.get(&x.id) {
            Some(shape) => shape.clone(),
            None => {
                let ty = Type::known(DType::I32, &[x.ty.rank()]);
                let name = format!("{}#shape", x.id);
                let shape = self.named(&name, "shape", ty, &[("x", Arg::Var(&x))])?;
                self.shapes.insert(x.id.clone(), shape.clone());
                shape
            }
        };
        let mut params = vec![
            ("x", Arg::Var(&shape)),
            ("indices", Arg::Ints(vec![axis])),
            ("axis", Arg::Int(0)),
        ];
        params.extend(self.gather_params());
        self.named(&format!("size#{symbol}"), "gather", size_type(), &params)
    }

    fn expression(&mut self, tree: &DimTree, name: &str) -> Result<Var> {
        match tree {
            DimTree::Integer(n) => self.size(&Dim::constant(*n)),
            DimTree::Symbol(name) => self.size(&Dim::symbol(name)),
            DimTree::Binary(op, a, b) => {
                let x = self.expression(a, name)?;
                let y = self.expression(b, name)?;
                let kind = match op {
                    DimOp::Add => "add",
                    DimOp::Mul => "mul",
                    DimOp::FloorDiv => "floor_div",
                    DimOp::Min => "minimum",
                    DimOp::Max => "maximum",
                };
                let params = [("x", Arg::Var(&x)), ("y", Arg::Var(&y))];
                self.named(name, kind, size_type(), &params)
            }
        }
    }
}

/// The type of a size.
fn size_type() -> Type {
    Type::known(DType::I32, &[1])
}
