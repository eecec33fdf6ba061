//! The ONNX writer against the interpreter: every operation is written, run by tract and ONNX Runtime, and compared, at two sizes of every symbol.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use distill_convert::error::{Class, Result};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::ops::*;
use distill_convert::ir::{
    Builder, Constant, Dim, Domain, Module, Op, Symbol, SymbolRange, Type, ValueId,
};
use distill_convert::onnx::{self, WriteOptions};
use distill_convert::runtime::{Session, library, ort::OrtSession, tract::TractSession};
use distill_convert::tensor::{DType, NamedTensors, Tensor, num};

use crate::common::judge;

/// ONNX Runtime's library; the tests that need it are marked as such.
fn onnxruntime() -> PathBuf {
    library::find(None).unwrap().path
}

/// Numbers that look random and are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize], positive: bool) -> Tensor {
        let count: usize = shape.iter().product();
        if dtype == DType::Bool {
            return Tensor::bool(
                shape.to_vec(),
                (0..count).map(|_| self.next().is_multiple_of(2)).collect(),
            )
            .unwrap();
        }
        if dtype.is_int() {
            let values = (0..count)
                .map(|_| i64::try_from(self.next() % 5).unwrap())
                .collect();
            return Tensor::int(dtype, shape.to_vec(), values).unwrap();
        }
        let values = (0..count)
            .map(|_| {
                let x = num::f32_of(usize::try_from(self.next() % 4001).unwrap()) / 1000.0;
                if positive { x + 0.125 } else { x - 2.0 }
            })
            .collect();
        Tensor::f32(shape.to_vec(), values).unwrap().cast(dtype)
    }
}

/// A module with parameters `x0`, `x1`… and one output.
struct Case {
    name: String,
    module: Module,
    positive: bool,
    tolerance: f32,
}

fn d(n: usize) -> Dim {
    Dim::from(n)
}

fn b() -> Dim {
    Dim::symbol("batch")
}

fn s() -> Dim {
    Dim::symbol("seq")
}

fn f32s(shape: Vec<Dim>) -> Type {
    Type::new(DType::F32, shape)
}

fn case(
    name: &str,
    params: &[Type],
    build: impl FnOnce(&mut Builder, &[ValueId]) -> Result<ValueId>,
) -> Case {
    let mut builder = Builder::new(name);
    for symbol in ["batch", "seq"] {
        let range = SymbolRange::Between { min: 1, max: 64 };
        builder
            .symbol(Symbol {
                name: symbol.into(),
                range,
            })
            .unwrap();
    }
    let values: Vec<ValueId> = params
        .iter()
        .enumerate()
        .map(|(i, ty)| {
            builder
                .param(&format!("x{i}"), ty.clone(), Domain::Any)
                .unwrap()
        })
        .collect();
    let result = builder
        .scoped("model", |builder| build(builder, &values))
        .unwrap();
    builder.output("y", result).unwrap();
    Case {
        name: name.to_owned(),
        module: builder.finish().unwrap(),
        positive: false,
        tolerance: 2e-6,
    }
}

impl Case {
    fn positive(mut self) -> Self {
        self.positive = true;
        self
    }

    fn within(mut self, tolerance: f32) -> Self {
        self.tolerance = tolerance;
        self
    }

    fn inputs(&self, batch: u64, seq: u64) -> NamedTensors {
        let bindings = BTreeMap::from([("batch".to_owned(), batch), ("seq".to_owned(), seq)]);
        let mut numbers = Numbers(batch * 1000 + seq);
        let function = self.module.main().unwrap();
        function
            .params
            .iter()
            .map(|param| {
                let value = function.value(param.value);
                let shape = distill_convert::ir::concrete(&value.ty.shape, &bindings).unwrap();
                let tensor = numbers.tensor(value.ty.dtype, &shape, self.positive);
                (value.name.clone(), tensor)
            })
            .collect()
    }
}

fn constant(b: &mut Builder, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
    let mut numbers = Numbers(num::u64_of(name.len() + shape.len()));
    let tensor = numbers.tensor(dtype, shape, false);
    b.constant(Constant::from_tensor(name, &tensor).unwrap())
}

