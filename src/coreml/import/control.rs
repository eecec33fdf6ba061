//! Control flow: `cond` and `while_loop`. What a block uses of its surroundings becomes a parameter of the body it is read into.

use std::collections::BTreeSet;

use super::Importer;
use super::call::Call;
use super::entry::{Entry, List};
use super::error::ImportError;
use crate::coreml::proto::mil_spec::argument::binding::Binding;
use crate::coreml::proto::mil_spec::value_type::Type as Kind;
use crate::coreml::proto::mil_spec::{Block, NamedValueType, Operation};
use crate::error::Result;
use crate::ir::ops::{If, Loop, Reshape};
use crate::ir::{BodyId, Builder, Dim, Domain, Op, Type, ValueId};
use crate::tensor::{DType, Tensor};

/// Whether the operation holds blocks.
pub(super) fn is_control(op: &str) -> bool {
    matches!(op, "cond" | "while_loop")
}

/// A value around a block that the block uses.
struct Capture {
    name: String,
    id: ValueId,
    /// What its parameter stands for inside.
    entry: Entry,
}

pub(super) fn read(
    importer: &mut Importer<'_>,
    operation: &Operation,
    call: &mut Call,
) -> Result<Vec<Entry>> {
    let [first, second] = operation.blocks.as_slice() else {
        return Err(ImportError::Malformed {
            what: "blocks of the operation",
            expected: "2".into(),
            found: operation.blocks.len().to_string(),
        }
        .into());
    };
    if call.op == "cond" {
        cond(importer, call, first, second)
    } else {
        while_loop(importer, call, first, second)
    }
}

/// The names that blocks use but do not define.
fn free<'a>(block: &'a Block, outer: &BTreeSet<&'a str>, into: &mut BTreeSet<&'a str>) {
    let mut defined = outer.clone();
    defined.extend(block.inputs.iter().map(|i| i.name.as_str()));
    for operation in &block.operations {
        for argument in operation.inputs.values() {
            for binding in &argument.arguments {
                if let Some(Binding::Name(name)) = &binding.binding
                    && !defined.contains(name.as_str())
                {
                    into.insert(name);
                }
            }
        }
        // Nesting was bounded before anything was read.
        for nested in &operation.blocks {
            free(nested, &defined, into);
        }
        defined.extend(operation.outputs.iter().map(|o| o.name.as_str()));
    }
    into.extend(
        block
            .outputs
            .iter()
            .map(String::as_str)
            .filter(|o| !defined.contains(o)),
    );
}

/// The values that blocks capture. Constants and sizes are not captured: they mean the same everywhere.
fn captures(importer: &Importer<'_>, blocks: &[&Block]) -> Result<Vec<Capture>> {
    let mut names = BTreeSet::new();
    for block in blocks {
        free(block, &BTreeSet::new(), &mut names);
    }
    let mut out = Vec::new();
    for name in names {
        let entry = importer.lookup(name)?;
        let id = match &entry {
            Entry::Value { id, .. } => Some(*id),
            Entry::List(List { data, .. }) => data.as_ref().map(|d| d.0),
            Entry::State { name } => {
                return Err(ImportError::Unsupported {
                    what: "a state inside a block",
                    detail: format!(": `{name}`"),
                }
                .into());
            }
            Entry::Constant { .. } | Entry::Dims(_) | Entry::Text { .. } => None,
        };
        if let Some(id) = id {
            let name = name.to_owned();
            out.push(Capture { name, id, entry });
        }
    }
    Ok(out)
}

