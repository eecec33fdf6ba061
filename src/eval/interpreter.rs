//! Runs a function of a module, node by node; frees every value after its last use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::gemm::Packed;
use super::linear::right_hand;
use super::{EvalError, Mode, Observer, apply, check, input, scratch, sizes, targets};
use crate::error::{Context, Result};
use crate::ir::ops::{Cast, Loop};
use crate::ir::{
    Bindings, BodyId, ConstId, Def, Function, IrError, Module, Node, Op, Type, verify,
};
use crate::limits;
use crate::tensor::{DType, NamedTensors, Storage, Tensor, num};

/// Larger matrices are not kept in a second form.
const PACKED_BYTES: u64 = 64 << 20;

/// Runs modules by the definition of every operation.
///
/// # Numerics
/// See [`Mode`]. Results do not depend on the number of threads.
#[derive(Debug)]
pub struct Interpreter {
    module: Module,
    function: usize,
    mode: Mode,
    // For every node, which of its operands are used there for the last time.
    last_uses: Vec<Vec<bool>>,
    // The same for every body.
    body_last_uses: Vec<Vec<Vec<bool>>>,
    // Decoded constants, filled at their first use; `None` where keeping all of them would take too much memory.
    constants: Vec<Option<OnceLock<Tensor>>>,
    // Right-hand sides of products, packed at their second use.
    packed: Vec<[OnceLock<Option<Packed>>; 2]>,
    // Bytes of the decoded and packed constants that are kept, and of those that the module holds in memory.
    decoded: AtomicU64,
    // Values of `int32` that wrapped, with the number furthest from what `int32` holds.
    wrapped: Mutex<BTreeMap<String, i64>>,
}

impl Interpreter {
    /// An interpreter of the module's default function. Constants are handles: they are read at their first use.
    ///
    /// # Errors
    /// When the module is not valid.
    pub fn new(module: &Module, mode: Mode) -> Result<Self> {
        verify(module)?;
        let mut budget = limits::DECODED_BYTES.get();
        let constants = module
            .constants
            .iter()
            .map(|c| {
                let kept = budget.checked_sub(bytes_of(c.dtype(), c.len()))?;
                budget = kept;
                Some(OnceLock::new())
            })
            .collect();
        let mut interpreter = Interpreter {
            module: module.clone(),
            function: 0,
            mode,
            last_uses: Vec::new(),
            body_last_uses: module.bodies.iter().map(last_uses).collect(),
            constants,
            packed: module
                .constants
                .iter()
                .map(|_| Default::default())
                .collect(),
            decoded: AtomicU64::new(inline_bytes(module)),
            wrapped: Mutex::new(BTreeMap::new()),
        };
        interpreter.last_uses = last_uses(interpreter.function());
        Ok(interpreter)
    }