fn elementwise() -> Vec<Case> {
    use UnaryKind as U;
    let mut cases = Vec::new();
    for kind in [
        U::Abs,
        U::Neg,
        U::Sign,
        U::Floor,
        U::Ceil,
        U::Round,
        U::Relu,
        U::Sqrt,
        U::Rsqrt,
        U::Reciprocal,
        U::Exp,
        U::Log,
        U::Sin,
        U::Cos,
        U::Tanh,
        U::Sigmoid,
        U::Erf,
        U::Silu,
        U::GeluErf,
        U::GeluTanh,
    ] {
        let positive = matches!(kind, U::Sqrt | U::Rsqrt | U::Reciprocal | U::Log);
        for dtype in [DType::F32, DType::F16] {
            let ty = Type::new(dtype, vec![b(), s(), d(5)]);
            let mut case = case(&format!("{kind:?} {dtype}"), &[ty], |b, x| {
                b.unary("f", kind, x[0])
            });
            case.positive = positive;
            cases.push(case.within(if dtype == DType::F16 { 4e-3 } else { 3e-6 }));
        }
    }
    let bools = Type::new(DType::Bool, vec![b(), d(3)]);
    cases.push(case("Not", std::slice::from_ref(&bools), |b, x| {
        b.unary("not", U::Not, x[0])
    }));
    let ints = Type::new(DType::I64, vec![s(), d(4)]);
    cases.push(case("Neg i64", std::slice::from_ref(&ints), |b, x| {
        b.unary("neg", U::Neg, x[0])
    }));
    use BinaryKind as B;
    for kind in [B::Add, B::Sub, B::Mul, B::Div, B::Pow, B::Min, B::Max] {
        let params = [f32s(vec![b(), s(), d(4)]), f32s(vec![s(), d(1)])];
        cases.push(
            case(&format!("{kind:?}"), &params, |b, x| {
                b.binary("f", kind, x[0], x[1])
            })
            .positive(),
        );
    }
    for kind in [B::Add, B::Sub, B::Mul, B::Min, B::Max] {
        let params = [ints.clone(), ints.clone()];
        cases.push(case(&format!("{kind:?} i64"), &params, |b, x| {
            b.binary("f", kind, x[0], x[1])
        }));
    }
    for kind in [B::And, B::Or, B::Xor] {
        let params = [bools.clone(), bools.clone()];
        cases.push(case(&format!("{kind:?}"), &params, |b, x| {
            b.binary("f", kind, x[0], x[1])
        }));
    }
    use CompareKind as C;
    for kind in [
        C::Equal,
        C::NotEqual,
        C::Less,
        C::LessEqual,
        C::Greater,
        C::GreaterEqual,
    ] {
        let params = [ints.clone(), ints.clone()];
        cases.push(case(&format!("{kind:?}"), &params, |b, x| {
            b.push("f", Op::Compare(Compare { kind }), &[x[0], x[1]])
        }));
    }
    cases.push(case(
        "Select",
        &[bools.clone(), f32s(vec![b(), d(3)]), f32s(vec![d(3)])],
        |b, x| b.push("f", Op::Select(Select), x),
    ));
    for (from, to) in [
        (DType::F32, DType::I64),
        (DType::F32, DType::F16),
        (DType::I64, DType::F32),
        (DType::I32, DType::Bool),
        (DType::Bool, DType::F32),
        (DType::I64, DType::I32),
    ] {
        let ty = Type::new(from, vec![b(), s()]);
        cases.push(case(&format!("Cast {from} {to}"), &[ty], |b, x| {
            b.cast("f", x[0], to)
        }));
    }
    cases.push(case("Clip", &[f32s(vec![b(), s()])], |b, x| {
        b.push(
            "f",
            Op::Clip(Clip {
                min: -0.5,
                max: 1.0,
            }),
            x,
        )
    }));
    cases.push(case("Clip above", &[f32s(vec![b(), s()])], |b, x| {
        b.push(
            "f",
            Op::Clip(Clip {
                min: 0.25,
                max: f32::INFINITY,
            }),
            x,
        )
    }));
    cases
}

