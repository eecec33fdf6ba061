//! Whole verifications on sessions that misbehave, and traces of modules that do.

use super::fixture::{Fake, WIDTH, fixed, model};
use super::*;
use crate::eval::Mode;
use crate::ir::ops::{BinaryKind, Linear, Select, Softmax, UnaryKind};
use crate::ir::{Builder, Domain, Op, SymbolRange, Type};
use crate::tensor::{DType, Tensor, num};

fn request<'a>(module: &'a Module, source: &'a Fake, candidate: &'a Fake) -> Request<'a> {
    Request {
        artifact: "model.onnx",
        format: Format::Onnx,
        source: Source {
            module,
            session: source,
            trace: None,
        },
        candidates: vec![Candidate {
            role: Role::Artifact,
            session: candidate,
            module: None,
            trace: None,
            numerics: Numerics::F32,
            inexact: None,
        }],
        conversion: None,
        absent: Vec::new(),
        reference: None,
        inputs: None,
        task: None,
        options: Options::default(),
    }
}

fn verdict(module: &Module, candidate: &Fake) -> Report {
    run(&request(module, &Fake::honest(), candidate)).unwrap()
}

fn dynamic() -> Module {
    model(&[SymbolRange::Between { min: 1, max: 512 }], true)
}

#[test]
fn an_honest_artifact_passes() {
    let module = dynamic();
    let report = verdict(&module, &Fake::honest());
    assert!(report.passed(), "{}", report.human());
    // Lengths 1, 7 and 64, two of them padded too.
    assert_eq!(report.probes.len(), 5);
    assert!(report.probes.iter().all(|p| p.outputs.len() == 1));
    assert_eq!(report.summary[0].comparisons, 5);
    assert_eq!(report.summary[0].max_required_tolerance, Some(0.0));
    // Two claims on the source and on the artifact.
    assert_eq!(report.claims.len(), 4);
    assert!(report.claims.iter().all(|c| c.status == ClaimStatus::Held));
    assert!(report.evidence.contains("honest 1.0"));
}

#[test]
fn references_that_disagree_are_reported_as_such_and_prove_nothing_of_the_artifact() {
    let module = dynamic();
    let honest = Fake::honest();
    let wrong = Fake::changed("one element", |_, v| v[0] += 1.0);
    let mut both = request(&module, &honest, &honest);
    let mut reading = request(&module, &honest, &wrong).candidates;
    reading[0].role = Role::Reference;
    both.candidates.extend(&reading);
    let report = run(&both).unwrap();
    assert_eq!(report.status, Status::Failed);
    let disagree = |f: &String| f.starts_with("the references disagree: ");
    assert!(!report.failures.is_empty() && report.failures.iter().all(disagree));
    let roles: Vec<&str> = report.engines.iter().map(|e| e.role).collect();
    assert_eq!(roles, ["source", "artifact", "reference"]);
    // References alone ran no artifact.
    let mut alone = request(&module, &honest, &honest);
    alone.candidates[0].role = Role::Reference;
    let report = run(&alone).unwrap();
    assert_eq!(report.status, Status::Inconclusive, "{}", report.human());
    assert!(
        report.evidence.ends_with("was run by nothing"),
        "{}",
        report.evidence
    );
}

#[test]
fn zeros_on_both_sides_are_no_disagreement_and_no_proof() {
    let module = fixed(8, false);
    let zeros = Fake::constant(0.0);
    let report = run(&request(&module, &zeros, &zeros)).unwrap();
    // That the output depends on nothing is another matter.
    let depends = |f: &String| f.contains("does not depend on");
    assert!(report.failures.iter().all(depends), "{}", report.human());
    let zero = "all outputs are zero in the source";
    assert!(report.unproven[0].contains(zero), "{}", report.human());
}

