//! Computes floats in `f16`, but for islands that stay in `f32`. The interface keeps its types.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::exact::{self, Exact};
use super::parts::PARTS;
use super::rewrite::{Bodies, Rewrite};
use crate::error::{Class, Context, Diagnostic, Result};
use crate::ir::ops::{ReduceKind, ScatterMode};
use crate::ir::{Bindings, ConstId, Constant, Def, Function, Module, Node, Op, ValueId};
use crate::tensor::{DType, Tensor, num};

/// Largest finite `f16`.
pub(crate) const F16_MAX: f32 = 65504.0;
/// Smallest positive `f16`: what a constant becomes that would round to 0.
const F16_MIN: f32 = 5.960_464_5e-8;
/// Below this many elements a constant is a parameter (an epsilon, a scale), and must not vanish.
const PARAMETER_ELEMENTS: usize = 400;

/// What to keep in `f32`: operations by name (`softmax`, see `Op::TABLE`) or nodes by name, with `*` for any part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Islands {
    patterns: Vec<String>,
    overflowing: BTreeSet<String>,
    unseen_in_range: bool,
}

impl Islands {
    /// Islands from a list of patterns.
    #[must_use]
    pub fn new(patterns: Vec<String>) -> Self {
        Islands {
            patterns,
            overflowing: BTreeSet::new(),
            unseen_in_range: false,
        }
    }

    /// Whether an operation is named that attention is made of. Attention is computed in one type: for a part of it to be computed in another, a
    /// module has to have [`super::parts`] in its place.
    #[must_use]
    pub fn name_parts(&self) -> bool {
        self.patterns.iter().any(|p| PARTS.contains(&p.as_str()))
    }

    /// Besides, nodes that were seen to reach beyond `f16`; other names are no error.
    #[must_use]
    pub fn with_overflowing(mut self, nodes: BTreeSet<String>) -> Self {
        self.overflowing = nodes;
        self
    }

    /// The nodes of [`Islands::with_overflowing`].
    #[must_use]
    pub fn overflowing(&self) -> &BTreeSet<String> {
        &self.overflowing
    }

    /// Takes large constants that nobody has looked at yet for ones within the range of `f16`, instead of reading them all. The report names
    /// them, and [`PrecisionReport::assumed_rightly`] tells in the end.
    #[must_use]
    pub fn assuming_range(mut self) -> Self {
        self.unseen_in_range = true;
        self
    }
}

/// A node that stayed in `f32`, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptInF32 {
    /// The node.
    pub node: String,
    /// The reason.
    pub reason: String,
}

/// What the pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrecisionReport {
    /// Nodes that compute in `f16`.
    pub f16_nodes: usize,
    /// Nodes that stayed in `f32`.
    pub kept_in_f32: Vec<KeptInF32>,
    /// Constants that would have rounded to 0 and became the smallest `f16` instead.
    pub raised_constants: Vec<String>,
    /// Constants of the module that were taken to be within the range of `f16` unseen.
    #[serde(skip)]
    pub assumed: BTreeSet<ConstId>,
}

impl PrecisionReport {
    /// One report on several functions, or on the one that there is. Nodes of others than the first are called after their function.
    pub fn of_functions(
        reports: impl Iterator<Item = (String, Option<PrecisionReport>)>,
    ) -> Option<PrecisionReport> {
        let mut reports = reports.filter_map(|(name, report)| Some((name, report?)));
        let (_, mut all) = reports.next()?;
        for (name, report) in reports {
            let named = |node: &String| format!("{name}/{node}");
            all.f16_nodes += report.f16_nodes;
            all.raised_constants
                .extend(report.raised_constants.iter().map(named));
            all.kept_in_f32
                .extend(report.kept_in_f32.into_iter().map(|kept| KeptInF32 {
                    node: named(&kept.node),
                    ..kept
                }));
        }
        Some(all)
    }