fn reduce_and_norm() -> Vec<Case> {
    use ReduceKind as R;
    let mut cases = Vec::new();
    let ty = f32s(vec![b(), s(), d(6)]);
    for kind in [R::Sum, R::Mean, R::Max, R::Min, R::L2] {
        for (axes, keep_dims) in [(vec![2], true), (vec![1], false), (vec![0, 2], true)] {
            let name = format!("{kind:?} {axes:?} {keep_dims}");
            cases.push(case(&name, std::slice::from_ref(&ty), |b, x| {
                b.push(
                    "f",
                    Op::Reduce(Reduce {
                        kind,
                        axes,
                        keep_dims,
                    }),
                    x,
                )
            }));
        }
    }
    cases.push(case(
        "Sum i64",
        &[Type::new(DType::I64, vec![b(), s()])],
        |b, x| {
            let axes = vec![1];
            b.push(
                "f",
                Op::Reduce(Reduce {
                    kind: R::Sum,
                    axes,
                    keep_dims: false,
                }),
                x,
            )
        },
    ));
    for axis in [1, 2] {
        cases.push(case(
            &format!("Softmax {axis}"),
            std::slice::from_ref(&ty),
            |b, x| b.push("f", Op::Softmax(Softmax { axis }), x),
        ));
    }
    for dtype in [DType::I64, DType::F32] {
        cases.push(case(
            &format!("CumSum {dtype}"),
            &[Type::new(dtype, vec![b(), s()])],
            |b, x| b.push("f", Op::CumSum(CumSum { axis: 1 }), x),
        ));
    }
    for dtype in [DType::F32, DType::F16] {
        let ty = Type::new(dtype, vec![b(), s(), d(6)]);
        let tolerance = if dtype == DType::F16 { 3e-3 } else { 2e-6 };
        for parameters in 0..=2 {
            cases.push(
                case(
                    &format!("LayerNorm {dtype} {parameters}"),
                    std::slice::from_ref(&ty),
                    |b, x| {
                        let mut operands = x.to_vec();
                        for name in ["weight", "bias_"].into_iter().take(parameters) {
                            operands.push(constant(b, name, dtype, &[6]));
                        }
                        b.push(
                            "f",
                            Op::LayerNorm(LayerNorm {
                                axis: 2,
                                epsilon: 1e-5,
                            }),
                            &operands,
                        )
                    },
                )
                .within(tolerance),
            );
        }
        for parameters in 0..=1 {
            cases.push(
                case(
                    &format!("RmsNorm {dtype} {parameters}"),
                    std::slice::from_ref(&ty),
                    |b, x| {
                        let mut operands = x.to_vec();
                        if parameters == 1 {
                            operands.push(constant(b, "weight", dtype, &[6]));
                        }
                        b.push(
                            "f",
                            Op::RmsNorm(RmsNorm {
                                axis: 2,
                                epsilon: 1e-6,
                            }),
                            &operands,
                        )
                    },
                )
                .within(tolerance),
            );
        }
    }
    cases.push(case(
        "LayerNorm of unknown size",
        &[f32s(vec![b(), s()])],
        |b, x| {
            b.push(
                "f",
                Op::LayerNorm(LayerNorm {
                    axis: 1,
                    epsilon: 1e-3,
                }),
                x,
            )
        },
    ));
    cases
}

