//! Rotary positions: which frequencies a config asks for, and the cosine and sine tables for them.
//!
//! Tables are computed once, when the graph is built, in f32 steps like the library's. Powers, computed in f64 and rounded, and sine and
//! cosine, computed in f32, stay within one unit in the last place.
//!
//! # Source
//! `modeling_rope_utils.py` of transformers 4.57.

use std::f64::consts::PI;

use super::config::Config;
use super::error::ArchError;
use super::graph::Graph;
use crate::error::Result;
use crate::ir::{Constant, ValueId};
use crate::limits;
use crate::tensor::{DType, Region, Tensor, num};

/// How frequencies are stretched for long sequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// Not at all.
    Default,
    /// All by one factor.
    Linear { factor: f64 },
    /// A larger base once the sequence is longer than `positions`.
    Dynamic { factor: f64, positions: usize },
    /// Low frequencies by a factor, high ones not, with a ramp between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: usize,
    },
    /// Interpolation and extrapolation mixed along a ramp over the dimensions; `attention` multiplies both tables.
    Yarn {
        factor: f64,
        attention: f64,
        beta_fast: f64,
        beta_slow: f64,
        original: usize,
        truncate: bool,
    },
}

/// Rotary positions of a layer. The two halves of a head are rotated against each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rope {
    pub(crate) head_dim: usize,
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
    /// What the frequencies are rounded to.
    pub(crate) kept: DType,
}

const KNOWN: &str = "`default`, `linear`, `dynamic`, `llama3`, `yarn`";

impl Rope {
    /// Reads `rope_theta`, `rope_scaling` and `rope_parameters`; the latter may hold one section per kind of layer, of which `layer_type` is taken.
    pub(crate) fn read(
        config: &mut Config,
        head_dim: usize,
        positions: usize,
        layer_type: &str,
    ) -> Result<Self> {
        if !head_dim.is_multiple_of(2) {
            return Err(ArchError::UnsupportedValue {
                key: config.name("head_dim"),
                found: head_dim.to_string(),
                supported: "even sizes".into(),
            }
            .into());
        }
        let theta = config.positive_or("rope_theta", 10_000.0)?;
        whole(config)?;
        let mut section = match config.section("rope_scaling")? {
            Some(section) => Some(section),
            None => config.section("rope_parameters")?,
        };
        if let Some(outer) = &mut section
            && outer.has(layer_type)
        {
            section = outer.section(layer_type)?;
        }
        let Some(mut section) = section else {
            return Ok(Rope {
                head_dim,
                theta,
                scaling: Scaling::Default,
                kept: DType::F32,
            });
        };
        let theta = section.positive_or("rope_theta", theta)?;
        whole(&mut section)?;
        let scaling = scaling(&mut section, positions)?;
        section.finish()?;
        Ok(Rope {
            head_dim,
            theta,
            scaling,
            kept: DType::F32,
        })
    }

