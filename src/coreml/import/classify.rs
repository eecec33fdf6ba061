//! The end of a classifier: the label with the highest probability. In the module a label is its index, unless labels are integers.

use super::Importer;
use super::call::Call;
use super::entry::Entry;
use crate::coreml::interface::Classifier;
use crate::coreml::proto::mil_spec::Operation;
use crate::error::Result;
use crate::ir::ops::{ArgReduce, Gather, Reshape};
use crate::ir::{Constant, Dim, Op};
use crate::tensor::DType;

pub(super) fn read(
    importer: &mut Importer<'_>,
    operation: &Operation,
    call: &mut Call,
) -> Result<Vec<Entry>> {
    let probabilities = importer.operand(call, "probabilities")?;
    let classes = call.required("classes")?;
    call.finish()?;
    let ty = importer.ty(probabilities);
    let count = ty.shape.iter().fold(Dim::from(1), |n, d| n.mul(d));
    let (labels, numbers): (Vec<String>, Option<Constant>) = match classes {
        Entry::Text { values, .. } => (values, None),
        Entry::Constant { constant } => {
            let tensor = constant.read()?;
            let labels = tensor.ints()?.iter().map(ToString::to_string).collect();
            (labels, Some(constant))
        }
        other @ (Entry::Value { .. } | Entry::Dims(_) | Entry::List(_) | Entry::State { .. }) => {
            let found = other.describe();
            return Err(call.wrong("classes", "strings or integers", &found).into());
        }
    };
    if count.known() != Some(labels.len()) {
        let expected = format!("{count} labels, one per probability");
        return Err(call
            .wrong("classes", &expected, &labels.len().to_string())
            .into());
    }
    let flat = Op::Reshape(Reshape { shape: vec![count] });
    let flat = importer.step(call, "flat", flat, &[probabilities])?;
    let best = Op::ArgReduce(ArgReduce {
        axis: 0,
        largest: true,
        last: false,
        dtype: DType::I64,
    });
    let name = |i: usize| {
        operation
            .outputs
            .get(i)
            .map_or_else(String::new, |o| o.name.clone())
    };
    let integers = numbers.is_some();
    let label = match numbers {
        None => importer.builder.push(&name(0), best, &[flat])?,
        Some(numbers) => {
            let best = importer.step(call, "best", best, &[flat])?;
            let numbers = importer.builder.constant(numbers);
            let gather = Op::Gather(Gather { axis: 0 });
            importer.builder.push(&name(0), gather, &[numbers, best])?
        }
    };
    importer.classes = Some(Classifier {
        label: name(0),
        probabilities: name(1),
        labels,
        integers,
    });
    Ok(vec![importer.entry(label), importer.entry(probabilities)])
}