fn linear() -> Vec<Case> {
    let mut cases = Vec::new();
    for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
        let side = |swap, rows: Dim, columns: Dim| {
            f32s(if swap {
                vec![b(), d(2), columns, rows]
            } else {
                vec![b(), d(2), rows, columns]
            })
        };
        let params = [side(transpose_a, s(), d(3)), side(transpose_b, d(3), s())];
        cases.push(case(
            &format!("MatMul {transpose_a} {transpose_b}"),
            &params,
            |b, x| {
                b.push(
                    "f",
                    Op::MatMul(MatMul {
                        transpose_a,
                        transpose_b,
                    }),
                    x,
                )
            },
        ));
    }
    for dtype in [DType::F32, DType::F16] {
        for (name, mask) in [
            ("", None),
            (" padding mask", Some(vec![b(), d(1), d(1), s()])),
            (" mask", Some(vec![s(), s()])),
        ] {
            let heads = |width| Type::new(dtype, vec![b(), d(2), s(), d(width)]);
            let mut params = vec![heads(4), heads(4), heads(3)];
            params.extend(mask.map(|shape| Type::new(dtype, shape)));
            let tolerance = if dtype == DType::F16 { 3e-3 } else { 2e-6 };
            let op = Op::Attention(Attention { scale: 0.3 });
            let attention = case(&format!("Attention {dtype}{name}"), &params, |b, x| {
                b.push("f", op, x)
            });
            cases.push(attention.within(tolerance));
        }
    }
    // The key is transposed once, not twice.
    let rows = f32s(vec![b(), s(), d(2), d(4)]);
    cases.push(case("Attention of heads", &[rows], |b, x| {
        let turn = |b: &mut Builder, name: &str| {
            let perm = vec![0, 2, 1, 3];
            b.push(name, Op::Transpose(Transpose { perm }), x)
        };
        let (q, k, v) = (turn(b, "q")?, turn(b, "k")?, turn(b, "v")?);
        b.push("f", Op::Attention(Attention { scale: 0.5 }), &[q, k, v])
    }));
    cases.push(case(
        "MatMul by a constant",
        &[f32s(vec![b(), s(), d(3)])],
        |b, x| {
            let w = constant(b, "w", DType::F32, &[4, 3]);
            b.push(
                "f",
                Op::MatMul(MatMul {
                    transpose_a: false,
                    transpose_b: true,
                }),
                &[x[0], w],
            )
        },
    ));
    for dtype in [DType::F32, DType::F16] {
        let tolerance = if dtype == DType::F16 { 3e-3 } else { 2e-6 };
        cases.push(
            case(
                &format!("Linear {dtype}"),
                &[Type::new(dtype, vec![b(), s(), d(3)])],
                |b, x| {
                    let w = constant(b, "w", dtype, &[4, 3]);
                    b.push("f", Op::Linear(Linear), &[x[0], w])
                },
            )
            .within(tolerance),
        );
        cases.push(
            case(
                &format!("Linear with bias {dtype}"),
                &[Type::new(dtype, vec![b(), d(3)])],
                |b, x| {
                    let w = constant(b, "w", dtype, &[4, 3]);
                    let bias = constant(b, "bias", dtype, &[4]);
                    b.push("f", Op::Linear(Linear), &[x[0], w, bias])
                },
            )
            .within(tolerance),
        );
    }
    cases.push(case("Linear of a vector", &[f32s(vec![d(3)])], |b, x| {
        let w = constant(b, "w", DType::F32, &[4, 3]);
        b.push("f", Op::Linear(Linear), &[x[0], w])
    }));
    // Embedding and head share a matrix: it is written once, as it is, and transposed by a node.
    cases.push(case(
        "Tied head",
        &[Type::new(DType::I64, vec![b(), s()])],
        |b, x| {
            let w = constant(b, "embed", DType::F32, &[5, 3]);
            let embedded = b.push("embed", Op::Gather(Gather { axis: 0 }), &[w, x[0]])?;
            b.push("head", Op::Linear(Linear), &[embedded, w])
        },
    ));
    cases
}

