//! Every code has a damaged package that yields it and nothing else; the writer's own check refuses what it should.

#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message;

use super::*;
use crate::coreml::export::export;
use crate::coreml::interface::{Classifier, Description};
use crate::coreml::proto::array_feature_type::{
    EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange,
};
use crate::coreml::proto::mil_spec::argument::binding;
use crate::coreml::proto::mil_spec::dimension::{
    ConstantDimension, Dimension as Size, UnknownDimension,
};
use crate::coreml::proto::mil_spec::value::{ImmediateValue, Value as Source, immediate_value};
use crate::coreml::proto::mil_spec::{
    Argument, DataType, Dimension, Operation, Program, TensorType, TensorValue, tensor_value,
    value_type,
};
use crate::coreml::proto::{
    ArrayFeatureType, FunctionDescription, SizeRange, feature_type, model, state_feature_type,
};
use crate::coreml::write::{WriteOptions, WrittenFunction, write, write_functions};
use crate::ir::ops::{Gather, Linear, UnaryKind};
use crate::ir::{Builder, Dim, Domain, Module, Op, Symbol, SymbolRange, Type};
use crate::tensor::{DType, Tensor};

/// `out = gather(linear(x, w), i)`, with `w` in the weight file.
fn module(dtype: DType, rows: usize, x: &[usize]) -> Module {
    let mut b = Builder::new("m");
    let x = b.param("x", Type::known(dtype, x), Domain::Any).unwrap();
    let w = Tensor::f32(vec![rows, 3], vec![1.0; rows * 3]).unwrap();
    let w = b.tensor("w", &w.cast(dtype)).unwrap();
    let y = b.push("y", Op::Linear(Linear), &[x, w]).unwrap();
    let i = Tensor::int(DType::I32, vec![1], vec![0]).unwrap();
    let i = b.tensor("i", &i).unwrap();
    let z = b
        .push("z", Op::Gather(Gather { axis: 0 }), &[y, i])
        .unwrap();
    b.output("out", z).unwrap();
    b.finish().unwrap()
}

fn main(module: &Module) -> WrittenFunction<'_> {
    WrittenFunction {
        name: "main",
        module,
        description: None,
    }
}

fn small(target: DeploymentTarget) -> Model {
    let module = module(DType::F32, 2, &[2, 3]);
    export(
        &[main(&module)],
        target,
        &WriteOptions::default(),
        BTreeMap::new(),
    )
    .unwrap()
    .model
}

fn program(model: &mut Model) -> &mut Program {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else {
        panic!("no program");
    };
    program
}

fn operations(model: &mut Model) -> &mut Vec<Operation> {
    let main = program(model).functions.get_mut("main").unwrap();
    &mut main
        .block_specializations
        .values_mut()
        .next()
        .unwrap()
        .operations
}

fn operation<'a>(model: &'a mut Model, kind: &str) -> &'a mut Operation {
    operations(model)
        .iter_mut()
        .find(|o| o.r#type == kind)
        .unwrap()
}

/// The constant of this element type that has one element.
fn scalar(model: &mut Model, dtype: DataType) -> &mut Operation {
    let fits = |o: &&mut Operation| {
        o.r#type == "const"
            && program::tensor_type(o.outputs[0].r#type.as_ref()).is_some_and(|t| {
                t.data_type() == dtype
                    && program::shape_of(t).is_some_and(|s| s.iter().product::<u64>() == 1)
            })
    };
    operations(model).iter_mut().find(fits).unwrap()
}

fn weights(model: &mut Model) -> &mut Operation {
    let in_file = |o: &&mut Operation| {
        o.attributes
            .get("val")
            .is_some_and(|v| matches!(v.value, Some(Source::BlobFileValue(_))))
    };
    operations(model).iter_mut().find(in_file).unwrap()
}

fn name(argument: &mut Argument) -> &mut Option<binding::Binding> {
    &mut argument.arguments[0].binding
}

fn bind(model: &mut Model, op: &str, param: &str, to: &str) {
    let argument = operation(model, op).inputs.get_mut(param).unwrap();
    *name(argument) = Some(binding::Binding::Name(to.into()));
}

fn tensor(op: &mut Operation) -> &mut TensorType {
    tensor_in(op.outputs[0].r#type.as_mut().unwrap())
}

fn tensor_in(ty: &mut crate::coreml::proto::mil_spec::ValueType) -> &mut TensorType {
    let Some(value_type::Type::TensorType(ty)) = &mut ty.r#type else {
        panic!("no tensor");
    };
    ty
}

