//! Since when there is what a model has: operations with the parameters and element types that they are given, element types, and what the
//! interface asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::interface::{self, Color, Feature, FeatureKind, Flexibility};
use super::proto::{FeatureDescription, ModelDescription};
use super::table;
use super::target::{DeploymentTarget, Opset};
use crate::tensor::DType;

/// Since when something is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Need {
    /// How often it occurs, in all functions.
    pub count: usize,
    /// The first opset that has it; none if no opset does.
    pub opset: Option<Opset>,
    /// The first systems that have that opset.
    pub systems: Vec<&'static str>,
}

impl Need {
    /// One more, which needs this opset. The most that any of them needs counts; nothing is more than that, since no opset has it.
    pub(super) fn add(&mut self, opset: Option<Opset>) {
        self.opset = match (self.count, self.opset, opset) {
            (0, _, first) => first,
            (_, Some(a), Some(b)) => Some(a.max(b)),
            (_, _, _) => None,
        };
        self.count += 1;
        let targets = DeploymentTarget::all().filter(|t| Some(t.opset()) == self.opset);
        self.systems = targets.map(DeploymentTarget::name).collect();
    }
}

/// What a model needs as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Least {
    /// The opset; none if something is in no opset.
    pub opset: Option<Opset>,
    /// The first systems that have it.
    pub systems: Vec<&'static str>,
    /// What needs it, and what is older needs less.
    pub because: Vec<String>,
}

impl Least {
    /// Of needs by name.
    pub(super) fn of<'a>(needs: impl IntoIterator<Item = (&'a String, &'a Need)>) -> Self {
        let needs: Vec<_> = needs.into_iter().collect();
        // Nothing is the most.
        let rank = |need: &Need| need.opset.map_or((true, None), |o| (false, Some(o)));
        let Some(most) = needs.iter().map(|(_, n)| *n).max_by_key(|n| rank(n)) else {
            return Least::default();
        };
        let same = needs.iter().filter(|(_, n)| n.opset == most.opset);
        let because: BTreeSet<String> = same.map(|(name, _)| (*name).clone()).collect();
        Least {
            opset: most.opset,
            systems: most.systems.clone(),
            because: because.into_iter().collect(),
        }
    }
}

/// The first opset whose operations take an element type; as a constant, or as a value that is computed.
pub(super) fn of_type(dtype: &str, constant: bool) -> Option<Opset> {
    Opset::ALL
        .into_iter()
        .find(|&opset| table::takes(dtype, constant, opset))
}

/// What needs a later opset than the first in one input, output or state.
fn of_feature(feature: &Feature) -> Option<(&'static str, Opset)> {
    match &feature.kind {
        FeatureKind::MultiArray {
            dtype: DType::F16, ..
        } => Some(("array of f16 in the interface", Opset::CoreML6)),
        FeatureKind::MultiArray {
            dtype: DType::I8, ..
        } => Some(("array of i8 in the interface", Opset::CoreML9)),
        FeatureKind::Image {
            color: Color::GrayF16,
            ..
        } => Some(("gray image in half precision", Opset::CoreML6)),
        FeatureKind::State { .. } => Some(("state", Opset::CoreML8)),
        FeatureKind::MultiArray { .. }
        | FeatureKind::Image { .. }
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary
        | FeatureKind::Sequence => None,
    }
}

fn is_enumerated(feature: &Feature) -> bool {
    matches!(
        feature.kind.flexibility(),
        Some(Flexibility::Enumerated { .. })
    )
}

/// What an interface needs beyond the first opset: what it is, the opset, and the names of the inputs, outputs, states or functions that need it.
pub(super) fn of_interface(
    description: &ModelDescription,
) -> BTreeMap<&'static str, (Opset, Vec<String>)> {
    let mut needs: BTreeMap<&'static str, (Opset, Vec<String>)> = BTreeMap::new();
    let mut add = |what, opset, name: &str| {
        let entry = needs.entry(what).or_insert((opset, Vec::new()));
        entry.1.push(name.to_owned());
    };
    let read = |list: &[FeatureDescription]| -> Vec<Feature> {
        let features = list.iter().map(interface::feature);
        features.filter_map(Result::ok).collect()
    };
    let own = (&description.input, &description.output, &description.state);
    let functions = &description.functions;
    let all = functions.iter().map(|f| (&f.input, &f.output, &f.state));
    for (inputs, outputs, states) in std::iter::once(own).chain(all) {
        let inputs = read(inputs);
        let enumerated: Vec<&Feature> = inputs.iter().filter(|f| is_enumerated(f)).collect();
        if enumerated.len() > 1 {
            for feature in enumerated {
                let what = "several inputs with enumerated shapes";
                add(what, Opset::CoreML8, &feature.name);
            }
        }
        for feature in inputs.iter().chain(&read(outputs)).chain(&read(states)) {
            if let Some((what, opset)) = of_feature(feature) {
                add(what, opset, &feature.name);
            }
        }
    }
    for function in functions {
        add("functions", Opset::CoreML8, &function.name);
    }
    needs
}
