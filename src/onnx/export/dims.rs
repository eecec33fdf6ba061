//! Dimensions that are only known at run time, as small integer graphs over the shapes of inputs and results.

use super::emitter::{Emitter, int};
use crate::error::Result;
use crate::ir::{Dim, DimOp, DimTree};
use crate::onnx::error::OnnxError;
use crate::tensor::num;

impl Emitter<'_> {
    /// Integers as a vector: an initialiser if all are known, else known runs and run-time sizes joined.
    pub(super) fn shape(&mut self, dims: &[Dim]) -> Result<String> {
        let mut parts = Vec::new();
        let mut run = Vec::new();
        for dim in dims {
            match dim.integer() {
                Some(n) => run.push(n),
                None => {
                    if !run.is_empty() {
                        parts.push(self.vector(&run)?);
                        run.clear();
                    }
                    parts.push(self.size(dim)?);
                }
            }
        }
        if !run.is_empty() || parts.is_empty() {
            parts.push(self.vector(&run)?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let output = self.helper_name("Concat");
        self.push("Concat", parts, output.clone(), vec![int("axis", 0)]);
        Ok(output)
    }

    /// A dimension as a scalar.
    pub(super) fn size_scalar(&mut self, dim: &Dim) -> Result<String> {
        if let Some(n) = dim.integer() {
            return self.scalar_int(n);
        }
        let size = self.size(dim)?;
        let axis = self.vector(&[0])?;
        Ok(self.emit("Squeeze", [size, axis], vec![]))
    }

    /// A dimension as a vector of one element, computed once however often it is asked for.
    pub(super) fn size(&mut self, dim: &Dim) -> Result<String> {
        if let Some(n) = dim.integer() {
            return self.vector(&[n]);
        }
        if let Some(known) = self.view.sizes.get(dim) {
            return Ok(known.clone());
        }
        let name = match dim.as_symbol() {
            Some(symbol) => self.symbol(symbol)?,
            None => self.tree(&dim.tree())?,
        };
        self.view.sizes.insert(dim.clone(), name.clone());
        Ok(name)
    }

    fn symbol(&mut self, symbol: &str) -> Result<String> {
        let Some((input, axis)) = self.view.symbols.get(symbol).cloned() else {
            return Err(OnnxError::HiddenSymbol {
                symbol: symbol.to_owned(),
            }
            .into());
        };
        let shape = match self.view.shapes.get(&input) {
            Some(shape) => shape.clone(),
            None => {
                let shape = self.fresh(&format!("{input}/Shape"));
                self.push("Shape", vec![input.clone()], shape.clone(), vec![]);
                self.view.shapes.insert(input, shape.clone());
                shape
            }
        };
        let index = self.vector(&[num::i64_of(axis)])?;
        let output = self.fresh(&format!("size/{symbol}"));
        self.push(
            "Gather",
            vec![shape, index],
            output.clone(),
            vec![int("axis", 0)],
        );
        Ok(output)
    }

    fn tree(&mut self, tree: &DimTree) -> Result<String> {
        match tree {
            DimTree::Integer(n) => self.vector(&[*n]),
            DimTree::Symbol(name) => self.size(&Dim::symbol(name)),
            DimTree::Binary(op, a, b) => {
                let x = self.tree(a)?;
                let y = self.tree(b)?;
                Ok(match op {
                    DimOp::Add => self.arithmetic("Add", x, y),
                    DimOp::Mul => self.arithmetic("Mul", x, y),
                    DimOp::Min => self.arithmetic("Min", x, y),
                    DimOp::Max => self.arithmetic("Max", x, y),
                    DimOp::FloorDiv if never_negative(a) && never_negative(b) => {
                        self.arithmetic("Div", x, y)
                    }
                    DimOp::FloorDiv => {
                        // `Div` truncates; without the remainder, which has the divisor's sign, it is exact.
                        let rest = self.arithmetic("Mod", x.clone(), y.clone());
                        let whole = self.arithmetic("Sub", x, rest);
                        self.arithmetic("Div", whole, y)
                    }
                })
            }
        }
    }

    fn arithmetic(&mut self, op_type: &'static str, x: String, y: String) -> String {
        let output = self.fresh(&format!("size/{op_type}"));
        self.push(op_type, vec![x, y], output.clone(), vec![]);
        output
    }
}

fn never_negative(tree: &DimTree) -> bool {
    match tree {
        DimTree::Integer(n) => *n >= 0,
        DimTree::Symbol(_) => true,
        DimTree::Binary(_, a, b) => never_negative(a) && never_negative(b),
    }
}
