//! Packages: one per operation and opset, loaded by coremltools with all types re-inferred; twice written, equal bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::coreml::{self, DeploymentTarget, RmsNormForm, WriteOptions};
use distill_convert::error::Class;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::ops::{
    Attention, Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Concat, CumSum, Expand,
    Gather, GatherElements, Iota, LayerNorm, Linear, MatMul, Reduce, ReduceKind, Reshape, RmsNorm,
    Select, Slice, SliceRange, Softmax, Squeeze, Transpose, Unary, UnaryKind, Unsqueeze,
};
use distill_convert::ir::{
    Builder, Dim, Domain, Module, Op, Param, Symbol, SymbolRange, Type, ValueId, concrete,
};
use distill_convert::tensor::{DType, NamedTensors, Tensor};

/// Float type of a case, and whether its sequence length is a symbol.
#[derive(Clone, Copy)]
struct Kind {
    float: DType,
    symbolic: bool,
}

struct Case {
    b: Builder,
    kind: Kind,
}

impl Case {
    fn new(kind: Kind) -> Self {
        let mut b = Builder::new("case");
        if kind.symbolic {
            let range = SymbolRange::Between { min: 2, max: 64 };
            let name = "seq".to_owned();
            b.symbol(Symbol { name, range }).unwrap();
        }
        Case { b, kind }
    }

    fn seq(&self) -> Dim {
        if self.kind.symbolic {
            Dim::symbol("seq")
        } else {
            Dim::from(4)
        }
    }

    /// A float input `[2, seq, 6]`.
    fn x(&mut self, name: &str) -> ValueId {
        let shape = vec![Dim::from(2), self.seq(), Dim::from(6)];
        let ty = Type::new(DType::F32, shape);
        let x = self.b.param(name, ty, Domain::Any).unwrap();
        self.b
            .cast(&format!("{name}/in"), x, self.kind.float)
            .unwrap()
    }

    /// An index input `[2, seq]`.
    fn ids(&mut self) -> ValueId {
        let ty = Type::new(DType::I64, vec![Dim::from(2), self.seq()]);
        self.b.param("ids", ty, Domain::Index { below: 5 }).unwrap()
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let n: usize = shape.iter().product();
        let values = (0..n)
            .map(|i| f32::from(u8::try_from(i % 97).unwrap()) / 64.0)
            .collect();
        let tensor = Tensor::f32(shape.to_vec(), values)
            .unwrap()
            .cast(self.kind.float);
        self.b.tensor(name, &tensor).unwrap()
    }

    fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("model/{}", op.name());
        self.b.push(&name, op, operands).unwrap()
    }

    fn finish(mut self, value: ValueId) -> Module {
        self.b.output("result", value).unwrap();
        self.b.finish().unwrap()
    }
}

type Make = Box<dyn Fn(&mut Case) -> ValueId>;

