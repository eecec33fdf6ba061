//! Attention in its parts, where one of them is to be computed otherwise than the others; GELU in its parts, where a format has no operator for it.

use super::rewrite::{Bodies, Rewrite};
use crate::error::{Context, Result};
use crate::ir::ops::{Attention, BinaryKind, Cast, MatMul, Softmax, UnaryKind};
use crate::ir::{Bindings, Builder, Module, Node, Op};
use crate::tensor::DType;

/// What attention is made of, by name.
pub(super) const PARTS: [&str; 4] = ["mul", "matmul", "add", "softmax"];

/// The module with the decomposition in place of every attention of its functions; the last part has its name.
///
/// # Errors
/// Never for a valid module.
pub fn parts(module: &Module) -> Result<Module> {
    let attends = |node: &Node| matches!(node.op, Op::Attention(_));
    if !has(module, attends) {
        return Ok(module.clone());
    }
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        if let Op::Attention(o) = node.op {
            apart(rewrite, node, o)
        } else {
            rewrite.copy(node)
        }
    };
    let bindings = Bindings::new();
    Rewrite::module(module, &bindings, Bodies::Copied, rebuild, |_| Ok(())).at_pass("parts")
}

/// The module with the decomposition in place of every GELU of its functions, its constants rounded to the type that it is computed in; the last part
/// has its name.
///
/// # Errors
/// Never for a valid module.
pub fn gelu_parts(module: &Module) -> Result<Module> {
    if !has(module, |node| gelu(node).is_some()) {
        return Ok(module.clone());
    }
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| match gelu(node) {
        Some(by_erf) => gelu_apart(rewrite, node, by_erf),
        None => rewrite.copy(node),
    };
    let bindings = Bindings::new();
    Rewrite::module(module, &bindings, Bodies::Copied, rebuild, |_| Ok(())).at_pass("parts")
}

fn has(module: &Module, wanted: impl Fn(&Node) -> bool) -> bool {
    module.functions.iter().any(|f| f.nodes.iter().any(&wanted))
}

/// Whether a GELU is the one of `erf`, not of `tanh`.
fn gelu(node: &Node) -> Option<bool> {
    let Op::Unary(unary) = &node.op else {
        return None;
    };
    let by_erf = unary.kind == UnaryKind::GeluErf;
    (by_erf || unary.kind == UnaryKind::GeluTanh).then_some(by_erf)
}

/// `x/2 · (1 + erf(x/√2))`, or `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`. What lies inside is in single precision: that a cube is beyond half
/// precision changes no result.
fn gelu_apart(rewrite: &mut Rewrite<'_>, node: &Node, by_erf: bool) -> Result<()> {
    use BinaryKind::{Add, Div, Mul};
    let name = &rewrite.function.value(node.result()).name;
    let given = rewrite.get(node.operands[0]);
    let b = &mut rewrite.builder;
    let dtype = b.ty(given).dtype;
    let part = |what: &str| format!("{name}/{what}");
    let constant = |b: &mut Builder, what: &str, x: f64| {
        let rounded = b.scalar(&part(what), dtype, x)?;
        b.cast(&part(&format!("{what}/f32")), rounded, DType::F32)
    };
    let x = b.cast(&part("x"), given, DType::F32)?;
    let scaled = if by_erf {
        let root = constant(b, "root", std::f64::consts::SQRT_2)?;
        b.binary(&part("scaled"), Div, x, root)?
    } else {
        let cubic = constant(b, "cubic", 0.044_715)?;
        let root = constant(b, "root", (2.0 / std::f64::consts::PI).sqrt())?;
        let square = b.binary(&part("square"), Mul, x, x)?;
        let cube = b.binary(&part("cube"), Mul, square, x)?;
        let term = b.binary(&part("term"), Mul, cube, cubic)?;
        let sum = b.binary(&part("sum"), Add, x, term)?;
        b.binary(&part("scaled"), Mul, sum, root)?
    };
    let kind = if by_erf {
        UnaryKind::Erf
    } else {
        UnaryKind::Tanh
    };
    let curve = b.unary(&part("curve"), kind, scaled)?;
    let one = b.scalar(&part("one"), DType::F32, 1.0)?;
    let half = b.scalar(&part("half"), DType::F32, 0.5)?;
    let raised = b.binary(&part("raised"), Add, curve, one)?;
    let product = b.binary(&part("product"), Mul, x, raised)?;
    let result = b.binary(&part("halved"), Mul, product, half)?;
    let result = b.push(name, Op::Cast(Cast { to: dtype }), &[result])?;
    rewrite.set(node.result(), result);
    Ok(())
}

fn apart(rewrite: &mut Rewrite<'_>, node: &Node, op: Attention) -> Result<()> {
    let name = &rewrite.function.value(node.result()).name;
    let mut operands = Vec::with_capacity(node.operands.len());
    for &operand in &node.operands {
        operands.push(rewrite.get(operand));
    }
    let b = &mut rewrite.builder;
    let dtype = b.ty(operands[0]).dtype;
    let mut query = operands[0];
    if op.scale != 1.0 {
        let scale = b.scalar(&format!("{name}/scale"), dtype, op.scale)?;
        query = b.binary(&format!("{name}/query"), BinaryKind::Mul, query, scale)?;
    }
    let by_key = MatMul {
        transpose_a: false,
        transpose_b: true,
    };
    let by_key = Op::MatMul(by_key);
    let mut scores = b.push(&format!("{name}/scores"), by_key, &[query, operands[1]])?;
    if let Some(&mask) = operands.get(3) {
        scores = b.binary(&format!("{name}/masked"), BinaryKind::Add, scores, mask)?;
    }
    let axis = b.ty(scores).rank() - 1;
    let softmax = Op::Softmax(Softmax { axis });
    let weights = b.push(&format!("{name}/weights"), softmax, &[scores])?;
    let op = Op::MatMul(MatMul::default());
    let result = b.push(name, op, &[weights, operands[2]])?;
    rewrite.set(node.result(), result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Interpreter, Mode};
    use crate::ir::{Domain, Type};
    use crate::tensor::{NamedTensors, Tensor};

    #[test]
    fn the_parts_of_gelu_are_gelu_but_for_the_rounding_of_their_constants() {
        for kind in [UnaryKind::GeluErf, UnaryKind::GeluTanh] {
            let gelu = |dtype| {
                let mut b = Builder::new("m");
                let ty = Type::known(dtype, &[5]);
                let x = b.param("x", ty, Domain::Any).unwrap();
                let y = b.unary("y", kind, x).unwrap();
                b.output("y", y).unwrap();
                b.finish().unwrap()
            };
            let run = |module: &Module, dtype| {
                let values = vec![-3.0, -0.75, 0.0, 0.5, 4.0];
                let x = Tensor::float(dtype, vec![5], values).unwrap();
                let inputs = NamedTensors::from([("x".to_owned(), x)]);
                let found = Interpreter::new(module, Mode::F32).unwrap();
                found.run(&inputs, None).unwrap()["y"].to_f64()
            };
            for (dtype, least, most) in [(DType::F32, 0.0, 1e-6), (DType::F16, 1e-6, 1e-3)] {
                let whole = gelu(dtype);
                let parts = gelu_parts(&whole).unwrap();
                assert!(parts.main().unwrap().nodes.len() >= 5);
                let (whole, parts) = (run(&whole, dtype), run(&parts, dtype));
                let apart = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs());
                let apart = apart.fold(0.0, f64::max);
                assert!((least..=most).contains(&apart), "{kind:?} {dtype} {apart}");
            }
        }
    }
}
