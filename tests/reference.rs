//! Every architecture against what its own library computed: graphs from configs and checkpoints, run by the interpreter, beside PyTorch's outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use distill_convert::arch::{self, Attention, Extent, Options, RotaryFrequencies};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::source::{self, Checkpoint, OpenOptions};
use distill_convert::tensor::{DType, NamedTensors, Tensor};

/// How many folders the whole collection has.
const COLLECTION: usize = 14;

struct Case {
    name: String,
    inputs: NamedTensors,
    outputs: NamedTensors,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folders_in(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    folders
}

/// The collection beside the project if it is there, else the copies in the project; and the project's own models.
fn folders() -> Vec<PathBuf> {
    let asked = std::env::var_os("DISTILL_REFERENCE_MODELS").map(PathBuf::from);
    let collection = asked.unwrap_or_else(|| root().join("../shared/reference-models"));
    let mut folders = if collection.is_dir() {
        let folders = folders_in(&collection);
        assert_eq!(folders.len(), COLLECTION, "{}", collection.display());
        folders
    } else {
        let folders = folders_in(&root().join("tests/fixtures/reference-models"));
        assert_eq!(folders.len(), 5);
        folders
    };
    folders.extend(folders_in(&root().join("models")));
    folders
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (key, tensor) in source::read_tensors(&folder.join("reference.safetensors")).unwrap() {
        let parts: Vec<&str> = key.splitn(3, '.').collect();
        let [name, side, value] = parts[..] else {
            panic!("{key}")
        };
        let case = cases.entry(name.to_owned()).or_insert_with(|| Case {
            name: name.to_owned(),
            inputs: NamedTensors::new(),
            outputs: NamedTensors::new(),
        });
        match side {
            "input" => case.inputs.insert(value.to_owned(), tensor),
            "output" => case.outputs.insert(value.to_owned(), tensor),
            _ => panic!("{key}"),
        };
    }
    assert!(!cases.is_empty(), "{}", folder.display());
    cases.into_values().collect()
}

fn open(folder: &Path) -> Checkpoint {
    source::open(folder, &OpenOptions::default())
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

/// The references of half-precision rotary models came from models that were cast as a whole, frequencies included.
fn cast_as_a_whole(checkpoint: &Checkpoint) -> RotaryFrequencies {
    let table = checkpoint.tensors.get("model.embed_tokens.weight");
    match table {
        Some(table) if table.dtype != DType::F32 => RotaryFrequencies::Stored,
        _ => RotaryFrequencies::F32,
    }
}

/// Runs a case under the given extents; the largest error of every output, relative to its largest element.
fn errors(checkpoint: &Checkpoint, case: &Case, options: &Options) -> BTreeMap<String, f32> {
    let place = format!(
        "{} {} {:?}",
        checkpoint.folder.display(),
        case.name,
        options.seq
    );
    let built = arch::build(checkpoint, options).unwrap_or_else(|e| panic!("{place}: {e}"));
    let function = built.module.main().unwrap();
    let shape = case.inputs.values().next().unwrap().shape()[..2].to_vec();
    let mut inputs = case.inputs.clone();
    for (name, filler) in [("attention_mask", 1), ("token_type_ids", 0)] {
        if function.param(name).is_some() {
            let fill = vec![filler; shape.iter().product()];
            inputs
                .entry(name.to_owned())
                .or_insert_with(|| Tensor::i64(shape.clone(), fill).unwrap());
        }
    }
    let interpreter = Interpreter::new(&built.module, Mode::F32).unwrap();
    let found = interpreter
        .run(&inputs, None)
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(!case.outputs.is_empty());
    let mut errors = BTreeMap::new();
    for (name, expected) in &case.outputs {
        let found = found
            .get(name)
            .unwrap_or_else(|| panic!("{place}: no output {name}"));
        assert_eq!(found.shape(), expected.shape(), "{place} {name}");
        assert_eq!(found.dtype(), DType::F32);
        let (per_position, width) = (
            expected.shape().len() == 3,
            expected.shape()[expected.shape().len() - 1],
        );
        let (found, expected) = (found.floats().unwrap(), expected.floats().unwrap());
        let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
        // A query in the padding may see no key at all: what it then looks at means nothing.
        let counts = |i: usize| match inputs.get("attention_mask") {
            Some(mask) if per_position => mask.ints().unwrap()[i / width] != 0,
            _ => true,
        };
        let pairs = found
            .iter()
            .zip(expected.iter())
            .enumerate()
            .filter(|(i, _)| counts(*i));
        let worst = pairs.fold(0f32, |m, (_, (a, b))| m.max((a - b).abs()));
        assert!(
            largest > 0.0 && found.iter().all(|x| x.is_finite()),
            "{place} {name}"
        );
        println!("{place} {name}: {:.2e}", worst / largest);
        errors.insert(name.clone(), worst / largest);
    }
    assert!(!errors.is_empty());
    errors
}

/// Compares every output that the reference has.
fn check(checkpoint: &Checkpoint, case: &Case, options: &Options) {
    for (name, error) in errors(checkpoint, case, options) {
        // The predecessor rounds its logits to half precision; nothing else is rounded.
        let student = checkpoint
            .config
            .get("model_type")
            .is_some_and(|t| t == "student");
        let tolerance = if student && name == "logits" {
            2e-3
        } else {
            1e-4
        };
        let place = checkpoint.folder.display();
        assert!(
            error <= tolerance,
            "{place} {} {:?} {name}: off by {error:e}",
            case.name,
            options.seq
        );
    }
}

fn check_every_case(folder: &Path) {
    let checkpoint = open(folder);
    let cases = cases(folder);
    for case in cases.iter().filter(|c| c.name.starts_with("case")) {
        let seq = case.inputs.values().next().unwrap().shape()[1];
        let one = Extent::Fixed(1);
        let any = Extent::Dynamic { min: 1, max: None };
        let some = Extent::OneOf(vec![seq, seq + 8]);
        for (batch, seq) in [(&one, &Extent::Fixed(seq)), (&one, &some), (&any, &any)] {
            let rotary = cast_as_a_whole(&checkpoint);
            let options = Options {
                batch: batch.clone(),
                seq: seq.clone(),
                attention: None,
                rotary,
            };
            // Beyond its trained length a dynamic rotation is another one for every length.
            if folder.ends_with("llama-dynamic-long")
                && *seq != Extent::Fixed(12)
                && *seq != Extent::Fixed(15)
            {
                let lengths = arch::build(&checkpoint, &options);
                assert!(*seq == any || lengths.unwrap_err().code() == "sequence_too_long");
                continue;
            }
            check(&checkpoint, case, &options);
        }
    }
}

#[test]
fn every_reference_model_computes_what_its_library_computed() {
    folders().iter().for_each(|folder| check_every_case(folder));
}

/// One model for every switch of a config that changes what is computed, made by `scripts/models/variants.py`.
#[test]
fn every_switch_of_a_config_does_what_the_library_does() {
    let variants = folders_in(&root().join("tests/fixtures/variants"));
    assert_eq!(variants.len(), 31);
    variants.iter().for_each(|folder| check_every_case(folder));
}

/// The predecessor decodes step by step, which is causal by construction: the same weights as a causal model.
#[test]
fn a_causal_student_computes_what_step_by_step_decoding_computes() {
    let students: Vec<PathBuf> = folders()
        .into_iter()
        .filter(|f| cases(f).iter().any(|c| c.name == "decode"))
        .collect();
    for folder in &students {
        let mut checkpoint = open(folder);
        checkpoint.config.remove("attention");
        let case = cases(folder)
            .into_iter()
            .find(|c| c.name == "decode")
            .unwrap();
        let causal = Options {
            attention: Some(Attention::Causal),
            ..Options::default()
        };
        check(&checkpoint, &case, &causal);
        let error = arch::build(&checkpoint, &Options::default()).unwrap_err();
        assert_eq!(error.code(), "attention_not_stated");
        assert!(error.hint().unwrap().contains("--attention"));
    }
    let whole = root().join("../shared/reference-models").is_dir();
    assert!(!whole || students.len() == 2, "{students:?}");
}

/// Rounding the frequencies of rotary positions is no detail: it is what tells a model cast as a whole from one that was loaded.
#[test]
fn rounded_frequencies_are_another_function() {
    let folder = folders()
        .into_iter()
        .find(|f| f.ends_with("qwen2"))
        .unwrap();
    let checkpoint = open(&folder);
    let case = cases(&folder)
        .into_iter()
        .find(|c| c.name == "case1")
        .unwrap();
    let exact = errors(&checkpoint, &case, &Options::default());
    assert!(exact["logits"] > 5e-3, "{exact:?}");
}

/// all-MiniLM-L6-v2 with its pooling and normalisation, beside PyTorch.
#[test]
#[ignore = "needs the judges: run scripts/test"]
fn minilm_embeds_as_pytorch_does() {
    let folder =
        std::env::var_os("DISTILL_MINILM").expect("DISTILL_MINILM names the unpacked model folder");
    let checkpoint = open(Path::new(&folder));
    for case in cases(&root().join("tests/fixtures/minilm")) {
        check(&checkpoint, &case, &Options::default());
    }
}
