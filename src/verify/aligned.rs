//! What of two outputs is compared: padding says nothing.

use super::claims;
use super::inputs::Probe;
use super::interface::{Interface, Padding};
use super::metrics::{Comparison, Rule, compare};
use crate::error::Result;
use crate::tensor::Tensor;

/// The comparison of the parts of two outputs that mean something: `None` when padding leaves nothing of them.
pub(super) fn aligned(
    interface: &Interface<'_>,
    probe: &Probe,
    output: &str,
    rule: Rule<'_>,
    reference: &Tensor,
    candidate: &Tensor,
) -> Result<Option<Comparison>> {
    let padding = interface.padding(output);
    let (mut reference, mut candidate) = (reference.clone(), candidate.clone());
    if let Some(length) = probe.padded_from {
        match padding {
            Padding::Matters => return Ok(None),
            Padding::Pooled => {}
            Padding::PerPosition | Padding::Later => {
                reference = claims::cut(&reference, length)?;
                candidate = claims::cut(&candidate, length)?;
            }
        }
    }
    let mask = interface
        .mask()
        .and_then(|p| probe.inputs.get(interface.name(p)));
    let mut rows = None;
    if let (Padding::PerPosition, Some(mask)) = (padding, mask) {
        let mask = match probe.padded_from {
            Some(length) => claims::cut(mask, length)?,
            None => mask.clone(),
        };
        let kept = claims::mask_rows(&mask);
        if kept.len() != mask.len() && reference.shape().starts_with(mask.shape()) {
            rows = Some(kept);
        }
    }
    let rule = Rule {
        rows: rows.as_deref(),
        ..rule
    };
    Ok(Some(compare(rule, &reference, &candidate)))
}
