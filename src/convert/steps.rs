//! Runs Core ML models: one function, at the shapes of the inputs, step by step with its states kept between steps.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::{Ran, RunOptions, fill_masks};
use super::engines::{Engine, through_onnx};
use super::fit;
use crate::coreml::{self, Classifier, Package};
use crate::error::Result;
use crate::eval::{Interpreter, check_indices};
use crate::ir::{Function, Module};
use crate::runtime::{NamedTensors, Session};
use crate::tensor::{Storage, Tensor};

/// The model for inputs of these shapes, in an engine.
type Opened = (BTreeMap<String, Vec<usize>>, Box<dyn Session>, Package);

/// Runs the model on the inputs of every step, states beginning with zeros.
pub(super) fn run(model: &Path, mut steps: Vec<NamedTensors>, options: &RunOptions) -> Result<Ran> {
    let function = options.function.as_deref();
    let mut warnings = Vec::new();
    let described = coreml::inputs(model, function)?;
    for inputs in &mut steps {
        warnings.extend(fit::fill_defaults(&described, inputs)?);
    }
    // The program for every shape tells which masks are missing; the program for these shapes checks them, and reads what the other cannot.
    if let Ok(package) = coreml::read_function(model, function) {
        warnings.extend(package.warnings);
        for inputs in &mut steps {
            warnings.extend(fill_masks(&package.module, inputs)?);
        }
    }
    let mut opened: Option<Opened> = None;
    let mut states: Option<NamedTensors> = None;
    let mut outputs = Vec::with_capacity(steps.len());
    let mut engine = String::new();
    for inputs in steps {
        let inputs = fit::fit(&described, inputs)?;
        let shapes: BTreeMap<String, Vec<usize>> = inputs
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()))
            .collect();
        let fits = opened.as_ref().is_some_and(|(at, _, _)| *at == shapes);
        if !fits {
            let package = coreml::read_for_shapes(model, function, &shapes)?;
            let session = session(&package.module, options)?;
            opened = Some((shapes, session, package));
        }
        let Some((_, session, package)) = &opened else {
            continue;
        };
        let main = package.module.main()?;
        let kept = match states.take() {
            Some(states) => states,
            None => zeros(main)?,
        };
        let mut given = scalars(main, inputs)?;
        check_indices(main, &given)?;
        given.extend(kept);
        let mut found = session.run(&given)?;
        engine = session.engine();
        let mut next = NamedTensors::new();
        for state in &main.states {
            if let Some(tensor) = found.remove(&state.output) {
                next.insert(main.value(state.param).name.clone(), tensor);
            }
        }
        states = Some(next);
        outputs.push(found);
    }
    let classifier = opened.as_ref().and_then(|o| o.2.classifier.as_ref());
    let labels = match (classifier, outputs.last()) {
        (Some(classifier), Some(last)) => label(classifier, last),
        (_, _) => None,
    };
    warnings.dedup();
    let last = outputs.pop().unwrap_or_default();
    Ok(Ran {
        engine,
        outputs: last,
        earlier: outputs,
        label: labels,
        warnings,
    })
}

fn session(module: &Module, options: &RunOptions) -> Result<Box<dyn Session>> {
    Ok(match options.engine.unwrap_or(Engine::Interpreter) {
        Engine::Interpreter => Box::new(Interpreter::new(module, options.mode)?),
        engine @ (Engine::Tract | Engine::Ort) => {
            through_onnx(module, engine, options.onnxruntime.as_deref())?
        }
    })
}

/// The states in the beginning.
fn zeros(function: &Function) -> Result<NamedTensors> {
    let mut out = NamedTensors::new();
    for state in &function.states {
        let ty = function.ty(state.param);
        let shape = ty.known_shape().unwrap_or_default();
        let zeros = vec![0.0; shape.iter().product()];
        let tensor = Tensor::f32(shape, zeros)?.cast(ty.dtype);
        out.insert(function.value(state.param).name.clone(), tensor);
    }
    Ok(out)
}

/// The inputs as the program takes them: a scalar is described as a vector of one.
fn scalars(function: &Function, inputs: NamedTensors) -> Result<NamedTensors> {
    let mut out = NamedTensors::new();
    for (name, tensor) in inputs {
        let scalar = function
            .param(&name)
            .is_some_and(|p| function.ty(p.value).rank() == 0);
        let tensor = if scalar && tensor.shape() == [1] {
            tensor.reshaped(Vec::new())?
        } else {
            tensor
        };
        out.insert(name, tensor);
    }
    Ok(out)
}

/// The label that a classifier gave.
fn label(classifier: &Classifier, outputs: &NamedTensors) -> Option<String> {
    let found = outputs.get(&classifier.label)?;
    let Storage::Int(values) = found.storage() else {
        return None;
    };
    let n = *values.first()?;
    if classifier.integers {
        return Some(n.to_string());
    }
    classifier.labels.get(usize::try_from(n).ok()?).cloned()
}