#[test]
fn an_engine_known_to_be_inexact_is_overruled_by_one_that_is_not() {
    let module = dynamic();
    let honest = Fake::honest();
    let rough = Fake::changed("rough", |_, v| v[0] += 1.0);
    let mut alone = request(&module, &honest, &rough);
    alone.candidates[0].inexact = Some("it is in a hurry");
    let report = run(&alone).unwrap();
    assert_eq!(report.status, Status::Failed);
    assert!(report.failures[0].contains("it is in a hurry"));
    let mut both = alone.clone();
    both.candidates
        .extend(request(&module, &honest, &honest).candidates);
    let report = run(&both).unwrap();
    assert!(report.passed(), "{}", report.human());
    let said = |w: &String| w.starts_with("the engines disagree on the artifact: rough");
    assert!(report.warnings.iter().any(said), "{:?}", report.warnings);
    // Nor does it count that it gave up, or does not keep what the model claims.
    for other in [Fake::broken(), Fake::sees_everything()] {
        let mut also = both.clone();
        also.candidates[0].session = &other;
        let report = run(&also).unwrap();
        assert!(report.passed(), "{}", report.human());
        let said = |w: &String| w.starts_with("the engines disagree on the artifact: ");
        assert!(report.warnings.iter().any(said), "{:?}", report.warnings);
    }
    // Two that are wrong do not clear each other, and neither does one that gave up.
    let mut wrong = alone.clone();
    wrong
        .candidates
        .extend(request(&module, &honest, &rough).candidates);
    assert_eq!(run(&wrong).unwrap().status, Status::Failed);
    // An overflow is no matter of exactness, whoever else saw none.
    let overflows = Fake::changed("overflows", |_, v| v[0] = f32::INFINITY);
    let mut beyond = request(&module, &honest, &overflows);
    beyond.candidates[0].inexact = Some("it is in a hurry");
    beyond
        .candidates
        .extend(request(&module, &honest, &honest).candidates);
    assert_eq!(run(&beyond).unwrap().status, Status::Failed);
}

#[test]
fn probes_that_the_source_refuses_are_drawn_again_and_else_prove_nothing() {
    let mut b = Builder::new("m");
    let ty = Type::known(DType::I64, &[1, 5]);
    let x = b.param("input_ids", ty, Domain::Any).unwrap();
    let y = b.cast("y", x, DType::F32).unwrap();
    b.output("logits", y).unwrap();
    let module = b.finish().unwrap();
    let picky = |name: &str, allowed: &'static [i64]| {
        Fake::new(name, move |inputs| {
            let ids = inputs["input_ids"].ints().unwrap();
            if ids.iter().all(|id| allowed.contains(id)) {
                Fake::honest().run(inputs)
            } else {
                Fake::broken().run(inputs)
            }
        })
    };
    let honest = picky("artifact", &[0, 1]);
    for allowed in [&[0][..], &[1], &[0, 1]] {
        let source = picky("source", allowed);
        let report = run(&request(&module, &source, &honest)).unwrap();
        assert!(report.passed(), "{}", report.human());
        let again = |n: &String| n.contains("drawn again");
        let noted = report.probes[0].notes.iter().any(again);
        assert_eq!(noted, allowed.len() == 1, "{:?}", report.probes[0].notes);
    }
    // What an artifact makes of inputs that its source refuses is nobody's business.
    let (never, fails) = (picky("source", &[7]), Fake::broken());
    for artifact in [&honest, &fails] {
        let report = run(&request(&module, &never, artifact)).unwrap();
        assert_eq!(report.status, Status::Inconclusive, "{}", report.human());
        assert!(report.unproven[0].contains("no such device"));
    }
}