fn shape() -> Vec<Case> {
    let x = f32s(vec![b(), s(), d(6)]);
    let one = std::slice::from_ref(&x);
    let reshape = |name: &str, from: Vec<Dim>, to: Vec<Dim>| {
        case(name, &[f32s(from)], |b, x| {
            b.push("f", Op::Reshape(Reshape { shape: to }), x)
        })
    };
    let slice = |name: &str, ranges: Vec<SliceRange>| {
        case(name, one, |b, x| {
            b.push("f", Op::Slice(Slice { ranges }), x)
        })
    };
    let less_one = s().sub(&d(1));
    let half = s().add(&d(1)).floor_div(&d(2)).unwrap();
    let lower_half = s().sub(&d(1)).floor_div(&d(2)).unwrap();
    let mut cases = vec![
        reshape(
            "Reshape heads",
            vec![b(), s(), d(6)],
            vec![b(), s(), d(2), d(3)],
        ),
        reshape(
            "Reshape rows",
            vec![b(), s(), d(6)],
            vec![b().mul(&s()), d(6)],
        ),
        case(
            "Reshape back",
            &[f32s(vec![b().mul(&s()), d(6)]), f32s(vec![b(), s()])],
            |bu, x| {
                let shape = vec![b(), s(), d(6)];
                bu.push("f", Op::Reshape(Reshape { shape }), &x[..1])
            },
        ),
        reshape("Reshape moved", vec![d(2), b(), s()], vec![b(), s(), d(2)]),
        reshape(
            "Reshape three",
            vec![d(6), b(), s()],
            vec![b(), s(), d(2), d(3)],
        ),
        reshape("Reshape vector", vec![b(), d(1)], vec![b()]),
        reshape("Reshape scalar", vec![d(1), d(1)], vec![]),
        reshape("Reshape known", vec![d(4), d(6)], vec![d(8), d(3)]),
        case("Transpose", one, |b, x| {
            b.push(
                "f",
                Op::Transpose(Transpose {
                    perm: vec![2, 0, 1],
                }),
                x,
            )
        }),
        case("Expand", &[f32s(vec![b(), d(1), d(1), s()])], |bu, x| {
            bu.push(
                "f",
                Op::Expand(Expand {
                    shape: vec![b(), d(2), s(), s()],
                }),
                x,
            )
        }),
        case(
            "Expand rank",
            &[f32s(vec![d(3)]), f32s(vec![b(), s()])],
            |bu, x| {
                bu.push(
                    "f",
                    Op::Expand(Expand {
                        shape: vec![b(), s(), d(3)],
                    }),
                    &x[..1],
                )
            },
        ),
        slice("Slice known", vec![SliceRange::new(2, 1, 5)]),
        slice(
            "Slice last",
            vec![SliceRange::new(1, less_one.clone(), s())],
        ),
        slice("Slice without last", vec![SliceRange::new(1, 0, less_one)]),
        slice(
            "Slice half",
            vec![SliceRange::new(1, 0, half), SliceRange::new(2, 0, 3)],
        ),
        slice(
            "Slice lower half",
            vec![SliceRange::new(1, lower_half, s())],
        ),
        slice(
            "Slice step",
            vec![SliceRange {
                axis: 2,
                start: d(1),
                end: d(6),
                step: 2,
            }],
        ),
        slice("Slice nothing", vec![]),
        case(
            "Concat",
            &[x.clone(), f32s(vec![b(), d(2), d(6)])],
            |b, x| b.push("f", Op::Concat(Concat { axis: 1 }), x),
        ),
        case("Squeeze", &[f32s(vec![b(), d(1), s(), d(1)])], |b, x| {
            b.push("f", Op::Squeeze(Squeeze { axes: vec![1, 3] }), x)
        }),
        case("Unsqueeze", one, |b, x| {
            b.push("f", Op::Unsqueeze(Unsqueeze { axes: vec![0, 3] }), x)
        }),
        case("Output of a parameter", one, |_, x| Ok(x[0])),
        case("Output of a constant", one, |b, _| {
            Ok(constant(b, "w", DType::F32, &[3]))
        }),
    ];
    for (name, dtype, len) in [
        ("Iota", DType::I64, s()),
        ("Iota i32", DType::I32, s().add(&d(2)).mul(&d(3))),
        (
            "Iota of both",
            DType::I64,
            s().larger(&b()).mul(&s().smaller(&b())),
        ),
        ("Iota known", DType::I64, d(7)),
    ] {
        cases.push(case(name, one, |b, _| {
            b.push("f", Op::Iota(Iota { dtype, len }), &[])
        }));
    }
    cases
}

