//! A builder that knows the model's inputs and extents, and the small steps that every block is made of.

use std::collections::BTreeMap;

use super::error::ArchError;
use super::{Extent, Limits};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Compare, CompareKind, Gather, Iota, Reshape, Slice, SliceRange, Squeeze, Transpose,
    UnaryKind, Unsqueeze,
};
use crate::ir::{Builder, Dim, Domain, Op, Symbol, SymbolRange, Type, ValueId};
use crate::limits;
use crate::tensor::{DType, num};

/// Largest batch of a dynamic batch axis without a stated maximum.
const BATCH: usize = 1024;

/// The graph of one model while it is built.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) b: Builder,
    pub(crate) batch: Dim,
    pub(crate) seq: Dim,
    /// Longest sequence that the graph will be asked to run.
    pub(crate) max_seq: usize,
    /// Whether the sequence has exactly one length.
    pub(crate) fixed_seq: bool,
    constants: BTreeMap<String, ValueId>,
}

/// The path of a node from the name of a checkpoint module: `model.layers.0.mlp` → `model/layers.0/mlp`.
pub(crate) fn path(module: &str) -> String {
    let mut out = String::with_capacity(module.len());
    for (i, part) in module.split('.').enumerate() {
        if i > 0 {
            let index = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            out.push(if index { '.' } else { '/' });
        }
        out.push_str(part);
    }
    out
}

impl Graph {
    /// An empty graph with the extents that were asked for, checked against what the model can take. Warnings go to `warnings`.
    pub(crate) fn new(
        name: &str,
        batch: &Extent,
        seq: &Extent,
        model: &Limits,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let mut b = Builder::new(name);
        let (batch, _) = extent(&mut b, "batch", batch, BATCH)?;
        let (seq, max_seq) = extent(&mut b, "seq", seq, model.usual)?;
        if let Some((limit, why)) = &model.hard
            && max_seq > *limit
        {
            return Err(ArchError::TooLong {
                asked: max_seq,
                limit: *limit,
                why: why.clone(),
            }
            .into());
        }
        if max_seq > model.usual {
            warnings.push(format!(
                "sequences of up to {max_seq} were asked for, but the model was made for up to {}",
                model.usual
            ));
        }
        let fixed_seq = seq.known().is_some();
        Ok(Graph {
            b,
            batch,
            seq,
            max_seq,
            fixed_seq,
            constants: BTreeMap::new(),
        })
    }

    /// The token ids, `[batch, seq]`.
    pub(crate) fn input_ids(&mut self, vocab: usize) -> Result<ValueId> {
        self.indices("input_ids", vocab)
    }

    /// Indices below a bound, `[batch, seq]`.
    pub(crate) fn indices(&mut self, name: &str, below: usize) -> Result<ValueId> {
        let below = num::u64_of(below);
        let ty = Type::new(DType::I64, vec![self.batch.clone(), self.seq.clone()]);
        Ok(self.b.param(name, ty, Domain::Index { below })?)
    }

    /// The padding mask, `[batch, seq]`.
    pub(crate) fn attention_mask(&mut self) -> Result<ValueId> {
        let ty = Type::new(DType::I64, vec![self.batch.clone(), self.seq.clone()]);
        Ok(self.b.param("attention_mask", ty, Domain::Mask)?)
    }

    /// An f32 scalar, one for all its uses.
    pub(crate) fn number(&mut self, x: f64) -> Result<ValueId> {
        let x = num::f32_of_f64(x);
        self.constant(DType::F32, f64::from(x), &format!("const/{x}"))
    }

    /// An i64 scalar, one for all its uses.
    pub(crate) fn integer(&mut self, n: usize) -> Result<ValueId> {
        self.constant(DType::I64, num::f64_of(n), &format!("const/int_{n}"))
    }

    fn constant(&mut self, dtype: DType, x: f64, name: &str) -> Result<ValueId> {
        if let Some(&value) = self.constants.get(name) {
            return Ok(value);
        }
        let value = self.b.scalar(name, dtype, x)?;
        self.constants.insert(name.to_owned(), value);
        Ok(value)
    }