#[test]
fn what_is_wrong_fails() {
    let long = fixed(512, true);
    let cases: Vec<(Fake, &str)> = vec![
        (
            // 4,096 elements: the NaN is far beyond where a sample would have looked.
            Fake::changed("nan", |_, v| *v.last_mut().unwrap() = f32::NAN),
            "NaN or infinite on one side only",
        ),
        (
            Fake::changed("inf", |_, v| v[3000] = f32::INFINITY),
            "NaN or infinite",
        ),
        (
            Fake::changed("one element", |_, v| v[2100] += 1.0),
            "required_tolerance",
        ),
        (
            Fake::changed("drift", |_, v| v.iter_mut().for_each(|x| *x *= 1.001)),
            "required_tolerance",
        ),
        (
            Fake::changed("flat", |shape, _| {
                shape.remove(0);
            }),
            "shape [512, 8], expected [1, 512, 8]",
        ),
        (Fake::constant(0.0), "the output is all zero"),
        (Fake::sees_everything(), "causal"),
        (Fake::broken(), "no such device"),
        (
            Fake::new("silent", |_| Ok(NamedTensors::new())),
            "it is missing",
        ),
        (
            Fake::new("talkative", |inputs| {
                let mut outputs = Fake::honest().run(inputs)?;
                outputs.insert("extra".into(), outputs["logits"].clone());
                Ok(outputs)
            }),
            "`extra` on seeded 0 against the source: it is missing in the source",
        ),
        (
            Fake::new("renamed", |inputs| {
                let logits = Fake::honest().run(inputs)?.remove("logits").unwrap();
                Ok(NamedTensors::from([("output".to_owned(), logits)]))
            }),
            "`logits` was never compared",
        ),
        (
            Fake::new("integers", |inputs| {
                let mut outputs = Fake::honest().run(inputs)?;
                let logits = outputs.get_mut("logits").unwrap();
                *logits = logits.cast(DType::I64);
                Ok(outputs)
            }),
            "element type i64, expected f32",
        ),
    ];
    for (fake, expected) in &cases {
        let report = verdict(&long, fake);
        assert_eq!(report.status, Status::Failed, "{}", fake.engine());
        assert!(
            report.failures.iter().any(|f| f.contains(expected)),
            "{}: {:?}",
            fake.engine(),
            report.failures
        );
    }
}

#[test]
fn nothing_passes_by_absence() {
    let module = fixed(8, true);
    let honest = Fake::honest();
    let mut alone = request(&module, &honest, &honest);
    alone.candidates.clear();
    let report = run(&alone).unwrap();
    assert!(!report.passed());
    assert!(report.unproven.iter().any(|u| u.contains("no engine ran")));
    assert!(report.failures.iter().any(|f| f.contains("vacuous")));

    // Both sides silent: nothing differs, and nothing was shown.
    let silent = Fake::new("silent", |_| Ok(NamedTensors::new()));
    let report = run(&request(&module, &silent, &silent)).unwrap();
    assert_eq!(report.status, Status::Failed);

    let broken = Fake::broken();
    let report = run(&request(&module, &broken, &honest)).unwrap();
    assert!(!report.passed());
    assert_eq!(report.engines[0].status, EngineStatus::Failed);

    for (required, status) in [(true, Status::Inconclusive), (false, Status::Passed)] {
        let mut without = request(&module, &honest, &honest);
        without.absent.push(Absent {
            name: "tract".into(),
            detail: "built without it".into(),
            required,
        });
        let report = run(&without).unwrap();
        assert_eq!(report.status, status);
        let engine = report.engines.last().unwrap();
        assert_eq!((engine.status, engine.runs), (EngineStatus::Absent, 0));
        assert!(report.human().contains("tract is absent"));
    }
}

#[test]
fn nan_in_both_at_the_same_positions_warns() {
    let module = fixed(8, true);
    let nan = || Fake::changed("nan", |_, v| v[4] = f32::NAN);
    let report = run(&request(&module, &nan(), &nan())).unwrap();
    assert!(
        report
            .warnings
            .iter()
            .any(|w| w.contains("reference_nonfinite"))
    );
    assert!(report.passed(), "{}", report.human());
}

fn reference(length: usize, change: impl Fn(usize) -> f32) -> NamedTensors {
    let ids: Vec<i64> = (0..length).map(|i| num::i64_of(i * 5 % 16)).collect();
    let ids = Tensor::int(DType::I32, vec![1, length], ids).unwrap();
    let inputs = NamedTensors::from([("input_ids".to_owned(), ids.clone())]);
    let logits = Fake::honest()
        .run(&inputs)
        .unwrap()
        .remove("logits")
        .unwrap();
    let values = logits
        .floats()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(i, x)| x + change(i))
        .collect();
    NamedTensors::from([
        ("case0.input.input_ids".to_owned(), ids),
        (
            "case0.output.logits".to_owned(),
            Tensor::f32(vec![1, length, WIDTH], values).unwrap(),
        ),
        ("decode.output.logits".to_owned(), logits),
    ])
}

