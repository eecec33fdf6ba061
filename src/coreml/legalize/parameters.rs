//! Parameters of operations, as a program holds them: constants of the element type of what the operation is applied to.

use crate::ir::ops::ActivationKind;
use crate::ir::{Module, Op};
use crate::tensor::DType;

/// The module with every parameter of an operation on half precision rounded to it: a slope of 1/6 becomes 0.16663.
#[must_use]
pub fn with_stored_parameters(module: &Module) -> Module {
    let mut stored = module.clone();
    for function in stored.functions.iter_mut().chain(&mut stored.bodies) {
        for at in 0..function.nodes.len() {
            let first = function.nodes[at].operands.first();
            if first.is_some_and(|&v| function.ty(v).dtype == DType::F16) {
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
    fn slopes_are_rounded_where_the_operand_is() {
        let sixth = 1.0 / 6.0;
        let kind = ActivationKind::HardSigmoid {
            alpha: sixth,
            beta: 0.5,
        };
        let alpha = |dtype| {
            let mut b = Builder::new("m");
            let x = b.param("x", Type::known(dtype, &[2]), Domain::Any).unwrap();
            let y = b
                .push("y", Op::Activation(Activation { kind }), &[x])
                .unwrap();
            b.output("y", y).unwrap();
            let stored = with_stored_parameters(&b.finish().unwrap());
            let op = &stored.functions[0].nodes[0].op;
            let Op::Activation(Activation {
                kind: ActivationKind::HardSigmoid { alpha, beta: 0.5 },
            }) = op
            else {
                panic!("{op:?}")
            };
            *alpha
        };
        assert_eq!(alpha(DType::F32), sixth);
        assert_eq!(alpha(DType::F16), 0.166_625_98);
    }
}
