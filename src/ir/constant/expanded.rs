//! What became of the compressed weights of a module in a file: which stayed as they were stored, and which were expanded, and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Compression, Constant};
use crate::error::Result;
use crate::ir::Module;

/// A weight that was stored compressed and is written expanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expanded {
    /// Its name.
    pub name: String,
    /// The form that it had.
    pub form: String,
    /// Bytes in that form.
    pub stored_bytes: u64,
    /// Bytes that it takes now, expanded or in a wider form.
    pub expanded_bytes: u64,
    /// The flag that keeps it, if there is one.
    pub way_out: Option<String>,
}

/// The compressed weights of what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompressedWeights {
    /// How many stayed compressed.
    pub kept: usize,
    /// Bytes that these take.
    pub kept_bytes: u64,
    /// Bytes that these would take expanded.
    pub kept_expanded_bytes: u64,
    /// Whether it was asked for that they be expanded.
    pub asked: bool,
    /// Those that were expanded.
    pub expanded: Vec<Expanded>,
}

impl CompressedWeights {
    /// Counts the weights of the modules that were written to one file, each beside the names of those that stayed compressed and the bytes
    /// that they take; what several modules share counts once. `way_out` tells what would keep another one, or one that takes half as much
    /// again as before.
    ///
    /// # Errors
    /// When a scale cannot be read.
    pub fn of<'a>(
        modules: impl IntoIterator<Item = (&'a Module, &'a BTreeMap<String, u64>)>,
        asked: bool,
        way_out: impl Fn(&Compression) -> Option<String>,
    ) -> Result<Self> {
        let mut out = CompressedWeights {
            asked,
            ..CompressedWeights::default()
        };
        let mut seen: BTreeMap<&str, Vec<&Constant>> = BTreeMap::new();
        let of_both = |(module, kept): (&'a Module, &'a BTreeMap<String, u64>)| {
            module
                .constants
                .iter()
                .map(move |constant| (constant, kept))
        };
        for (constant, kept) in modules.into_iter().flat_map(of_both) {
            let Some(form) = constant.stored_form() else {
                continue;
            };
            let namesakes = seen.entry(constant.name()).or_default();
            if namesakes.iter().any(|other| other.same_as(constant)) {
                continue;
            }
            namesakes.push(constant);
            let (stored_bytes, mut expanded_bytes) = (form.stored_bytes(), constant.byte_len());
            if let Some(&bytes) = kept.get(constant.name()) {
                out.kept += 1;
                out.kept_bytes = out.kept_bytes.saturating_add(bytes);
                out.kept_expanded_bytes = out.kept_expanded_bytes.saturating_add(expanded_bytes);
                if bytes <= stored_bytes.saturating_add(stored_bytes / 2) {
                    continue;
                }
                expanded_bytes = bytes;
            }
            let used = constant.compression()?;
            out.expanded.push(Expanded {
                name: constant.name().to_owned(),
                form: form.form().to_string(),
                stored_bytes,
                expanded_bytes,
                way_out: used.and_then(|form| way_out(&form)),
            });
        }
        Ok(out)
    }

    /// One note per way out about what was expanded although nobody asked for it.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        if self.asked {
            return Vec::new();
        }
        let ways: BTreeSet<Option<&str>> =
            self.expanded.iter().map(|e| e.way_out.as_deref()).collect();
        let note = |way: &Option<&str>| {
            let some: Vec<&Expanded> = self
                .expanded
                .iter()
                .filter(|e| e.way_out.as_deref() == *way)
                .collect();
            let names: Vec<String> = some
                .iter()
                .take(NAMED)
                .map(|e| format!("`{}` ({})", e.name, e.form))
                .collect();
            let more = some.len().saturating_sub(NAMED);
            let more = if more > 0 {
                format!(" and {more} more, which the report names")
            } else {
                String::new()
            };
            let stored: u64 = some.iter().map(|e| e.stored_bytes).sum();
            let expanded: u64 = some.iter().map(|e| e.expanded_bytes).sum();
            let way = match way {
                Some(flag) => format!("{flag} keeps them as they are stored"),
                None => "the target has no form for them where they are used".to_owned(),
            };
            format!(
                "{} compressed weights are expanded, from {stored} to {expanded} bytes: {}{more}; {way}",
                some.len(),
                names.join(", ")
            )
        };
        ways.iter().map(note).collect()
    }
}

/// How many weights a note names.
const NAMED: usize = 3;

impl Constant {
    /// The elements' bytes as they are packed, as a vector of `u8`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn packed_bytes(&self) -> Result<Constant> {
        use crate::tensor::{DType, Region, num};
        let bits = num::u64_of(self.len()) * u64::from(self.dtype().bits());
        let shape = vec![num::usize_of(self.byte_len())];
        let only_shape = |t: &super::Transform| matches!(t, super::Transform::Reshape(_));
        let same = !self.is_compressed() && self.transforms().iter().all(only_shape);
        // Bits that no element has may be anything in the source.
        if same && bits.is_multiple_of(8) {
            return Constant::from_region(self.name(), DType::U8, shape, self.region().clone());
        }
        let mut bytes = Vec::with_capacity(num::usize_of(self.byte_len()));
        self.stream(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        let region = Region::Inline(bytes.into());
        Constant::from_region(self.name(), DType::U8, shape, region)
    }
}