fn array(model: &mut Model) -> &mut ArrayFeatureType {
    let input = &mut model.description.as_mut().unwrap().input[0];
    let Some(feature_type::Type::MultiArrayType(array)) =
        &mut input.r#type.as_mut().unwrap().r#type
    else {
        panic!("no array");
    };
    array
}

fn set(op: &mut Operation, field: tensor_value::Value) {
    let tensor = TensorValue { value: Some(field) };
    op.attributes.get_mut("val").unwrap().value = Some(Source::ImmediateValue(ImmediateValue {
        value: Some(immediate_value::Value::Tensor(tensor)),
    }));
}

fn ints(values: Vec<i32>) -> tensor_value::Value {
    tensor_value::Value::Ints(tensor_value::RepeatedInts { values })
}

/// Makes the weights immediate half-precision numbers.
fn halves(model: &mut Model, x: f32) {
    let bytes: Vec<u8> = (0..120)
        .flat_map(|_| half::f16::from_f32(x).to_le_bytes())
        .collect();
    let values = tensor_value::RepeatedBytes {
        values: bytes.into(),
    };
    set(weights(model), tensor_value::Value::Bytes(values));
}

/// A package on disk.
struct Sample {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const BLOB: &str = "Data/com.apple.CoreML/weights/weight.bin";

impl Sample {
    fn new(module: &Module) -> Sample {
        Sample::for_target(module, DeploymentTarget::default())
    }

    fn for_target(module: &Module, deployment_target: DeploymentTarget) -> Sample {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.mlpackage");
        let options = WriteOptions {
            deployment_target,
            ..WriteOptions::default()
        };
        write(module, &path, &options).unwrap();
        Sample { _dir: dir, path }
    }