impl Importer<'_> {
    /// Builds a body with the importer at work inside it.
    fn in_body(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<BodyId> {
        let mut builder = std::mem::replace(&mut self.builder, Builder::new(""));
        let built = builder.body(name, |inner| {
            std::mem::swap(inner, &mut self.builder);
            let built = build(self);
            std::mem::swap(inner, &mut self.builder);
            built
        });
        self.builder = builder;
        built
    }

    /// A parameter of a body, and what stands for it there.
    fn body_param(&mut self, name: &str, entry: &Entry, ty: Type) -> Result<Entry> {
        let id = self.builder.param(name, ty.clone(), Domain::Any)?;
        Ok(match entry {
            Entry::List(list) => Entry::List(List {
                data: Some((id, ty)),
                ..list.clone()
            }),
            Entry::Value { .. }
            | Entry::Constant { .. }
            | Entry::Dims(_)
            | Entry::Text { .. }
            | Entry::State { .. } => Entry::Value { id, ty },
        })
    }

    /// Reads a block in a scope of its own.
    fn block(&mut self, block: &Block, given: Vec<(String, Entry)>) -> Result<Vec<Entry>> {
        self.env.push(std::collections::BTreeMap::new());
        let read = self.block_inside(block, given);
        self.env.pop();
        read
    }

    fn block_inside(&mut self, block: &Block, given: Vec<(String, Entry)>) -> Result<Vec<Entry>> {
        for (name, entry) in given {
            self.define(&name, entry)?;
        }
        for operation in &block.operations {
            self.operation(operation)?;
        }
        block
            .outputs
            .iter()
            .map(|name| self.lookup(name).map_err(Into::into))
            .collect()
    }

    /// The tensor that an entry is, or that a list keeps its elements in.
    fn tensor(&mut self, entry: &Entry, name: &str) -> Result<ValueId> {
        match entry {
            Entry::List(List { data, .. }) => match data {
                Some((id, _)) => Ok(*id),
                None => Err(ImportError::Unsupported {
                    what: "a list of elements of unknown shape in a block",
                    detail: format!(": `{name}`"),
                }
                .into()),
            },
            Entry::Value { .. }
            | Entry::Constant { .. }
            | Entry::Dims(_)
            | Entry::Text { .. }
            | Entry::State { .. } => self.value(entry, name),
        }
    }

    /// The type in which sizes that only a run tells are new ones.
    fn open(&mut self, ty: &Type) -> Type {
        let shape = ty
            .shape
            .iter()
            .map(|d| {
                if d.is_run_time() {
                    self.builder.run_time_size()
                } else {
                    d.clone()
                }
            })
            .collect();
        Type::new(ty.dtype, shape)
    }
}

/// One value of truth of rank 0.
fn truth(importer: &mut Importer<'_>, call: &Call, entry: &Entry) -> Result<ValueId> {
    let id = importer.value(entry, &format!("{}/condition", call.name))?;
    if importer.ty(id).rank() == 0 {
        return Ok(id);
    }
    let scalar = Op::Reshape(Reshape { shape: Vec::new() });
    importer.step(call, "condition", scalar, &[id])
}

/// An entry like `like`, of another value.
fn wrapped(importer: &Importer<'_>, like: &Entry, id: ValueId) -> Entry {
    match (importer.entry(id), like) {
        (Entry::Value { id, ty }, Entry::List(list)) => Entry::List(List {
            data: Some((id, ty)),
            ..list.clone()
        }),
        (entry, _) => entry,
    }
}