    /// The inverse frequencies for sequences of `len`, and the factor of both tables.
    fn frequencies(&self, len: usize) -> (Vec<f32>, f32) {
        let dim = self.head_dim;
        let plain = |base: f32| -> Vec<f32> { powers(base, dim).iter().map(|p| 1.0 / p).collect() };
        let base = num::f32_of_f64(self.theta);
        match self.scaling {
            Scaling::Default => (plain(base), 1.0),
            Scaling::Linear { factor } => {
                let factor = num::f32_of_f64(factor);
                (plain(base).iter().map(|f| f / factor).collect(), 1.0)
            }
            Scaling::Dynamic { factor, positions } => {
                if len <= positions {
                    return (plain(base), 1.0);
                }
                let stretch = num::f32_of_f64(factor) * num::f32_of(len) / num::f32_of(positions)
                    - num::f32_of_f64(factor - 1.0);
                let exponent = num::f64_of(dim) / (num::f64_of(dim) - 2.0);
                let grown = num::f32_of_f64(libm::pow(f64::from(stretch), exponent));
                (plain(base * grown), 1.0)
            }
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let original = num::f64_of(original);
                let long = num::f32_of_f64(original / low);
                let short = num::f32_of_f64(original / high);
                let (factor32, low32) = (num::f32_of_f64(factor), num::f32_of_f64(low));
                let stretched = plain(base)
                    .iter()
                    .map(|&f| {
                        let wavelength = num::f32_of_f64(2.0 * PI) / f;
                        let slowed = if wavelength > long { f / factor32 } else { f };
                        if wavelength < short || wavelength > long {
                            return slowed;
                        }
                        let smooth = (num::f32_of_f64(original) / wavelength - low32)
                            / num::f32_of_f64(high - low);
                        (1.0 - smooth) * slowed / factor32 + smooth * slowed
                    })
                    .collect();
                (stretched, 1.0)
            }
            Scaling::Yarn {
                factor,
                attention,
                beta_fast,
                beta_slow,
                original,
                truncate,
            } => {
                let (low, high) =
                    ramp_ends(dim, self.theta, original, (beta_fast, beta_slow), truncate);
                let (from, width) = (num::f32_of_f64(low), num::f32_of_f64(high - low));
                let mixed = powers(base, dim)
                    .iter()
                    .enumerate()
                    .map(|(i, &p)| {
                        let ramp = ((num::f32_of(i) - from) / width).clamp(0.0, 1.0);
                        let keep = 1.0 - ramp;
                        1.0 / (num::f32_of_f64(factor) * p) * (1.0 - keep) + 1.0 / p * keep
                    })
                    .collect();
                (mixed, num::f32_of_f64(attention))
            }
        }
    }

    /// The cosine and sine tables, `[len, head_dim]`, in f32; both halves of a row are equal.
    fn tables(&self, len: usize) -> Result<[Region; 2]> {
        let (frequencies, factor) = self.frequencies(len);
        let frequencies = Tensor::f32(vec![frequencies.len()], frequencies)?.cast(self.kept);
        let frequencies = frequencies.floats()?;
        let row = self.head_dim * size_of::<f32>();
        let (mut cos, mut sin) = (vec![0; len * row], vec![0; len * row]);
        let rows = cos
            .chunks_exact_mut(row.max(1))
            .zip(sin.chunks_exact_mut(row.max(1)));
        for (position, (cos, sin)) in rows.enumerate() {
            let elements = cos.as_chunks_mut().0.iter_mut();
            let elements = elements.zip(sin.as_chunks_mut().0);
            for ((cos, sin), f) in elements.zip(frequencies.iter()) {
                // Not those of the system, so that the same config gives the same bytes everywhere.
                let (s, c) = libm::sincosf(num::f32_of(position) * f);
                *cos = (c * factor).to_le_bytes();
                *sin = (s * factor).to_le_bytes();
            }
            cos.copy_within(..row / 2, row / 2);
            sin.copy_within(..row / 2, row / 2);
        }
        Ok([cos, sin].map(|table| Region::Inline(table.into())))
    }
}

/// `base^(2i / dim)` in f32.
fn powers(base: f32, dim: usize) -> Vec<f32> {
    (0..dim / 2)
        .map(|i| {
            let exponent = num::f32_of(2 * i) / num::f32_of(dim);
            num::f32_of_f64(libm::pow(f64::from(base), f64::from(exponent)))
        })
        .collect()
}

