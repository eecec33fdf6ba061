//! Every operator is given inputs of ranks that it may not know: it is read or refused, and never panics.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use distill_convert::onnx::{ReadOptions, read_bytes};

use crate::common::judge;
use crate::common::onnx_file::{Message, value_info};

const MODEL_GRAPH: u64 = 7;
const GRAPH_INPUT: u64 = 11;
const RANKS: Range<usize> = 0..7;

/// A field of a message: number, whole field, and its bytes or its number.
struct Field {
    number: u64,
    whole: Range<usize>,
    bytes: Range<usize>,
    value: u64,
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn fields(bytes: &[u8]) -> Vec<Field> {
    let (mut at, mut out) = (0, Vec::new());
    while at < bytes.len() {
        let start = at;
        let key = varint(bytes, &mut at);
        let mut value = 0;
        let from = match key & 7 {
            0 => {
                value = varint(bytes, &mut at);
                at
            }
            1 => {
                at += 8;
                at
            }
            2 => {
                let len = varint(bytes, &mut at) as usize;
                at += len;
                at - len
            }
            _ => {
                at += 4;
                at
            }
        };
        out.push(Field {
            number: key >> 3,
            whole: start..at,
            bytes: from..at,
            value,
        });
    }
    out
}

fn only(bytes: &[u8], number: u64) -> Option<&[u8]> {
    let found = fields(bytes).into_iter().find(|f| f.number == number)?;
    Some(&bytes[found.bytes])
}

/// Name, element type and sizes of an input that is a tensor; a size that is open is 2.
fn tensor(info: &[u8]) -> Option<(String, i64, Vec<i64>)> {
    let name = String::from_utf8(only(info, 1)?.to_vec()).ok()?;
    let tensor = only(only(info, 2)?, 1)?;
    let dtype = fields(tensor).into_iter().find(|f| f.number == 1)?.value;
    let shape = only(tensor, 2)?;
    let dims = fields(shape).into_iter().map(|dim| {
        let dim = fields(&shape[dim.bytes]).into_iter();
        dim.filter(|f| f.number == 1).map(|f| f.value as i64).next()
    });
    Some((name, dtype as i64, dims.map(|d| d.unwrap_or(2)).collect()))
}

/// The model with each of its inputs at every other rank, the others as they are, and which it was.
fn variants(model: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let graph_at = fields(model).into_iter().find(|f| f.number == MODEL_GRAPH);
    let Some(graph_at) = graph_at else {
        return out;
    };
    let graph = &model[graph_at.bytes];
    for input in fields(graph).iter().filter(|f| f.number == GRAPH_INPUT) {
        let Some((name, dtype, dims)) = tensor(&graph[input.bytes.clone()]) else {
            continue;
        };
        for rank in RANKS.filter(|&r| r != dims.len()) {
            let mut sizes = dims.clone();
            sizes.resize(rank, 1);
            let changed = Message(graph[..input.whole.start].to_vec())
                .message(GRAPH_INPUT, &value_info(&name, dtype, &sizes));
            let changed = [&changed.0[..], &graph[input.whole.end..]].concat();
            let whole =
                Message(model[..graph_at.whole.start].to_vec()).bytes(MODEL_GRAPH, &changed);
            let whole = [&whole.0[..], &model[graph_at.whole.end..]].concat();
            out.push((format!("`{name}` of rank {rank}"), whole));
        }
    }
    out
}

fn models() -> Vec<PathBuf> {
    let root = std::env::var_os("DISTILL_ONNX_NODE_TESTS")
        .expect("DISTILL_ONNX_NODE_TESTS names ONNX's node tests: run scripts/test");
    below(Path::new(&root))
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut out: Vec<_> = entries
        .map(|e| e.unwrap().path().join("model.onnx"))
        .filter(|p| p.is_file())
        .collect();
    out.sort();
    out
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn no_rank_of_an_input_makes_an_operator_panic() {
    let folder = tempfile::tempdir().unwrap();
    judge("contrib_cases.py", &[folder.path()]);
    let mut models = models();
    models.extend(below(&folder.path().join("cases")));
    let (mut read, mut refused, mut panicked) = (0, 0, BTreeSet::new());
    for path in &models {
        let bytes = fs::read(path).unwrap();
        for (what, bytes) in variants(&bytes) {
            let result = catch_unwind(AssertUnwindSafe(|| {
                read_bytes(&bytes, folder.path(), &ReadOptions::default()).is_ok()
            }));
            match result {
                Ok(true) => read += 1,
                Ok(false) => refused += 1,
                Err(_) => {
                    let case = path.parent().unwrap().file_name().unwrap();
                    panicked.insert(format!("{}: {what}", case.to_string_lossy()));
                }
            }
        }
    }
    println!("{} models, {read} read, {refused} refused", models.len());
    assert!(panicked.is_empty(), "{panicked:#?}");
    assert!(models.len() > 1500 && read > 1000 && refused > 10_000);
}