fn index() -> Vec<Case> {
    let ids = |dtype| Type::new(dtype, vec![b(), s()]);
    vec![
        case("Gather rows", &[ids(DType::I64)], |b, x| {
            let table = constant(b, "table", DType::F32, &[5, 3]);
            b.push("f", Op::Gather(Gather { axis: 0 }), &[table, x[0]])
        }),
        case("Gather i32", &[ids(DType::I32)], |b, x| {
            let table = constant(b, "table", DType::F32, &[5, 3]);
            b.push("f", Op::Gather(Gather { axis: 0 }), &[table, x[0]])
        }),
        case("Gather u8", &[ids(DType::U8)], |b, x| {
            let table = constant(b, "table", DType::F32, &[5, 3]);
            b.push("f", Op::Gather(Gather { axis: 0 }), &[table, x[0]])
        }),
        case(
            "Gather axis",
            &[
                f32s(vec![b(), d(5), s()]),
                Type::new(DType::I64, vec![d(2)]),
            ],
            |b, x| b.push("f", Op::Gather(Gather { axis: 1 }), x),
        ),
        case(
            "GatherElements",
            &[
                f32s(vec![b(), d(5)]),
                Type::new(DType::I64, vec![b(), d(3)]),
            ],
            |b, x| b.push("f", Op::GatherElements(GatherElements { axis: 1 }), x),
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = elementwise();
    cases.extend(reduce_and_norm());
    cases.extend(linear());
    cases.extend(shape());
    cases.extend(index());
    cases
}

/// The largest difference, relative to the largest expected magnitude (at least 1). Types, shapes and NaN must be equal.
fn difference(expected: &Tensor, found: &Tensor) -> f32 {
    assert_eq!(expected.dtype(), found.dtype());
    assert_eq!(expected.shape(), found.shape());
    let (expected, found) = (expected.to_f64(), found.to_f64());
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    expected.iter().zip(&found).fold(0.0, |worst: f32, (e, f)| {
        assert_eq!(e.is_nan(), f.is_nan());
        worst.max(num::f32_of_f64((e - f).abs() / scale))
    })
}

fn compare(case: &Case, opset: i64, engine: &dyn Session, failures: &mut Vec<String>) {
    let f16 = case
        .module
        .main()
        .unwrap()
        .values
        .iter()
        .any(|v| v.ty.dtype == DType::F16);
    let mode = if f16 { Mode::F16 } else { Mode::F32 };
    let reference = Interpreter::new(&case.module, mode).unwrap();
    for (batch, seq) in [(1, 4), (3, 7)] {
        let inputs = case.inputs(batch, seq);
        let expected = Interpreter::run(&reference, &inputs, None).unwrap();
        match engine.run(&inputs) {
            Err(error) => failures.push(format!("opset {opset}, {}: {error}", case.name)),
            Ok(found) => {
                assert_eq!(found.len(), 1);
                let found = found["y"].cast(expected["y"].dtype());
                let worst = difference(&expected["y"], &found);
                if worst > case.tolerance {
                    failures.push(format!(
                        "opset {opset}, {}: {worst:e} at {batch}×{seq}",
                        case.name
                    ));
                }
            }
        }
    }
}

fn file_name(case: &Case, opset: i64) -> String {
    format!(
        "{}-{opset}.onnx",
        case.name.replace([' ', '[', ']', ','], "_")
    )
}

/// Writes every case and runs it.
fn run_all(open: impl Fn(&Path) -> Result<Box<dyn Session>>, opsets: &[i64]) {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for &opset in opsets {
        for case in cases() {
            let path = folder.path().join(file_name(&case, opset));
            let options = WriteOptions {
                opset,
                ..WriteOptions::default()
            };
            onnx::write(&case.module, &path, &options).unwrap();
            match open(&path) {
                Ok(session) => compare(&case, opset, session.as_ref(), &mut failures),
                Err(error) => failures.push(format!("opset {opset}, {}: {error}", case.name)),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn tract_agrees_with_the_interpreter_on_every_operation() {
    run_all(
        |path| Ok(Box::new(TractSession::open(path)?)),
        &[17, 18, 20, 23],
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn onnx_runtime_agrees_with_the_interpreter_on_every_operation() {
    let library = onnxruntime();
    run_all(
        |path| Ok(Box::new(OrtSession::open(&library, path)?)),
        &[17, 18, 19, 20, 21, 22, 23],
    );
}

#[test]
fn a_flipped_weight_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let bias = |x: f32| {
        case("bias", &[f32s(vec![b(), d(3)])], |b, v| {
            let tensor = Tensor::f32(vec![3], vec![0.5, x, -1.0])?;
            let bias = b.constant(Constant::from_tensor("bias", &tensor)?);
            b.binary("sum", BinaryKind::Add, v[0], bias)
        })
    };
    onnx::write(&bias(0.25).module, &path, &WriteOptions::default()).unwrap();
    let session = TractSession::open(&path).unwrap();
    let mut failures = Vec::new();
    compare(&bias(0.25), 18, &session, &mut failures);
    assert!(failures.is_empty(), "{failures:?}");
    compare(&bias(0.251), 18, &session, &mut failures);
    assert_eq!(failures.len(), 2);
}

#[test]
fn every_operation_has_a_case() {
    let covered: BTreeSet<&str> = cases()
        .iter()
        .flat_map(|c| {
            c.module
                .main()
                .unwrap()
                .nodes
                .iter()
                .map(|n| n.op.name())
                .collect::<Vec<_>>()
        })
        .chain(crate::onnx_ops::operations())
        .collect();
    let missing: Vec<&str> = Op::TABLE
        .iter()
        .map(|o| o.name)
        .filter(|n| !covered.contains(n))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn onnx_checker_accepts_every_operation_in_every_opset() {
    let folder = tempfile::tempdir().unwrap();
    for opset in onnx::MIN_OPSET..=onnx::MAX_OPSET {
        for case in cases() {
            let options = WriteOptions {
                opset,
                ..WriteOptions::default()
            };
            let path = folder.path().join(file_name(&case, opset));
            onnx::write(&case.module, &path, &options).unwrap();
        }
    }
    let external = folder.path().join("external.onnx");
    let options = WriteOptions {
        external_data: Some(true),
        ..WriteOptions::default()
    };
    onnx::write(&big(), &external, &options).unwrap();
    onnx::append_metadata(
        &external,
        &BTreeMap::from([("key".to_owned(), "value".to_owned())]),
    )
    .unwrap();
    judge("check_onnx.py", &[folder.path()]);
}

fn big() -> Module {
    case("big", &[Type::new(DType::I64, vec![b(), s()])], |b, x| {
        let table = constant(b, "model.embed.weight", DType::F32, &[5, 512]);
        let copy = constant(b, "model.embed.weighT", DType::F32, &[5, 512]);
        let w = constant(b, "model.proj.weight", DType::F32, &[300, 512]);
        let embedded = b.push("embed", Op::Gather(Gather { axis: 0 }), &[table, x[0]])?;
        let again = b.push("again", Op::Gather(Gather { axis: 0 }), &[copy, x[0]])?;
        let sum = b.binary("sum", BinaryKind::Add, embedded, again)?;
        b.push("proj", Op::Linear(Linear), &[sum, w])
    })
    .module
}

#[test]
fn the_same_module_gives_the_same_bytes_and_equal_contents_are_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    let written = onnx::write(&big(), &first, &WriteOptions::default()).unwrap();
    onnx::write(&big(), &second, &WriteOptions::default()).unwrap();
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&second).unwrap()
    );
    assert_eq!(written.initializers, 2);
    assert_eq!(written.weight_bytes, (5 * 512 + 300 * 512) * 4);
    assert_eq!(written.names["model/proj"], "y");
    assert_eq!(written.names["model/sum"], "model/sum");
    // What exists is not overwritten, and a failed attempt leaves it alone.
    let before = std::fs::read(&first).unwrap();
    assert_eq!(
        onnx::write(&big(), &first, &WriteOptions::default())
            .unwrap_err()
            .class(),
        Class::Io
    );
    assert_eq!(std::fs::read(&first).unwrap(), before);
}

#[test]
fn external_data_gives_the_same_results() {
    let folder = tempfile::tempdir().unwrap();
    let (inline, external) = (
        folder.path().join("inline.onnx"),
        folder.path().join("external.onnx"),
    );
    onnx::write(&big(), &inline, &WriteOptions::default()).unwrap();
    let count = std::sync::atomic::AtomicU64::new(0);
    let progress = |n: u64| {
        count.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    let options = WriteOptions {
        external_data: Some(true),
        progress: Some(&progress),
        ..WriteOptions::default()
    };
    let written = onnx::write(&big(), &external, &options).unwrap();
    assert_eq!(written.files.len(), 2);
    assert_eq!(written.files[1].0, folder.path().join("external.onnx.data"));
    assert!(count.into_inner() >= written.weight_bytes);
    let inputs =
        NamedTensors::from([("x0".into(), Tensor::i64(vec![1, 3], vec![4, 0, 2]).unwrap())]);
    let expected = TractSession::open(&inline).unwrap().run(&inputs).unwrap();
    assert_eq!(
        TractSession::open(&external).unwrap().run(&inputs).unwrap(),
        expected
    );
    let summary = onnx::inspect(&external).unwrap();
    assert_eq!(
        summary.external_files,
        BTreeSet::from(["external.onnx.data".to_owned()])
    );
    assert_eq!(
        summary.weight_bytes,
        onnx::inspect(&inline).unwrap().weight_bytes
    );
    // A data file that is cut short, or gone, is noticed.
    let data = folder.path().join("external.onnx.data");
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.set_len(5000).unwrap();
    assert_eq!(
        onnx::inspect(&external).unwrap_err().code(),
        "onnx_external_data"
    );
    std::fs::remove_file(&data).unwrap();
    assert_eq!(
        onnx::inspect(&external).unwrap_err().class(),
        Class::Invalid
    );
}

#[test]
fn metadata_is_appended_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    onnx::write(&big(), &path, &WriteOptions::default()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let metadata = BTreeMap::from([
        ("source.sha256".to_owned(), "00ff".to_owned()),
        ("verification".to_owned(), "max |Δ| 1e-6".to_owned()),
    ]);
    onnx::append_metadata(&path, &metadata).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(&before));
    let summary = onnx::inspect(&path).unwrap();
    assert_eq!(summary.metadata, metadata);
    assert_eq!(summary.opsets, BTreeMap::from([("ai.onnx".to_owned(), 18)]));
    assert_eq!(summary.ops["Gather"], 2);
    assert_eq!(summary.parameters, 5 * 512 + 300 * 512);
    assert_eq!(summary.inputs.len(), 1);
    TractSession::open(&path).unwrap();
    assert_eq!(
        onnx::append_metadata(&path, &metadata).unwrap_err().code(),
        "onnx_metadata_key"
    );
}

#[test]
fn broken_files_are_refused_as_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    onnx::write(&big(), &path, &WriteOptions::default()).unwrap();
    let good = std::fs::read(&path).unwrap();
    let broken = folder.path().join("broken.onnx");
    let mut attempts: Vec<Vec<u8>> = vec![
        vec![],
        b"not a protobuf at all".to_vec(),
        vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f],
        vec![0xff; 40],
    ];
    attempts.extend([1, 7, 100, good.len() / 2, good.len() - 1].map(|n| good[..n].to_vec()));
    for bytes in attempts {
        std::fs::write(&broken, &bytes).unwrap();
        let error = onnx::inspect(&broken).unwrap_err();
        assert_eq!(
            error.class(),
            Class::Invalid,
            "{} bytes: {error}",
            bytes.len()
        );
        assert!(TractSession::open(&broken).is_err() || bytes.is_empty());
    }
}

#[test]
fn wrong_inputs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    onnx::write(&big(), &path, &WriteOptions::default()).unwrap();
    check_refusals(&TractSession::open(&path).unwrap());
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn onnx_runtime_reads_external_data_and_names_wrong_inputs() {
    let library = onnxruntime();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let options = WriteOptions {
        external_data: Some(true),
        ..WriteOptions::default()
    };
    onnx::write(&big(), &path, &options).unwrap();
    let session = OrtSession::open(&library, &path).unwrap();
    check_refusals(&session);
    // Once a library is loaded, a second path does not matter, not even an unusable one.
    let again = OrtSession::open(Path::new("/nowhere.so"), &path).unwrap();
    assert_eq!(again.engine(), session.engine());
    assert!(again.engine().starts_with("ONNX Runtime 1."));
    let inputs =
        NamedTensors::from([("x0".into(), Tensor::i64(vec![1, 3], vec![4, 0, 2]).unwrap())]);
    let expected = TractSession::open(&path).unwrap().run(&inputs).unwrap();
    assert!(difference(&expected["y"], &again.run(&inputs).unwrap()["y"]) < 1e-6);
}

/// What every session refuses.
fn check_refusals(session: &dyn Session) {
    let ids = Tensor::i64(vec![1, 2], vec![1, 2]).unwrap();
    let missing = session.run(&NamedTensors::new()).unwrap_err();
    assert_eq!(missing.code(), "missing_input");
    let unknown = NamedTensors::from([("x0".into(), ids.clone()), ("z".into(), ids.clone())]);
    assert_eq!(session.run(&unknown).unwrap_err().code(), "unknown_input");
    let float = NamedTensors::from([("x0".into(), ids.cast(DType::F32))]);
    assert_eq!(session.run(&float).unwrap_err().code(), "input_type");
    let narrow = NamedTensors::from([("x0".into(), ids.cast(DType::I32))]);
    session.run(&narrow).unwrap();
    let index = NamedTensors::from([("x0".into(), Tensor::i64(vec![1, 1], vec![99]).unwrap())]);
    assert!(session.run(&index).is_err());
}

#[test]
fn what_onnx_cannot_say_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let options = |opset| WriteOptions {
        opset,
        ..WriteOptions::default()
    };
    let refused = |module: &Module, opset, code: &str| {
        let error = onnx::write(module, &path, &options(opset)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!path.exists());
    };
    refused(&big(), 12, "onnx_opset");
    refused(&big(), 99, "onnx_opset");
    let f8 = case("f8", &[f32s(vec![b()])], |b, x| {
        b.cast("f", x[0], DType::F8E5M2)
    });
    refused(&f8.module, 18, "onnx_dtype");
    let hidden = case("hidden", &[f32s(vec![s().mul(&d(2))])], |b, _| {
        b.push(
            "f",
            Op::Iota(Iota {
                dtype: DType::I64,
                len: s(),
            }),
            &[],
        )
    });
    refused(&hidden.module, 18, "onnx_hidden_symbol");
    let mut two = big();
    two.functions.push(two.functions[0].clone());
    refused(&two, 18, "onnx_functions");
}
