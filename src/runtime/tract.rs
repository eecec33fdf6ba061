//! tract: the embedded engine, in pure Rust. A model is optimised for each set of input shapes it meets.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Once, PoisonError};

use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable,
    TValue, TVec, Tensor as TractTensor, TractResult, TypedRunnableModel,
};
use tract_onnx::tract_hir::infer::Factoid;

use super::elements::{Elements, adapt, by_element_type};
use super::error::RuntimeError;
use super::{Session, check_names};
use crate::error::{Context, Result};
use crate::tensor::{DType, NamedTensors, Tensor};

const ENGINE: &str = "tract";
/// The version that `Cargo.toml` pins.
pub(super) const VERSION: &str = "0.23.9";
/// Optimised forms kept at a time; each holds its own copy of the weights.
const CACHED: usize = 2;

type Plan = Arc<TypedRunnableModel>;

/// A model in tract.
pub struct TractSession {
    model: InferenceModel,
    inputs: Vec<(String, DType)>,
    outputs: Vec<String>,
    plans: Mutex<BTreeMap<Vec<Vec<usize>>, Plan>>,
}

impl std::fmt::Debug for TractSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TractSession")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

fn failed(action: &'static str) -> impl FnOnce(tract_onnx::prelude::TractError) -> RuntimeError {
    move |error| RuntimeError::Engine {
        engine: ENGINE,
        action,
        reason: format!("{error:#}"),
    }
}

thread_local! {
    /// Whether a panic of this thread becomes an error, so that nothing is to be printed about it.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The hook that knows [`GUARDED`] is set once.
static SILENCED: Once = Once::new();

/// tract panics where others fail, for instance on an index out of range; here that is an error too.
fn guarded<T>(
    action: &'static str,
    work: impl FnOnce() -> TractResult<T>,
) -> Result<T, RuntimeError> {
    SILENCED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                usual(panic);
            }
        }));
    });
    GUARDED.set(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(failed(action)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(RuntimeError::Engine {
                engine: ENGINE,
                action,
                reason: format!(
                    "an error of its own code: {}",
                    text.unwrap_or("without a message")
                ),
            })
        }
    }
}

impl TractSession {
    /// Loads a model.
    ///
    /// # Errors
    /// When tract cannot parse it, or an input is of a type this crate does not have.
    pub fn open(model: &Path) -> Result<Self> {
        Self::try_open(model).at_file(model)
    }

    fn try_open(path: &Path) -> Result<Self> {
        // Types in the file are hints; tract infers its own from the shapes it is given.
        let framework = tract_onnx::onnx().with_ignore_value_info(true);
        let model = guarded("load the model", || framework.model_for_path(path))?;
        let mut inputs = Vec::new();
        for outlet in model.inputs.clone() {
            let name = model.nodes[outlet.node].name.clone();
            let found = model
                .outlet_fact(outlet)
                .map_err(failed("load the model"))?
                .datum_type
                .concretize();
            let Some(dtype) = found.and_then(dtype) else {
                return Err(RuntimeError::ValueType {
                    name,
                    found: format!("{found:?}"),
                }
                .into());
            };
            inputs.push((name, dtype));
        }
        let outputs = model
            .outputs
            .iter()
            .map(|&outlet| {
                model
                    .outlet_label(outlet)
                    .map_or_else(|| model.nodes[outlet.node].name.clone(), str::to_owned)
            })
            .collect();
        Ok(TractSession {
            model,
            inputs,
            outputs,
            plans: Mutex::new(BTreeMap::new()),
        })
    }

    fn plan(&self, shapes: Vec<Vec<usize>>) -> Result<Plan, RuntimeError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&shapes) {
            return Ok(plan.clone());
        }
        let plan = guarded("prepare the model for these shapes", || {
            self.optimise(&shapes)
        })?;
        if plans.len() >= CACHED {
            plans.clear();
        }
        plans.insert(shapes, plan.clone());
        Ok(plan)
    }

    fn optimise(&self, shapes: &[Vec<usize>]) -> TractResult<Plan> {
        let mut model = self.model.clone();
        for (i, ((_, dtype), shape)) in self.inputs.iter().zip(shapes).enumerate() {
            let mut fact = InferenceFact::shape(shape.as_slice());
            if let Some(datum_type) = datum_type(*dtype) {
                fact = fact.with_datum_type(datum_type);
            }
            model.set_input_fact(i, fact)?;
        }
        for i in 0..model.outputs.len() {
            model.set_output_fact(i, InferenceFact::default())?;
        }
        model.into_optimized()?.into_runnable()
    }
}