/// A case per row of the IR's table of operations, and more where an operation has several forms.
fn cases() -> BTreeMap<String, Make> {
    let mut all: BTreeMap<String, Make> = BTreeMap::new();
    let mut add = |name: &str, make: Make| {
        assert!(all.insert(name.to_owned(), make).is_none(), "{name} twice");
    };
    for kind in UNARY {
        let op = Op::Unary(Unary { kind });
        let name = op.name();
        add(
            name,
            Box::new(move |c| {
                let mut x = c.x("x");
                if kind == UnaryKind::Not {
                    x = c.op(Op::Cast(Cast { to: DType::Bool }), &[x]);
                }
                c.op(op.clone(), &[x])
            }),
        );
    }
    for kind in BINARY {
        let op = Op::Binary(Binary { kind });
        let logical = matches!(kind, BinaryKind::And | BinaryKind::Or | BinaryKind::Xor);
        add(
            op.name(),
            Box::new(move |c| {
                let (mut x, mut y) = (c.x("x"), c.weight("w/scale", &[6]));
                if logical {
                    x = c.op(Op::Cast(Cast { to: DType::Bool }), &[x]);
                    y = c.op(Op::Cast(Cast { to: DType::Bool }), &[y]);
                }
                c.op(op.clone(), &[x, y])
            }),
        );
    }
    for kind in COMPARE {
        let op = Op::Compare(Compare { kind });
        let name = op.name();
        let bools = op.clone();
        add(
            name,
            Box::new(move |c| {
                let (x, y) = (c.x("x"), c.x("y"));
                c.op(op.clone(), &[x, y])
            }),
        );
        if matches!(kind, CompareKind::Equal | CompareKind::NotEqual) {
            add(
                &format!("{name}_bool"),
                Box::new(move |c| {
                    let (x, y) = (c.x("x"), c.x("y"));
                    let x = c.op(Op::Cast(Cast { to: DType::Bool }), &[x]);
                    let y = c.op(Op::Cast(Cast { to: DType::Bool }), &[y]);
                    c.op(bools.clone(), &[x, y])
                }),
            );
        }
    }
    add(
        "select",
        Box::new(|c| {
            let (x, y) = (c.x("x"), c.x("y"));
            let less = c.op(
                Op::Compare(Compare {
                    kind: CompareKind::Less,
                }),
                &[x, y],
            );
            c.op(Op::Select(Select), &[less, x, y])
        }),
    );
    add(
        "select_scalars",
        Box::new(|c| {
            let (x, y) = (c.x("x"), c.x("y"));
            let less = c.op(
                Op::Compare(Compare {
                    kind: CompareKind::Less,
                }),
                &[x, y],
            );
            let (a, b) = (c.weight("w/a", &[]), c.weight("w/b", &[6]));
            c.op(Op::Select(Select), &[less, a, b])
        }),
    );
    add(
        "cast",
        Box::new(|c| {
            let x = c.x("x");
            c.op(Op::Cast(Cast { to: DType::I64 }), &[x])
        }),
    );
    for (name, min, max) in [
        ("clip", -0.5, 0.5),
        ("clip_below", -0.5, f32::INFINITY),
        ("clip_above", f32::NEG_INFINITY, 70000.0),
        ("clip_not", f32::NEG_INFINITY, f32::INFINITY),
    ] {
        add(
            name,
            Box::new(move |c| {
                let x = c.x("x");
                c.op(Op::Clip(Clip { min, max }), &[x])
            }),
        );
    }
    for kind in REDUCE {
        for (keep_dims, axes) in [(true, vec![2]), (false, vec![0, 2]), (false, vec![0, 1, 2])] {
            let op = Op::Reduce(Reduce {
                kind,
                axes: axes.clone(),
                keep_dims,
            });
            let name = if keep_dims {
                op.name().to_owned()
            } else {
                format!("{}_{}", op.name(), axes.len())
            };
            add(
                &name,
                Box::new(move |c| {
                    let x = c.x("x");
                    c.op(op.clone(), &[x])
                }),
            );
        }
    }
    add(
        "softmax",
        Box::new(|c| {
            let x = c.x("x");
            c.op(Op::Softmax(Softmax { axis: 2 }), &[x])
        }),
    );
    add(
        "cumsum",
        Box::new(|c| {
            let ids = c.ids();
            c.op(Op::CumSum(CumSum { axis: 1 }), &[ids])
        }),
    );
    for (name, masked) in [("attention", true), ("attention_unmasked", false)] {
        add(
            name,
            Box::new(move |c| {
                let mut operands = vec![c.x("q"), c.x("k"), c.x("v")];
                if masked {
                    operands.push(c.weight("w/mask", &[2, 1, 1]));
                }
                c.op(Op::Attention(Attention { scale: 0.4 }), &operands)
            }),
        );
    }
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        let name = match (transpose_a, transpose_b) {
            (false, false) => "matmul",
            (true, false) => "matmul_ta",
            (false, true) => "matmul_tb",
            (true, true) => "matmul_ta_tb",
        };
        add(
            name,
            Box::new(move |c| {
                let (x, y) = (c.x("x"), c.x("y"));
                let flip = Op::Transpose(Transpose {
                    perm: vec![0, 2, 1],
                });
                // Both have the shape [2, seq, 6]; one is turned so that the inner sizes agree.
                let y = if transpose_a == transpose_b {
                    c.op(flip, &[y])
                } else {
                    y
                };
                c.op(
                    Op::MatMul(MatMul {
                        transpose_a,
                        transpose_b,
                    }),
                    &[x, y],
                )
            }),
        );
    }
    for bias in [false, true] {
        add(
            if bias { "linear" } else { "linear_no_bias" },
            Box::new(move |c| {
                let mut operands = vec![c.x("x"), c.weight("w/weight", &[5, 6])];
                if bias {
                    operands.push(c.weight("w/bias", &[5]));
                }
                c.op(Op::Linear(Linear), &operands)
            }),
        );
        add(
            if bias {
                "linear_computed"
            } else {
                "linear_computed_no_bias"
            },
            Box::new(move |c| {
                let w = c.weight("w/weight", &[5, 6]);
                let w = c.op(
                    Op::Unary(Unary {
                        kind: UnaryKind::Exp,
                    }),
                    &[w],
                );
                let mut operands = vec![c.x("x"), w];
                if bias {
                    operands.push(c.weight("w/bias", &[5]));
                }
                c.op(Op::Linear(Linear), &operands)
            }),
        );
    }
    for parameters in 0..3 {
        add(
            ["layer_norm_plain", "layer_norm_gamma", "layer_norm"][parameters],
            Box::new(move |c| {
                let mut operands = vec![c.x("x")];
                operands.extend((0..parameters).map(|i| c.weight(["w/gamma", "w/beta"][i], &[6])));
                c.op(
                    Op::LayerNorm(LayerNorm {
                        axis: 2,
                        epsilon: 1e-12,
                    }),
                    &operands,
                )
            }),
        );
    }
    for gamma in [false, true] {
        add(
            if gamma { "rms_norm" } else { "rms_norm_plain" },
            Box::new(move |c| {
                let mut operands = vec![c.x("x")];
                if gamma {
                    operands.push(c.weight("w/gamma", &[6]));
                }
                c.op(
                    Op::RmsNorm(RmsNorm {
                        axis: 2,
                        epsilon: 1e-6,
                    }),
                    &operands,
                )
            }),
        );
    }
    add(
        "reshape",
        Box::new(|c| {
            let x = c.x("x");
            let shape = vec![Dim::from(2), c.seq(), Dim::from(3), Dim::from(2)];
            c.op(Op::Reshape(Reshape { shape }), &[x])
        }),
    );
    add(
        "reshape_joined",
        Box::new(|c| {
            let x = c.x("x");
            let shape = vec![c.seq().mul(&Dim::from(2)), Dim::from(6)];
            c.op(Op::Reshape(Reshape { shape }), &[x])
        }),
    );
    add(
        "reshape_two_symbols",
        Box::new(|c| {
            let (x, y) = (c.x("x"), c.x("y"));
            let scores = c.op(
                Op::MatMul(MatMul {
                    transpose_a: false,
                    transpose_b: true,
                }),
                &[x, y],
            );
            let shape = vec![Dim::from(1), Dim::from(2), c.seq(), c.seq()];
            c.op(Op::Reshape(Reshape { shape }), &[scores])
        }),
    );
    add(
        "transpose",
        Box::new(|c| {
            let x = c.x("x");
            c.op(
                Op::Transpose(Transpose {
                    perm: vec![2, 0, 1],
                }),
                &[x],
            )
        }),
    );
    add(
        "expand",
        Box::new(|c| {
            let w = c.weight("w/row", &[6]);
            let shape = vec![Dim::from(2), c.seq(), Dim::from(6)];
            let x = c.x("x");
            let wide = c.op(Op::Expand(Expand { shape }), &[w]);
            c.op(
                Op::Binary(Binary {
                    kind: BinaryKind::Add,
                }),
                &[x, wide],
            )
        }),
    );
    add(
        "expand_axes",
        Box::new(|c| {
            let x = c.x("x");
            let shape = vec![Dim::from(1), Dim::from(2), c.seq(), Dim::from(6)];
            c.op(Op::Expand(Expand { shape }), &[x])
        }),
    );
    add(
        "expand_same",
        Box::new(|c| {
            let x = c.x("x");
            let shape = vec![Dim::from(2), c.seq(), Dim::from(6)];
            c.op(Op::Expand(Expand { shape }), &[x])
        }),
    );
    add(
        "slice",
        Box::new(|c| {
            let x = c.x("x");
            let seq = c.seq();
            let mut step = SliceRange::new(2, 1, 6);
            step.step = 2;
            let ranges = vec![SliceRange::new(1, 1, seq), step];
            c.op(Op::Slice(Slice { ranges }), &[x])
        }),
    );
    add(
        "slice_table",
        Box::new(|c| {
            let (x, table) = (c.x("x"), c.weight("w/table", &[64, 6]));
            let ranges = vec![SliceRange::new(0, 0, c.seq())];
            let rows = c.op(Op::Slice(Slice { ranges }), &[table]);
            c.op(
                Op::Binary(Binary {
                    kind: BinaryKind::Add,
                }),
                &[x, rows],
            )
        }),
    );
    add(
        "slice_last",
        Box::new(|c| {
            let x = c.x("x");
            let last = c.seq().sub(&Dim::from(1));
            let ranges = vec![SliceRange::new(1, last, c.seq())];
            c.op(Op::Slice(Slice { ranges }), &[x])
        }),
    );
    add(
        "concat",
        Box::new(|c| {
            let (x, y) = (c.x("x"), c.x("y"));
            c.op(Op::Concat(Concat { axis: 1 }), &[x, y, x])
        }),
    );
    add(
        "squeeze",
        Box::new(|c| {
            let x = c.x("x");
            let ranges = vec![SliceRange::new(1, 0, 1)];
            let first = c.op(Op::Slice(Slice { ranges }), &[x]);
            c.op(Op::Squeeze(Squeeze { axes: vec![1] }), &[first])
        }),
    );
    add(
        "squeeze_last",
        Box::new(|c| {
            let x = c.x("x");
            let last = c.seq().sub(&Dim::from(1));
            let ranges = vec![SliceRange::new(1, last, c.seq())];
            let last = c.op(Op::Slice(Slice { ranges }), &[x]);
            c.op(Op::Squeeze(Squeeze { axes: vec![1] }), &[last])
        }),
    );
    add(
        "unsqueeze",
        Box::new(|c| {
            let x = c.x("x");
            c.op(Op::Unsqueeze(Unsqueeze { axes: vec![0, 2] }), &[x])
        }),
    );
    add(
        "iota",
        Box::new(|c| {
            let ids = c.ids();
            let len = c.seq();
            let positions = c.op(
                Op::Iota(Iota {
                    dtype: DType::I64,
                    len,
                }),
                &[],
            );
            c.op(
                Op::Binary(Binary {
                    kind: BinaryKind::Add,
                }),
                &[ids, positions],
            )
        }),
    );
    add(
        "gather",
        Box::new(|c| {
            let (table, ids) = (c.weight("w/table", &[5, 6]), c.ids());
            c.op(Op::Gather(Gather { axis: 0 }), &[table, ids])
        }),
    );
    add(
        "gather_bool",
        Box::new(|c| {
            let x = c.x("x");
            let bools = c.op(Op::Cast(Cast { to: DType::Bool }), &[x]);
            let index =
                c.b.tensor("w/index", &Tensor::i64(vec![], vec![3]).unwrap())
                    .unwrap();
            c.op(Op::Gather(Gather { axis: 2 }), &[bools, index])
        }),
    );
    add(
        "gather_elements",
        Box::new(|c| {
            let x = c.x("x");
            let ids = c.ids();
            let ids = c.op(Op::Unsqueeze(Unsqueeze { axes: vec![2] }), &[ids]);
            c.op(Op::GatherElements(GatherElements { axis: 2 }), &[x, ids])
        }),
    );
    all
}