#[test]
fn a_reference_file_judges_source_and_artifact() {
    let module = fixed(8, true);
    let honest = Fake::honest();
    let good = reference(5, |_| 0.0);
    let mut asked = request(&module, &honest, &honest);
    asked.reference = Some(&good);
    let report = run(&asked).unwrap();
    assert!(report.passed(), "{}", report.human());
    let probe = report.probes.last().unwrap();
    assert_eq!((probe.name.as_str(), probe.padded_from), ("case0", Some(5)));
    // Source against file, artifact against source, artifact against file.
    assert_eq!(probe.outputs.len(), 3);
    let compared = probe.outputs[0].comparison.as_ref().unwrap();
    assert_eq!(compared.elements, 5 * WIDTH);
    assert!(report.warnings.iter().any(|w| w.contains("decode")));

    // Only padding is off: that says nothing.
    let padding = Fake::changed("padding", |_, v| v[6 * WIDTH] += 3.0);
    asked.candidates[0].session = &padding;
    let report = run(&asked).unwrap();
    assert!(
        report
            .probes
            .last()
            .unwrap()
            .outputs
            .iter()
            .all(|o| o.comparison.as_ref().unwrap().passed)
    );

    let bad = reference(5, |i| if i == 11 { 0.1 } else { 0.0 });
    let mut asked = request(&module, &honest, &honest);
    asked.reference = Some(&bad);
    let report = run(&asked).unwrap();
    assert_eq!(report.status, Status::Failed);
    assert!(
        report
            .failures
            .iter()
            .any(|f| f.starts_with("honest 1.0 on the source: ")),
        "{:?}",
        report.failures
    );

    let mut wrong = reference(5, |_| 0.0);
    wrong.insert(
        "case0.input.input_ids".into(),
        Tensor::i64(vec![1, 5], vec![99; 5]).unwrap(),
    );
    let mut asked = request(&module, &honest, &honest);
    asked.reference = Some(&wrong);
    assert_eq!(run(&asked).unwrap_err().code(), "id_out_of_range");
}

#[test]
fn outputs_that_feel_padding_are_compared_where_there_is_none() {
    let mut module = fixed(8, true);
    // Nothing is claimed about `logits` but that it exists.
    module.claims = vec![crate::ir::Claim::Causal {
        inputs: vec!["input_ids".into()],
        output: "another".into(),
    }];
    let honest = Fake::honest();
    let file = reference(5, |_| 7.0);
    let mut asked = request(&module, &honest, &honest);
    asked.reference = Some(&file);
    let report = run(&asked).unwrap();
    let row = &report.probes.last().unwrap().outputs[0];
    assert!(row.comparison.is_none() && row.not_compared.is_some());
    // A file of which nothing was used has shown nothing.
    assert_eq!(
        report.failures[0],
        "the reference file's `logits` was never compared: padding has a part in it; it has `logits`, the model gives `logits`"
    );
}