impl Session for TractSession {
    fn engine(&self) -> String {
        format!("{ENGINE} {VERSION}")
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        check_names(self.inputs.iter().map(|(name, _)| name.as_str()), inputs)?;
        let mut shapes = Vec::new();
        let mut values: TVec<TValue> = TVec::new();
        for (name, dtype) in &self.inputs {
            let tensor = inputs
                .get(name)
                .ok_or_else(|| RuntimeError::MissingInput { name: name.clone() })?;
            let tensor = adapt(name, tensor, *dtype)?;
            shapes.push(tensor.shape().to_vec());
            values.push(to_tract(name, &tensor)?.into());
        }
        let plan = self.plan(shapes)?;
        let results = guarded("run the model", || plan.run(values))?;
        let mut outputs = NamedTensors::new();
        for (name, value) in self.outputs.iter().zip(results) {
            outputs.insert(name.clone(), from_tract(name, &value)?);
        }
        Ok(outputs)
    }
}

fn dtype(ty: DatumType) -> Option<DType> {
    DTYPES
        .iter()
        .find(|(_, datum_type)| datum_type() == ty)
        .map(|(dtype, _)| *dtype)
}

fn datum_type(dtype: DType) -> Option<DatumType> {
    DTYPES
        .iter()
        .find(|(d, _)| *d == dtype)
        .map(|(_, datum_type)| datum_type())
}

const DTYPES: [(DType, fn() -> DatumType); 12] = [
    (DType::Bool, bool::datum_type),
    (DType::I8, i8::datum_type),
    (DType::U8, u8::datum_type),
    (DType::I16, i16::datum_type),
    (DType::U16, u16::datum_type),
    (DType::I32, i32::datum_type),
    (DType::U32, u32::datum_type),
    (DType::I64, i64::datum_type),
    (DType::U64, u64::datum_type),
    (DType::F16, half::f16::datum_type),
    (DType::F32, f32::datum_type),
    (DType::F64, f64::datum_type),
];

fn to_tract(name: &str, tensor: &Tensor) -> Result<TractTensor> {
    let shape = tensor.shape();
    let value = match Elements::of(name, tensor)? {
        Elements::Bool(v) => TractTensor::from_shape(shape, &v),
        Elements::I8(v) => TractTensor::from_shape(shape, &v),
        Elements::U8(v) => TractTensor::from_shape(shape, &v),
        Elements::I16(v) => TractTensor::from_shape(shape, &v),
        Elements::U16(v) => TractTensor::from_shape(shape, &v),
        Elements::I32(v) => TractTensor::from_shape(shape, &v),
        Elements::U32(v) => TractTensor::from_shape(shape, &v),
        Elements::I64(v) => TractTensor::from_shape(shape, &v),
        Elements::U64(v) => TractTensor::from_shape(shape, &v),
        Elements::F16(v) => TractTensor::from_shape(shape, &v),
        Elements::F32(v) => TractTensor::from_shape(shape, &v),
        Elements::F64(v) => TractTensor::from_shape(shape, &v),
    };
    Ok(value.map_err(failed("take an input"))?)
}

fn from_tract(name: &str, value: &TractTensor) -> Result<Tensor> {
    // Sizes are symbolic integers inside tract; outside they are 64-bit ones.
    let cast;
    let value = if value.datum_type() == DatumType::TDim {
        cast = value.cast_to::<i64>().map_err(failed("give an output"))?;
        &*cast
    } else {
        value
    };
    macro_rules! extract {
        ($variant:ident, $t:ty) => {
            Elements::$variant(
                value
                    .to_plain_array_view::<$t>()
                    .map_err(failed("give an output"))?
                    .iter()
                    .copied()
                    .collect(),
            )
        };
    }
    let unsupported = || RuntimeError::ValueType {
        name: name.to_owned(),
        found: format!("{:?}", value.datum_type()),
    };
    let dtype = dtype(value.datum_type()).ok_or_else(unsupported)?;
    let elements = by_element_type!(dtype, extract, return Err(unsupported().into()));
    elements.into_tensor(value.shape().to_vec())
}