    pub(crate) fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.b.binary(name, BinaryKind::Add, a, b)
    }

    pub(crate) fn mul(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.b.binary(name, BinaryKind::Mul, a, b)
    }

    /// `x` times a number; `x` itself when the number is 1.
    pub(crate) fn scale(&mut self, name: &str, x: ValueId, by: f64) -> Result<ValueId> {
        if (by - 1.0).abs() < f64::EPSILON {
            return Ok(x);
        }
        let by = self.number(by)?;
        self.mul(name, x, by)
    }

    /// `cap · tanh(x / cap)`.
    pub(crate) fn softcap(&mut self, name: &str, x: ValueId, cap: f64) -> Result<ValueId> {
        let cap = self.number(cap)?;
        let x = self
            .b
            .binary(&format!("{name}/div"), BinaryKind::Div, x, cap)?;
        let x = self.b.unary(&format!("{name}/tanh"), UnaryKind::Tanh, x)?;
        self.mul(name, x, cap)
    }

    pub(crate) fn reshape(&mut self, name: &str, x: ValueId, shape: Vec<Dim>) -> Result<ValueId> {
        self.b.push(name, Op::Reshape(Reshape { shape }), &[x])
    }

    pub(crate) fn transpose(&mut self, name: &str, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        let perm = perm.to_vec();
        self.b.push(name, Op::Transpose(Transpose { perm }), &[x])
    }

    pub(crate) fn unsqueeze(&mut self, name: &str, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        let axes = axes.to_vec();
        self.b.push(name, Op::Unsqueeze(Unsqueeze { axes }), &[x])
    }

    pub(crate) fn slice(
        &mut self,
        name: &str,
        x: ValueId,
        axis: usize,
        start: Dim,
        end: Dim,
    ) -> Result<ValueId> {
        let ranges = vec![SliceRange::new(axis, start, end)];
        self.b.push(name, Op::Slice(Slice { ranges }), &[x])
    }

    /// Rows of a table picked by index.
    pub(crate) fn gather(
        &mut self,
        name: &str,
        table: ValueId,
        indices: ValueId,
    ) -> Result<ValueId> {
        self.b
            .push(name, Op::Gather(Gather { axis: 0 }), &[table, indices])
    }

    /// The first `seq` rows of a table with a row per position; the table itself when it has just as many.
    pub(crate) fn first_rows(&mut self, name: &str, table: ValueId) -> Result<ValueId> {
        if self.b.ty(table).shape.first() == Some(&self.seq) {
            return Ok(table);
        }
        self.slice(name, table, 0, Dim::from(0), self.seq.clone())
    }

    /// One position of `[batch, seq, width]` as `[batch, width]`.
    pub(crate) fn position(&mut self, name: &str, x: ValueId, at: Dim) -> Result<ValueId> {
        let end = at.add(&Dim::from(1));
        let token = self.slice(&format!("{name}/slice"), x, 1, at, end)?;
        self.b
            .push(name, Op::Squeeze(Squeeze { axes: vec![1] }), &[token])
    }

    /// The padding mask as truth values, `[batch, seq]`.
    pub(crate) fn real(&mut self, mask: ValueId) -> Result<ValueId> {
        let zero = self.integer(0)?;
        let kind = CompareKind::NotEqual;
        let op = Op::Compare(Compare { kind });
        self.b.push("attention_mask/real", op, &[mask, zero])
    }

    /// `0, 1, … seq − 1`, i64.
    pub(crate) fn iota(&mut self, name: &str) -> Result<ValueId> {
        let iota = Iota {
            dtype: DType::I64,
            len: self.seq.clone(),
        };
        self.b.push(name, Op::Iota(iota), &[])
    }

    /// Positions of queries `[seq, 1]` and of keys `[1, seq]`.
    pub(crate) fn positions(&mut self, name: &str) -> Result<(ValueId, ValueId)> {
        let positions = self.iota(&format!("{name}/positions"))?;
        let queries = self.unsqueeze(&format!("{name}/query_positions"), positions, &[1])?;
        let keys = self.unsqueeze(&format!("{name}/key_positions"), positions, &[0])?;
        Ok((queries, keys))
    }

    /// The padding mask as f32, `[batch, seq, 1]`.
    pub(crate) fn float_mask(&mut self, mask: ValueId) -> Result<ValueId> {
        let x = self.b.cast("attention_mask/float", mask, DType::F32)?;
        self.unsqueeze("attention_mask/column", x, &[2])
    }
}

