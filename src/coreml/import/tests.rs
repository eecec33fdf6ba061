//! Sound packages of coremltools with one lie each: every lie has its error.

use std::path::{Path, PathBuf};

use crate::coreml::package;
use crate::coreml::proto::feature_type::Type as FeatureKind;
use crate::coreml::proto::mil_spec::argument::Binding;
use crate::coreml::proto::mil_spec::argument::binding::Binding as Bound;
use crate::coreml::proto::mil_spec::dimension::{ConstantDimension, Dimension as Kind};
use crate::coreml::proto::mil_spec::tensor_value::{
    RepeatedBytes, RepeatedFloats, RepeatedInts, Value as Field,
};
use crate::coreml::proto::mil_spec::value::Value as Source;
use crate::coreml::proto::mil_spec::value::immediate_value::Value as Immediate;
use crate::coreml::proto::mil_spec::value_type::Type as Wrapped;
use crate::coreml::proto::mil_spec::{Argument, DataType, Dimension, Operation, TensorType, Value};
use crate::coreml::proto::model::Type as ModelKind;
use crate::coreml::proto::{FunctionDescription, Model};
use crate::coreml::{Package, read};
use crate::error::{Class, Error};

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coreml");
    fixtures.join(name).join("model.mlpackage")
}

/// What reading gives after `edit`.
fn read_edited(name: &str, edit: impl FnOnce(&mut Model)) -> Result<Package, Error> {
    let dir = tempfile::tempdir().unwrap();
    let items = package::open(&fixture(name)).unwrap();
    let (mut model, _) =
        package::read_model(&crate::tensor::SourceFile::open(&items.model).unwrap()).unwrap();
    edit(&mut model);
    let path = dir.path().join("m.mlmodel");
    package::write_model(&path, &model).unwrap();
    std::fs::copy(items.weights.unwrap(), dir.path().join("weight.bin")).unwrap();
    read(&path)
}

/// Class and message of the error after `edit`, without the path.
fn refused(name: &str, edit: impl FnOnce(&mut Model)) -> (Class, String) {
    let error = read_edited(name, edit).map(|p| p.module).unwrap_err();
    let text = error.to_string();
    let message = text
        .split_once("m.mlmodel: ")
        .map_or(text.as_str(), |(_, m)| m);
    (error.class(), message.to_owned())
}

fn operations(model: &mut Model) -> &mut Vec<Operation> {
    let Some(ModelKind::MlProgram(program)) = &mut model.r#type else {
        unreachable!()
    };
    let main = program.functions.get_mut("main").unwrap();
    &mut main
        .block_specializations
        .values_mut()
        .next()
        .unwrap()
        .operations
}

/// The first operation of a type.
fn first<'a>(model: &'a mut Model, op: &str) -> &'a mut Operation {
    operations(model)
        .iter_mut()
        .find(|o| o.r#type == op)
        .unwrap()
}

/// The constant that a parameter of the first operation of a type is.
fn constant_of<'a>(model: &'a mut Model, op: &str, parameter: &str) -> &'a mut Value {
    let binding = first(model, op).inputs[parameter].arguments[0]
        .binding
        .clone();
    let Some(Bound::Name(name)) = binding else {
        unreachable!()
    };
    let constant = operations(model)
        .iter_mut()
        .find(|o| o.outputs[0].name == name);
    constant.unwrap().attributes.get_mut("val").unwrap()
}

fn field(value: &mut Value) -> &mut Field {
    let Some(Source::ImmediateValue(immediate)) = &mut value.value else {
        unreachable!()
    };
    let Some(Immediate::Tensor(tensor)) = &mut immediate.value else {
        unreachable!()
    };
    tensor.value.as_mut().unwrap()
}

fn ints(values: &[i32]) -> Field {
    Field::Ints(RepeatedInts {
        values: values.to_vec(),
    })
}

fn output_type<'a>(model: &'a mut Model, op: &str) -> &'a mut TensorType {
    let ty = first(model, op).outputs[0].r#type.as_mut().unwrap();
    let Some(Wrapped::TensorType(ty)) = &mut ty.r#type else {
        unreachable!()
    };
    ty
}

