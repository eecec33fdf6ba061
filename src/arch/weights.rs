//! Hands out checkpoint tensors as constants and ticks them off. Missing, misshapen and unexpected ones are collected and reported together.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ArchError, TensorProblem};
use crate::error::Result;
use crate::ir::Constant;
use crate::source::SourceTensor;
use crate::tensor::{DType, Region, Tensor};

/// The tensors of a checkpoint, with a record of what was used and what did not fit.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    tensors: &'a BTreeMap<String, SourceTensor>,
    used: BTreeSet<String>,
    problems: Vec<TensorProblem>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(tensors: &'a BTreeMap<String, SourceTensor>) -> Self {
        Weights {
            tensors,
            used: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Whether the checkpoint has this tensor. Does not tick it off.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The first of `prefixes` under which the checkpoint has `name`; the first one when it has none.
    pub(crate) fn prefix<'p>(&self, prefixes: &[&'p str], name: &str) -> &'p str {
        let found = prefixes.iter().find(|p| self.has(&format!("{p}{name}")));
        found.or(prefixes.first()).copied().unwrap_or("")
    }

    /// Size of one axis of a tensor, for sizes that no config states.
    pub(crate) fn axis(&self, name: &str, axis: usize) -> Option<usize> {
        self.tensors.get(name)?.shape.get(axis).copied()
    }

    /// The element type in which a tensor is stored.
    pub(crate) fn dtype(&self, name: &str) -> Option<DType> {
        self.tensors.get(name).map(|tensor| tensor.dtype)
    }

    /// The tensor as an f32 constant. A tensor that does not fit gives a stand-in and an entry in the report.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Constant> {
        Ok(match self.checked(name, shape)? {
            Some(constant) => constant,
            None => stand_in(name)?,
        })
    }

    /// A `[in, out]` matrix of the checkpoint as the `[out, in]` matrix that a linear layer takes.
    pub(crate) fn take_transposed(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Constant> {
        Ok(match self.checked(name, &[columns, rows])? {
            Some(constant) => constant.transpose()?,
            None => stand_in(name)?,
        })
    }

    /// Part of a larger constant; a stand-in stays one.
    pub(crate) fn rows(whole: &Constant, start: usize, len: usize) -> Result<Constant> {
        if whole.shape().is_empty() {
            return Ok(whole.clone());
        }
        Ok(whole.rows(start, len)?)
    }

    /// The tensor plus 1, computed in f32: the gain of a norm whose weight is stored as the distance from 1.
    pub(crate) fn take_plus_one(&mut self, name: &str, len: usize) -> Result<Constant> {
        let Some(constant) = self.checked(name, &[len])? else {
            return stand_in(name);
        };
        let stored = constant.read()?;
        let gains: Vec<f32> = stored.floats()?.iter().map(|w| 1.0 + w).collect();
        Constant::from_tensor(name, &Tensor::f32(vec![len], gains)?)
    }

    fn checked(&mut self, name: &str, shape: &[usize]) -> Result<Option<Constant>> {
        self.used.insert(name.to_owned());
        let Some(tensor) = self.tensors.get(name) else {
            self.problem(TensorProblem::Missing {
                name: name.to_owned(),
                expected: shape.to_vec(),
            });
            return Ok(None);
        };
        if tensor.shape != shape {
            self.problem(TensorProblem::Misshapen {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape.clone(),
            });
            return Ok(None);
        }
        if !matches!(tensor.dtype, DType::F32 | DType::F16 | DType::BF16) {
            self.problem(TensorProblem::WrongType {
                name: name.to_owned(),
                found: tensor.dtype,
            });
            return Ok(None);
        }
        let region = Region::File(tensor.region.clone());
        let constant = Constant::from_region(name, tensor.dtype, shape.to_vec(), region)?;
        Ok(Some(constant.cast(DType::F32)))
    }

    fn problem(&mut self, problem: TensorProblem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Ticks off every tensor that `harmless` recognises and that was not used; says how many there were.
    pub(crate) fn ignore(&mut self, harmless: impl Fn(&str) -> bool) -> usize {
        let names: Vec<&String> = self
            .tensors
            .keys()
            .filter(|name| !self.used.contains(*name) && harmless(name))
            .collect();
        let count = names.len();
        self.used.extend(names.into_iter().cloned());
        count
    }

    /// Refuses a checkpoint that does not fit, naming every problem.
    pub(crate) fn finish(mut self) -> Result<()> {
        for (name, tensor) in self.tensors {
            if !self.used.contains(name) {
                self.problems.push(TensorProblem::Unexpected {
                    name: name.clone(),
                    found: tensor.shape.clone(),
                });
            }
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ArchError::Tensors {
                problems: self.problems,
            }
            .into())
        }
    }
}

/// A constant that takes the place of a tensor that does not fit, so that the remaining ones are still checked. Never reaches a graph.
fn stand_in(name: &str) -> Result<Constant> {
    Constant::from_tensor(name, &Tensor::f32(vec![], vec![0.0])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(
        folder: &tempfile::TempDir,
        entries: &[(&str, DType, &[usize])],
    ) -> BTreeMap<String, SourceTensor> {
        let path = folder.path().join("bytes");
        std::fs::write(&path, vec![0u8; 4096]).unwrap();
        let file = crate::tensor::SourceFile::open(&path).unwrap();
        entries
            .iter()
            .map(|(name, dtype, shape)| {
                let count: usize = shape.iter().product();
                let len = dtype.bytes_for(crate::tensor::num::u64_of(count)).unwrap();
                let region = crate::tensor::FileRegion {
                    file: file.clone(),
                    offset: 0,
                    len,
                };
                let tensor = SourceTensor {
                    dtype: *dtype,
                    shape: shape.to_vec(),
                    region,
                };
                ((*name).to_owned(), tensor)
            })
            .collect()
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = checkpoint(
            &folder,
            &[
                ("good", DType::F16, &[2, 3]),
                ("bad", DType::F32, &[4]),
                ("ids", DType::I64, &[2]),
                ("extra", DType::F32, &[1]),
                ("x.inv_freq", DType::F32, &[1]),
            ],
        );
        let mut weights = Weights::new(&tensors);
        let good = weights.take_transposed("good", 3, 2).unwrap();
        assert_eq!((good.dtype(), good.shape()), (DType::F32, &[3, 2][..]));
        weights.take("bad", &[5]).unwrap();
        weights.take("ids", &[2]).unwrap();
        weights.take("gone", &[7]).unwrap();
        weights.take("gone", &[7]).unwrap();
        assert_eq!(weights.ignore(|n| n.ends_with("inv_freq")), 1);
        let error = weights.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the tensors do not fit the config (4 problems):\n  \
             `bad` has shape [4], expected [5]\n  \
             `ids` holds i64, expected f32, f16 or bf16\n  \
             `gone` is missing, expected shape [7]\n  \
             `extra` [1] is unexpected"
        );
    }
}
