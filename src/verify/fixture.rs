//! Models and sessions for the tests of verification.

use std::fmt::Write;
use std::path::Path;

use super::{Prediction, Task};
use crate::error::{IoError, Result};
use crate::ir::ops::Gather;
use crate::ir::{Builder, Claim, Dim, Domain, Module, Op, Symbol, SymbolRange, Type};
use crate::runtime::{NamedTensors, Session};
use crate::tensor::{DType, Tensor, num};

/// Number of token ids.
pub(super) const VOCAB: u64 = 16;
/// Width of the logits.
pub(super) const WIDTH: usize = 8;

fn build(batch: Dim, seq: Dim, symbols: Vec<Symbol>, mask: bool) -> Module {
    let mut b = Builder::new("fixture");
    for symbol in symbols {
        b.symbol(symbol).unwrap();
    }
    let ty = Type::new(DType::I64, vec![batch, seq]);
    let ids = b
        .param("input_ids", ty.clone(), Domain::Index { below: VOCAB })
        .unwrap();
    if mask {
        b.param("attention_mask", ty, Domain::Mask).unwrap();
        b.claim(Claim::IgnoresPadding {
            input: "input_ids".into(),
            mask: "attention_mask".into(),
            per_position: vec!["logits".into()],
            pooled: Vec::new(),
        });
    }
    b.claim(Claim::Causal {
        inputs: vec!["input_ids".into()],
        output: "logits".into(),
    });
    let table = b.tensor("table", &table()).unwrap();
    let logits = b
        .push("lookup", Op::Gather(Gather { axis: 0 }), &[table, ids])
        .unwrap();
    b.output("logits", logits).unwrap();
    b.finish().unwrap()
}

/// Token ids (and a mask) to logits by lookup, `batch` 1 or 2, `seq` as given.
pub(super) fn model(seq: &[SymbolRange], mask: bool) -> Module {
    let symbols = vec![
        Symbol {
            name: "batch".into(),
            range: SymbolRange::Between { min: 1, max: 2 },
        },
        Symbol {
            name: "seq".into(),
            range: seq[0].clone(),
        },
    ];
    build(Dim::symbol("batch"), Dim::symbol("seq"), symbols, mask)
}

/// The same for the shape `[1, seq]`.
pub(super) fn fixed(seq: usize, mask: bool) -> Module {
    build(Dim::from(1), Dim::from(seq), Vec::new(), mask)
}

/// The lookup table: no two rows alike, both signs.
pub(super) fn table() -> Tensor {
    let rows = num::usize_of(VOCAB);
    let values = (0..rows * WIDTH)
        .map(|i| num::f32_of((i * 37) % 101) * 0.1 - 5.0)
        .collect();
    Tensor::f32(vec![rows, WIDTH], values).unwrap()
}

type Body = Box<dyn Fn(&NamedTensors) -> Result<NamedTensors>>;

/// A session that does what it is told.
pub(super) struct Fake {
    name: String,
    body: Body,
}

impl Session for Fake {
    fn engine(&self) -> String {
        self.name.clone()
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        (self.body)(inputs)
    }
}

fn lookup(inputs: &NamedTensors) -> (Vec<usize>, Vec<f32>) {
    let ids = &inputs["input_ids"];
    let rows = table();
    let rows = rows.floats().unwrap();
    let values = ids
        .ints()
        .unwrap()
        .iter()
        .flat_map(|&id| {
            let at = usize::try_from(id).unwrap() * WIDTH;
            rows[at..at + WIDTH].to_vec()
        })
        .collect();
    (vec![ids.shape()[0], ids.shape()[1], WIDTH], values)
}

impl Fake {
    pub(super) fn new(
        name: &str,
        body: impl Fn(&NamedTensors) -> Result<NamedTensors> + 'static,
    ) -> Self {
        Fake {
            name: name.to_owned(),
            body: Box::new(body),
        }
    }

    /// The honest logits, changed by `change(shape, values)`.
    pub(super) fn changed(
        name: &str,
        change: impl Fn(&mut Vec<usize>, &mut Vec<f32>) + 'static,
    ) -> Self {
        Fake::new(name, move |inputs| {
            let (mut shape, mut values) = lookup(inputs);
            change(&mut shape, &mut values);
            Ok(NamedTensors::from([(
                "logits".to_owned(),
                Tensor::f32(shape, values)?,
            )]))
        })
    }

    pub(super) fn honest() -> Self {
        Fake::changed("honest 1.0", |_, _| {})
    }

    /// Adds the sum of all ids, padding counted as 1, to every logit.
    pub(super) fn sees_everything() -> Self {
        Fake::new("seer 1.0", |inputs| {
            let (shape, mut values) = lookup(inputs);
            let ids = inputs["input_ids"].ints().unwrap();
            let sum: i64 = ids.iter().map(|id| id + 1).sum();
            values.iter_mut().for_each(|v| *v += num::f32_of_i64(sum));
            Ok(NamedTensors::from([(
                "logits".to_owned(),
                Tensor::f32(shape, values)?,
            )]))
        })
    }

    /// Divides by the padded length.
    pub(super) fn depends_on_length() -> Self {
        Fake::changed("stretcher 1.0", |shape, values| {
            let length = num::f32_of(shape[1]);
            values.iter_mut().for_each(|v| *v /= length);
        })
    }

    pub(super) fn constant(x: f32) -> Self {
        Fake::changed("constant 1.0", move |_, values| values.fill(x))
    }

    /// Always fails.
    pub(super) fn broken() -> Self {
        Fake::new("broken 1.0", |_| {
            Err(IoError {
                action: "run",
                source: std::io::Error::other("no such device"),
            }
            .into())
        })
    }
}

/// A task with the classes A (token 2) and B (token 5).
pub(super) fn task(cases: &[(&str, &[i64], Option<usize>)]) -> Task {
    let mut text = String::from(
        "name = \"t\"\n[[classes]]\nname = \"A\"\ntoken_id = 2\n[[classes]]\nname = \"B\"\ntoken_id = 5\n",
    );
    for (id, ids, expected) in cases {
        let _ = write!(text, "[[cases]]\nid = \"{id}\"\ninput_ids = {ids:?}\n");
        if let Some(class) = expected {
            let _ = writeln!(text, "expected = \"{}\"", ["A", "B"][*class]);
        }
    }
    Task::parse(&text, Path::new(".")).unwrap()
}

/// An answer with probability `p` for A.
pub(super) fn answer(case: &str, p: f64) -> Prediction {
    Prediction {
        case: case.into(),
        class: usize::from(p < 0.5),
        probabilities: Some(vec![p, 1.0 - p]),
    }
}