fn cond(
    importer: &mut Importer<'_>,
    call: &mut Call,
    then_block: &Block,
    else_block: &Block,
) -> Result<Vec<Entry>> {
    let condition = call.required("pred")?;
    call.finish()?;
    let condition = truth(importer, call, &condition)?;
    let captured = captures(importer, &[then_block, else_block])?;
    let mut bodies = Vec::with_capacity(2);
    let mut likes: Vec<Entry> = Vec::new();
    for (block, tag) in [(then_block, "then"), (else_block, "else")] {
        let name = format!("{}/{tag}", call.name);
        let body = importer.in_body(&name, |importer| {
            let mut given = Vec::with_capacity(captured.len());
            for capture in &captured {
                let ty = importer_type(&capture.entry);
                let path = format!("{name}/{}", capture.name);
                let entry = importer.body_param(&path, &capture.entry, ty)?;
                given.push((capture.name.clone(), entry));
            }
            let results = importer.block(block, given)?;
            for (i, entry) in results.iter().enumerate() {
                let path = format!("{name}/result{i}");
                let id = importer.tensor(entry, &path)?;
                importer.builder.output(&path, id)?;
            }
            likes = results;
            Ok(())
        })?;
        bodies.push(body);
    }
    let types = |importer: &Importer<'_>, body: BodyId| -> Vec<Type> {
        let function = importer.builder.body_function(body);
        function
            .outputs
            .iter()
            .map(|o| function.ty(o.value).clone())
            .collect()
    };
    let (a, b) = (types(importer, bodies[0]), types(importer, bodies[1]));
    if a.len() != b.len()
        || a.iter()
            .zip(&b)
            .any(|(a, b)| a.dtype != b.dtype || a.rank() != b.rank())
    {
        let text = |t: &[Type]| {
            t.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        return Err(call.wrong("pred", &text(&a), &text(&b)).into());
    }
    let mut results = Vec::with_capacity(a.len());
    for (a, b) in a.iter().zip(&b) {
        let shape = a
            .shape
            .iter()
            .zip(&b.shape)
            .map(|(x, y)| {
                if x == y && !x.is_run_time() {
                    x.clone()
                } else {
                    importer.builder.run_time_size()
                }
            })
            .collect();
        results.push(Type::new(a.dtype, shape));
    }
    let op = Op::If(If {
        then_body: bodies[0],
        else_body: bodies[1],
        results,
    });
    let mut operands = vec![condition];
    operands.extend(captured.iter().map(|c| c.id));
    let results = importer.builder.push_all(&call.name, op, &operands)?;
    Ok(results
        .into_iter()
        .zip(&likes)
        .map(|(id, like)| wrapped(importer, like, id))
        .collect())
}

/// The type of what an entry keeps.
fn importer_type(entry: &Entry) -> Type {
    match entry {
        Entry::List(List { data, .. }) => data.as_ref().map(|d| d.1.clone()),
        Entry::Value { .. }
        | Entry::Constant { .. }
        | Entry::Dims(_)
        | Entry::Text { .. }
        | Entry::State { .. } => entry.ty(),
    }
    .unwrap_or_else(|| Type::new(DType::F32, Vec::new()))
}