#[test]
fn the_report_is_one_sorted_document() {
    fn sorted(value: &serde_json::Value, text: &str) {
        match value {
            serde_json::Value::Object(map) => {
                let mut last = "";
                for (key, value) in map {
                    assert!(last < key.as_str(), "{key} after {last} in {text}");
                    last = key;
                    sorted(value, text);
                }
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| sorted(v, text)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }
    let module = dynamic();
    let nan = Fake::changed("nan \"quoted\" <&>\n", |_, v| v.fill(f32::NAN));
    let honest = Fake::honest();
    let file = reference(5, |_| 0.0);
    let mut asked = request(&module, &honest, &nan);
    asked.reference = Some(&file);
    let task = fixture::task(&[("a", &[1, 2], Some(0))]);
    asked.task = Some(&task);
    let report = run(&asked).unwrap();
    assert!(!report.passed());
    // Straight from the fields, so that no map sorts what they do not.
    let text = serde_json::to_string(&report).unwrap();
    let mut documents = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    let value = documents.next().unwrap().unwrap();
    assert!(documents.next().is_none());
    sorted(&value, &text);
    assert_eq!(value["status"], "failed");
    assert_eq!(value, report.to_json().unwrap());
    assert!(text.contains("\"NaN\"") && !text.contains(":NaN"));
    // Key order of the text itself.
    let at = |key: &str| text.find(&format!("\"{key}\":")).unwrap();
    assert!(at("artifact") < at("claims") && at("claims") < at("divergence"));
    assert_eq!(text, serde_json::to_string(&run(&asked).unwrap()).unwrap());
}

#[test]
fn a_task_is_part_of_the_verdict() {
    let module = fixed(8, true);
    let honest = Fake::honest();
    let task = fixture::task(&[("a", &[1, 2], None), ("b", &[3], None)]);
    let mut asked = request(&module, &honest, &honest);
    asked.task = Some(&task);
    let report = run(&asked).unwrap();
    assert!(report.passed() && report.task.unwrap().passed);
    let none = fixture::task(&[]);
    asked.task = Some(&none);
    let report = run(&asked).unwrap();
    assert_eq!(report.status, Status::Failed);
    assert!(report.human().contains("vacuous"));
}

// ---- intermediate values ----

/// `x [1, 4, 8]` → linear → silu → masked softmax → linear; weights scaled by `scale`, masked with `fill`, in `dtype`, the last weight changed by `change`.
fn chain(scale: f32, fill: f64, dtype: DType, change: f32) -> Module {
    let mut b = Builder::new("chain");
    let x = b
        .param("x", Type::known(DType::F32, &[1, 4, 8]), Domain::Any)
        .unwrap();
    let weight = |seed: usize, scale: f32, change: f32| {
        let mut values: Vec<f32> = (0..64)
            .map(|i| (num::f32_of((i * 29 + seed) % 17) - 8.0) * 0.05 * scale)
            .collect();
        values[5] += change;
        Tensor::f32(vec![8, 8], values).unwrap().cast(dtype)
    };
    let w1 = b.tensor("w1", &weight(1, scale, 0.0)).unwrap();
    let w2 = b.tensor("w2", &weight(2, 1.0, change)).unwrap();
    let x = b.cast("x_cast", x, dtype).unwrap();
    let a = b.push("a", Op::Linear(Linear), &[x, w1]).unwrap();
    let s = b.unary("s", UnaryKind::Silu, a).unwrap();
    let keep: Vec<bool> = (0..8).map(|i| i != 3).collect();
    let keep = b
        .tensor("keep", &Tensor::bool(vec![8], keep).unwrap())
        .unwrap();
    let fill = b.scalar("fill", dtype, fill).unwrap();
    let masked = b
        .push("masked", Op::Select(Select), &[keep, s, fill])
        .unwrap();
    let added = b.binary("added", BinaryKind::Add, masked, s).unwrap();
    let soft = b
        .push("soft", Op::Softmax(Softmax { axis: 2 }), &[added])
        .unwrap();
    let y = b.push("y", Op::Linear(Linear), &[soft, w2]).unwrap();
    let out = b.cast("out", y, DType::F32).unwrap();
    b.output("out", out).unwrap();
    b.finish().unwrap()
}

fn traced(source: &Module, artifact: &Module, mode: Mode) -> Report {
    linked(source, None, (artifact, &[mode]))
}

/// A report on an artifact in these engines.
fn report_on(
    format: Format,
    source: &Module,
    candidates: Vec<Candidate<'_>>,
    conversion: Option<Conversion<'_>>,
) -> Report {
    let original = Interpreter::new(source, Mode::F32).unwrap();
    run(&Request {
        artifact: "chain",
        format,
        source: Source {
            module: source,
            session: &original,
            trace: Some(&original),
        },
        candidates,
        conversion,
        absent: Vec::new(),
        reference: None,
        inputs: None,
        task: None,
        options: Options::default(),
    })
    .unwrap()
}

/// A report on an artifact in an interpreter for every mode, with the conversion before and after its precision changed, if it is known.
fn linked(
    source: &Module,
    made: Option<(&Module, &Module)>,
    (artifact, modes): (&Module, &[Mode]),
) -> Report {
    let interpreters: Vec<Interpreter> = modes
        .iter()
        .map(|&mode| Interpreter::new(artifact, mode).unwrap())
        .collect();
    let halves = artifact.has(DType::F16);
    let candidates = interpreters.iter().map(|interpreter| Candidate {
        role: Role::Artifact,
        session: interpreter,
        module: Some(artifact),
        trace: Some(interpreter),
        numerics: if halves { Numerics::F16 } else { Numerics::F32 },
        inexact: None,
    });
    let conversion = made.map(|(plain, written)| Conversion {
        plain: Some(plain),
        written,
        read_back: None,
    });
    report_on(Format::CoreMl, source, candidates.collect(), conversion)
}

#[test]
fn what_half_precision_would_hide_is_found_without_it() {
    let made = |dtype, change| chain(1.0, -1e4, dtype, change);
    let (source, halves) = (made(DType::F32, 0.0), made(DType::F16, 0.0));
    // Less than the gates of half precision see, more than the order of a sum gives.
    let small = 2e-3;
    let (other, other_halves) = (made(DType::F32, small), made(DType::F16, small));
    let modes = &[Mode::F32, Mode::F16];
    let verdict = |plain, written, artifact| {
        let report = linked(&source, Some((plain, written)), (artifact, modes));
        let failures = report.failures.clone();
        (report, failures)
    };
    let (report, failures) = verdict(&source, &halves, &halves);
    assert!(failures.is_empty(), "{failures:?}");
    let held = |engine: &str, against: &str| {
        let row = |r: &&SummaryRow| r.engine == engine && r.against == against;
        report.summary.iter().find(row).unwrap().comparisons
    };
    assert_eq!(held("the conversion", "source"), 1);
    assert_eq!(held("interpreter f32", "conversion"), 1);
    let (_, failures) = verdict(&other, &halves, &halves);
    assert!(
        failures[0].starts_with("the conversion: `out`") && failures.len() == 1,
        "{failures:?}"
    );
    let (_, failures) = verdict(&source, &halves, &other_halves);
    assert!(
        failures[0].starts_with("interpreter f32: `out`")
            && failures[0].contains("they part at `y` (linear, jump")
            && failures.len() == 1,
        "{failures:?}"
    );
    // A link that compared nothing proves nothing.
    let mut renamed = source.clone();
    renamed.functions[0].outputs[0].name = "else".into();
    let (report, _) = verdict(&renamed, &halves, &halves);
    assert_eq!(report.status, Status::Inconclusive, "{}", report.human());
    assert!(report.unproven[0].contains("the conversion against the source: no output"));
    // Without the conversion, nobody sees it.
    let report = linked(&source, None, (&other_halves, modes));
    assert!(report.passed(), "{}", report.human());
}

/// A report on an artifact in an engine of which only the outputs are seen, and that was read back apart.
fn engines_only(source: &Module, written: &Module, artifact: &Module, mode: Mode) -> Report {
    let engine = Interpreter::new(artifact, mode).unwrap();
    let reread = Interpreter::new(artifact, Mode::F32).unwrap();
    let candidate = Candidate {
        role: Role::Artifact,
        session: &engine,
        module: None,
        trace: None,
        numerics: Numerics::F16,
        inexact: None,
    };
    let conversion = Conversion {
        plain: None,
        written,
        read_back: Some(ReadBack {
            module: artifact,
            interpreter: &reread,
        }),
    };
    report_on(Format::Onnx, source, vec![candidate], Some(conversion))
}

#[test]
fn what_an_engine_rounds_is_read_back_apart_and_held_against_what_was_written() {
    let made = |change| chain(1.0, -1e4, DType::F16, change);
    let (source, halves) = (chain(1.0, -1e4, DType::F32, 0.0), made(0.0));
    let verdict = |artifact: &Module| engines_only(&source, &halves, artifact, Mode::F16);
    let report = verdict(&halves);
    assert!(report.passed(), "{}", report.human());
    let engine = report.engines.last().unwrap();
    assert_eq!((engine.name.as_str(), engine.runs), ("interpreter f32", 1));
    assert!(report.evidence.contains("once by interpreter f32"));
    assert!(report.gates.iter().any(|g| g.for_what == "f32"));
    assert_eq!(
        report.to_json().unwrap(),
        verdict(&halves).to_json().unwrap()
    );
    // The engine's gates do not see it.
    let report = verdict(&made(2e-3));
    let rows = report.summary.iter().filter(|r| r.against == "source");
    assert!(rows.clone().count() == 1 && rows.clone().all(|r| r.passed));
    let failures = &report.failures;
    assert!(
        failures[0].starts_with("interpreter f32: `out`")
            && failures[0].contains("they part at `y` (linear, jump")
            && failures.len() == 1,
        "{failures:?}"
    );
}

#[test]
fn an_overflow_is_found_where_the_only_engine_computes_in_single_precision() {
    let of = |scale, dtype| chain(scale, -1e4, dtype, 0.0);
    let found = |scale| {
        let halves = of(scale, DType::F16);
        engines_only(&of(scale, DType::F32), &halves, &halves, Mode::F32)
    };
    let report = found(1.0);
    assert!(report.passed(), "{}", report.human());
    assert_eq!(report.divergence[0].engine, "the conversion");
    assert!(report.divergence[0].compared >= 6);
    let report = found(1e5);
    let rows = report.summary.iter().filter(|r| r.against == "source");
    assert!(rows.clone().count() == 1 && rows.clone().all(|r| r.passed));
    let said = "the conversion: a 16-bit value overflows at `a`";
    let failures = report.failures.join("\n");
    assert!(failures.contains(said), "{failures}");
}

#[test]
fn half_precision_within_limits_passes_and_is_traced() {
    let source = chain(1.0, -3.4e38, DType::F32, 0.0);
    let report = traced(&source, &chain(1.0, -1e4, DType::F16, 0.0), Mode::F16);
    assert!(report.passed(), "{}", report.human());
    let divergence = &report.divergence[0];
    assert_eq!(divergence.first, None);
    // The fill differs by 34 orders of magnitude and means the same.
    assert!(divergence.compared >= 6, "{divergence:?}");
    assert!(divergence.max_magnitude < 100.0, "{divergence:?}");
    assert!(report.evidence.contains("Core ML itself was not executed"));
}

#[test]
fn the_first_wrong_operation_is_named() {
    let source = chain(1.0, -1e4, DType::F32, 0.0);
    for (dtype, mode) in [(DType::F32, Mode::F32), (DType::F16, Mode::F16)] {
        let report = traced(&source, &chain(1.0, -1e4, dtype, 2.0), mode);
        assert_eq!(report.status, Status::Failed);
        let first = report.divergence[0].first.as_ref().unwrap();
        assert_eq!(
            (first.value.name.as_str(), first.value.op, first.kind),
            ("y", "linear", "jump")
        );
        assert!(first.value.worst.is_some());
        assert_eq!(report.divergence[0].offenders[0].name, "y");
        assert!(
            report
                .human()
                .contains("leaves the source at `y` (linear, jump")
        );
    }
}

#[test]
fn overflow_is_found_where_it_happens() {
    let source = chain(1e5, -3.4e38, DType::F32, 0.0);
    let report = traced(&source, &chain(1e5, -1e4, DType::F16, 0.0), Mode::F16);
    assert_eq!(report.status, Status::Failed);
    let divergence = &report.divergence[0];
    assert_eq!(divergence.overflows[0], "a");
    assert_eq!(divergence.first.as_ref().unwrap().value.name, "a");
    assert!(
        report
            .failures
            .iter()
            .any(|f| f.contains("overflows at `a`")),
        "{:?}",
        report.failures
    );
}

#[test]
fn large_magnitudes_warn_before_they_fail() {
    let probe = |scale| {
        let source = chain(scale, -1e4, DType::F32, 0.0);
        traced(&source, &chain(scale, -1e4, DType::F16, 0.0), Mode::F16).divergence[0]
            .max_16bit_magnitude
    };
    let unit = probe(100.0) / 100.0;
    assert!(unit > 0.0);
    for (target, fails, warns) in [
        (20_000.0, false, false),
        (45_000.0, false, true),
        (62_000.0, true, false),
    ] {
        let scale = num::f32_of_f64(target / unit);
        let source = chain(scale, -1e4, DType::F32, 0.0);
        let report = traced(&source, &chain(scale, -1e4, DType::F16, 0.0), Mode::F16);
        let named = |lines: &[String]| {
            lines
                .iter()
                .any(|l| l.contains("largest intermediate magnitude"))
        };
        assert_eq!(
            (named(&report.failures), named(&report.warnings)),
            (fails, warns),
            "{}",
            report.human()
        );
    }
}

#[test]
fn an_artifact_of_other_inputs_is_refused() {
    let source = fixed(8, true);
    let honest = Fake::honest();
    let other = fixed(8, false);
    let mut asked = request(&source, &honest, &honest);
    asked.candidates[0].module = Some(&other);
    assert_eq!(run(&asked).unwrap_err().code(), "interface_mismatch");
}

#[test]
fn sizes_of_a_file_ask_for_no_more_memory_than_is_allowed() {
    let error = beyond_f16(&fixed(1 << 40, true), 4).unwrap_err();
    assert_eq!(error.code(), "value_too_large");
    assert!(error.to_string().contains("1099511627776"), "{error}");
}