    /// Whether what was assumed of the constants of `module`, the one that the pass was given, is true. Costs nothing once they were streamed.
    ///
    /// # Errors
    /// When a constant cannot be read.
    pub fn assumed_rightly(&self, module: &Module) -> Result<bool> {
        for &id in &self.assumed {
            if module.constant(id).scan()?.max_abs > F16_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What can be wrong with the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrecisionError {
    /// A pattern that matches nothing would keep nothing in `f32`.
    #[error("`{pattern}` matches no operation and no node of this model")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
}

impl Diagnostic for PrecisionError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn code(&self) -> &'static str {
        "no_such_node"
    }

    fn hint(&self) -> Option<String> {
        Some("`distill-convert inspect` lists the operations; node names are paths such as `model/layers.0/*`".into())
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The module computing in `f16` outside the islands. Parameters and outputs keep their types; integer and boolean values are untouched.
///
/// # Numerics
/// Constants are rounded once, to nearest even. A node with a constant beyond ±65504 stays in `f32`, and so does what it feeds only through a cast;
/// a parameter-sized constant that would round to 0 becomes the smallest positive `f16`. Numbers from which indices are computed and angles of
/// positions stay in `f32`, too. Fills of masks beyond ±2·10⁴ become ±2·10⁴.
///
/// # Errors
/// When a pattern of `islands` matches nothing, or a constant cannot be read.
pub fn precision(module: &Module, islands: &Islands) -> Result<(Module, PrecisionReport)> {
    let mut report = PrecisionReport::default();
    let mut unmatched: BTreeSet<&str> = islands.patterns.iter().map(String::as_str).collect();
    // Values of one function mean nothing in the next; each end of a function clears the casts and what is known of it.
    let state = RefCell::new((&mut report, Casts::default(), None::<Exact>, None));
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        let (report, casts, exact, chosen) = &mut *state.borrow_mut();
        let exact = exact.get_or_insert_with(|| Exact::of(rewrite.module, rewrite.function));
        let name = rewrite.function.value(node.result()).name.clone();
        if !touches_floats(rewrite, node) {
            return rewrite.copy(node);
        }
        let pattern = islands
            .patterns
            .iter()
            .find(|p| p.as_str() == node.op.name() || matches(p, &name));
        let reason = match pattern {
            Some(pattern) => {
                unmatched.remove(pattern.as_str());
                Some(format!("asked for by `{pattern}`"))
            }
            None if !node.op.bodies().is_empty() => {
                Some("what control flow hands over keeps its type".to_owned())
            }
            None if chosen
                .get_or_insert_with(|| choices(rewrite.function))
                .contains(&node.result()) =>
            {
                Some("what is chosen among inputs must not change by rounding them".to_owned())
            }
            None if islands.overflowing.contains(&name) => {
                Some("its values reach beyond f16's 65504".to_owned())
            }
            None if exact.reason(node).is_some() => exact.reason(node).map(str::to_owned),
            None => overflowing_constant(rewrite, node, exact, islands.unseen_in_range, report)
                .at_node(&name)?,
        };
        let dtype = match reason {
            Some(reason) => {
                report.kept_in_f32.push(KeptInF32 {
                    node: name.clone(),
                    reason,
                });
                DType::F32
            }
            None => {
                report.f16_nodes += 1;
                DType::F16
            }
        };
        // Bodies are copied, so that control flow takes what it took.
        let keeps_types = !node.op.bodies().is_empty();
        let mut operands = Vec::with_capacity(node.operands.len());
        for &v in &node.operands {
            let dtype = if keeps_types {
                rewrite.function.ty(v).dtype
            } else {
                dtype
            };
            operands.push(casts.operand(rewrite, v, dtype, exact, report)?);
        }
        let mut op = node.op.clone();
        if let Op::Cast(cast) = &mut op
            && cast.to.is_float()
        {
            cast.to = dtype;
        }
        let new = rewrite.builder.push_all(&name, op, &operands)?;
        rewrite.set_all(node, &new);
        Ok(())
    };
    let end = |rewrite: &mut Rewrite<'_>| {
        let mut cleared = state.borrow_mut();
        (cleared.1, cleared.2, cleared.3) = (Casts::default(), None, None);
        for output in &rewrite.function.outputs {
            let declared = rewrite.function.ty(output.value).dtype;
            let value = rewrite.get(output.value);
            if declared.is_float() && rewrite.builder.ty(value).dtype != declared {
                let name = format!(
                    "{}/to_{declared}",
                    rewrite.function.value(output.value).name
                );
                let cast = rewrite.builder.cast(&name, value, declared)?;
                rewrite.set(output.value, cast);
            }
        }
        Ok(())
    };
    let rebuilt = Rewrite::module(module, &Bindings::new(), Bodies::Copied, rebuild, end)
        .at_pass("precision")?;
    if let Some(pattern) = unmatched.first() {
        return Err(PrecisionError::NoMatch {
            pattern: (*pattern).to_owned(),
        }
        .into());
    }
    Ok((rebuilt, report))
}

/// First results of the nodes that choose among inputs which nothing has been computed with, and of those that hand these inputs on.
fn choices(function: &Function) -> BTreeSet<ValueId> {
    let is_float = |v: &&ValueId| function.ty(**v).dtype.is_float();
    let mut unchanged: BTreeSet<ValueId> = function.params.iter().map(|p| p.value).collect();
    let mut open: Vec<ValueId> = Vec::new();
    let mut kept = BTreeSet::new();
    for node in &function.nodes {
        let mut floats = node.operands.iter().filter(is_float);
        let is_constant = |v: ValueId| matches!(function.value(v).def, Def::Const(_));
        if !floats.all(|&v| unchanged.contains(&v) || is_constant(v)) {
            continue;
        }
        if hands_on(&node.op) {
            unchanged.extend(&node.results);
        }
        let chooses = matches!(
            node.op,
            Op::NonMaxSuppression(_) | Op::TopK(_) | Op::ArgReduce(_)
        );
        if chooses {
            kept.insert(node.result());
            open.extend(node.operands.iter().filter(is_float));
        }
    }
    while let Some(value) = open.pop() {
        if let Some(node) = function.producer(value)
            && kept.insert(node.result())
        {
            open.extend(node.operands.iter().filter(is_float));
        }
    }
    kept
}

/// Whether the operation gives elements of its operands as they are.
fn hands_on(op: &Op) -> bool {
    matches!(
        op,
        Op::Cast(_)
            | Op::Concat(_)
            | Op::Expand(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::GatherNd(_)
            | Op::Reshape(_)
            | Op::Select(_)
            | Op::Slice(_)
            | Op::Squeeze(_)
            | Op::TopK(_)
            | Op::Transpose(_)
            | Op::Unsqueeze(_)
    ) || matches!(op, Op::Reduce(o) if matches!(o.kind, ReduceKind::Max | ReduceKind::Min))
        || matches!(op, Op::ScatterNd(o) if o.mode == ScatterMode::Update)
}

/// Whether the node computes floats, or reads them.
fn touches_floats(rewrite: &Rewrite<'_>, node: &Node) -> bool {
    let mut results = node.results.iter();
    results.any(|&r| rewrite.function.ty(r).dtype.is_float())
        || (!matches!(node.op, Op::Cast(_))
            && node
                .operands
                .iter()
                .any(|&v| rewrite.function.ty(v).dtype.is_float()))
}

/// Why the node cannot compute in `f16`, if one of its constants is beyond its range.
fn overflowing_constant(
    rewrite: &Rewrite<'_>,
    node: &Node,
    exact: &Exact,
    unseen_in_range: bool,
    report: &mut PrecisionReport,
) -> Result<Option<String>> {
    for &operand in node.operands.iter().filter(|v| !exact.is_mask(**v)) {
        if let Def::Const(id) = rewrite.function.value(operand).def {
            let constant = rewrite.module.constant(id);
            if constant.dtype().is_float() && constant.stored_dtype() != DType::F16 {
                let unseen = constant.known_scan().is_none();
                if unseen && unseen_in_range && constant.len() >= PARAMETER_ELEMENTS {
                    report.assumed.insert(id);
                    continue;
                }
                let max_abs = constant.scan()?.max_abs;
                if max_abs > F16_MAX {
                    let name = constant.name();
                    return Ok(Some(format!(
                        "constant `{name}` reaches {max_abs:e}, beyond f16's 65504"
                    )));
                }
            }
        }
    }
    Ok(None)
}

/// Casts already inserted: one per value and type.
#[derive(Default)]
struct Casts(BTreeMap<(ValueId, DType), ValueId>);

impl Casts {
    /// The new value of operand `old` in the type the node computes in.
    fn operand(
        &mut self,
        rewrite: &mut Rewrite<'_>,
        old: ValueId,
        dtype: DType,
        exact: &Exact,
        report: &mut PrecisionReport,
    ) -> Result<ValueId> {
        if !rewrite.function.ty(old).dtype.is_float() {
            return Ok(rewrite.get(old));
        }
        if let Some(&cast) = self.0.get(&(old, dtype)) {
            return Ok(cast);
        }
        let value = if let Def::Const(id) = rewrite.function.value(old).def {
            let constant = rewrite.module.constant(id);
            let constant = if exact.is_mask(old) {
                &exact::filled(constant)?
            } else {
                constant
            };
            let cast = if dtype == DType::F16 {
                narrowed(constant, report)?
            } else {
                constant.cast(dtype)
            };
            rewrite.builder.constant(cast)
        } else {
            let value = rewrite.get(old);
            let name = format!("{}/to_{dtype}", rewrite.function.value(old).name);
            rewrite.builder.cast(&name, value, dtype)?
        };
        self.0.insert((old, dtype), value);
        Ok(value)
    }
}

/// The constant in `f16`; a small one keeps its elements from vanishing.
fn narrowed(constant: &Constant, report: &mut PrecisionReport) -> Result<Constant> {
    let vanishes = |x: f32| x != 0.0 && num::round_f16(x) == 0.0;
    if constant.len() < PARAMETER_ELEMENTS && vanishes(constant.scan()?.min_abs) {
        let tensor = constant.read()?;
        let raised = tensor
            .floats()?
            .iter()
            .map(|&x| if vanishes(x) { F16_MIN.copysign(x) } else { x })
            .collect();
        report.raised_constants.push(constant.name().to_owned());
        let tensor = Tensor::float(tensor.dtype(), tensor.shape().to_vec(), raised)?;
        return Constant::from_tensor(constant.name(), &tensor.cast(DType::F16));
    }
    Ok(constant.cast(DType::F16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::{ArgReduce, BinaryKind, If, Softmax, Transpose};
    use crate::ir::{Builder, Domain, Type, print};

    fn model() -> Module {
        let mut b = Builder::new("m");
        let x = b
            .param("x", Type::known(DType::F32, &[2, 4]), Domain::Any)
            .unwrap();
        let eps = b.scalar("eps", DType::F32, 1e-12).unwrap();
        let big = b.scalar("big", DType::F32, 1e9).unwrap();
        let a = b.binary("a", BinaryKind::Max, x, eps).unwrap();
        let c = b.binary("c", BinaryKind::Mul, a, big).unwrap();
        let s = b.push("s", Op::Softmax(Softmax { axis: 1 }), &[c]).unwrap();
        b.output("y", s).unwrap();
        b.finish().unwrap()
    }

    #[test]
    fn islands_overflow_and_small_constants() {
        let (m, report) = precision(&model(), &Islands::new(vec!["softmax".into()])).unwrap();
        assert_eq!(report.f16_nodes, 1);
        assert_eq!(report.raised_constants, ["eps"]);
        let kept: Vec<&str> = report.kept_in_f32.iter().map(|k| k.node.as_str()).collect();
        assert_eq!(kept, ["c", "s"]);
        let text = print(&m);
        assert!(text.contains("%a : f16[2, 4]"), "{text}");
        assert!(text.contains("%a/to_f32 : f32[2, 4] = cast(%a)"), "{text}");
        assert_eq!(
            m.main()
                .unwrap()
                .ty(m.main().unwrap().outputs[0].value)
                .dtype,
            DType::F32
        );
    }

    #[test]
    fn choices_among_inputs_are_made_before_they_are_rounded() {
        let mut b = Builder::new("m");
        let ty = Type::known(DType::F32, &[4, 2]);
        let x = b.param("x", ty, Domain::Any).unwrap();
        let turned = Op::Transpose(Transpose { perm: vec![1, 0] });
        let turned = b.push("turned", turned, &[x]).unwrap();
        let best = |x| {
            let op = ArgReduce {
                axis: 1,
                largest: true,
                last: false,
                dtype: DType::I32,
            };
            (Op::ArgReduce(op), [x])
        };
        let (op, operands) = best(turned);
        let first = b.push("first", op, &operands).unwrap();
        let twice = b.binary("twice", BinaryKind::Add, turned, turned);
        let (op, operands) = best(twice.unwrap());
        let second = b.push("second", op, &operands).unwrap();
        b.output("y", first).unwrap();
        b.output("z", second).unwrap();
        let (_, report) = precision(&b.finish().unwrap(), &Islands::default()).unwrap();
        let kept: Vec<&str> = report.kept_in_f32.iter().map(|k| k.node.as_str()).collect();
        assert_eq!(kept, ["turned", "first"]);
        assert_eq!(report.f16_nodes, 2);
    }

    #[test]
    fn control_flow_takes_and_gives_what_it_did() {
        let half = || Type::known(DType::F16, &[2]);
        let mut b = Builder::new("m");
        let body = b.body("then", |b| {
            let x = b.param("inner", half(), Domain::Any)?;
            let doubled = b.binary("doubled", BinaryKind::Add, x, x)?;
            Ok(b.output("out", doubled)?)
        });
        let body = body.unwrap();
        let c = Type::known(DType::Bool, &[]);
        let c = b.param("c", c, Domain::Any).unwrap();
        let ty = Type::known(DType::F32, &[2]);
        let x = b.param("x", ty, Domain::Any).unwrap();
        let narrow = b.cast("narrow", x, DType::F16).unwrap();
        let op = If {
            then_body: body,
            else_body: body,
            results: vec![half()],
        };
        let y = b.push("y", Op::If(op), &[c, narrow]).unwrap();
        let y = b.cast("wide", y, DType::F32).unwrap();
        b.output("out", y).unwrap();
        let (m, report) = precision(&b.finish().unwrap(), &Islands::default()).unwrap();
        let text = print(&m);
        assert!(text.contains("%y : f16[2] = if(%c, %narrow)"), "{text}");
        assert_eq!(report.kept_in_f32.len(), 1);
    }

    #[test]
    fn what_was_assumed_of_large_constants_is_checked_in_the_end() {
        let with = |last: f32| {
            let mut b = Builder::new("m");
            let ty = Type::known(DType::F32, &[1, PARAMETER_ELEMENTS]);
            let x = b.param("x", ty, Domain::Any).unwrap();
            let mut values = vec![1.0; PARAMETER_ELEMENTS];
            values[7] = last;
            let tensor = Tensor::f32(vec![1, PARAMETER_ELEMENTS], values).unwrap();
            let w = b.constant(Constant::from_tensor("w", &tensor).unwrap());
            let y = b.binary("y", BinaryKind::Mul, x, w).unwrap();
            b.output("y", y).unwrap();
            b.finish().unwrap()
        };
        let islands = Islands::default();
        for (last, rightly) in [(65504.0, true), (-65536.0, false)] {
            let module = with(last);
            let (_, report) = precision(&module, &islands.clone().assuming_range()).unwrap();
            assert_eq!((report.f16_nodes, report.assumed.len()), (1, 1));
            assert_eq!(report.assumed_rightly(&module).unwrap(), rightly);
            // By now it is known, and nothing is assumed any more.
            let (_, again) = precision(&module, &islands.clone().assuming_range()).unwrap();
            assert_eq!(again.assumed.len(), 0);
            assert_eq!(again.f16_nodes, usize::from(rightly));
            let (_, careful) = precision(&with(last), &islands).unwrap();
            assert_eq!(careful, again);
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error() {
        let error = precision(&model(), &Islands::new(vec!["sofmax".into()])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sofmax` matches no operation and no node of this model"
        );
    }

    #[test]
    fn patterns() {
        assert!(matches("a/*/c", "a/b/c") && matches("*", "x") && matches("a", "a"));
        assert!(!matches("a", "ab") && !matches("a/*/c", "a/c") && !matches("*b", "bc"));
    }
}