/// The type that a carried value has in every round: its own, but for what the block leaves open.
fn carried_type(
    importer: &mut Importer<'_>,
    entry: &Entry,
    input: &NamedValueType,
) -> Result<Type> {
    let own = importer_type(entry);
    if let Entry::List(list) = entry {
        let mut shape = own.shape;
        if list.dynamic {
            shape[0] = importer.builder.run_time_size();
        }
        return Ok(Type::new(own.dtype, shape));
    }
    let is_tensor = input
        .r#type
        .as_ref()
        .is_some_and(|t| matches!(t.r#type, Some(Kind::TensorType(_))));
    if !is_tensor {
        return Ok(own);
    }
    let declared = super::declared(input.r#type.as_ref())?;
    let Some(sizes) = declared.shape.filter(|s| s.len() == own.rank()) else {
        return Ok(own);
    };
    let shape = own
        .shape
        .iter()
        .zip(sizes)
        .map(|(own, size)| match size {
            Some(_) => own.clone(),
            None => importer.builder.run_time_size(),
        })
        .collect();
    Ok(Type::new(own.dtype, shape))
}

fn while_loop(
    importer: &mut Importer<'_>,
    call: &mut Call,
    condition: &Block,
    body: &Block,
) -> Result<Vec<Entry>> {
    let vars = call.list("loop_vars")?;
    call.finish()?;
    if condition.inputs.len() != vars.len() || body.inputs.len() != vars.len() {
        let found = format!("{} and {}", condition.inputs.len(), body.inputs.len());
        return Err(call
            .wrong(
                "loop_vars",
                &format!("blocks of {} inputs", vars.len()),
                &found,
            )
            .into());
    }
    let captured = captures(importer, &[condition, body])?;
    // Whether to begin at all.
    let given = condition
        .inputs
        .iter()
        .map(|i| i.name.clone())
        .zip(vars.iter().cloned())
        .collect();
    let begin = importer.block(condition, given)?;
    let begin = truth(importer, call, only(call, &begin)?)?;
    let mut operands = Vec::with_capacity(vars.len() + captured.len() + 2);
    let rounds = Tensor::i64(Vec::new(), vec![i64::from(i32::MAX)])?;
    operands.push(
        importer
            .builder
            .tensor(&format!("{}/rounds", call.name), &rounds)?,
    );
    operands.push(begin);
    let mut carried = Vec::with_capacity(vars.len());
    for (i, (var, input)) in vars.iter().zip(&body.inputs).enumerate() {
        let name = format!("{}/{i}", call.name);
        operands.push(importer.tensor(var, &name)?);
        carried.push(carried_type(importer, var, input)?);
    }
    operands.extend(captured.iter().map(|c| c.id));
    let name = format!("{}/body", call.name);
    let built = importer.in_body(&name, |importer| {
        let scalar = |dtype| Type::new(dtype, Vec::new());
        let b = &mut importer.builder;
        b.param(&format!("{name}/round"), scalar(DType::I64), Domain::Any)?;
        b.param(&format!("{name}/on"), scalar(DType::Bool), Domain::Any)?;
        let mut given = Vec::new();
        for (i, ((var, ty), input)) in vars.iter().zip(&carried).zip(&body.inputs).enumerate() {
            let path = format!("{name}/{i}/{}", input.name);
            let entry = importer.body_param(&path, var, ty.clone())?;
            given.push((input.name.clone(), entry));
        }
        let mut around = Vec::new();
        for capture in &captured {
            let path = format!("{name}/{}", capture.name);
            let ty = importer_type(&capture.entry);
            let entry = importer.body_param(&path, &capture.entry, ty)?;
            around.push((capture.name.clone(), entry));
        }
        importer.env.push(around.into_iter().collect());
        let read = loop_body(importer, call, condition, body, given, &name);
        importer.env.pop();
        read
    })?;
    let results = carried.iter().map(|ty| importer.open(ty)).collect();
    let op = Op::Loop(Loop {
        body: built,
        carried: carried.len(),
        results,
    });
    let results = importer.builder.push_all(&call.name, op, &operands)?;
    Ok(results
        .into_iter()
        .zip(&vars)
        .map(|(id, like)| wrapped(importer, like, id))
        .collect())
}

fn only<'a>(call: &Call, entries: &'a [Entry]) -> Result<&'a Entry> {
    match entries {
        [one] => Ok(one),
        many => Err(call
            .wrong("loop_vars", "one condition", &many.len().to_string())
            .into()),
    }
}

/// The outputs of a loop's body: whether to go on, then the carried values.
fn loop_body(
    importer: &mut Importer<'_>,
    call: &Call,
    condition: &Block,
    body: &Block,
    given: Vec<(String, Entry)>,
    name: &str,
) -> Result<()> {
    let next = importer.block(body, given)?;
    let given = condition
        .inputs
        .iter()
        .map(|i| i.name.clone())
        .zip(next.iter().cloned())
        .collect();
    let on = importer.block(condition, given)?;
    let on = truth(importer, call, only(call, &on)?)?;
    importer.builder.output(&format!("{name}/next"), on)?;
    for (i, entry) in next.iter().enumerate() {
        let path = format!("{name}/next{i}");
        let id = importer.tensor(entry, &path)?;
        importer.builder.output(&path, id)?;
    }
    Ok(())
}

/// A dimension for what the first axis of a list may grow to.
pub(super) fn grown(importer: &mut Importer<'_>, length: &Dim, index: Option<&Dim>) -> Dim {
    match index {
        Some(index) if importer.bounds.at_most(&index.add(&Dim::from(1)), length) => length.clone(),
        Some(_) | None => importer.builder.run_time_size(),
    }
}