    /// The same interpreter for another function of the module.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn with_function(mut self, name: &str) -> Result<Self, IrError> {
        let found = self.module.functions.iter().position(|f| f.name == name);
        self.function = found.ok_or_else(|| IrError::NoFunction {
            name: name.to_owned(),
        })?;
        self.last_uses = last_uses(self.function());
        Ok(self)
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The function that is run.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.module.functions[self.function]
    }

    /// How 16-bit floats are kept.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The values of type `int32` that wrapped in any run so far, in bodies too, with the number furthest out.
    #[must_use]
    pub fn wrapped(&self) -> BTreeMap<String, i64> {
        let found = self.wrapped.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }

    /// Runs the function once. Integers are taken for any integer parameter if they fit, floats for any float parameter.
    ///
    /// # Errors
    /// When an input is missing, unknown, or of another type, shape, range or domain than declared; when an index is out of range.
    pub fn run(
        &self,
        inputs: &NamedTensors,
        mut observer: Option<&mut dyn Observer>,
    ) -> Result<NamedTensors> {
        let function = self.function();
        let (tensors, mut bindings) = input::bind(&self.module, function, inputs, self.mode)?;
        let run = Run {
            function,
            last_uses: &self.last_uses,
            held: 0,
        };
        let found = self.nodes(run, tensors, &mut bindings, &mut observer)?;
        let names = function.outputs.iter().map(|o| o.name.clone());
        Ok(names.zip(found).collect())
    }

    /// Runs the nodes of a function or body; gives its outputs.
    fn nodes(
        &self,
        mut run: Run<'_>,
        arguments: Vec<Tensor>,
        bindings: &mut Bindings,
        observer: &mut Option<&mut dyn Observer>,
    ) -> Result<Vec<Tensor>> {
        let function = run.function;
        let mut slots: Vec<Option<Tensor>> = vec![None; function.values.len()];
        for (param, tensor) in function.params.iter().zip(arguments) {
            run.held += bytes_of(tensor.dtype(), tensor.len());
            slots[param.value.index()] = Some(tensor);
        }
        for (node, last) in function.nodes.iter().zip(run.last_uses) {
            let results = self
                .step(&mut run, node, last, &mut slots, bindings)
                .at_node(&function.value(node.result()).name)?;
            for (&id, result) in node.results.iter().zip(results) {
                if let Some(observer) = observer.as_deref_mut() {
                    observer.observe(function, id, &result);
                }
                slots[id.index()] = Some(result);
            }
        }
        let outputs = function.outputs.iter();
        outputs
            .map(|o| self.fetch(&run, o.value.index(), &slots))
            .collect()
    }

    fn step(
        &self,
        run: &mut Run<'_>,
        node: &Node,
        last: &[bool],
        slots: &mut [Option<Tensor>],
        bindings: &mut Bindings,
    ) -> Result<Vec<Tensor>> {
        let function = run.function;
        let packed = self.packed(function, node);
        let mut operands = Vec::with_capacity(node.operands.len());
        let mut released = 0u64;
        for (value, &last) in node.operands.iter().zip(last) {
            operands.push(match (last, slots[value.index()].take()) {
                (true, Some(tensor)) => {
                    released += bytes_of(tensor.dtype(), tensor.len());
                    tensor
                }
                (_, kept) => {
                    slots[value.index()] = kept;
                    self.fetch(run, value.index(), slots)?
                }
            });
        }
        let types = node.results.iter().map(|&r| function.ty(r));
        let results = if let Op::If(o) = &node.op {
            let condition = one_bool(&operands[0])?;
            let body = if condition { o.then_body } else { o.else_body };
            let results = self.body(body, operands.split_off(1), bindings, run.held)?;
            settle(types, results, bindings)?
        } else if let Op::Loop(o) = &node.op {
            let results = self.rounds(o, operands, bindings, run.held)?;
            settle(types, results, bindings)?
        } else {
            sizes::bind(&node.op, &operands, bindings)?;
            let mut targets = targets(&node.op, types, bindings)?;
            if !self.module.symbols.is_empty() {
                check(&node.op, &operands, &targets, bindings)?;
            }
            let bytes = targets.iter().map(|t| bytes_of(t.dtype, t.len()));
            let scratch = scratch::bytes(&node.op, &operands, &targets)
                .saturating_add(self.read_anew(function, node));
            self.check_memory(bytes.fold(scratch, u64::saturating_add), run.held)?;
            let counts = counts(&node.op, &operands);
            let watched = counts && matches!(&targets[..], [one] if one.dtype == DType::I32);
            if watched {
                // Computed without a bound, to see whether it wraps.
                targets[0].dtype = DType::I64;
            }
            let op = if watched && matches!(node.op, Op::Cast(_)) {
                &Op::Cast(Cast { to: DType::I64 })
            } else {
                &node.op
            };
            let mut results = apply(op, operands, targets, bindings, self.mode, packed)?;
            if watched {
                self.watch(&function.value(node.result()).name, &results[0])?;
                results[0] = results[0].cast(DType::I32);
            }
            results
        };
        run.held = run.held.saturating_sub(released);
        for result in &results {
            run.held += bytes_of(result.dtype(), result.len());
        }
        Ok(results)
    }

    /// Remembers it if a value is beyond what `int32` holds.
    fn watch(&self, name: &str, exact: &Tensor) -> Result<()> {
        let beyond = |x: &&i64| i32::try_from(**x).is_err();
        let furthest = exact.ints()?.iter().filter(beyond);
        let Some(&furthest) = furthest.max_by_key(|x| x.unsigned_abs()) else {
            return Ok(());
        };
        let mut wrapped = self.wrapped.lock().unwrap_or_else(PoisonError::into_inner);
        let known = wrapped.entry(name.to_owned()).or_insert(furthest);
        if known.unsigned_abs() < furthest.unsigned_abs() {
            *known = furthest;
        }
        Ok(())
    }

    fn body(
        &self,
        id: BodyId,
        arguments: Vec<Tensor>,
        bindings: &Bindings,
        held: u64,
    ) -> Result<Vec<Tensor>> {
        let function = self.module.body(id);
        let mut bindings = bindings.clone();
        for (param, argument) in function.params.iter().zip(&arguments) {
            let dims = &function.ty(param.value).shape;
            sizes::unify_all(dims, argument.shape(), &mut bindings)
                .at_node(&function.value(param.value).name)?;
        }
        let run = Run {
            function,
            last_uses: &self.body_last_uses[id.index()],
            held,
        };
        self.nodes(run, arguments, &mut bindings, &mut None)
    }

    /// Runs a loop: the carried values in the end, then what the rounds collected.
    fn rounds(
        &self,
        op: &Loop,
        mut operands: Vec<Tensor>,
        bindings: &Bindings,
        held: u64,
    ) -> Result<Vec<Tensor>> {
        let captures = operands.split_off(2 + op.carried);
        let mut carried = operands.split_off(2);
        let most = operands[0].ints()?.first().copied().unwrap_or_default();
        let mut go_on = one_bool(&operands[1])?;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); op.results.len() - op.carried];
        let function = self.module.body(op.body);
        let counter = function
            .params
            .first()
            .map_or(DType::I64, |p| function.ty(p.value).dtype);
        let mut round = 0i64;
        // Bytes of the rows that were collected.
        let mut kept = 0u64;
        while go_on && round < most {
            let limit = limits::LOOP_ROUNDS.get();
            if round.unsigned_abs() >= limit {
                return Err(EvalError::EndlessLoop { limit }.into());
            }
            let mut arguments = vec![
                Tensor::int(counter, Vec::new(), vec![round])?,
                Tensor::bool(Vec::new(), vec![go_on])?,
            ];
            arguments.append(&mut carried);
            arguments.extend(captures.iter().cloned());
            let held = held.saturating_add(kept);
            let mut outputs = self.body(op.body, arguments, bindings, held)?;
            let rows = outputs.split_off(1 + op.carried);
            carried = outputs.split_off(1);
            go_on = one_bool(&outputs[0])?;
            for (list, row) in collected.iter_mut().zip(rows) {
                kept = kept.saturating_add(bytes_of(row.dtype(), row.len()));
                list.push(row);
            }
            round += 1;
        }
        // The rows are there until they are copied into one tensor each.
        self.check_memory(kept, held.saturating_add(kept))?;
        for (rows, ty) in collected.into_iter().zip(&op.results[op.carried..]) {
            carried.push(stacked(&rows, ty)?);
        }
        Ok(carried)
    }

    /// Refuses to allocate `bytes` beside `held` and the decoded constants, if that is more than may be held at once.
    fn check_memory(&self, bytes: u64, held: u64) -> Result<(), EvalError> {
        let held = held.saturating_add(self.decoded.load(Ordering::Relaxed));
        let limit = limits::MEMORY_BYTES.get();
        if held.saturating_add(bytes) > limit {
            return Err(EvalError::Memory {
                result: bytes,
                held,
                limit,
            });
        }
        Ok(())
    }

    /// A value that was computed, or a constant.
    fn fetch(&self, run: &Run<'_>, value: usize, slots: &[Option<Tensor>]) -> Result<Tensor> {
        if let Some(tensor) = &slots[value] {
            return Ok(tensor.clone());
        }
        match run.function.values[value].def {
            Def::Const(id) => self.constant(id, run.held),
            Def::Param(_) | Def::Node(_) => Err(IrError::Undefined { operand: 0 }.into()),
        }
    }

    /// The right-hand side of a product, packed, if it is a constant that was used before, and there is room to keep it in two forms.
    fn packed(&self, function: &Function, node: &Node) -> Option<&Packed> {
        let turned = if let Op::MatMul(o) = &node.op {
            o.transpose_b
        } else if let Op::Linear(_) = &node.op {
            true
        } else {
            return None;
        };
        let Def::Const(id) = function.value(*node.operands.get(1)?).def else {
            return None;
        };
        let tensor = self.constants[id.index()].as_ref()?.get()?;
        let pack = || {
            let bytes = bytes_of(tensor.dtype(), tensor.len());
            let kept = self.decoded.load(Ordering::Relaxed).saturating_add(bytes);
            if bytes > PACKED_BYTES || kept > limits::DECODED_BYTES.get() {
                return None;
            }
            let packed = Packed::new(right_hand(&node.op, tensor)?).ok()?;
            self.decoded.fetch_add(bytes, Ordering::Relaxed);
            Some(packed)
        };
        self.packed[id.index()][usize::from(turned)]
            .get_or_init(pack)
            .as_ref()
    }

    /// Bytes of the constants among the operands that are not kept: they are there while the node is computed.
    fn read_anew(&self, function: &Function, node: &Node) -> u64 {
        let anew = node.operands.iter().filter_map(|&v| {
            let Def::Const(id) = function.value(v).def else {
                return None;
            };
            let constant = self.module.constant(id);
            let bytes = bytes_of(constant.dtype(), constant.len());
            self.constants[id.index()].is_none().then_some(bytes)
        });
        anew.fold(0, u64::saturating_add)
    }

    fn constant(&self, id: ConstId, held: u64) -> Result<Tensor> {
        let constant = self.module.constant(id);
        let kept = self.constants[id.index()].as_ref();
        if let Some(tensor) = kept.and_then(OnceLock::get) {
            return Ok(tensor.clone());
        }
        let bytes = bytes_of(constant.dtype(), constant.len());
        self.check_memory(bytes, held)?;
        let tensor = constant.read()?;
        let Some(cell) = kept else {
            return Ok(tensor);
        };
        Ok(cell
            .get_or_init(|| {
                self.decoded.fetch_add(bytes, Ordering::Relaxed);
                tensor
            })
            .clone())
    }
}