const UNARY: [UnaryKind; 21] = [
    UnaryKind::Abs,
    UnaryKind::Neg,
    UnaryKind::Sign,
    UnaryKind::Floor,
    UnaryKind::Ceil,
    UnaryKind::Round,
    UnaryKind::Not,
    UnaryKind::Relu,
    UnaryKind::Sqrt,
    UnaryKind::Rsqrt,
    UnaryKind::Reciprocal,
    UnaryKind::Exp,
    UnaryKind::Log,
    UnaryKind::Sin,
    UnaryKind::Cos,
    UnaryKind::Tanh,
    UnaryKind::Sigmoid,
    UnaryKind::Erf,
    UnaryKind::Silu,
    UnaryKind::GeluErf,
    UnaryKind::GeluTanh,
];
const BINARY: [BinaryKind; 10] = [
    BinaryKind::Add,
    BinaryKind::Sub,
    BinaryKind::Mul,
    BinaryKind::Div,
    BinaryKind::Pow,
    BinaryKind::Min,
    BinaryKind::Max,
    BinaryKind::And,
    BinaryKind::Or,
    BinaryKind::Xor,
];
const COMPARE: [CompareKind; 6] = [
    CompareKind::Equal,
    CompareKind::NotEqual,
    CompareKind::Less,
    CompareKind::LessEqual,
    CompareKind::Greater,
    CompareKind::GreaterEqual,
];
const REDUCE: [ReduceKind; 5] = [
    ReduceKind::Sum,
    ReduceKind::Mean,
    ReduceKind::Max,
    ReduceKind::Min,
    ReduceKind::L2,
];

