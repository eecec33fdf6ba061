//! What keeps a model off the Neural Engine, as far as the file shows it. Hints, since only Core ML itself decides where an operation runs.
//!
//! # Sources
//! Apple documents no list: residency "changes based on device generation, operating system version, tensor sizes"
//! (<https://github.com/apple/coremltools/issues/1780>). What is hinted at here is public:
//! - half precision only, axes of at most 16384 (height, width) and 65536 (channels) elements: measured on an M1,
//!   <https://ane-guide.readthedocs.io/en/latest/part-5-practice/17-model-design-rules.html>; later chips take more;
//! - no recurrence: an Apple engineer in coremltools issue 1780; neither recurrent cells nor scatter on any chip:
//!   <https://ane-guide.readthedocs.io/en/latest/part-1-machine/04-capability-surface.html>; control flow and lists have no form there:
//!   <https://aneforge.readthedocs.io/en/latest/capabilities/>;
//! - no sizes that are known only at run time: <https://jvoltci.github.io/mosaic/edge-ai/npu/apple-ane>;
//! - ranges of shapes run there at the default shape only: an Apple engineer, <https://developer.apple.com/forums/thread/724930>;
//! - the last axis is padded to 64 bytes: Apple, <https://machinelearning.apple.com/research/neural-engine-transformers>.

use std::collections::BTreeMap;

use super::program::{name_of, shape_of, tensor_type};
use super::{Code, Findings, Spot};
use crate::coreml::interface::{self, Flexibility};
use crate::coreml::proto::mil_spec::{Block, DataType, Function, Operation, Program};
use crate::coreml::proto::{FeatureDescription, Model};

/// Operations with control flow, with a recurrence, on lists, those that scatter, and those with results of unknown size.
const LEAVING: [&str; 16] = [
    "cond",
    "while_loop",
    "gru",
    "lstm",
    "rnn",
    "non_zero",
    "non_maximum_suppression",
    "make_list",
    "list_read",
    "list_write",
    "list_gather",
    "list_scatter",
    "list_length",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
];
/// Most elements of the last two axes, on the chips that take the fewest.
const AXIS: u64 = 16384;
/// Most elements of any other axis.
const CHANNELS: u64 = 65536;
/// From how many elements on padding of the last axis is worth a hint; below, nobody notices.
const PADDED: u64 = 1024;

/// One hint of each kind per function, with how often it holds and the first place.
pub(super) fn neural_engine(model: &Model, program: &Program, findings: &mut Findings) {
    for (name, function) in &program.functions {
        let mut seen: BTreeMap<Code, (usize, Spot, String)> = BTreeMap::new();
        function_hints(name, function, &mut seen);
        for (code, (count, spot, what)) in seen {
            let more = if count > 1 {
                format!(" and {} more", count - 1)
            } else {
                String::new()
            };
            findings.add(code, spot, format!("{what}{more}"));
        }
    }
    let description = model.description.iter();
    let inputs = description.flat_map(|d| {
        let inner = d.functions.iter().flat_map(|f| f.input.iter());
        d.input.iter().chain(inner)
    });
    for input in inputs {
        if is_range(input) {
            let spot = Spot {
                value: Some(input.name.clone()),
                field: Some("input".to_owned()),
                ..Spot::default()
            };
            let message = format!("the shape of `{}` varies in a range", input.name);
            findings.add(Code::AneRange, spot, message);
        }
    }
}

fn is_range(input: &FeatureDescription) -> bool {
    let feature = interface::feature(input);
    feature.is_ok_and(|f| matches!(f.kind.flexibility(), Some(Flexibility::Range { .. })))
}

fn function_hints(
    name: &str,
    function: &Function,
    seen: &mut BTreeMap<Code, (usize, Spot, String)>,
) {
    let mut open: Vec<&Block> = function.block_specializations.values().collect();
    while let Some(block) = open.pop() {
        for op in &block.operations {
            open.extend(&op.blocks);
            if op.r#type == "const" || op.r#type.starts_with("constexpr_") {
                continue;
            }
            for (code, what) in of_operation(op) {
                let spot = || Spot {
                    function: Some(name.to_owned()),
                    op: Some(op.r#type.clone()),
                    value: Some(name_of(op).to_owned()),
                    field: None,
                };
                seen.entry(code).or_insert_with(|| (0, spot(), what)).0 += 1;
            }
        }
    }
}

fn of_operation(op: &Operation) -> Vec<(Code, String)> {
    let mut out = Vec::new();
    if LEAVING.contains(&op.r#type.as_str()) {
        out.push((Code::AneOp, format!("`{}`", op.r#type)));
    }
    let types = op
        .outputs
        .iter()
        .filter_map(|o| tensor_type(o.r#type.as_ref()));
    for ty in types {
        // What is cast to single precision for an output is not computed in it.
        if ty.data_type() == DataType::Float32 && op.r#type != "cast" {
            out.push((Code::AneFp32, format!("`{}` gives fp32", op.r#type)));
        }
        let Some(shape) = shape_of(ty) else {
            continue;
        };
        let from_last = shape.iter().rev().enumerate();
        let mut long = from_last.filter(|(i, n)| **n > if *i < 2 { AXIS } else { CHANNELS });
        if let Some((_, long)) = long.next() {
            out.push((Code::AneAxis, format!("an axis of {long} elements")));
        }
        let elements = shape.iter().copied().fold(1, u64::saturating_mul);
        if shape.len() >= 3 && shape.last() == Some(&1) && elements >= PADDED {
            out.push((Code::AneLastAxis, format!("the shape {shape:?}")));
        }
    }
    out.dedup_by_key(|(code, _)| *code);
    out
}
