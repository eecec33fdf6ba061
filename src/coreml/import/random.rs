//! Random operations, where their parameters leave nothing to chance. Anything else is refused: no two runs could be compared.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::tensor::DType;

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "random_bernoulli" | "random_normal" | "random_uniform" | "random_categorical" => random,
        _ => return None,
    };
    Some(handler)
}

fn random(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    call.int("seed")?;
    let chance =
        |call: &Call| call.unsupported("seed", "random numbers, which no two runs have in common,");
    let dtype = ["prob", "mean", "stddev", "low", "high"]
        .iter()
        .find_map(|p| call.peek(p).and_then(Entry::ty))
        .map_or(DType::F32, |t| t.dtype);
    let value = match call.op.as_str() {
        "random_bernoulli" => match call.float("prob")?.unwrap_or(0.5) {
            0.0 => 0.0,
            1.0 => 1.0,
            _ => return Err(chance(call).into()),
        },
        "random_normal" => {
            let mean = call.float("mean")?.unwrap_or(0.0);
            if call.float("stddev")?.unwrap_or(1.0) != 0.0 {
                return Err(chance(call).into());
            }
            mean
        }
        "random_uniform" => {
            let low = call.float("low")?.unwrap_or(0.0);
            if call.float("high")?.unwrap_or(1.0).to_bits() != low.to_bits() {
                return Err(chance(call).into());
            }
            low
        }
        _ => return Err(chance(call).into()),
    };
    let value = importer.scalar(call, "value", dtype, f64::from(value))?;
    super::shape::filled_to(importer, call, value)
}