/// Declares the symbol of an axis if it needs one; gives its dimension and largest size.
fn extent(
    b: &mut Builder,
    axis: &'static str,
    extent: &Extent,
    usual: usize,
) -> Result<(Dim, usize)> {
    let bad = |reason| ArchError::BadExtent {
        axis,
        found: format!("{extent:?}"),
        reason,
    };
    let within = |n: usize| n >= 1 && num::u64_of(n) <= limits::SEQUENCE;
    let (range, largest) = match extent {
        Extent::Fixed(n) => {
            if !within(*n) {
                return Err(bad("sizes start at 1 and end at 2^24").into());
            }
            return Ok((Dim::from(*n), *n));
        }
        Extent::AtMost(n) => {
            let n = usual.min(*n);
            if !within(n) {
                return Err(bad("sizes start at 1 and end at 2^24").into());
            }
            return Ok((Dim::from(n), n));
        }
        Extent::OneOf(sizes) => {
            let mut sizes = sizes.clone();
            sizes.sort_unstable();
            sizes.dedup();
            let (Some(&least), Some(&most)) = (sizes.first(), sizes.last()) else {
                return Err(bad("it names no size").into());
            };
            if !within(least) || !within(most) {
                return Err(bad("sizes start at 1 and end at 2^24").into());
            }
            if least == most {
                return Ok((Dim::from(least), least));
            }
            let sizes = sizes.iter().map(|&n| num::u64_of(n)).collect();
            (SymbolRange::OneOf(sizes), most)
        }
        Extent::Dynamic { min, max } => {
            let max = max.unwrap_or(usual);
            if !within(*min) || !within(max) {
                return Err(bad("sizes start at 1 and end at 2^24").into());
            }
            if *min > max {
                return Err(bad("the smallest size is above the largest").into());
            }
            let range = SymbolRange::Between {
                min: num::u64_of(*min),
                max: num::u64_of(max),
            };
            (range, max)
        }
    };
    b.symbol(Symbol {
        name: axis.into(),
        range,
    })?;
    Ok((Dim::symbol(axis), largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_stay_with_the_name_of_their_list() {
        assert_eq!(
            path("model.layers.10.self_attn.q_proj"),
            "model/layers.10/self_attn/q_proj"
        );
        assert_eq!(path("norm_f"), "norm_f");
    }

    #[test]
    fn extents_are_checked_against_each_other_and_the_model() {
        let model = Limits {
            usual: 64,
            hard: Some((128, "the table ends there".into())),
        };
        let one = Extent::Fixed(1);
        let mut warnings = Vec::new();
        let mut graph = |seq| Graph::new("x", &one, &seq, &model, &mut warnings);
        for bad in [
            Extent::Fixed(0),
            Extent::OneOf(vec![]),
            Extent::OneOf(vec![0, 4]),
            Extent::Dynamic {
                min: 8,
                max: Some(4),
            },
            Extent::Dynamic { min: 65, max: None },
            Extent::Fixed(129),
        ] {
            assert!(graph(bad).is_err());
        }
        let g = graph(Extent::AtMost(100)).unwrap();
        assert_eq!((g.max_seq, g.fixed_seq), (64, true));
        let g = graph(Extent::Dynamic { min: 1, max: None }).unwrap();
        assert_eq!((g.max_seq, g.fixed_seq), (64, false));
        let g = graph(Extent::OneOf(vec![96, 96])).unwrap();
        assert_eq!((g.max_seq, g.fixed_seq), (96, true));
        assert_eq!(warnings.len(), 1);
        let text = Graph::new("x", &one, &Extent::Fixed(129), &model, &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "a sequence of 129 was asked for, but this model takes at most 128: the table ends there"
        );
    }
}
