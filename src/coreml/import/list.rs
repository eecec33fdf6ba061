//! Lists: a tensor whose first axis counts the elements. A list that grows has a length that only a run tells.

use super::call::Call;
use super::elementwise::op2;
use super::entry::{Dims, Entry, List};
use super::{Handler, Importer};
use crate::coreml::dtype::from_name;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Concat, Expand, Gather, PadBy, PadMode, Reduce, ReduceKind, Reshape, ScatterMode,
    ScatterNd, Unsqueeze,
};
use crate::ir::{Dim, Op, Type, ValueId};
use crate::tensor::DType;

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "make_list" => make_list,
        "list_length" => list_length,
        "list_read" | "list_gather" => list_read,
        "list_write" => list_write,
        "list_scatter" => list_scatter,
        _ => return None,
    };
    Some(handler)
}

fn list(call: &mut Call) -> Result<List> {
    let entry = call.required("ls")?;
    if let Entry::List(list) = entry {
        return Ok(list);
    }
    Err(call.wrong("ls", "a list", &entry.describe()).into())
}

/// Zeros; elements whose shape is not known here get it from the first that is written.
fn make_list(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let length = match call.optional_dims("init_length")? {
        Some(dims) => dims.values.into_iter().next().unwrap_or_default(),
        None => Dim::from(1),
    };
    let dynamic = call.bool("dynamic_length", true)?;
    let name = call.string("dtype")?.unwrap_or_else(|| "fp32".into());
    let Some(dtype) = from_name(&name) else {
        return Err(call
            .wrong("dtype", "an element type", &format!("`{name}`"))
            .into());
    };
    let mut shape = Some(vec![length.clone()]);
    for entry in call.list("elem_shape").unwrap_or_default() {
        let dims = entry.dims()?;
        match (&mut shape, dims) {
            (Some(shape), Some(dims)) => shape.extend(dims.values),
            (_, _) => shape = None,
        }
    }
    let data = match shape {
        Some(shape) => Some(zeros(importer, call, dtype, shape)?),
        None => None,
    };
    Ok(vec![Entry::List(List {
        data,
        length,
        dtype,
        dynamic,
    })])
}

fn zeros(
    importer: &mut Importer<'_>,
    call: &Call,
    dtype: DType,
    shape: Vec<Dim>,
) -> Result<(ValueId, Type)> {
    let zero = if dtype == DType::Bool {
        let no = crate::tensor::Tensor::bool(Vec::new(), vec![false])?;
        importer.builder.tensor(&format!("{}/no", call.name), &no)?
    } else {
        importer.scalar(call, "zero", dtype, 0.0)?
    };
    let id = importer.step(call, "elements", Op::Expand(Expand { shape }), &[zero])?;
    Ok((id, importer.ty(id)))
}

/// The tensor of a list; made now if what it holds was not known before.
fn data(
    importer: &mut Importer<'_>,
    call: &Call,
    list: &List,
    element: Option<&Type>,
) -> Result<(ValueId, Type)> {
    if let Some((id, ty)) = &list.data {
        return Ok((*id, ty.clone()));
    }
    let Some(element) = element else {
        return Err(call
            .wrong(
                "ls",
                "a list that was written to",
                "elements of unknown shape",
            )
            .into());
    };
    let mut shape = vec![list.length.clone()];
    shape.extend(element.shape.iter().cloned());
    zeros(importer, call, list.dtype, shape)
}

fn list_length(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let list = list(call)?;
    let length = match &list.data {
        Some((_, ty)) => ty.shape[0].clone(),
        None => list.length,
    };
    Ok(vec![Entry::Dims(Dims::scalar(DType::I32, length))])
}

fn list_read(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let list = list(call)?;
    let parameter = if call.op == "list_read" {
        "index"
    } else {
        "indices"
    };
    let mut index = importer.operand(call, parameter)?;
    let (data, _) = data(importer, call, &list, None)?;
    if call.op == "list_read" && importer.ty(index).rank() > 0 {
        let scalar = Op::Reshape(Reshape { shape: Vec::new() });
        index = importer.step(call, "index", scalar, &[index])?;
    }
    importer.result(call, Op::Gather(Gather { axis: 0 }), &[data, index])
}

