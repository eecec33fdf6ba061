//! The interpreter against ONNX Runtime at 128 tokens, on the same cores, in one run: MiniLM-L6 in single precision, and a
//! six-layer transformer of 126 MB in half precision, read back from its Core ML package (both with random weights).
//!
//! ```text
//! ORT_DYLIB_PATH=…/libonnxruntime.so cargo bench --bench interpreter --no-default-features --features ort [-- MODEL.onnx INPUT=1,3,320,320…]…
//! ```
//! ONNX files, each with the shapes of its inputs, are measured in their place.
//!
//! Both engines take turns, so that whatever else the machine does hits both; the figures are the fastest run, the median,
//! and the median of the ratios of neighbouring runs. ONNX Runtime runs at its highest optimisation level with one thread per core.

// A program for the terminal: it prints, and stops at the first failure.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use distill_convert::eval::{Interpreter, Mode, Observer};
use distill_convert::ir::ops::{
    BinaryKind, Gather, LayerNorm, Linear, MatMul, Reshape, Softmax, Transpose, UnaryKind,
};
use distill_convert::ir::{Builder, Dim, Domain, Function, Module, Op, Type, ValueId};
use distill_convert::passes::Islands;
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use distill_convert::{coreml, onnx, passes};

/// The sizes of an encoder with six layers and twelve heads.
struct Sizes {
    hidden: usize,
    vocab: usize,
}

const MINILM: Sizes = Sizes {
    hidden: 384,
    vocab: 30522,
};
/// 63 million parameters.
const SIX_LAYERS: Sizes = Sizes {
    hidden: 768,
    vocab: 26500,
};
const LAYERS: usize = 6;
const HEADS: usize = 12;
const TOKENS: usize = 128;
const RUNS: usize = 60;
/// Before every run: the other engine's threads spin on the cores for some time after its own.
const PAUSE: Duration = Duration::from_millis(30);

/// Random weights of a plausible size, the same in every run.
struct Weights(u64);

impl Weights {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = u16::try_from(self.0 >> 48).unwrap();
        (f32::from(bits) / 65_536.0 - 0.5) * 0.15
    }

    fn tensor(&mut self, b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
        let values = (0..shape.iter().product()).map(|_| self.next()).collect();
        b.tensor(name, &Tensor::f32(shape.to_vec(), values).unwrap())
            .unwrap()
    }

    fn linear(
        &mut self,
        b: &mut Builder,
        name: &str,
        x: ValueId,
        from: usize,
        to: usize,
    ) -> ValueId {
        let w = self.tensor(b, &format!("{name}.weight"), &[to, from]);
        let bias = self.tensor(b, &format!("{name}.bias"), &[to]);
        b.push(name, Op::Linear(Linear), &[x, w, bias]).unwrap()
    }

    fn norm(&mut self, b: &mut Builder, name: &str, x: ValueId, hidden: usize) -> ValueId {
        let ones = Tensor::f32(vec![hidden], vec![1.0; hidden]).unwrap();
        let gamma = b.tensor(&format!("{name}.weight"), &ones).unwrap();
        let beta = self.tensor(b, &format!("{name}.bias"), &[hidden]);
        let op = LayerNorm {
            axis: 2,
            epsilon: 1e-12,
        };
        b.push(name, Op::LayerNorm(op), &[x, gamma, beta]).unwrap()
    }
}

fn shape(dims: &[usize]) -> Op {
    let shape = dims.iter().map(|&d| Dim::from(d)).collect();
    Op::Reshape(Reshape { shape })
}

