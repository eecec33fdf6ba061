//! Verification of real models: it passes what is right, and negative controls show that it would not pass what is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use distill_convert::arch::{self, Extent, RotaryFrequencies};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::{Constant, Module};
use distill_convert::passes::{self, Islands};
use distill_convert::source::{self, OpenOptions, read_tensors};
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use distill_convert::verify::{
    self, Candidate, ClaimStatus, Format, Numerics, Options, Report, Request, Role, Source, Status,
    Task,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn toy(name: &str) -> PathBuf {
    root().join("models").join(name)
}

fn build(folder: &Path, seq: Extent) -> Module {
    let checkpoint = source::open(folder, &OpenOptions::default()).unwrap();
    let table = checkpoint.tensors.get("model.embed_tokens.weight");
    let options = arch::Options {
        batch: Extent::Fixed(1),
        seq,
        // The references of rotary models stored in 16 bits came from models that were cast as a whole.
        rotary: match table {
            Some(table) if table.dtype != DType::F32 => RotaryFrequencies::Stored,
            _ => RotaryFrequencies::F32,
        },
        ..arch::Options::default()
    };
    arch::build(&checkpoint, &options).unwrap().module
}

fn halves(module: &Module) -> Module {
    passes::precision(module, &Islands::default()).unwrap().0
}

/// The collection beside the project if it is there, else the copies in the project.
fn reference_models() -> Vec<PathBuf> {
    let asked = std::env::var_os("DISTILL_REFERENCE_MODELS").map(PathBuf::from);
    let mut folder = asked.unwrap_or_else(|| root().join("../shared/reference-models"));
    if !folder.is_dir() {
        folder = root().join("tests/fixtures/reference-models");
    }
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut models: Vec<PathBuf> = entries
        .filter(|p| p.join("reference.safetensors").is_file())
        .collect();
    models.sort();
    assert!(models.len() >= 5);
    models
}

/// Verifies `artifact`, run by the interpreter, against `source`.
fn verify(
    source: &Module,
    artifact: &Module,
    mode: Mode,
    reference: Option<&NamedTensors>,
    task: Option<&Task>,
) -> Report {
    let original = Interpreter::new(source, Mode::F32).unwrap();
    let interpreter = Interpreter::new(artifact, mode).unwrap();
    verify::run(&Request {
        artifact: "model.mlpackage",
        format: Format::CoreMl,
        source: Source {
            module: source,
            session: &original,
            trace: Some(&original),
        },
        candidates: vec![Candidate {
            role: Role::Artifact,
            session: &interpreter,
            module: Some(artifact),
            trace: Some(&interpreter),
            numerics: match mode {
                Mode::F32 => Numerics::F32,
                Mode::F16 => Numerics::F16,
            },
            inexact: None,
        }],
        conversion: None,
        absent: Vec::new(),
        reference,
        inputs: None,
        task,
        options: Options::default(),
    })
    .unwrap()
}

/// Between the source and what is written lies the change of precision: with nothing but its constants rounded, where they are stored in 16 bits, the
/// source computes the same as long as nothing else is rounded.
#[test]
fn half_precision_changes_nothing_but_what_it_rounds() {
    let mut weights_matter = 0;
    for folder in reference_models() {
        let source = build(&folder, Extent::Fixed(16));
        let written = halves(&source);
        let stored = written.constants.iter();
        let in_halves: BTreeSet<&str> = stored
            .filter(|c| c.dtype() == DType::F16)
            .map(|c| c.name())
            .collect();
        assert!(!in_halves.is_empty());
        let mut rounded = source.clone();
        for constant in &mut rounded.constants {
            if constant.dtype() == DType::F32 && in_halves.contains(constant.name()) {
                // Fills of masks mean the same whether they are beyond half precision or not.
                if constant.scan().unwrap().max_abs <= 65504.0 {
                    *constant = constant.cast(DType::F16).cast(DType::F32);
                }
            }
        }
        let function = source.main().unwrap();
        let mut inputs = NamedTensors::new();
        for param in &function.params {
            let name = function.value(param.value).name.clone();
            let values = match name.as_str() {
                "input_ids" => (0..16).map(|i| (i * 7 + 3) % 30).collect(),
                "attention_mask" => (0..16).map(|i| i64::from(i < 11)).collect(),
                _ => vec![0; 16],
            };
            inputs.insert(name, Tensor::i64(vec![1, 16], values).unwrap());
        }
        let run = |module: &Module| {
            let interpreter = Interpreter::new(module, Mode::F32).unwrap();
            interpreter.run(&inputs, None).unwrap()
        };
        let (exact, rounded, found) = (run(&source), run(&rounded), run(&written));
        let mut apart = 0.0f64;
        for (name, expected) in &rounded {
            let largest = |x: &[f64]| x.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            let away = |other: &Tensor| {
                let pairs = expected.to_f64().into_iter().zip(other.to_f64());
                let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
                largest(&differences) / largest(&expected.to_f64())
            };
            let (beside, before) = (away(&found[name]), away(&exact[name]));
            assert!(beside <= 1e-5, "{} {name}: {beside:e}", folder.display());
            apart = apart.max(before);
        }
        weights_matter += usize::from(apart > 1e-4);
    }
    assert!(weights_matter >= 2, "{weights_matter}");
}

#[test]
fn half_precision_answers_as_the_source_does() {
    for name in ["8ball", "binary", "ternary"] {
        let source = build(&toy(name), Extent::Fixed(128));
        let reference = read_tensors(&toy(name).join("reference.safetensors")).unwrap();
        let task = Task::load(&toy(name).join("task.toml")).unwrap();
        assert!(task.cases.len() >= 16 && task.tokenizer_sha256.is_some());
        let report = verify(
            &source,
            &halves(&source),
            Mode::F16,
            Some(&reference),
            Some(&task),
        );
        println!("{}", report.human());
        assert!(report.passed(), "{name}\n{}", report.human());
        let found = report.task.unwrap();
        assert_eq!(found.cases, task.cases.len());
        let pair = &found.engines[0];
        assert_eq!(
            (pair.accuracy_source, pair.accuracy_artifact),
            (Some(1.0), Some(1.0))
        );
        // Rounding does something: a distribution that is equal to the last bit was not computed in 16 bits.
        assert!(pair.mean_kl_divergence > 0.0);
        // What PyTorch answered, read from its own file.
        let file = toy(name).join("expected_predictions.json");
        let pytorch = verify::read_predictions(&file, &task).unwrap();
        let pair = verify::compare_predictions(&task, "source", &pytorch, found.source_predictions);
        assert!(
            pair.passed && pair.exact_match_rate == 1.0,
            "{name}: {pair:?}"
        );
        assert!(
            pair.max_kl_divergence < 1e-8,
            "{name}: {}",
            pair.max_kl_divergence
        );
    }
}

#[test]
fn every_reference_model_agrees_with_pytorch_and_survives_half_precision() {
    let mut models = reference_models();
    models.push(toy("toy-block"));
    for folder in models {
        let source = build(&folder, arch::Options::default().seq);
        let reference = read_tensors(&folder.join("reference.safetensors")).unwrap();
        for (artifact, mode) in [(source.clone(), Mode::F32), (halves(&source), Mode::F16)] {
            let report = verify(&source, &artifact, mode, Some(&reference), None);
            println!("{}\n{}", folder.display(), report.human());
            assert!(report.passed(), "{}\n{}", folder.display(), report.human());
            let against_file = report
                .summary
                .iter()
                .filter(|r| r.against == "reference_file");
            assert!(against_file.map(|r| r.comparisons).sum::<usize>() >= 4);
            assert!(
                report.claims.iter().all(|c| c.status == ClaimStatus::Held),
                "{:?}",
                report.claims
            );
            if mode == Mode::F16 {
                assert!(
                    report.divergence[0].compared > 10,
                    "{:?}",
                    report.divergence
                );
            }
        }
    }
}

#[test]
fn a_prompt_gives_the_same_in_every_enumerated_shape() {
    let source = build(&toy("8ball"), Extent::OneOf(vec![64, 128, 256]));
    let report = verify(&source, &halves(&source), Mode::F16, None, None);
    assert!(report.passed(), "{}", report.human());
    let agree: Vec<_> = report
        .claims
        .iter()
        .filter(|c| c.claim == "shapes_agree")
        .collect();
    assert_eq!(agree.len(), 2);
    assert!(
        agree.iter().all(|c| c.status == ClaimStatus::Held),
        "{agree:?}"
    );
    let lengths: Vec<usize> = report
        .probes
        .iter()
        .map(|p| p.inputs["input_ids"][1])
        .collect();
    for length in [64, 128, 256] {
        assert!(lengths.contains(&length), "{lengths:?}");
    }
}

/// The module with the constant of this name changed.
fn tamper(module: &Module, name: &str, change: impl Fn(&mut [f32])) -> Module {
    let mut module = module.clone();
    let constant = module
        .constants
        .iter_mut()
        .find(|c| c.name() == name)
        .unwrap_or_else(|| panic!("no constant `{name}`"));
    let tensor = constant.read().unwrap();
    let mut values = tensor.floats().unwrap().to_vec();
    change(&mut values);
    let changed = Tensor::float(tensor.dtype(), tensor.shape().to_vec(), values).unwrap();
    *constant = Constant::from_tensor(name, &changed).unwrap();
    module
}

#[test]
fn negative_controls_fail_and_name_the_place() {
    let source = build(&toy("8ball"), Extent::Fixed(64));
    let task = Task::load(&toy("8ball").join("task.toml")).unwrap();
    let q = source
        .constants
        .iter()
        .map(Constant::name)
        .find(|n| n.contains("1.attn.wq"))
        .unwrap()
        .to_owned();
    let width = 128 * 32;
    // An exponent bit of one weight; two query heads swapped; a layer's weights halved.
    let flipped = tamper(&source, &q, |w| {
        w[77] = f32::from_bits(w[77].to_bits() ^ (1 << 27))
    });
    let swapped = tamper(&source, &q, |w| {
        let (a, b) = w.split_at_mut(width);
        a[..width].swap_with_slice(&mut b[..width]);
    });
    let halved = tamper(&source, &q, |w| w.iter_mut().for_each(|x| *x *= 0.5));
    for (what, module) in [
        ("flipped", flipped),
        ("swapped", swapped),
        ("halved", halved),
    ] {
        let report = verify(&source, &module, Mode::F32, None, Some(&task));
        assert_eq!(report.status, Status::Failed, "{what}\n{}", report.human());
        let first = report.divergence[0].first.as_ref().unwrap();
        assert!(
            first.value.name.contains("1"),
            "{what}: {}",
            first.value.name
        );
        assert_eq!(first.value.op, "linear", "{what}");
        println!("{what}: {}", report.divergence[0].text());
    }
    // The same in half precision, where the limits are wider.
    let swapped = tamper(&source, &q, |w| {
        let (a, b) = w.split_at_mut(width);
        a[..width].swap_with_slice(&mut b[..width]);
    });
    let report = verify(&source, &halves(&swapped), Mode::F16, None, None);
    assert_eq!(report.status, Status::Failed, "{}", report.human());
}

#[test]
fn another_models_weights_do_not_pass() {
    let source = build(&toy("ternary"), Extent::Fixed(64));
    let other = build(&toy("8ball"), Extent::Fixed(64));
    let reference = read_tensors(&toy("ternary").join("reference.safetensors")).unwrap();
    let report = verify(&source, &other, Mode::F32, Some(&reference), None);
    assert_eq!(report.status, Status::Failed);
    assert_eq!(
        report.divergence[0].first.as_ref().unwrap().value.op,
        "gather"
    );
}

#[cfg(feature = "tokenizers")]
#[test]
fn prompts_reach_the_tokenizer_unchanged() {
    let folder = toy("8ball");
    let text = "a <b> & \"c\" 'd'\n\te % $HOME `f` \\ {x}";
    let file = format!(
        "name = \"t\"\ntokenizer = \"tokenizer.json\"\n[[classes]]\nname = \"A\"\ntoken_id = 200\n[[classes]]\nname = \"B\"\ntoken_id = 201\n[[cases]]\nid = \"a\"\ntext = '''{text}'''\n"
    );
    let task = Task::parse(&file, &folder).unwrap();
    assert_eq!(task.cases[0].text.as_deref(), Some(text));
    let tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let expected: Vec<i64> = tokenizer
        .encode(text, true)
        .unwrap()
        .get_ids()
        .iter()
        .map(|&id| i64::from(id))
        .collect();
    assert_eq!(task.cases[0].ids, expected);
    let ids: Vec<u32> = task.cases[0]
        .ids
        .iter()
        .map(|&id| u32::try_from(id).unwrap())
        .collect();
    let decoded = tokenizer.decode(&ids, true).unwrap();
    for part in ["<b>", "&", "\"c\"", "'d'", "\n"] {
        assert!(decoded.contains(part), "{part:?} in {decoded:?}");
    }
}