/// The tensor with room for the element at `last`, the largest index: as many zeros more as are missing.
fn room(
    importer: &mut Importer<'_>,
    call: &Call,
    (data, ty): (ValueId, Type),
    last: ValueId,
    dim: Option<&Dim>,
    dynamic: bool,
) -> Result<ValueId> {
    let length = super::control::grown(importer, &ty.shape[0], dim);
    if !dynamic || length == ty.shape[0] {
        return Ok(data);
    }
    let one = importer.scalar(call, "one", DType::I32, 1.0)?;
    let zero = importer.scalar(call, "zero", DType::I32, 0.0)?;
    let last = importer.cast(call, "last", last, DType::I32)?;
    let size = Entry::Dims(Dims::scalar(DType::I32, ty.shape[0].clone()));
    let size = importer.value(&size, &format!("{}/size", call.name))?;
    let needed = importer.step(call, "needed", op2(BinaryKind::Add), &[last, one])?;
    let more = importer.step(call, "more", op2(BinaryKind::Sub), &[needed, size])?;
    let more = importer.step(call, "more", op2(BinaryKind::Max), &[more, zero])?;
    let shape = Op::Reshape(Reshape {
        shape: vec![Dim::from(1)],
    });
    let more = importer.step(call, "more", shape, &[more])?;
    let rank = ty.rank();
    let before = super::layout::indices(importer, call, "before", vec![rank], vec![0; rank])?;
    let mut parts = vec![before, more];
    if rank > 1 {
        let after = vec![0; rank - 1];
        parts.push(super::layout::indices(
            importer,
            call,
            "after",
            vec![rank - 1],
            after,
        )?);
    }
    let pads = importer.step(call, "pads", Op::Concat(Concat { axis: 0 }), &parts)?;
    let mut shape = ty.shape;
    shape[0] = length;
    let pad = Op::PadBy(PadBy {
        mode: PadMode::Constant,
        shape,
    });
    importer.step(call, "room", pad, &[data, pads])
}

fn written(list: &List, importer: &Importer<'_>, id: ValueId) -> Vec<Entry> {
    let ty = importer.ty(id);
    vec![Entry::List(List {
        data: Some((id, ty)),
        ..list.clone()
    })]
}

fn list_write(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let list = list(call)?;
    let at = call.peek("index").map(Entry::dims).transpose()?.flatten();
    let index = importer.operand(call, "index")?;
    let value = importer.operand(call, "value")?;
    let element = importer.ty(value);
    let value = importer.cast(call, "value", value, list.dtype)?;
    let data = data(importer, call, &list, Some(&element))?;
    let dim = at.as_ref().and_then(|d| d.values.first());
    let scalar = Op::Reshape(Reshape { shape: Vec::new() });
    let last = if importer.ty(index).rank() == 0 {
        index
    } else {
        importer.step(call, "index", scalar, &[index])?
    };
    let data = room(importer, call, data, last, dim, list.dynamic)?;
    let place = Op::Reshape(Reshape {
        shape: vec![Dim::from(1), Dim::from(1)],
    });
    let place = importer.step(call, "place", place, &[last])?;
    let axes = vec![0];
    let value = importer.step(call, "one", Op::Unsqueeze(Unsqueeze { axes }), &[value])?;
    let mode = ScatterMode::Update;
    let op = Op::ScatterNd(ScatterNd { mode });
    let id = importer
        .builder
        .push(&call.name, op, &[data, place, value])?;
    Ok(written(&list, importer, id))
}

fn list_scatter(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let list = list(call)?;
    let indices = importer.operand(call, "indices")?;
    let value = importer.operand(call, "value")?;
    let mut element = importer.ty(value);
    if element.rank() == 0 {
        return Err(call.wrong("value", "elements", &element.to_string()).into());
    }
    element.shape.remove(0);
    let value = importer.cast(call, "value", value, list.dtype)?;
    let data = data(importer, call, &list, Some(&element))?;
    let largest = Op::Reduce(Reduce {
        kind: ReduceKind::Max,
        axes: vec![0],
        keep_dims: false,
    });
    let data = if list.dynamic {
        let last = importer.step(call, "largest", largest, &[indices])?;
        room(importer, call, data, last, None, true)?
    } else {
        data.0
    };
    let axes = vec![1];
    let places = importer.step(
        call,
        "places",
        Op::Unsqueeze(Unsqueeze { axes }),
        &[indices],
    )?;
    let mode = ScatterMode::Update;
    let op = Op::ScatterNd(ScatterNd { mode });
    let id = importer
        .builder
        .push(&call.name, op, &[data, places, value])?;
    Ok(written(&list, importer, id))
}
