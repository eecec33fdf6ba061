//! A good package damaged in 200 seeded ways: program, interface, weight file, manifest. Each damage is refused with a reason, or shown by
//! `verify` as a difference from the good package, or is proven here to touch nothing that has a meaning.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use distill_convert::convert::{self, Check, SourceOptions};
use distill_convert::verify::Report;
use serde_json::Value;

use crate::common::root;
use crate::mutation::change::{self, Random};
use crate::mutation::fields;

const MUTANTS: u64 = 200;
const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
const MANIFEST: &str = "Manifest.json";

/// What became of a damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// An error says what is wrong.
    Refused,
    /// `verify` fails.
    Failed,
    /// `verify` passes and reports a difference that is within its limits.
    Measured,
    /// Nothing with a meaning was touched.
    NoMeaning,
    /// A weight changed by less than single precision adds up.
    Tiny,
    /// None of these.
    Missed,
}

fn good() -> PathBuf {
    root().join("tests/fixtures/shaped/opset-7/model.mlpackage")
}

/// The file that a damage is done to, and what is in it then.
fn damaged(number: u64) -> (&'static str, Vec<u8>, Vec<u8>) {
    let mut random = Random::new("package", number);
    let (file, structured) = match number % 10 {
        0..=4 => (MODEL, true),
        5 => (MODEL, false),
        6..=7 => (WEIGHTS, false),
        _ => (MANIFEST, false),
    };
    let before = fs::read(good().join(file)).unwrap();
    let mut after = before.clone();
    while after == before {
        if !(structured && fields::once(&mut after, &before, &mut random)) {
            change::once(&mut after, &before, &mut random);
        }
    }
    (file, before, after)
}

/// Writes the package with one file replaced.
fn package(folder: &Path, file: &str, bytes: &[u8]) -> PathBuf {
    let package = folder.join("damaged.mlpackage");
    for name in [MODEL, WEIGHTS, MANIFEST] {
        let path = package.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(good().join(name), &path).unwrap();
    }
    fs::write(package.join(file), bytes).unwrap();
    package
}

/// The fields of a message, in the order in which they stand: number and contents.
fn fields_of(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let varint = |at: &mut usize| {
        let (mut out, mut shift) = (0u64, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            out |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return out;
            }
        }
    };
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let key = varint(&mut at);
        let start = at;
        let contents = match key & 7 {
            0 => {
                let number = varint(&mut at);
                number.to_le_bytes().to_vec()
            }
            2 => {
                let length = varint(&mut at) as usize;
                at += length;
                bytes[at - length..at].to_vec()
            }
            kind => {
                at += if kind == 1 { 8 } else { 4 };
                bytes[start..at].to_vec()
            }
        };
        out.push((key >> 3, contents));
    }
    out
}

