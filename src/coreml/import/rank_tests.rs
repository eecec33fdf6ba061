//! Every operation is given inputs and constants of ranks that it may not know: it is read or refused, and never panics.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::coreml::proto::Model;
use crate::coreml::proto::feature_type::Type as FeatureKind;
use crate::coreml::proto::mil_spec::dimension::{ConstantDimension, Dimension as Kind};
use crate::coreml::proto::mil_spec::value_type::Type as Wrapped;
use crate::coreml::proto::mil_spec::{Dimension, Function, Operation, TensorType, ValueType};
use crate::coreml::proto::model::Type as ModelKind;
use crate::coreml::{package, read};
use crate::tensor::SourceFile;

const RANKS: std::ops::Range<usize> = 0..7;

fn main_function(model: &mut Model) -> Option<&mut Function> {
    match &mut model.r#type {
        Some(ModelKind::MlProgram(program)) => program.functions.values_mut().next(),
        _ => None,
    }
}

fn operations(function: &mut Function) -> &mut [Operation] {
    let block = function.block_specializations.values_mut().next();
    block.map_or(&mut [], |b| &mut b.operations)
}

fn tensor(ty: &mut Option<ValueType>) -> Option<&mut TensorType> {
    match &mut ty.as_mut()?.r#type {
        Some(Wrapped::TensorType(tensor)) => Some(tensor),
        _ => None,
    }
}

/// The sizes of a tensor; one that is open is 2.
fn sizes(ty: &TensorType) -> Vec<u64> {
    let size = |d: &Dimension| match &d.dimension {
        Some(Kind::Constant(c)) => c.size,
        _ => 2,
    };
    ty.dimensions.iter().map(size).collect()
}

fn set(ty: &mut TensorType, sizes: &[u64]) {
    let constant = |&size: &u64| Dimension {
        dimension: Some(Kind::Constant(ConstantDimension { size })),
    };
    ty.rank = i64::try_from(sizes.len()).unwrap();
    ty.dimensions = sizes.iter().map(constant).collect();
}

/// Gives the input of this number another rank, in the program and in its description.
fn input_of_rank(model: &mut Model, input: usize, rank: usize) -> Option<()> {
    let named = main_function(model)?.inputs.get_mut(input)?;
    let ty = tensor(&mut named.r#type)?;
    let mut wanted = sizes(ty);
    if wanted.len() == rank {
        return None;
    }
    wanted.resize(rank, 1);
    set(ty, &wanted);
    let name = named.name.clone();
    let described = model.description.as_mut()?.input.iter_mut();
    let described =
        described
            .filter(|f| f.name == name)
            .find_map(|f| match &mut f.r#type.as_mut()?.r#type {
                Some(FeatureKind::MultiArrayType(array)) => Some(array),
                _ => None,
            });
    if let Some(array) = described {
        array.shape = wanted.iter().map(|&s| i64::try_from(s).unwrap()).collect();
        array.shape_flexibility = None;
    }
    Some(())
}

/// Gives the constant of this number another rank, one less or more, with as many elements.
fn constant_of_rank(model: &mut Model, constant: usize, rank: usize) -> Option<()> {
    let operations = operations(main_function(model)?).iter_mut();
    let op = operations.filter(|o| o.r#type == "const").nth(constant)?;
    let value = op.attributes.get_mut("val")?;
    let ty = tensor(&mut value.r#type)?;
    let mut wanted = sizes(ty);
    if wanted.len().abs_diff(rank) != 1 {
        return None;
    }
    let rest: u64 = wanted.iter().skip(rank.saturating_sub(1)).product();
    if rank == 0 {
        if rest != 1 || wanted.iter().any(|&s| s != 1) {
            return None;
        }
        wanted.clear();
    } else if wanted.len() > rank {
        wanted.truncate(rank - 1);
        wanted.push(rest);
    } else {
        wanted.resize(rank, 1);
    }
    set(ty, &wanted);
    set(tensor(&mut op.outputs.first_mut()?.r#type)?, &wanted);
    Some(())
}

fn models() -> Vec<PathBuf> {
    let root = PathBuf::from(std::env::var("DISTILL_MIL_CORPUS").expect("DISTILL_MIL_CORPUS"));
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    };
    let groups = list(&root).into_iter().filter(|p| p.is_dir());
    let mut models: Vec<_> = groups
        .flat_map(|group| list(&group))
        .map(|case| case.join("model.mlmodel"))
        .filter(|p| p.is_file())
        .collect();
    models.sort();
    models
}

#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS"]
fn no_rank_of_an_input_or_a_constant_makes_an_operation_panic() {
    let (mut read_ones, mut refused, mut panicked) = (0, 0, BTreeSet::new());
    let models = models();
    for path in &models {
        let folder = tempfile::tempdir().unwrap();
        let weights = path.with_file_name("weight.bin");
        if weights.is_file() {
            std::fs::copy(&weights, folder.path().join("weight.bin")).unwrap();
        }
        let file = SourceFile::open(path).unwrap();
        let (model, _) = package::read_model(&file).unwrap();
        let edited = folder.path().join("model.mlmodel");
        let mut attempt = |what: String, model: &Model| {
            package::write_model(&edited, model).unwrap();
            match catch_unwind(AssertUnwindSafe(|| read(&edited).is_ok())) {
                Ok(true) => read_ones += 1,
                Ok(false) => refused += 1,
                Err(_) => {
                    panicked.insert(format!("{}: {what}", path.display()));
                }
            }
        };
        let mut sound = model.clone();
        let Some(function) = main_function(&mut sound) else {
            continue;
        };
        let inputs = function.inputs.len();
        let constants = operations(function)
            .iter()
            .filter(|o| o.r#type == "const")
            .count();
        for rank in RANKS {
            for i in 0..inputs {
                let mut model = model.clone();
                if input_of_rank(&mut model, i, rank).is_some() {
                    attempt(format!("input {i} of rank {rank}"), &model);
                }
            }
            for i in 0..constants {
                let mut model = model.clone();
                if constant_of_rank(&mut model, i, rank).is_some() {
                    attempt(format!("constant {i} of rank {rank}"), &model);
                }
            }
        }
    }
    assert!(panicked.is_empty(), "{panicked:#?}");
    assert!(
        models.len() > 1000 && read_ones > 100 && refused > 10_000,
        "{} models, {read_ones} read, {refused} refused",
        models.len()
    );
}