#[test]
fn every_lie_about_an_operation_has_its_error() {
    type Edit = fn(&mut Model);
    let cases: [(&str, Edit); 22] = [
        (
            "unsupported operations: `conv_quantized` (2, first `",
            |m| {
                first(m, "softmax").r#type = "conv_quantized".into();
                first(m, "tanh").r#type = "conv_quantized".into();
            },
        ),
        (
            "declared type f32[2, 4, 9, 8] contradicts the inferred type f32[2, 4, 8, 8]",
            |m| {
                let size = Some(Kind::Constant(ConstantDimension { size: 9 }));
                output_type(m, "softmax").dimensions[2] = Dimension { dimension: size };
            },
        ),
        (
            "declared type f16[2, 16] contradicts the inferred type f32[2, 16]",
            |m| {
                output_type(m, "tanh").data_type = DataType::Float16.into();
            },
        ),
        ("rank: expected 2, found 3", |m| {
            output_type(m, "tanh").rank = 3
        }),
        ("element type: expected a known code, found 77", |m| {
            output_type(m, "tanh").data_type = 77
        }),
        ("`softmax` needs the parameter `x`", |m| {
            first(m, "softmax").inputs.remove("x");
        }),
        (
            "`softmax` of opset `CoreML5` has no parameter `temperature`",
            |m| {
                let softmax = first(m, "softmax");
                let axis = softmax.inputs["axis"].clone();
                softmax.inputs.insert("temperature".into(), axis);
            },
        ),
        (
            "`gather` of opset `CoreML5` has no parameter `validate_indices`",
            |m| {
                let gather = first(m, "gather");
                let axis = gather.inputs["axis"].clone();
                gather.inputs.insert("validate_indices".into(), axis);
            },
        ),
        (
            "parameter `axis` of `softmax`: expected int32, found fp32",
            |m| {
                let x = first(m, "layer_norm").inputs["gamma"].clone();
                first(m, "softmax").inputs.insert("axis".into(), x);
            },
        ),
        (
            "parameter `axis` of `softmax`: expected a constant, found f32",
            |m| {
                let softmax = first(m, "softmax");
                let x = softmax.inputs["x"].clone();
                softmax.inputs.insert("axis".into(), x);
            },
        ),
        (
            "parameter `x` of `tanh`: expected one value, found 2 values",
            |m| {
                let x = &mut first(m, "tanh").inputs.get_mut("x").unwrap().arguments;
                x.push(x[0].clone());
            },
        ),
        (
            "parameter: expected a name or a value, found nothing for `x`",
            |m| {
                let nothing = Argument {
                    arguments: vec![Binding { binding: None }],
                };
                first(m, "tanh").inputs.insert("x".into(), nothing);
            },
        ),
        ("axis 5 is outside rank 4", |m| {
            *field(constant_of(m, "softmax", "axis")) = ints(&[5])
        }),
        ("constant: expected 1 elements for i32[1], found 0", |m| {
            *field(constant_of(m, "layer_norm", "axes")) = ints(&[]);
        }),
        ("constant: expected i32[] in `ints`, found `bytes`", |m| {
            let values = vec![0; 4].into();
            *field(constant_of(m, "softmax", "axis")) = Field::Bytes(RepeatedBytes { values });
        }),
        (
            "`transpose`: the permutation does not name every axis once",
            |m| {
                *field(constant_of(m, "transpose", "perm")) = ints(&[0, 2, 2, 3]);
            },
        ),
        ("expected sizes and at most one -1, found -1", |m| {
            *field(constant_of(m, "reshape", "shape")) = ints(&[-1, -1, 4, 4]);
        }),
        ("`reshape`: sizes differ", |m| {
            *field(constant_of(m, "reshape", "shape")) = ints(&[2, 7, 4, 4]);
        }),
        ("parameter `mode` of `gelu`: expected `EXACT`", |m| {
            let Field::Strings(mode) = field(constant_of(m, "gelu", "mode")) else {
                unreachable!()
            };
            mode.values[0] = "QUICK".into();
        }),
        ("is not defined before its use", |m| {
            let list = operations(m);
            let at = list.iter().position(|o| o.r#type == "layer_norm").unwrap();
            let moved = list.remove(at);
            list.push(moved);
        }),
        ("is defined twice", |m| {
            let list = operations(m);
            let copy = list.iter().find(|o| o.r#type == "tanh").unwrap().clone();
            list.push(copy);
        }),
        (
            "attributes of the operation: expected `name`, found `val`",
            |m| {
                let value = constant_of(m, "softmax", "axis").clone();
                first(m, "tanh").attributes.insert("val".into(), value);
            },
        ),
    ];
    for (message, edit) in cases {
        let (_, found) = refused("encoder", edit);
        assert!(
            found.contains(message),
            "expected `{message}`, found `{found}`"
        );
    }
}

#[test]
fn weight_files_may_have_other_names() {
    let dir = tempfile::tempdir().unwrap();
    let items = package::open(&fixture("encoder")).unwrap();
    let file = crate::tensor::SourceFile::open(&items.model).unwrap();
    let (mut model, _) = package::read_model(&file).unwrap();
    for op in operations(&mut model) {
        for value in op.attributes.values_mut() {
            if let Some(Source::BlobFileValue(blob)) = &mut value.value {
                blob.file_name = "@model_path/parts/one.bin".into();
            }
        }
    }
    let path = dir.path().join("m.mlmodel");
    package::write_model(&path, &model).unwrap();
    let weights = dir.path().join("parts/one.bin");
    std::fs::create_dir(dir.path().join("parts")).unwrap();
    std::fs::copy(items.weights.unwrap(), &weights).unwrap();
    let read_from = |path: &Path| crate::ir::print(&read(path).unwrap().module);
    let expected = read_from(&fixture("encoder"));
    let body = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(body(&read_from(&path)), body(&expected));
    let files = crate::coreml::files(&path).unwrap();
    assert_eq!(files, [path, weights]);
}

#[test]
fn every_lie_about_weights_has_its_error() {
    fn blob(model: &mut Model) -> &mut crate::coreml::proto::mil_spec::value::BlobFileValue {
        let Some(Source::BlobFileValue(blob)) = &mut constant_of(model, "gather", "x").value else {
            unreachable!()
        };
        blob
    }
    let (_, message) = refused("encoder", |m| blob(m).offset += 1);
    assert!(message.contains("no blob begins at byte"), "{message}");
    for away in ["../../secret", "@model_path/../secret", "/secret"] {
        let (class, message) = refused("encoder", |m| blob(m).file_name = away.into());
        assert!(message.contains(away), "{message}");
        assert_eq!(class, Class::Unsafe);
    }
    let missing = "@model_path/weights/other.bin";
    let (class, message) = refused("encoder", |m| blob(m).file_name = missing.into());
    assert!(message.contains(missing), "{message}");
    assert_eq!(class, Class::Invalid);
    let (_, message) = refused("encoder", |m| {
        let bias = constant_of(m, "layer_norm", "gamma").value.clone();
        constant_of(m, "gather", "x").value = bias;
    });
    assert!(
        message.contains("expects a blob of 3200 bytes, found 64"),
        "{message}"
    );
}

#[test]
fn every_lie_about_the_model_has_its_error() {
    type Edit = fn(&mut Model);
    fn program(model: &mut Model) -> &mut crate::coreml::proto::mil_spec::Program {
        let Some(ModelKind::MlProgram(program)) = &mut model.r#type else {
            unreachable!()
        };
        program
    }
    fn array(model: &mut Model) -> &mut crate::coreml::proto::ArrayFeatureType {
        let input = &mut model.description.as_mut().unwrap().input[0];
        let Some(FeatureKind::MultiArrayType(array)) = &mut input.r#type.as_mut().unwrap().r#type
        else {
            unreachable!()
        };
        array
    }
    let cases: [(Class, &str, Edit); 16] = [
        (Class::Unsupported, "an ML Program expected", |m| {
            m.r#type = None
        }),
        (
            Class::Unsupported,
            "specification version 6 to 10 expected, found 11",
            |m| m.specification_version = 11,
        ),
        (
            Class::Unsupported,
            "specification version 6 to 10 expected, found 5",
            |m| m.specification_version = 5,
        ),
        (
            Class::Unsupported,
            "an updatable model cannot be read yet",
            |m| m.is_updatable = true,
        ),
        (
            Class::Invalid,
            "program version: expected 1, found 2",
            |m| program(m).version = 2,
        ),
        (Class::Invalid, "attributes of the program", |m| {
            let value = constant_of(m, "softmax", "axis").clone();
            program(m).attributes.insert("secret".into(), value);
        }),
        (Class::Unsupported, "unknown opset `CoreML12`", |m| {
            program(m).functions.get_mut("main").unwrap().opset = "CoreML12".into();
        }),
        (
            Class::Invalid,
            "opset `CoreML8` needs specification version 9, found 6",
            |m| {
                program(m).functions.get_mut("main").unwrap().opset = "CoreML8".into();
            },
        ),
        (
            Class::Invalid,
            "name of the block: expected CoreML6, found CoreML5",
            |m| {
                m.specification_version = 7;
                program(m).functions.get_mut("main").unwrap().opset = "CoreML6".into();
            },
        ),
        (
            Class::Invalid,
            "no function `main`; the model has `other`",
            |m| {
                let main = program(m).functions.remove("main").unwrap();
                program(m).functions.insert("other".into(), main);
            },
        ),
        (
            Class::Invalid,
            "says i32[2, 9], the program i32[2, 8]",
            |m| array(m).shape[1] = 9,
        ),
        (
            Class::Invalid,
            "says f32[2, 8], the program i32[2, 8]",
            |m| array(m).data_type = 65568,
        ),
        (
            Class::Invalid,
            "the description of `input_ids` says nothing",
            |m| {
                m.description
                    .as_mut()
                    .unwrap()
                    .input
                    .retain(|i| i.name != "input_ids");
            },
        ),
        (
            Class::Invalid,
            "the description of `pooled` says nothing",
            |m| {
                m.description
                    .as_mut()
                    .unwrap()
                    .output
                    .retain(|i| i.name != "pooled");
            },
        ),
        (Class::Invalid, "`pooled` is defined twice", |m| {
            let outputs = &mut m.description.as_mut().unwrap().output;
            // The same description twice is what Apple's converter writes; two that differ are a lie.
            let mut other = outputs.iter().find(|o| o.name == "hidden").unwrap().clone();
            other.name = "pooled".into();
            outputs.push(other);
        }),
        (Class::Invalid, "the description of `cache` says", |m| {
            let description = m.description.as_mut().unwrap();
            let mut state = description.input[0].clone();
            state.name = "cache".into();
            description.state.push(state);
        }),
    ];
    for (class, message, edit) in cases {
        let (found_class, found) = refused("encoder", edit);
        assert!(
            found.contains(message),
            "expected `{message}`, found `{found}`"
        );
        assert_eq!(found_class, class, "{found}");
    }
}

#[test]
fn of_several_functions_the_default_one_is_read() {
    let package = read_edited("encoder", |m| {
        let Some(ModelKind::MlProgram(program)) = &mut m.r#type else {
            unreachable!()
        };
        let main = program.functions["main"].clone();
        program.functions.insert("adapter".into(), main);
        let description = m.description.as_mut().unwrap();
        for name in ["adapter", "main"] {
            description.functions.push(FunctionDescription {
                name: name.into(),
                input: description.input.clone(),
                output: description.output.clone(),
                ..FunctionDescription::default()
            });
        }
        description.default_function_name = "adapter".into();
    });
    let package = package.unwrap();
    assert_eq!(package.functions, ["adapter", "main"]);
    assert_eq!(
        package.warnings,
        ["only `adapter` is read; there is also `main`"]
    );
}

#[test]
fn an_epsilon_is_added_and_an_epsilon_of_zero_is_not() {
    let nodes = |epsilon: Option<f32>| {
        let package = read_edited("decoder", |m| match epsilon {
            None => {
                first(m, "rsqrt").inputs.remove("epsilon");
            }
            Some(epsilon) => {
                let values = vec![epsilon];
                *field(constant_of(m, "rsqrt", "epsilon")) =
                    Field::Floats(RepeatedFloats { values });
            }
        });
        let module = package.unwrap().module;
        module.main().unwrap().nodes.len()
    };
    // The operand is in half precision, the epsilon in single: cast, sum, root, cast.
    assert_eq!(nodes(Some(1e-12)), nodes(Some(0.0)) + 3);
    // The default has the operand's type, in which 1e-12 is 0.
    assert_eq!(nodes(None), nodes(Some(0.0)));
}
