//! Parameters of operations, as formats hold them: constants of the element type of what the operation is applied to.

use super::ops::ActivationKind;
use super::{Module, Op};
use crate::tensor::DType;

/// The module with every parameter of an operation on half precision rounded to it, where `rounds` says so of the operation: a slope of 1/6
/// becomes 0.16663.
#[must_use]
pub fn with_rounded_parameters(module: &Module, rounds: impl Fn(&Op) -> bool) -> Module {
    let mut stored = module.clone();
    for function in stored.functions.iter_mut().chain(&mut stored.bodies) {
        for at in 0..function.nodes.len() {
            let first = function.nodes[at].operands.first();
            let is_half = first.is_some_and(|&v| function.ty(v).dtype == DType::F16);
            if is_half && rounds(&function.nodes[at].op) {
                round(&mut function.nodes[at].op);
            }
        }
    }
    stored
}

fn round(op: &mut Op) {
    let half = |x: &mut f32| *x = half::f16::from_f32(*x).to_f32();
    let wide = |x: &mut f64| *x = half::f16::from_f64(*x).to_f64();
    if let Op::LayerNorm(o) = op {
        wide(&mut o.epsilon);
    } else if let Op::RmsNorm(o) = op {
        wide(&mut o.epsilon);
    } else if let Op::BatchNorm(o) = op {
        wide(&mut o.epsilon);
    } else if let Op::InstanceNorm(o) = op {
        wide(&mut o.epsilon);
    } else if let Op::Attention(o) = op {
        wide(&mut o.scale);
    } else if let Op::Clip(o) = op {
        half(&mut o.min);
        half(&mut o.max);
    } else if let Op::Lrn(o) = op {
        [&mut o.alpha, &mut o.beta, &mut o.k]
            .into_iter()
            .for_each(half);
    } else if let Op::Activation(o) = op {
        match &mut o.kind {
            ActivationKind::LeakyRelu { alpha } | ActivationKind::Elu { alpha } => half(alpha),
            ActivationKind::HardSigmoid { alpha, beta } => {
                half(alpha);
                half(beta);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::Activation;
    use crate::ir::{Builder, Domain, Type};

    #[test]
    fn slopes_are_rounded_where_the_operand_is_and_the_format_does() {
        let sixth = 1.0 / 6.0;
        let kind = ActivationKind::HardSigmoid {
            alpha: sixth,
            beta: 0.5,
        };
        let alpha = |dtype, rounds| {
            let mut b = Builder::new("m");
            let x = b.param("x", Type::known(dtype, &[2]), Domain::Any).unwrap();
            let y = b
                .push("y", Op::Activation(Activation { kind }), &[x])
                .unwrap();
            b.output("y", y).unwrap();
            let stored = with_rounded_parameters(&b.finish().unwrap(), |_| rounds);
            let op = &stored.functions[0].nodes[0].op;
            let Op::Activation(Activation {
                kind: ActivationKind::HardSigmoid { alpha, beta: 0.5 },
            }) = op
            else {
                panic!("{op:?}")
            };
            *alpha
        };
        assert_eq!(alpha(DType::F32, true), sixth);
        assert_eq!(alpha(DType::F16, false), sixth);
        assert_eq!(alpha(DType::F16, true), 0.166_625_98);
    }
}