fn options(target: DeploymentTarget, rms_norm: RmsNormForm) -> WriteOptions<'static> {
    WriteOptions {
        deployment_target: target,
        explicit_target: true,
        rms_norm,
        expand_weights: false,
        progress: None,
    }
}

/// Writes every case for every generation, in both precisions, with a known and a symbolic length.
fn write_all(folder: &Path) -> usize {
    let mut written = 0;
    for target in [
        DeploymentTarget::IOS15,
        DeploymentTarget::MacOS13,
        DeploymentTarget::IOS17,
        DeploymentTarget::IOS18,
    ] {
        for float in [DType::F32, DType::F16] {
            for symbolic in [false, true] {
                for (name, make) in cases() {
                    for form in forms(&name, float) {
                        let mut case = Case::new(Kind { float, symbolic });
                        let value = make(&mut case);
                        let module = case.finish(value);
                        let file = format!("{target}-{float}-{symbolic}-{name}-{form:?}.mlpackage");
                        coreml::write(&module, &folder.join(&file), &options(target, form))
                            .unwrap_or_else(|e| panic!("{file}: {e}"));
                        written += 1;
                    }
                }
            }
        }
    }
    written
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn every_operation_loads_in_coremltools() {
    let folder = tempfile::tempdir().unwrap();
    assert!(write_all(folder.path()) > 1000);
    crate::common::judge("check_mlpackage.py", &[folder.path()]);
}

/// Seeded numbers in `0.1..2`, in which every function is smooth, and indices below the least size that they point into.
fn inputs(module: &Module) -> NamedTensors {
    let function = module.main().unwrap();
    let mut state = 7u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let sizes = [("seq".to_owned(), 4)].into();
    function
        .params
        .iter()
        .map(|p| {
            let value = function.value(p.value);
            let shape = concrete(&value.ty.shape, &sizes).unwrap();
            let n: usize = shape.iter().product();
            let tensor = if value.ty.dtype.is_float() {
                let values = (0..n).map(|_| 0.1 + f32::from(u8::try_from(next()).unwrap()) / 135.0);
                Tensor::f32(shape, values.collect())
                    .unwrap()
                    .cast(value.ty.dtype)
            } else {
                let values = (0..n).map(|_| i64::from(next() % 5));
                Tensor::int(value.ty.dtype, shape, values.collect()).unwrap()
            };
            (value.name.clone(), tensor)
        })
        .collect()
}

/// Runs a module on the inputs, in the types that it takes.
fn run(module: &Module, inputs: &NamedTensors) -> Tensor {
    let function = module.main().unwrap();
    let cast = |p: &Param| {
        let value = function.value(p.value);
        (value.name.clone(), inputs[&value.name].cast(value.ty.dtype))
    };
    let inputs = function.params.iter().map(cast).collect();
    let interpreter = Interpreter::new(module, Mode::F32).unwrap();
    interpreter
        .run(&inputs, None)
        .unwrap()
        .remove("result")
        .unwrap()
}

/// What was written is read back by the reader, which shares no code with the writer, and computes the same; every value that the
/// source names is there under its name and with its type.
#[test]
fn every_operation_means_the_same_when_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for target in [
        DeploymentTarget::IOS15,
        DeploymentTarget::IOS17,
        DeploymentTarget::IOS18,
    ] {
        for float in [DType::F32, DType::F16] {
            for symbolic in [false, true] {
                for (name, make) in cases() {
                    for form in forms(&name, float) {
                        let mut case = Case::new(Kind { float, symbolic });
                        let value = make(&mut case);
                        let module = case.finish(value);
                        let at = format!("{target}-{float}-{symbolic}-{name}-{form:?}");
                        let path = folder.path().join(&at);
                        coreml::write(&module, &path, &options(target, form)).unwrap();
                        match coreml::read(&path) {
                            Err(error) => wrong.push(format!("{at}: {error}")),
                            Ok(package) => {
                                compared += 1;
                                wrong.extend(
                                    difference(&module, &package.module, float)
                                        .map(|d| format!("{at}: {d}")),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {compared}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(compared > 1000);
}

fn difference(source: &Module, read: &Module, float: DType) -> Option<String> {
    let (f, g) = (source.main().unwrap(), read.main().unwrap());
    for node in &f.nodes {
        let value = f.value(node.result());
        let found = g.values.iter().find(|v| v.name == value.name);
        // A copy is not an operation of the IR. Nothing in half precision is above 65504.
        let open = |bound: f32| bound.is_infinite() || float == DType::F16 && bound.abs() > 65504.0;
        let copies = matches!(&node.op, Op::Expand(o) if o.shape == f.ty(node.operands[0]).shape)
            || matches!(&node.op, Op::Clip(o) if open(o.min) && open(o.max))
            || matches!(&node.op, Op::Iota(o) if o.len.known().is_some());
        let narrow = if value.ty.dtype == DType::I64 {
            DType::I32
        } else {
            value.ty.dtype
        };
        match found {
            None if copies => {}
            None => return Some(format!("`{}` is lost", value.name)),
            Some(v) if v.ty.dtype != narrow || v.ty.rank() != value.ty.rank() => {
                return Some(format!("`{}` is {}, was {}", v.name, v.ty, value.ty));
            }
            Some(_) => {}
        }
    }
    let (a, b) = (
        run(source, &inputs(source)).to_f64(),
        run(read, &inputs(source)).to_f64(),
    );
    let tolerance = if float == DType::F16 { 2e-3 } else { 2e-6 };
    let same = a.len() == b.len()
        && a.iter()
            .zip(&b)
            .all(|(x, y)| x == y || (x - y).abs() <= tolerance * x.abs().max(y.abs()).max(1.0));
    (!same || a.is_empty()).then(|| format!("{a:?} became {b:?}"))
}

/// What a normalisation can be made of.
fn forms(case: &str, float: DType) -> Vec<RmsNormForm> {
    if case.starts_with("rms_norm") && float == DType::F16 {
        vec![RmsNormForm::Concat, RmsNormForm::Scaled, RmsNormForm::Fp32]
    } else {
        vec![RmsNormForm::Concat]
    }
}

#[test]
fn every_operation_has_a_case() {
    let cases = cases();
    let others = crate::coreml_ops::covered();
    for row in Op::TABLE {
        // Programs have no inverse of a matrix.
        let none = row.name == "inverse";
        let some = cases.contains_key(row.name) || others.contains(row.name);
        assert_ne!(some, none, "`{}`", row.name);
    }
}

/// Every file of a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.insert(
                    path.strip_prefix(folder).unwrap().to_path_buf(),
                    fs::read(path).unwrap(),
                );
            }
        }
    }
    all
}

fn module_of(name: &str, kind: Kind) -> Module {
    let mut case = Case::new(kind);
    let value = cases()[name](&mut case);
    case.finish(value)
}

const HALF: Kind = Kind {
    float: DType::F16,
    symbolic: false,
};

#[test]
fn written_twice_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let module = module_of("linear", HALF);
    let [a, b] = ["a", "b"].map(|name| {
        let path = folder.path().join(name);
        coreml::write(&module, &path, &WriteOptions::default()).unwrap();
        coreml::set_metadata(&path, &BTreeMap::from([("k".to_owned(), "v".to_owned())])).unwrap();
        files(&path)
    });
    assert_eq!(a.len(), 3);
    assert_eq!(a, b);
}

#[test]
fn a_failure_leaves_nothing_and_an_existing_package_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlpackage");
    let mut case = Case::new(HALF);
    let wide = Type::known(DType::F32, &[1, 1, 1, 1, 1, 2]);
    let x = case.b.param("x", wide, Domain::Any).unwrap();
    let y = case.op(
        Op::Unary(Unary {
            kind: UnaryKind::Exp,
        }),
        &[x],
    );
    let error = coreml::write(&case.finish(y), &path, &WriteOptions::default()).unwrap_err();
    assert_eq!(error.class(), Class::Unsupported);
    assert!(error.to_string().contains("`x`"), "{error}");
    assert!(!path.exists());
    coreml::write(&module_of("exp", HALF), &path, &WriteOptions::default()).unwrap();
    let before = files(&path);
    assert!(coreml::write(&module_of("log", HALF), &path, &WriteOptions::default()).is_err());
    assert_eq!(files(&path), before);
}

fn enumerated(inputs: usize) -> Module {
    let mut b = Builder::new("case");
    let range = SymbolRange::OneOf(vec![16, 32, 64]);
    b.symbol(Symbol {
        name: "seq".into(),
        range,
    })
    .unwrap();
    let ty = Type::new(DType::I64, vec![Dim::from(1), Dim::symbol("seq")]);
    let mut sum = None;
    for i in 0..inputs {
        let x = b.param(&format!("x{i}"), ty.clone(), Domain::Any).unwrap();
        sum = Some(match sum {
            None => x,
            Some(before) => b.binary("sum", BinaryKind::Add, before, x).unwrap(),
        });
    }
    let twice = b
        .binary("twice", BinaryKind::Add, sum.unwrap(), sum.unwrap())
        .unwrap();
    b.output("result", twice).unwrap();
    b.finish().unwrap()
}

#[test]
fn several_enumerated_inputs_need_ios_18() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let chosen = options(DeploymentTarget::IOS17, RmsNormForm::Concat);
    let error = coreml::write(&enumerated(2), &path("a"), &chosen).unwrap_err();
    assert!(error.to_string().contains("`x0`, `x1`"), "{error}");
    assert!(error.hint().unwrap().contains("iOS18"));
    let raised = coreml::write(&enumerated(2), &path("b"), &WriteOptions::default()).unwrap();
    assert_eq!((raised.spec_version, raised.warnings.len()), (9, 1));
    let one = coreml::write(&enumerated(1), &path("c"), &chosen).unwrap();
    assert_eq!((one.spec_version, one.warnings.len()), (8, 0));
}