fn encoder(sizes: &Sizes) -> Module {
    let Sizes { hidden, vocab } = *sizes;
    let mut w = Weights(1);
    let b = &mut Builder::new("encoder");
    let ids = Type::known(DType::I64, &[1, TOKENS]);
    let mask = Type::known(DType::F32, &[1, 1, 1, TOKENS]);
    let ids = b
        .param(
            "input_ids",
            ids,
            Domain::Index {
                below: vocab.try_into().unwrap(),
            },
        )
        .unwrap();
    let mask = b.param("mask", mask, Domain::Any).unwrap();
    let table = w.tensor(b, "word_embeddings", &[vocab, hidden]);
    let x = b
        .push("embeddings", Op::Gather(Gather { axis: 0 }), &[table, ids])
        .unwrap();
    let positions = w.tensor(b, "position_embeddings", &[1, TOKENS, hidden]);
    let x = b.binary("embedded", BinaryKind::Add, x, positions).unwrap();
    let mut x = w.norm(b, "embeddings_norm", x, hidden);
    let scale = b
        .scalar(
            "scale",
            DType::F32,
            f64::from(u32::try_from(hidden / HEADS).unwrap())
                .sqrt()
                .recip(),
        )
        .unwrap();
    for layer in 0..LAYERS {
        x = b
            .scoped(&format!("layers.{layer}"), |b| {
                Ok(block(b, &mut w, x, mask, scale, hidden))
            })
            .unwrap();
    }
    b.output("last_hidden_state", x).unwrap();
    std::mem::replace(b, Builder::new("")).finish().unwrap()
}

fn block(
    b: &mut Builder,
    w: &mut Weights,
    x: ValueId,
    mask: ValueId,
    scale: ValueId,
    hidden: usize,
) -> ValueId {
    let (head, ffn) = (hidden / HEADS, 4 * hidden);
    let mut split = |b: &mut Builder, name: &str, perm: [usize; 4]| {
        let y = w.linear(b, name, x, hidden, hidden);
        let y = b
            .push("split", shape(&[1, TOKENS, HEADS, head]), &[y])
            .unwrap();
        let perm = perm.to_vec();
        b.push("heads", Op::Transpose(Transpose { perm }), &[y])
            .unwrap()
    };
    let q = split(b, "q", [0, 2, 1, 3]);
    let k = split(b, "k", [0, 2, 1, 3]);
    let v = split(b, "v", [0, 2, 1, 3]);
    let scores = MatMul {
        transpose_a: false,
        transpose_b: true,
    };
    let s = b.push("scores", Op::MatMul(scores), &[q, k]).unwrap();
    let s = b.binary("scaled", BinaryKind::Mul, s, scale).unwrap();
    let s = b.binary("masked", BinaryKind::Add, s, mask).unwrap();
    let p = b
        .push("probabilities", Op::Softmax(Softmax { axis: 3 }), &[s])
        .unwrap();
    let y = b
        .push("context", Op::MatMul(MatMul::default()), &[p, v])
        .unwrap();
    let perm = vec![0, 2, 1, 3];
    let y = b
        .push("merge", Op::Transpose(Transpose { perm }), &[y])
        .unwrap();
    let y = b.push("merged", shape(&[1, TOKENS, hidden]), &[y]).unwrap();
    let y = w.linear(b, "o", y, hidden, hidden);
    let y = b.binary("residual", BinaryKind::Add, y, x).unwrap();
    let x = w.norm(b, "norm_1", y, hidden);
    let y = w.linear(b, "up", x, hidden, ffn);
    let y = b.unary("gelu", UnaryKind::GeluErf, y).unwrap();
    let y = w.linear(b, "down", y, ffn, hidden);
    let y = b.binary("residual", BinaryKind::Add, y, x).unwrap();
    w.norm(b, "norm_2", y, hidden)
}

/// ONNX Runtime at its best, which the crate's own session (made for comparing) is not.
struct Ort(ort::session::Session);

impl Ort {
    fn open(environment: &ort::environment::Environment, model: &std::path::Path) -> Self {
        let threads = std::thread::available_parallelism().unwrap().get();
        Ort(ort::session::Session::builder(environment)
            .unwrap()
            .with_intra_threads(threads)
            .unwrap()
            .commit_from_file(model)
            .unwrap())
    }

