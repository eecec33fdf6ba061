//! Elements put into a tensor by index, and parts picked by index vectors.

use super::call::Call;
use super::entry::{Dims, Entry};
use super::index::{checked, turned};
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    Expand, GatherNd, Reshape, ScatterElements, ScatterMode, ScatterNd, Unsqueeze,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::DType;

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "scatter" => scatter,
        "scatter_along_axis" => scatter_along_axis,
        "scatter_nd" => scatter_nd,
        "gather_nd" => gather_nd,
        _ => return None,
    };
    Some(handler)
}

fn mode(call: &mut Call) -> Result<ScatterMode> {
    let name = call.string("mode")?;
    // Apple's page says `update`, its library takes `add`.
    Ok(match name.as_deref().unwrap_or("add") {
        "update" => ScatterMode::Update,
        "add" => ScatterMode::Add,
        "sub" => ScatterMode::Sub,
        "mul" => ScatterMode::Mul,
        "div" => ScatterMode::Div,
        "max" => ScatterMode::Max,
        "min" => ScatterMode::Min,
        other => {
            let expected = "`update`, `add`, `sub`, `mul`, `div`, `max` or `min`";
            return Err(call.wrong("mode", expected, &format!("`{other}`")).into());
        }
    })
}

/// Slices along one axis, at the places that a vector of indices names.
fn scatter(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = importer.operand(call, "data")?;
    let shape = importer.ty(data).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    let mut indices = turned(importer, call, &shape[axis])?;
    let mut updates = importer.operand(call, "updates")?;
    let mode = mode(call)?;
    checked(call)?;
    let of_indices = importer.ty(indices).shape;
    if of_indices.len() != 1 {
        // Several axes of indices are one, and so are those of the updates that go with them.
        let count = of_indices.iter().fold(Dim::from(1), |n, d| n.mul(d));
        let flat = Op::Reshape(Reshape {
            shape: vec![count.clone()],
        });
        indices = importer.step(call, "flat", flat, &[indices])?;
        let mut wanted = shape.clone();
        wanted[axis] = count;
        let flat = Op::Reshape(Reshape { shape: wanted });
        updates = importer.step(call, "flat", flat, &[updates])?;
    }
    if axis == 0 {
        let axes = vec![1];
        let places = importer.step(
            call,
            "places",
            Op::Unsqueeze(Unsqueeze { axes }),
            &[indices],
        )?;
        let op = Op::ScatterNd(ScatterNd { mode });
        return importer.result(call, op, &[data, places, updates]);
    }
    let places = super::layout::along(importer, call, indices, axis, shape.len())?;
    let shape = importer.ty(updates).shape;
    let places = importer.step(call, "places", Op::Expand(Expand { shape }), &[places])?;
    let op = Op::ScatterElements(ScatterElements { axis, mode });
    importer.result(call, op, &[data, places, updates])
}

fn scatter_along_axis(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = importer.operand(call, "data")?;
    let shape = importer.ty(data).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    let indices = turned(importer, call, &shape[axis])?;
    let updates = importer.operand(call, "updates")?;
    let mode = mode(call)?;
    checked(call)?;
    let op = Op::ScatterElements(ScatterElements { axis, mode });
    importer.result(call, op, &[data, indices, updates])
}

/// The sizes of the axes that index vectors index, as a vector to add to them.
fn sizes(importer: &mut Importer<'_>, call: &Call, shape: &[Dim]) -> Result<ValueId> {
    let dims = Dims::vector(DType::I32, shape.to_vec());
    importer.value(&Entry::Dims(dims), &format!("{}/sizes", call.name))
}

/// Index vectors; before CoreML7 their negative elements count from the end.
fn vectors(
    importer: &mut Importer<'_>,
    call: &mut Call,
    shape: &[Dim],
    batch: usize,
) -> Result<ValueId> {
    let depth = call
        .peek("indices")
        .and_then(Entry::ty)
        .and_then(|t| t.shape.last().and_then(Dim::known));
    let indexed = depth.and_then(|k| shape.get(batch..batch.checked_add(k)?));
    let Some(indexed) = indexed.map(<[Dim]>::to_vec) else {
        let found = call.peek("indices").map_or(String::new(), Entry::describe);
        return Err(call
            .wrong("indices", "vectors no longer than the rank", &found)
            .into());
    };
    super::index::turned_by(importer, call, |importer, call| {
        sizes(importer, call, &indexed)
    })
}

fn scatter_nd(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = importer.operand(call, "data")?;
    let shape = importer.ty(data).shape;
    let indices = vectors(importer, call, &shape, 0)?;
    let updates = importer.operand(call, "updates")?;
    let mode = mode(call)?;
    checked(call)?;
    let op = Op::ScatterNd(ScatterNd { mode });
    importer.result(call, op, &[data, indices, updates])
}

fn gather_nd(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let batch = call.int("batch_dims")?.unwrap_or(0);
    let Ok(batch_dims) = usize::try_from(batch) else {
        return Err(call
            .wrong("batch_dims", "a number of axes", &batch.to_string())
            .into());
    };
    let shape = importer.ty(x).shape;
    let indices = vectors(importer, call, &shape, batch_dims)?;
    checked(call)?;
    importer.result(call, Op::GatherNd(GatherNd { batch_dims }), &[x, indices])
}