    /// Two labels for what is given.
    fn classifier() -> Sample {
        let mut b = Builder::new("m");
        let x = b
            .param("x", Type::known(DType::F32, &[1, 2]), Domain::Any)
            .unwrap();
        // Without arithmetic in single precision, which would be a hint.
        let half = b.cast("half", x, DType::F16).unwrap();
        let p = b.unary("negative", UnaryKind::Neg, half).unwrap();
        let p = b.cast("p", p, DType::F32).unwrap();
        b.output("chances", p).unwrap();
        let module = b.finish().unwrap();
        let description = Description {
            classifier: Some(Classifier {
                label: "kind".into(),
                probabilities: "chances".into(),
                labels: vec!["cat".into(), "dog".into()],
                integers: false,
            }),
            ..Description::default()
        };
        let function = WrittenFunction {
            description: Some(&description),
            ..main(&module)
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.mlpackage");
        write_functions(&[function], &path, &WriteOptions::default()).unwrap();
        Sample { _dir: dir, path }
    }

    fn good() -> Sample {
        Sample::new(&module(DType::F16, 40, &[2, 3]))
    }

    fn model(&self, edit: impl FnOnce(&mut Model)) {
        let path = self.path.join(MODEL);
        let mut model = Model::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
        edit(&mut model);
        std::fs::write(path, model.encode_to_vec()).unwrap();
    }

    fn bytes(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        edit(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    fn manifest(&self, from: &str, to: &str) {
        self.bytes("Manifest.json", |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from), "{text}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        });
    }

    fn codes(&self) -> BTreeSet<&'static str> {
        lint(&self.path)
            .unwrap()
            .list
            .iter()
            .map(|f| f.code.name())
            .collect()
    }
}

#[test]
fn every_code_has_a_package_that_yields_it_alone() {
    assert_eq!(Sample::good().codes(), BTreeSet::new());
    assert_eq!(Sample::classifier().codes(), BTreeSet::new());
    let mut wrong = Vec::new();
    for &code in Code::ALL {
        let sample = damaged(code);
        // A range without an end is a range, too.
        let ranged = (code == Code::DescriptionUnbounded).then_some(Code::AneRange.name());
        if sample.codes() != ranged.into_iter().chain([code.name()]).collect() {
            wrong.push(format!("{}: {:#?}", code.name(), lint(&sample.path)));
            continue;
        }
        let finding = lint(&sample.path).unwrap().list.remove(0);
        assert_eq!(
            (finding.severity, finding.hint.as_str()),
            (code.severity(), code.way_out())
        );
        assert!(!finding.message.is_empty());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A package with the one thing wrong.
fn damaged(code: Code) -> Sample {
    let s = match code {
        Code::AneFp32 => return Sample::new(&module(DType::F32, 40, &[2, 3])),
        Code::AneAxis => return Sample::new(&module(DType::F16, 16385, &[2, 3])),
        Code::AneLastAxis => {
            let mut b = Builder::new("m");
            let x = b
                .param("x", Type::known(DType::F16, &[2, 600, 1]), Domain::Any)
                .unwrap();
            let y = b.unary("y", UnaryKind::Neg, x).unwrap();
            b.output("out", y).unwrap();
            return Sample::new(&b.finish().unwrap());
        }
        Code::Fp16Overflow => {
            let mut b = Builder::new("m");
            let x = b
                .param("x", Type::known(DType::I32, &[2]), Domain::Any)
                .unwrap();
            let x = b.cast("f", x, DType::F32).unwrap();
            let big = b
                .tensor("big", &Tensor::f32(vec![2], vec![1e6; 2]).unwrap())
                .unwrap();
            let y = b
                .binary("y", crate::ir::ops::BinaryKind::Mul, x, big)
                .unwrap();
            b.output("out", y).unwrap();
            let sample = Sample::new(&b.finish().unwrap());
            // Only the constant is of interest.
            sample.model(|m| {
                let block = operations(m);
                let at = block.iter().position(|o| o.r#type == "mul").unwrap();
                let mut op = block.remove(at);
                op.r#type = "cast".into();
                let dtype =
                    block.iter().find(|o| o.r#type == "cast").unwrap().inputs["dtype"].clone();
                op.inputs.remove("y");
                op.inputs.insert("dtype".into(), dtype);
                block.push(op);
            });
            return sample;
        }
        Code::InterfaceNewer => {
            let mut b = Builder::new("m");
            let sizes = SymbolRange::OneOf(vec![2, 4]);
            let name = "n".to_owned();
            b.symbol(Symbol { name, range: sizes }).unwrap();
            let open = Type::new(DType::F16, vec![Dim::symbol("n"), Dim::from(3)]);
            for name in ["x", "y"] {
                let x = b.param(name, open.clone(), Domain::Any).unwrap();
                let y = b.unary(&format!("{name}2"), UnaryKind::Neg, x).unwrap();
                b.output(&format!("{name}_out"), y).unwrap();
            }
            // As if it were for iOS 17.
            let sample = Sample::new(&b.finish().unwrap());
            sample.model(|m| {
                m.specification_version = 8;
                let main = program(m).functions.get_mut("main").unwrap();
                let block = main.block_specializations.remove("CoreML8").unwrap();
                main.opset = "CoreML7".into();
                main.block_specializations.insert("CoreML7".into(), block);
            });
            return sample;
        }
        Code::StateType => {
            let mut b = Builder::new("m");
            let ty = Type::known(DType::F16, &[2]);
            let x = b.param("x", ty.clone(), Domain::Any).unwrap();
            let total = b.param("total", ty, Domain::Any).unwrap();
            let sum = b.add(x, total).unwrap();
            b.output("total_next", sum).unwrap();
            b.output("sum", sum).unwrap();
            b.state("total", total, "total_next");
            let sample = Sample::for_target(&b.finish().unwrap(), DeploymentTarget::IOS18);
            sample.model(|m| {
                let main = program(m).functions.get_mut("main").unwrap();
                let state = main.inputs.iter_mut().find(|i| i.name == "total").unwrap();
                let Some(value_type::Type::StateType(state)) =
                    &mut state.r#type.as_mut().unwrap().r#type
                else {
                    panic!("no state");
                };
                let wrapped = tensor_in(state.wrapped_type.as_mut().unwrap());
                wrapped.data_type = DataType::Float32.into();
                let described = &mut m.description.as_mut().unwrap().state[0];
                let Some(feature_type::Type::StateType(state)) =
                    &mut described.r#type.as_mut().unwrap().r#type
                else {
                    panic!("no state");
                };
                let Some(state_feature_type::Type::ArrayType(array)) = &mut state.r#type else {
                    panic!("no array");
                };
                array.data_type = 65_568;
            });
            return sample;
        }
        Code::ClassifierNames => {
            let sample = Sample::classifier();
            sample.model(|m| {
                m.description.as_mut().unwrap().predicted_feature_name = "out".into();
            });
            return sample;
        }
        Code::ClassifierLabels => {
            let sample = Sample::classifier();
            sample.model(|m| {
                let classes = operation(m, "classify").inputs.get_mut("classes").unwrap();
                let Some(binding::Binding::Value(value)) = name(classes) else {
                    panic!("no labels");
                };
                let Some(Source::ImmediateValue(list)) = &mut value.value else {
                    panic!("no list");
                };
                let Some(immediate_value::Value::List(list)) = &mut list.value else {
                    panic!("no list");
                };
                list.values.pop();
            });
            return sample;
        }
        _ => Sample::good(),
    };
    let uuid = || {
        let text = std::fs::read_to_string(s.path.join("Manifest.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["rootModelIdentifier"].as_str().unwrap().to_owned()
    };
    let root = format!("\"rootModelIdentifier\": \"{}\"", uuid());
    match code {
        Code::ManifestUnreadable => s.bytes("Manifest.json", |b| b.truncate(20)),
        Code::ManifestVersion => s.manifest("1.0.0", "2.0.0"),
        Code::ManifestRoot => {
            s.manifest(&root, "\"rootModelIdentifier\": \"00000000-0000-0000-0000-000000000000\"");
        }
        Code::ManifestEntry => s.manifest("\"description\": \"CoreML Model W", "\"descriptive\": \"CoreML Model W"),
        Code::ManifestPath => {
            std::fs::write(s.path.parent().unwrap().join("x"), b"").unwrap();
            s.manifest(
                "\"itemInfoEntries\": {",
                "\"itemInfoEntries\": {\"00000000-0000-0000-0000-000000000000\": {\"path\": \"../../x\", \"name\": \"x\", \"author\": \"x\", \"description\": \"\"},",
            );
        }
        Code::ManifestMissing => s.manifest(
            "\"itemInfoEntries\": {",
            "\"itemInfoEntries\": {\"00000000-0000-0000-0000-000000000000\": {\"path\": \"x\", \"name\": \"x\", \"author\": \"x\", \"description\": \"\"},",
        ),
        Code::ManifestDuplicate => s.manifest(
            "\"itemInfoEntries\": {",
            "\"itemInfoEntries\": {\"00000000-0000-0000-0000-000000000000\": {\"path\": \"com.apple.CoreML/weights\", \"name\": \"weights\", \"author\": \"com.apple.CoreML\", \"description\": \"\"},",
        ),
        Code::ManifestId => {
            let id = uuid();
            s.manifest(&format!("\"{id}\": {{"), "\"root\": {");
            s.manifest(&root, "\"rootModelIdentifier\": \"root\"");
        }
        Code::ManifestUnlisted => std::fs::write(s.path.join("Data/notes.txt"), b"x").unwrap(),
        Code::ModelUnreadable => s.bytes(MODEL, |b| b.truncate(100)),
        Code::NotProgram => s.model(|m| {
            m.r#type = Some(model::Type::NeuralNetwork(bytes::Bytes::new()));
        }),
        Code::SpecVersion => s.model(|m| m.specification_version = 5),
        Code::OpsetUnknown => s.model(|m| program(m).functions.get_mut("main").unwrap().opset = "CoreML4".into()),
        Code::OpsetVersion => s.model(|m| m.specification_version = 7),
        Code::Function => s.model(|m| {
            // The first version with several.
            m.specification_version = 9;
            let d = m.description.as_mut().unwrap();
            let main = FunctionDescription {
                name: "main".into(),
                input: std::mem::take(&mut d.input),
                output: std::mem::take(&mut d.output),
                ..FunctionDescription::default()
            };
            d.functions = vec![main.clone(), FunctionDescription { name: "other".into(), ..main }];
        }),
        Code::FunctionBlock => s.model(|m| {
            let main = program(m).functions.get_mut("main").unwrap();
            let block = main.block_specializations.values().next().unwrap().clone();
            main.block_specializations.insert("CoreML5".into(), block);
        }),
        Code::Identifier => s.model(|m| {
            operation(m, "linear").outputs[0].name = "a/b".into();
            bind(m, "gather", "x", "a/b");
        }),
        Code::IdentifierReserved => s.model(|m| {
            operation(m, "linear").outputs[0].name = "fp16".into();
            bind(m, "gather", "x", "fp16");
        }),
        Code::IdentifierDuplicate => s.model(|m| {
            let op = operation(m, "linear").clone();
            operations(m).push(op);
        }),
        Code::IdentifierUndefined => s.model(|m| bind(m, "gather", "x", "nowhere")),
        Code::OpUnknown => s.model(|m| operation(m, "linear").r#type = "linnear".into()),
        Code::OpNewer => s.model(|m| {
            let main = program(m).functions.get_mut("main").unwrap();
            let block = main.block_specializations.remove("CoreML7").unwrap();
            main.opset = "CoreML5".into();
            main.block_specializations.insert("CoreML5".into(), block);
        }),
        Code::ParamUnknown => s.model(|m| {
            let op = operation(m, "linear");
            let weight = op.inputs["weight"].clone();
            op.inputs.insert("wait".into(), weight);
        }),
        Code::ParamMissing => s.model(|m| drop(operation(m, "linear").inputs.remove("weight"))),
        Code::ParamType => s.model(|m| bind(m, "gather", "indices", "x")),
        Code::ParamNotConstant => s.model(|m| bind(m, "linear", "weight", "x")),
        Code::ParamCount => s.model(|m| {
            let x = operation(m, "linear").inputs.get_mut("x").unwrap();
            x.arguments.push(x.arguments[0].clone());
        }),
        Code::Rank => s.model(|m| {
            let ty = tensor(operation(m, "linear"));
            ty.dimensions = vec![ty.dimensions[0]; 6];
            ty.rank = 6;
        }),
        Code::Empty => s.model(|m| {
            tensor(operation(m, "linear")).dimensions[0].dimension = Some(Size::Constant(ConstantDimension { size: 0 }));
        }),
        Code::Incomplete => s.model(|m| drop(scalar(m, DataType::Int32).attributes.remove("val"))),
        Code::ConstType => s.model(|m| {
            tensor(scalar(m, DataType::Int32)).data_type = DataType::Int16.into();
        }),
        Code::ConstField => s.model(|m| {
            let values = vec![0.0];
            set(scalar(m, DataType::Int32), tensor_value::Value::Floats(tensor_value::RepeatedFloats { values }));
        }),
        Code::ConstCount => s.model(|m| set(scalar(m, DataType::Int32), ints(vec![0; 3]))),
        Code::ConstNan | Code::ConstInfinite | Code::Fp16Denormal => {
            let x = match code {
                Code::ConstNan => f32::NAN,
                Code::ConstInfinite => f32::INFINITY,
                _ => 1e-6,
            };
            s.model(|m| halves(m, x));
            unlink_weights(&s);
        }
        Code::WeightsMissing => unlink_weights(&s),
        Code::WeightsPath => refer_elsewhere(&s),
        Code::WeightsName => {
            refer_elsewhere(&s);
            let blob = s.path.join(BLOB);
            std::fs::rename(&blob, blob.with_file_name("other.bin")).unwrap();
        }
        Code::BlobHeader => s.bytes(BLOB, |b| b[4] = 1),
        Code::BlobCount => s.bytes(BLOB, |b| b[0..4].fill(0xff)),
        Code::BlobRecord => s.bytes(BLOB, |b| b[64] = 0),
        Code::BlobAlignment => s.bytes(BLOB, |b| b[80] = 64),
        Code::BlobBounds => s.bytes(BLOB, |b| b.truncate(200)),
        Code::BlobPadding => s.bytes(BLOB, |b| b[88] = 1),
        Code::BlobTrailing => s.bytes(BLOB, |b| b.extend([0; 64])),
        Code::BlobReference => s.model(|m| {
            let Some(Source::BlobFileValue(blob)) = &mut weights(m).attributes.get_mut("val").unwrap().value else {
                panic!("no blob");
            };
            // The data's offset instead of the record's: the mistake of every second converter.
            blob.offset = 128;
        }),
        Code::BlobType => s.bytes(BLOB, |b| b[68] = 5),
        Code::BlobSize => s.model(|m| {
            let op = weights(m);
            let resize = |ty: &mut TensorType| {
                ty.dimensions[0].dimension = Some(Size::Constant(ConstantDimension { size: 39 }));
            };
            resize(tensor(op));
            resize(tensor_in(op.attributes.get_mut("val").unwrap().r#type.as_mut().unwrap()));
        }),
        Code::BlobUnused => s.model(|m| halves(m, 1.0)),
        Code::DescriptionMissing => s.model(|m| m.description = None),
        Code::DescriptionNames => s.model(|m| m.description.as_mut().unwrap().output[0].name = "other".into()),
        Code::DescriptionKind => s.model(|m| {
            let output = &mut m.description.as_mut().unwrap().output[0];
            output.r#type.as_mut().unwrap().r#type = Some(feature_type::Type::StringType(Default::default()));
        }),
        Code::DescriptionType => s.model(|m| array(m).data_type = 65_568),
        Code::DescriptionShape => s.model(|m| array(m).shape[0] = 7),
        Code::DescriptionFlexibility => s.model(|m| {
            let shape = Shape { shape: vec![2, 4] };
            array(m).shape_flexibility = Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes: vec![shape] }));
        }),
        Code::AneOp => s.model(|m| {
            // No other effect: a value that nobody uses.
            let mut op = operation(m, "gather").clone();
            op.r#type = "non_zero".into();
            op.inputs.retain(|k, _| k == "x");
            op.outputs[0].name = "unused".into();
            let ty = tensor(&mut op);
            ty.data_type = DataType::Int32.into();
            ty.dimensions[0] = Dimension { dimension: Some(Size::Unknown(UnknownDimension { variadic: false })) };
            ty.dimensions[1].dimension = Some(Size::Constant(ConstantDimension { size: 2 }));
            operations(m).push(op);
        }),
        Code::AneRange => {
            let fixed = |n: u64| SizeRange { lower_bound: n, upper_bound: i64::try_from(n).unwrap() };
            let varies = SizeRange { lower_bound: 1, upper_bound: 8 };
            vary(&s, vec![varies, fixed(3)]);
        }
        Code::DescriptionUnbounded => {
            let fixed = |n: u64| SizeRange { lower_bound: n, upper_bound: i64::try_from(n).unwrap() };
            let varies = SizeRange { lower_bound: 1, upper_bound: -1 };
            vary(&s, vec![varies, fixed(3)]);
        }
        Code::ProgramInvalid => s.model(|m| {
            tensor(operation(m, "linear")).dimensions[1].dimension = Some(Size::Constant(ConstantDimension { size: 41 }));
        }),
        Code::NotRead => s.model(|m| m.is_updatable = true),
        Code::AneFp32
        | Code::AneAxis
        | Code::AneLastAxis
        | Code::Fp16Overflow
        | Code::InterfaceNewer
        | Code::StateType
        | Code::ClassifierNames
        | Code::ClassifierLabels => {}
    }
    s
}

/// Makes the first axis of the input one that varies.
fn vary(s: &Sample, size_ranges: Vec<SizeRange>) {
    s.model(|m| {
        array(m).shape_flexibility = Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }));
        let open = |ty: &mut TensorType| {
            let unknown = UnknownDimension { variadic: false };
            ty.dimensions[0].dimension = Some(Size::Unknown(unknown));
        };
        open(tensor(operation(m, "linear")));
        let main = program(m).functions.get_mut("main").unwrap();
        open(tensor_in(main.inputs[0].r#type.as_mut().unwrap()));
    });
}

/// Takes weight file and item away.
fn refer_elsewhere(s: &Sample) {
    s.model(|m| {
        let op = weights(m);
        let Some(Source::BlobFileValue(blob)) = &mut op.attributes.get_mut("val").unwrap().value
        else {
            panic!("no blob");
        };
        blob.file_name = "@model_path/weights/other.bin".into();
    });
}

fn unlink_weights(s: &Sample) {
    std::fs::remove_file(s.path.join(BLOB)).unwrap();
}

#[test]
fn several_findings_come_at_once_errors_first_and_too_many_are_counted() {
    let s = Sample::good();
    s.manifest("1.0.0", "2.0.0");
    s.bytes(BLOB, |b| b[64] = 0);
    s.model(|m| {
        array(m).shape[0] = 7;
        bind(m, "gather", "x", "nowhere");
        let op = operation(m, "linear").clone();
        for _ in 0..150 {
            operations(m).push(op.clone());
        }
    });
    std::fs::write(s.path.join("Data/notes.txt"), b"x").unwrap();
    let found = lint(&s.path).unwrap();
    let expected = [
        "blob_record",
        "description_shape",
        "identifier_duplicate",
        "identifier_undefined",
        "manifest_unlisted",
        "manifest_version",
    ];
    assert_eq!(s.codes(), BTreeSet::from(expected));
    assert_eq!(
        found.unlisted,
        BTreeMap::from([("identifier_duplicate", 50)])
    );
    assert_eq!(
        (found.count(Severity::Error), found.count(Severity::Warning)),
        (154, 1)
    );
    assert_eq!(
        found.list.last().map(|f| f.severity),
        Some(Severity::Warning)
    );
    let undefined = found
        .list
        .iter()
        .find(|f| f.code == Code::IdentifierUndefined)
        .unwrap();
    let place = &undefined.place;
    assert_eq!(
        [&place.function, &place.op, &place.value, &place.field]
            .map(|p| p.as_deref().unwrap_or_default()),
        ["main", "gather", "z", "x"]
    );
}

#[test]
fn packages_of_coremltools_have_no_errors() {
    for fixture in ["encoder", "decoder", "shapes"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/coreml")
            .join(fixture);
        let found = lint(&folder.join("model.mlpackage")).unwrap();
        assert_eq!(
            (found.count(Severity::Error), found.count(Severity::Warning)),
            (0, 0),
            "{fixture}: {found:?}"
        );
    }
}

#[test]
fn every_mutation_is_refused() {
    let target = DeploymentTarget::IOS17;
    let good = small(target);
    assert!(check(&good, target).is_ok());
    type Edit = fn(&mut Model);
    let edits: [(&str, Edit); 14] = [
        ("no opset has the operation `linnear`", |m| {
            operation(m, "linear").r#type = "linnear".into();
        }),
        ("has no parameter `wait`", |m| {
            let op = operation(m, "linear");
            let weight = op.inputs.remove("weight").unwrap();
            op.inputs.insert("wait".into(), weight);
        }),
        ("needs the parameter `weight`", |m| {
            operation(m, "linear").inputs.remove("weight");
        }),
        ("must be a constant", |m| {
            let weight = operation(m, "linear").inputs.get_mut("weight").unwrap();
            *name(weight) = Some(binding::Binding::Name("x".into()));
        }),
        ("`nowhere` is not defined", |m| {
            let x = operation(m, "linear").inputs.get_mut("x").unwrap();
            *name(x) = Some(binding::Binding::Name("nowhere".into()));
        }),
        ("takes one value, found 2", |m| {
            let x = operation(m, "linear").inputs.get_mut("x").unwrap();
            x.arguments.push(x.arguments[0].clone());
        }),
        ("is int16, int32, int8", |m| {
            let indices = operation(m, "gather").inputs.get_mut("indices").unwrap();
            *name(indices) = Some(binding::Binding::Name("x".into()));
        }),
        ("is not an identifier", |m| {
            operation(m, "linear").outputs[0].name = "a/b".into();
        }),
        ("is defined twice", |m| {
            operation(m, "linear").outputs[0].name = "x".into();
        }),
        ("contradicts its type", |m| {
            let val = operation(m, "const").attributes.get_mut("val").unwrap();
            let Some(value_type::Type::TensorType(ty)) = &mut val.r#type.as_mut().unwrap().r#type
            else {
                panic!("no tensor");
            };
            ty.dimensions.pop();
        }),
        ("1 ints expected, found 0", |m| {
            set(scalar(m, DataType::Int32), ints(Vec::new()))
        }),
        ("the description of `x` contradicts", |m| {
            array(m).shape[0] = 7
        }),
        ("the description of `other` contradicts", |m| {
            m.description.as_mut().unwrap().output[0].name = "other".into();
        }),
        ("specification version", |m| m.specification_version = 7),
    ];
    for (message, edit) in edits {
        let mut bad = good.clone();
        edit(&mut bad);
        let error = check(&bad, target).map_err(|e| e.to_string());
        let error = error.expect_err(message);
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn what_is_only_too_new_names_the_target_that_has_it() {
    let target = DeploymentTarget::MacOS12;
    let mut old = small(target);
    assert!(check(&old, target).is_ok());
    let op = operation(&mut old, "gather");
    let axis = op.inputs["axis"].clone();
    op.inputs.insert("batch_dims".into(), axis);
    let error = check(&old, target).unwrap_err();
    let text = "node `z`: `gather` with the parameter `batch_dims` needs opset CoreML6, but the program is written for CoreML5";
    assert_eq!(error.to_string(), text);
    assert_eq!(
        error.hint().unwrap(),
        "raise --deployment-target to macOS13"
    );
}