    /// All floating-point outputs, one after the other, in the order of their names.
    fn run(&mut self, inputs: &NamedTensors) -> Vec<f32> {
        let values: Vec<(String, ort::value::DynValue)> = inputs
            .iter()
            .map(|(name, tensor)| {
                let shape = tensor.shape().to_vec();
                let value = if tensor.dtype().is_float() {
                    let values = tensor.floats().unwrap().to_vec();
                    ort::value::Tensor::from_array((shape, values))
                        .unwrap()
                        .into_dyn()
                } else if tensor.dtype() == DType::I32 {
                    let values = tensor.ints().unwrap().iter();
                    let values: Vec<i32> = values.map(|&v| v.try_into().unwrap()).collect();
                    ort::value::Tensor::from_array((shape, values))
                        .unwrap()
                        .into_dyn()
                } else {
                    let values = tensor.ints().unwrap().to_vec();
                    ort::value::Tensor::from_array((shape, values))
                        .unwrap()
                        .into_dyn()
                };
                (name.clone(), value)
            })
            .collect();
        let outputs = self.0.run(values).unwrap();
        let named: BTreeMap<&str, Vec<f32>> = outputs
            .iter()
            .filter_map(|(name, value)| {
                let (_, values) = value.try_extract_tensor::<f32>().ok()?;
                Some((name, values.to_vec()))
            })
            .collect();
        named.into_values().flatten().collect()
    }
}

/// Time per kind of operation: from the end of one node to the end of the next.
struct Profile {
    since: Instant,
    seconds: BTreeMap<&'static str, f64>,
}