/// Bytes of the constants that a module holds in memory, each place once.
fn inline_bytes(module: &Module) -> u64 {
    let places = module.constants.iter();
    let places: BTreeMap<_, u64> = places
        .map(|c| (c.region().place(), c.held_bytes()))
        .collect();
    places.into_values().fold(0, u64::saturating_add)
}

/// Bytes of a tensor in memory: floats are held in 4, integers in 8, truth values in 1.
pub(super) fn bytes_of(dtype: DType, elements: usize) -> u64 {
    let width = if dtype.is_float() {
        4
    } else if dtype == DType::Bool {
        1
    } else {
        8
    };
    num::u64_of(elements).saturating_mul(width)
}

/// Whether the operation computes integers that may be beyond their type.
fn counts(op: &Op, operands: &[Tensor]) -> bool {
    if let Op::Cast(_) = op {
        return operands.iter().all(|x| x.dtype() != DType::Bool);
    }
    let arithmetic = matches!(
        op,
        Op::Unary(_) | Op::Binary(_) | Op::Reduce(_) | Op::CumSum(_) | Op::MatMul(_)
    );
    arithmetic && operands.iter().all(|x| x.dtype().is_int())
}

/// A function or body with its last uses.
struct Run<'a> {
    function: &'a Function,
    last_uses: &'a [Vec<bool>],
    /// Bytes of the tensors that are held.
    held: u64,
}

