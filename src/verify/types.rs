//! Element types and ranks in which an artifact's interface is not the source's: values are handed over in the artifact's, and come back in the
//! source's. Only what formats do on purpose is bridged; everything else stays as it is and is found by the comparison.

use serde::Serialize;

use super::inputs::cast_input;
use crate::error::Result;
use crate::ir::{Function, Type};
use crate::runtime::NamedTensors;
use crate::tensor::{DType, Tensor};

/// An input or output that is of another type in the artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceChange {
    /// Type in the source.
    pub from: String,
    /// `input` or `output`.
    pub place: &'static str,
    /// Type in the artifact.
    pub to: String,
    /// Its name.
    pub value: String,
}

/// The inputs and outputs of two functions that differ in element type or rank, by name.
pub(super) fn changes(source: &Function, artifact: &Function) -> Vec<InterfaceChange> {
    let mut found = Vec::new();
    let mut note = |place, value: &str, from: &Type, to: &Type| {
        if from.dtype != to.dtype || from.rank() != to.rank() {
            found.push(InterfaceChange {
                from: from.to_string(),
                place,
                to: to.to_string(),
                value: value.to_owned(),
            });
        }
    };
    for param in &source.params {
        let name = &source.value(param.value).name;
        if let Some(twin) = artifact.param(name) {
            note(
                "input",
                name,
                source.ty(param.value),
                artifact.ty(twin.value),
            );
        }
    }
    for output in &source.outputs {
        let twin = artifact.outputs.iter().find(|o| o.name == output.name);
        if let Some(twin) = twin {
            note(
                "output",
                &output.name,
                source.ty(output.value),
                artifact.ty(twin.value),
            );
        }
    }
    found.sort_by(|a, b| (a.place, &a.value).cmp(&(b.place, &b.value)));
    found
}

/// Whether a tensor without axes in the source is a vector of one in the artifact.
pub(super) fn is_one_for_scalar(source: &[impl Sized], artifact: &[usize]) -> bool {
    source.is_empty() && artifact == [1]
}

/// The source's inputs as the artifact takes them.
pub(super) fn for_artifact(inputs: &NamedTensors, artifact: &Function) -> Result<NamedTensors> {
    let mut given = inputs.clone();
    for (name, tensor) in &mut given {
        let Some(param) = artifact.param(name) else {
            continue;
        };
        let ty = artifact.ty(param.value);
        *tensor = cast_input(name, tensor, ty.dtype)?;
        if ty
            .known_shape()
            .is_some_and(|to| is_one_for_scalar(tensor.shape(), &to))
        {
            *tensor = tensor.reshaped(vec![1])?;
        }
    }
    Ok(given)
}

/// The artifact's outputs as the source gives them.
pub(super) fn from_artifact(mut outputs: NamedTensors, source: &Function) -> Result<NamedTensors> {
    for output in &source.outputs {
        let ty = source.ty(output.value);
        let Some(tensor) = outputs.get_mut(&output.name) else {
            continue;
        };
        if is_one_for_scalar(&ty.shape, tensor.shape()) {
            *tensor = tensor.reshaped(Vec::new())?;
        }
        if ty.dtype == DType::Bool && is_truth(tensor) {
            *tensor = tensor.cast(DType::Bool);
        }
    }
    Ok(outputs)
}

/// Whether integers are nothing but 0 and 1.
fn is_truth(tensor: &Tensor) -> bool {
    tensor
        .ints()
        .is_ok_and(|v| v.iter().all(|x| (0..=1).contains(x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Builder, Domain, Module};

    fn module(dtype: DType, shape: &[usize]) -> Module {
        let mut b = Builder::new("m");
        let x = b
            .param("x", Type::known(dtype, shape), Domain::Any)
            .unwrap();
        b.output("y", x).unwrap();
        b.finish().unwrap()
    }

    #[test]
    fn what_formats_change_is_bridged_and_nothing_else() {
        let (source, artifact) = (module(DType::Bool, &[]), module(DType::I32, &[1]));
        let (source, artifact) = (source.main().unwrap(), artifact.main().unwrap());
        let text: Vec<String> = changes(source, artifact)
            .iter()
            .map(|c| format!("{} {} {} {}", c.place, c.value, c.from, c.to))
            .collect();
        assert_eq!(text, ["input x bool[] i32[1]", "output y bool[] i32[1]"]);
        assert!(changes(source, source).is_empty());
        let x = Tensor::bool(vec![], vec![true]).unwrap();
        let given = NamedTensors::from([("x".to_owned(), x.clone())]);
        let handed = for_artifact(&given, artifact).unwrap();
        assert_eq!(
            handed["x"],
            Tensor::int(DType::I32, vec![1], vec![1]).unwrap()
        );
        let back = |values: Vec<i64>| {
            let shape = vec![values.len()];
            let y = Tensor::int(DType::I32, shape, values).unwrap();
            let outputs = NamedTensors::from([("y".to_owned(), y)]);
            from_artifact(outputs, source).unwrap().remove("y").unwrap()
        };
        assert_eq!(back(vec![1]), x);
        // Neither truth values nor one element.
        assert_eq!(back(vec![2]).dtype(), DType::I32);
        assert_eq!(back(vec![0, 1]).shape(), [2]);
    }
}