impl Observer for Profile {
    fn observe(&mut self, function: &Function, value: ValueId, _: &Tensor) {
        let name = function.producer(value).unwrap().op.name();
        *self.seconds.entry(name).or_default() += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Fastest and median, in milliseconds.
fn spread(seconds: &mut [f64]) -> (f64, f64) {
    let median = median(seconds);
    (seconds[0] * 1e3, median * 1e3)
}

fn timed<T>(times: &mut Vec<f64>, body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = body();
    times.push(start.elapsed().as_secs_f64());
    result
}

/// A model of an ONNX file at the shapes `NAME=1,2,3`, and inputs for it.
fn read(file: &std::path::Path, shapes: &[String]) -> (Module, NamedTensors) {
    let shapes = shapes.iter().map(|text| {
        let (name, dims) = text.split_once('=').unwrap();
        let dims = dims.split(',').map(|d| d.parse().unwrap()).collect();
        (name.to_owned(), dims)
    });
    let options = onnx::ReadOptions {
        shapes: shapes.collect(),
        ..onnx::ReadOptions::default()
    };
    let module = passes::fold(&onnx::read(file, &options).unwrap().module).unwrap();
    let main = module.main().unwrap();
    let mut random = Weights(7);
    let inputs = main.params.iter().map(|param| {
        let value = main.value(param.value);
        let shape: Vec<usize> = value.ty.shape.iter().map(|d| d.known().unwrap()).collect();
        let n = shape.iter().product();
        let tensor = if value.ty.dtype.is_float() {
            Tensor::f32(shape, (0..n).map(|_| random.next() * 10.0).collect())
        } else {
            Tensor::int(value.ty.dtype, shape, vec![1; n])
        };
        (value.name.clone(), tensor.unwrap())
    });
    let inputs = inputs.collect();
    (module, inputs)
}

fn main() {
    let library = std::env::var("ORT_DYLIB_PATH").unwrap();
    let environment = ort::init_from(library).unwrap().build().unwrap();
    // Cargo adds options of its own.
    let arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let mut models: Vec<(PathBuf, Vec<String>)> = Vec::new();
    for argument in arguments {
        match models.last_mut() {
            Some((_, shapes)) if argument.contains('=') => shapes.push(argument),
            _ => models.push((argument.into(), Vec::new())),
        }
    }
    for (file, shapes) in &models {
        println!("{}", file.display());
        let (module, inputs) = read(file, shapes);
        compare(&module, &inputs, &mut Ort::open(&environment, file));
    }
    if !models.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    println!("MiniLM-L6");
    let module = encoder(&MINILM);
    let file = folder.path().join("minilm.onnx");
    onnx::write(&module, &file, &onnx::WriteOptions::default()).unwrap();
    compare(
        &module,
        &text(&MINILM, DType::I64),
        &mut Ort::open(&environment, &file),
    );

    println!("six layers, half precision, from a Core ML package");
    let package = folder.path().join("six.mlpackage");
    let (half, _) = passes::precision(&encoder(&SIX_LAYERS), &Islands::default()).unwrap();
    let written = coreml::write(&half, &package, &coreml::WriteOptions::default()).unwrap();
    println!("{} MB of weights", written.weight_bytes / 1_000_000);
    let module = coreml::read(&package).unwrap().module;
    let file = folder.path().join("six.onnx");
    onnx::write(&module, &file, &onnx::WriteOptions::default()).unwrap();
    compare(
        &module,
        &text(&SIX_LAYERS, DType::I32),
        &mut Ort::open(&environment, &file),
    );
}

/// What a package takes has the integers that Core ML has.
fn text(sizes: &Sizes, ids_dtype: DType) -> NamedTensors {
    let vocab = i64::try_from(sizes.vocab).unwrap();
    let ids: Vec<i64> = (0..128).map(|i| i * 199 % vocab).collect();
    let mask: Vec<f32> = (0..TOKENS)
        .map(|i| if i < 120 { 0.0 } else { -1e4 })
        .collect();
    NamedTensors::from([
        (
            "input_ids".to_owned(),
            Tensor::int(ids_dtype, vec![1, TOKENS], ids).unwrap(),
        ),
        (
            "mask".to_owned(),
            Tensor::f32(vec![1, 1, 1, TOKENS], mask).unwrap(),
        ),
    ])
}

/// Both engines in turn, and where the interpreter's time goes.
fn compare(module: &Module, inputs: &NamedTensors, ort: &mut Ort) {
    let exact = Interpreter::new(module, Mode::F32).unwrap();
    let expected = ort.run(inputs);
    let found = exact.run(inputs, None).unwrap();
    let found: Vec<f32> = found
        .into_values()
        .filter(|t| t.dtype().is_float())
        .flat_map(|t| t.floats().unwrap().to_vec())
        .collect();
    assert_eq!(found.len(), expected.len());
    let worst = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    println!("largest difference {worst:.1e}, largest value {largest:.2}");

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        std::thread::sleep(PAUSE);
        timed(&mut theirs, || ort.run(inputs));
        std::thread::sleep(PAUSE);
        timed(&mut ours, || exact.run(inputs, None).unwrap());
    }
    let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    let ratio = median(&mut ratios);
    let (theirs, ours) = (spread(&mut theirs), spread(&mut ours));
    println!("                 fastest    median");
    println!("ONNX Runtime     {:7.2} ms {:7.2} ms", theirs.0, theirs.1);
    println!("interpreter f32  {:7.2} ms {:7.2} ms", ours.0, ours.1);
    println!("ratio            {:7.2}    {ratio:7.2}", ours.0 / theirs.0);

    let mut profile = Profile {
        since: Instant::now(),
        seconds: BTreeMap::new(),
    };
    for _ in 0..RUNS {
        profile.since = Instant::now();
        exact.run(inputs, Some(&mut profile)).unwrap();
    }
    for (name, seconds) in &profile.seconds {
        let runs = f64::from(u16::try_from(RUNS).unwrap());
        println!("  {name:12} {:7.2} ms", seconds * 1e3 / runs);
    }
}