/// The dimensions between which YaRN goes from keeping a frequency to stretching it.
fn ramp_ends(
    dim: usize,
    theta: f64,
    original: usize,
    (fast, slow): (f64, f64),
    truncate: bool,
) -> (f64, f64) {
    let dim = num::f64_of(dim);
    let at = |rotations: f64| {
        dim * libm::log(num::f64_of(original) / (rotations * 2.0 * PI)) / (2.0 * libm::log(theta))
    };
    let (low, high) = match truncate {
        true => (at(fast).floor(), at(slow).ceil()),
        false => (at(fast), at(slow)),
    };
    let (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if (high - low).abs() < f64::EPSILON {
        (low, high + 0.001)
    } else {
        (low, high)
    }
}

/// Refuses heads that are rotated only in part.
fn whole(config: &mut Config) -> Result<()> {
    let part = config.number_or("partial_rotary_factor", 1.0)?;
    if (part - 1.0).abs() > f64::EPSILON {
        return Err(ArchError::UnsupportedValue {
            key: config.name("partial_rotary_factor"),
            found: part.to_string(),
            supported: "1".into(),
        }
        .into());
    }
    Ok(())
}

fn scaling(section: &mut Config, positions: usize) -> Result<Scaling> {
    let old = section.opt_text("type")?;
    let new = section.opt_text("rope_type")?;
    let kind = match new.or(old) {
        Some(kind) => kind,
        None => {
            return Err(ArchError::MissingKey {
                key: section.name("rope_type"),
                expected: KNOWN,
            }
            .into());
        }
    };
    match kind {
        "default" => Ok(Scaling::Default),
        "linear" => Ok(Scaling::Linear {
            factor: section.positive("factor")?,
        }),
        "dynamic" => {
            // The library reads `original_max_position_embeddings` here, but computes with `max_position_embeddings`.
            let _ = section.count("original_max_position_embeddings")?;
            Ok(Scaling::Dynamic {
                factor: section.positive("factor")?,
                positions,
            })
        }
        "llama3" => Ok(Scaling::Llama3 {
            factor: section.positive("factor")?,
            low: section.positive("low_freq_factor")?,
            high: section.positive("high_freq_factor")?,
            original: section.size("original_max_position_embeddings")?,
        }),
        "yarn" => yarn(section, positions),
        _ => Err(ArchError::UnsupportedValue {
            key: section.name("rope_type"),
            found: format!("`{kind}`"),
            supported: KNOWN.into(),
        }
        .into()),
    }
}

fn yarn(section: &mut Config, positions: usize) -> Result<Scaling> {
    let factor = section.positive("factor")?;
    let magnitude = |scale: f64, by: f64| {
        if scale <= 1.0 {
            1.0
        } else {
            0.1 * by * libm::log(scale) + 1.0
        }
    };
    let stated = section.opt_number("attention_factor")?;
    // 0 counts as absent in the library for all of these.
    let or = |x: Option<f64>, default: f64| x.filter(|x| *x != 0.0).unwrap_or(default);
    let scale = section.opt_number("mscale")?.filter(|x| *x != 0.0);
    let scale_all = section.opt_number("mscale_all_dim")?.filter(|x| *x != 0.0);
    let attention = match (stated, scale.zip(scale_all)) {
        (Some(stated), _) => stated,
        (None, Some((scale, all))) => magnitude(factor, scale) / magnitude(factor, all),
        (None, None) => magnitude(factor, 1.0),
    };
    Ok(Scaling::Yarn {
        factor,
        attention,
        beta_fast: or(section.opt_number("beta_fast")?, 32.0),
        beta_slow: or(section.opt_number("beta_slow")?, 1.0),
        original: section.size_or("original_max_position_embeddings", positions)?,
        truncate: section.flag_or("truncate", true)?,
    })
}

/// The tables of a model, one pair per distinct kind of rotation.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pairs: Vec<(Rope, ValueId, ValueId)>,
}

impl Tables {
    /// Computes the tables that `ropes` need, for the graph's longest sequence.
    pub(crate) fn build(g: &mut Graph, ropes: impl IntoIterator<Item = Rope>) -> Result<Self> {
        let mut tables = Tables::default();
        for rope in ropes {
            if tables.get(&rope).is_some() {
                continue;
            }
            if let Scaling::Dynamic { positions, .. } = rope.scaling
                && g.max_seq > positions
                && !g.fixed_seq
            {
                return Err(ArchError::TooLong {
                    asked: g.max_seq,
                    limit: positions,
                    why: "beyond, `dynamic` rotary positions depend on the length, so only one fixed length can be converted".into(),
                }
                .into());
            }
            let elements = num::u64_of(g.max_seq).saturating_mul(num::u64_of(rope.head_dim));
            if elements > limits::TABLE_ELEMENTS.get() {
                let limit = limits::TABLE_ELEMENTS.get() / num::u64_of(rope.head_dim);
                return Err(ArchError::TooLong {
                    asked: g.max_seq,
                    limit: num::usize_of(limit),
                    why: format!(
                        "the tables of its rotary positions would have {elements} elements, at most {}",
                        limits::TABLE_ELEMENTS
                    ),
                }
                .into());
            }
            let suffix = match tables.pairs.len() {
                0 => String::new(),
                n => format!("_{n}"),
            };
            let shape = vec![g.max_seq, rope.head_dim];
            let mut pair = Vec::with_capacity(2);
            for (name, table) in ["cos", "sin"].into_iter().zip(rope.tables(g.max_seq)?) {
                let name = format!("rotary_emb{suffix}/{name}");
                let table = Constant::from_region(
                    &format!("{name}/table"),
                    DType::F32,
                    shape.clone(),
                    table,
                )?;
                let table = g.b.constant(table);
                pair.push(g.first_rows(&name, table)?);
            }
            tables.pairs.push((rope, pair[0], pair[1]));
        }
        Ok(tables)
    }

    /// Cosine and sine, `[seq, head_dim]`.
    pub(crate) fn get(&self, rope: &Rope) -> Option<(ValueId, ValueId)> {
        let pair = self.pairs.iter().find(|(r, _, _)| r == rope);
        pair.map(|&(_, cos, sin)| (cos, sin))
    }
}