/// What a field of a message is to a reader.
enum Sort {
    /// One message of this kind; several are one in parts.
    One(&'static str),
    /// Messages of this kind in order.
    Many(&'static str),
    /// Messages of this kind, in an order that means nothing: entries of a map, and operations, of which reading checks that all is defined
    /// before it is used.
    Set(&'static str),
    /// A number or text, of which the last one counts; nothing is the same as 0.
    Scalar,
    /// Words for people.
    Words,
    /// Anything else: compared as it is.
    Data,
}

fn sort(message: &str, field: u64) -> Sort {
    match (message, field) {
        ("Model", 2) => Sort::One("Description"),
        ("Model", 502) => Sort::One("Program"),
        ("Model", 1 | 10) | ("Description", 11 | 12 | 21) => Sort::Scalar,
        ("Description", 1 | 10 | 13) => Sort::Many("Feature"),
        ("Description", 100) | ("Feature", 2) | ("Program", 3 | 4) | ("Value", 1) => Sort::Words,
        ("Feature", 3) => Sort::One("FeatureType"),
        ("FeatureType", 5) => Sort::One("Array"),
        ("FeatureType", 1000) | ("Array", 2) => Sort::Scalar,
        ("Program", 2) => Sort::Set("entry Function"),
        ("Function", 1) | ("Operation", 3) => Sort::Many("Named"),
        ("Function", 3) => Sort::Set("entry Block"),
        ("Block", 3) => Sort::Set("Operation"),
        ("Operation", 2) => Sort::Set("entry Argument"),
        ("Operation", 5) => Sort::Set("entry Value"),
        ("Argument", 1) => Sort::Many("Binding"),
        ("Binding", 2) => Sort::One("Value"),
        ("Value", 2) | ("Named", 2) => Sort::One("Type"),
        ("Value", 3) => Sort::One("Immediate"),
        ("Value", 5) => Sort::One("Blob"),
        ("Immediate", 1) => Sort::One("Tensor"),
        ("Tensor", 1..=8) => Sort::One("Elements"),
        ("Type", 1) => Sort::One("TensorType"),
        ("TensorType", 3) => Sort::Many("Dimension"),
        ("Dimension", 1) => Sort::One("Constant"),
        ("entry Function", 2) => Sort::One("Function"),
        ("entry Block", 2) => Sort::One("Block"),
        ("entry Argument", 2) => Sort::One("Argument"),
        ("entry Value", 2) => Sort::One("Value"),
        ("Program" | "Operation" | "Feature" | "Named" | "Binding" | "Constant", 1)
        | ("Function", 2)
        | ("Blob" | "TensorType", 1 | 2) => Sort::Scalar,
        (entry, 1) if entry.starts_with("entry") => Sort::Scalar,
        (_, _) => Sort::Data,
    }
}

/// The message without what has no meaning, in one order: words for people, the names that operations have for people, the order of fields of
/// different numbers. Everything else stays, also what is in no table.
fn canonical(bytes: &[u8], message: &str) -> Vec<u8> {
    let mut fields: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for (number, contents) in fields_of(bytes) {
        fields.entry(number).or_default().push(contents);
    }
    let mut out = Vec::new();
    for (number, mut all) in fields {
        match sort(message, number) {
            Sort::Words => continue,
            Sort::Data => {}
            Sort::Scalar => {
                all.drain(..all.len() - 1);
                all.retain(|c| c.iter().any(|b| *b != 0));
            }
            Sort::One(kind) => all = vec![canonical(&all.concat(), kind)],
            Sort::Many(kind) => all.iter_mut().for_each(|c| *c = canonical(c, kind)),
            Sort::Set(kind) => {
                // The name of an operation is a note; its results have names of their own.
                let key = |c: &Vec<u8>| fields_of(c).into_iter().find(|(n, _)| *n == 1);
                all.retain(|c| {
                    kind != "entry Value" || key(c).is_none_or(|(_, name)| name != b"name")
                });
                if kind.starts_with("entry") {
                    // Of entries with one key the last counts.
                    let last: BTreeMap<_, _> = all.into_iter().map(|c| (key(&c), c)).collect();
                    all = last.into_values().collect();
                }
                all.iter_mut().for_each(|c| *c = canonical(c, kind));
                all.sort();
            }
        }
        for contents in all {
            out.extend(number.to_le_bytes());
            out.extend((contents.len() as u64).to_le_bytes());
            out.extend(contents);
        }
    }
    out
}

/// The records of a weight file: where they stand, and where their data is.
fn records(bytes: &[u8]) -> Vec<(usize, std::ops::Range<usize>)> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (mut out, mut at) = (Vec::new(), 64);
    while at + 64 <= bytes.len() {
        let data = word(at + 16)..word(at + 16) + word(at + 8);
        out.push((at, data.clone()));
        at = data.end.next_multiple_of(64);
    }
    out
}

/// Whether nothing with a meaning was touched.
fn has_no_meaning(file: &str, before: &[u8], after: &[u8]) -> bool {
    match file {
        MODEL => canonical(before, "Model") == canonical(after, "Model"),
        WEIGHTS => {
            // The header's two numbers, what a record says, and the data; the rest is reserved.
            let mut meant: Vec<_> = std::iter::once(0..8).collect();
            for (record, data) in records(before) {
                meant.extend([record..record + 32, data]);
            }
            let same = |range: &std::ops::Range<usize>| {
                after.get(range.clone()) == before.get(range.clone())
            };
            before.len() == after.len() && meant.iter().all(same)
        }
        _ => {
            // Which items there are and where; what they are called and who wrote them is for people.
            let read = |bytes: &[u8]| -> Option<(Value, Value, Vec<Value>)> {
                let json: Value = serde_json::from_slice(bytes).ok()?;
                let entries = json["itemInfoEntries"].as_object()?;
                let root = entries.get(json["rootModelIdentifier"].as_str()?)?;
                let mut paths: Vec<Value> = entries.values().map(|e| e["path"].clone()).collect();
                paths.sort_by_key(Value::to_string);
                Some((
                    json["fileFormatVersion"].clone(),
                    root["path"].clone(),
                    paths,
                ))
            };
            read(before).is_some_and(|b| read(after) == Some(b))
        }
    }
}

/// Whether single weights changed, each by less than the sums that they are in can hold.
fn is_tiny(file: &str, before: &[u8], after: &[u8]) -> bool {
    if file != WEIGHTS || before.len() != after.len() {
        return false;
    }
    let mut rest = before.to_vec();
    for (_, data) in records(before) {
        for at in data.step_by(4) {
            let float = |b: &[u8]| f32::from_le_bytes(b[at..at + 4].try_into().unwrap());
            if (float(before) - float(after)).abs() > 1e-6 * float(before).abs() {
                return false;
            }
            rest[at..at + 4].copy_from_slice(&after[at..at + 4]);
        }
    }
    rest == after
}

/// Whether the report shows that the artifact is not the source: the interpreter gives equal numbers for equal programs.
fn shows(report: &Report) -> bool {
    let apart = |x: Option<f64>| x.is_some_and(|x| x > 0.0);
    let own = report.summary.iter();
    let mut own = own.filter(|row| row.engine.starts_with("interpreter"));
    !report.type_changes.is_empty() || own.any(|row| apart(row.max_abs))
}

fn fate(number: u64, folder: &Path) -> (Fate, String) {
    let (file, before, after) = damaged(number);
    let package = package(folder, file, &after);
    let verified = catch_unwind(AssertUnwindSafe(|| {
        convert::verify(
            &good(),
            &package,
            &SourceOptions::default(),
            &Check::default(),
            &(),
        )
    }));
    let name = file.rsplit('/').next().unwrap();
    match verified {
        Err(_) => panic!("mutant {number} of {name} made it panic"),
        Ok(Err(error)) => {
            let message = error.to_string();
            assert!(message.len() > 10, "mutant {number}: {message}");
            (Fate::Refused, format!("{name}: {message}"))
        }
        Ok(Ok(report)) if !report.passed() => (
            Fate::Failed,
            format!("{name}: {:?} {:?}", report.failures, report.unproven),
        ),
        Ok(Ok(report)) if shows(&report) => (Fate::Measured, name.to_owned()),
        Ok(Ok(_)) if has_no_meaning(file, &before, &after) => (Fate::NoMeaning, name.to_owned()),
        Ok(Ok(_)) if is_tiny(file, &before, &after) => (Fate::Tiny, name.to_owned()),
        Ok(Ok(_)) => {
            let kept = std::env::temp_dir().join(format!("damaged-{number}-{name}"));
            fs::write(&kept, &after).unwrap();
            (Fate::Missed, format!("kept as {}", kept.display()))
        }
    }
}

#[test]
fn every_damage_is_refused_or_shown_or_touches_nothing_that_means_anything() {
    let folder = tempfile::tempdir().unwrap();
    let mut counts: BTreeMap<Fate, usize> = BTreeMap::new();
    let mut missed = Vec::new();
    for number in 0..MUTANTS {
        let (fate, detail) = fate(number, folder.path());
        if fate == Fate::Missed {
            missed.push(number);
        }
        println!("{number} {fate:?} {detail}");
        *counts.entry(fate).or_insert(0) += 1;
    }
    println!("{counts:?}");
    assert!(missed.is_empty(), "{counts:?}, not noticed: {missed:?}");
    let of = |fate| counts.get(&fate).copied().unwrap_or(0);
    // A proof of no meaning that held for most would prove nothing.
    assert!(of(Fate::Refused) > 120, "{counts:?}");
    assert!(of(Fate::Failed) > 5, "{counts:?}");
    assert!(of(Fate::NoMeaning) < 50, "{counts:?}");
}