fn one_bool(x: &Tensor) -> Result<bool> {
    Ok(x.bools()?.first().copied().unwrap_or_default())
}

/// Gives the run-time sizes of control flow's results their values.
fn settle<'a>(
    types: impl Iterator<Item = &'a Type>,
    results: Vec<Tensor>,
    bindings: &mut Bindings,
) -> Result<Vec<Tensor>> {
    for (ty, result) in types.zip(&results) {
        sizes::unify_all(&ty.shape, result.shape(), bindings)?;
    }
    Ok(results)
}

/// Tensors of one shape as rows of one tensor; without any, the open sizes of the type are 0.
fn stacked(rows: &[Tensor], ty: &Type) -> Result<Tensor> {
    let mut shape = vec![rows.len()];
    match rows.first() {
        Some(first) => shape.extend_from_slice(first.shape()),
        None => shape.extend(ty.shape.iter().skip(1).map(|d| d.known().unwrap_or(0))),
    }
    if let Some(other) = rows.iter().find(|r| r.shape() != &shape[1..]) {
        return Err(EvalError::Result {
            declared: format!("{:?}", &shape[1..]),
            found: format!("{:?}", other.shape()),
        }
        .into());
    }
    let storage = if ty.dtype.is_float() {
        let mut all = Vec::new();
        for row in rows {
            all.extend_from_slice(row.floats()?);
        }
        Storage::Float(all.into())
    } else if ty.dtype == DType::Bool {
        let mut all = Vec::new();
        for row in rows {
            all.extend_from_slice(row.bools()?);
        }
        Storage::Bool(all.into())
    } else {
        let mut all = Vec::new();
        for row in rows {
            all.extend_from_slice(row.ints()?);
        }
        Storage::Int(all.into())
    };
    Ok(Tensor::from_storage(ty.dtype, shape, storage)?)
}

/// For every node and operand, whether no later use follows, be it by a node, the same node or an output.
fn last_uses(function: &Function) -> Vec<Vec<bool>> {
    let mut used = vec![false; function.values.len()];
    for output in &function.outputs {
        used[output.value.index()] = true;
    }
    let mut out: Vec<Vec<bool>> = function
        .nodes
        .iter()
        .rev()
        .map(|node| {
            let mut last: Vec<bool> = node
                .operands
                .iter()
                .rev()
                .map(|v| !std::mem::replace(&mut used[v.index()], true))
                .collect();
            last.reverse();
            last
        })
        .collect();
    out.reverse();
    out
}

#[cfg(test)]
mod tests;
