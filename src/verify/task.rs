//! Task files: which classes a model tells apart, and the cases to ask it. Owns parsing and tokenising; running is [`super::preservation`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::VerifyError;
use crate::error::{Context, Result, io_error};
use crate::limits;
use crate::tensor::num;

/// What a class's index means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassKind {
    /// A token of the vocabulary, read from `logits [batch, seq, vocab]` at the last real token.
    TokenId,
    /// An entry of `logits [batch, labels]`.
    LabelIndex,
}

impl ClassKind {
    /// The key in task files.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            ClassKind::TokenId => "token_id",
            ClassKind::LabelIndex => "label_index",
        }
    }
}

/// A class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Name.
    pub name: String,
    /// Token id or label index.
    pub index: u64,
}

/// A case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCase {
    /// Unique id.
    pub id: String,
    /// The text, if it was given as text.
    pub text: Option<String>,
    /// Token ids.
    pub ids: Vec<i64>,
    /// Index into the classes of the right answer, if known.
    pub expected: Option<usize>,
}

/// Limits of preservation.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskGates {
    /// Least share of cases with the same answer; and every other answer must be a near tie of the source.
    pub exact_match_rate: f64,
    /// Most mean KL(source ‖ artifact) of the class distribution, in nats.
    pub mean_kl_divergence: f64,
    /// Most KL(source ‖ artifact) of any case, in nats.
    pub max_kl_divergence: f64,
    /// A flip is a near tie when the source's two best classes are at most this far apart in probability.
    pub near_tie_margin: f64,
    /// Least share of right answers of the artifact.
    pub accuracy: Option<f64>,
}

impl Default for TaskGates {
    fn default() -> Self {
        TaskGates {
            exact_match_rate: 0.99,
            mean_kl_divergence: 1e-3,
            max_kl_divergence: 1e-2,
            near_tie_margin: 0.02,
            accuracy: None,
        }
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Name.
    pub name: String,
    /// What the classes' indices mean.
    pub kind: ClassKind,
    /// Classes, in order.
    pub classes: Vec<Class>,
    /// Cases, in order.
    pub cases: Vec<TaskCase>,
    /// Limits.
    pub gates: TaskGates,
    /// SHA-256 of the tokenizer file, if one was used.
    pub tokenizer_sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    tokenizer: Option<String>,
    add_special_tokens: Option<bool>,
    #[serde(default)]
    classes: Vec<FileClass>,
    #[serde(default)]
    cases: Vec<FileCase>,
    #[serde(default)]
    gates: FileGates,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileClass {
    name: String,
    token_id: Option<u64>,
    label_index: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCase {
    id: String,
    text: Option<String>,
    input_ids: Option<Vec<i64>>,
    expected: Option<String>,
}

// A gate that nothing evaluates is an unknown key.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGates {
    exact_match_rate: Option<f64>,
    mean_kl_divergence: Option<f64>,
    max_kl_divergence: Option<f64>,
    near_tie_margin: Option<f64>,
    accuracy: Option<f64>,
}

impl Task {
    /// Reads a task file and tokenises its texts; the tokenizer's path is relative to the file.
    ///
    /// # Errors
    /// When a key is unknown, classes or cases contradict themselves, a gate could not be evaluated, or a text cannot be tokenised.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Task::parse(&text, folder).at_file(path)
    }

    /// The tokenizer file that a task file names, without reading it.
    ///
    /// # Errors
    /// When the task file cannot be read.
    pub fn tokenizer_file(path: &Path) -> Result<Option<PathBuf>> {
        let file = parse_file(&read_text(path)?).at_file(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Ok(file.tokenizer.map(|name| folder.join(name)))
    }

    /// As [`Task::load`], from the file's text and folder.
    ///
    /// # Errors
    /// As [`Task::load`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let file = parse_file(text)?;
        if file.cases.len() > limits::TASK_CASES.count() {
            return Err(content(format!(
                "{} cases, expected at most {}",
                file.cases.len(),
                limits::TASK_CASES
            ))
            .into());
        }
        let (kind, classes) = classes(&file.classes)?;
        let gates = gates(&file)?;
        let mut tokenizer = TextCases::new(&file, folder)?;
        let mut ids = BTreeSet::new();
        let mut cases = Vec::with_capacity(file.cases.len());
        for case in &file.cases {
            if !ids.insert(case.id.as_str()) {
                return Err(content(format!("case `{}` is there twice", case.id)).into());
            }
            let expected = match &case.expected {
                None => None,
                Some(name) => Some(classes.iter().position(|c| c.name == *name).ok_or_else(
                    || {
                        content(format!(
                            "case `{}` expects `{name}`, which is no class",
                            case.id
                        ))
                    },
                )?),
            };
            let tokens = match (&case.text, &case.input_ids) {
                (Some(text), None) => tokenizer.encode(&case.id, text)?,
                (None, Some(ids)) => ids.clone(),
                (Some(_), Some(_)) | (None, None) => {
                    return Err(content(format!(
                        "case `{}` needs either `text` or `input_ids`",
                        case.id
                    ))
                    .into());
                }
            };
            if tokens.is_empty() {
                return Err(content(format!("case `{}` has no token", case.id)).into());
            }
            cases.push(TaskCase {
                id: case.id.clone(),
                text: case.text.clone(),
                ids: tokens,
                expected,
            });
        }
        Ok(Task {
            name: file.name,
            kind,
            classes,
            cases,
            gates,
            tokenizer_sha256: tokenizer.sha256,
        })
    }
}

fn parse_file(text: &str) -> Result<File, VerifyError> {
    toml::from_str(text).map_err(|e| VerifyError::TaskSyntax {
        message: e.to_string().trim_end().to_owned(),
    })
}

fn content(message: String) -> VerifyError {
    VerifyError::TaskContent { message }
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes)
        .map_err(|e| {
            content(format!(
                "not UTF-8 at byte {}",
                e.utf8_error().valid_up_to()
            ))
        })
        .at_file(path)
}

pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(io_error("open", path))?;
    let mut bytes = Vec::new();
    file.take(limits::SIDE_FILE_BYTES.get() + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if num::u64_of(bytes.len()) > limits::SIDE_FILE_BYTES.get() {
        return Err(content(format!(
            "larger than {} bytes",
            limits::SIDE_FILE_BYTES
        )))
        .at_file(path);
    }
    Ok(bytes)
}

fn classes(list: &[FileClass]) -> Result<(ClassKind, Vec<Class>), VerifyError> {
    if list.len() < 2 {
        return Err(content(format!(
            "{} classes, expected at least 2",
            list.len()
        )));
    }
    let mut kinds = BTreeMap::new();
    let mut classes: Vec<Class> = Vec::with_capacity(list.len());
    for class in list {
        let (kind, index) = match (class.token_id, class.label_index) {
            (Some(id), None) => (ClassKind::TokenId, id),
            (None, Some(index)) => (ClassKind::LabelIndex, index),
            (Some(_), Some(_)) | (None, None) => {
                return Err(content(format!(
                    "class `{}` needs either `token_id` or `label_index`",
                    class.name
                )));
            }
        };
        kinds.insert(kind.key(), kind);
        for other in &classes {
            if other.name == class.name || other.index == index {
                return Err(content(format!(
                    "classes `{}` and `{}` have the same name or index",
                    other.name, class.name
                )));
            }
        }
        classes.push(Class {
            name: class.name.clone(),
            index,
        });
    }
    let mut kinds = kinds.into_values();
    match (kinds.next(), kinds.next()) {
        (Some(kind), None) => Ok((kind, classes)),
        (_, _) => Err(content(
            "some classes have a `token_id` and others a `label_index`".into(),
        )),
    }
}

fn gates(file: &File) -> Result<TaskGates, VerifyError> {
    let (given, default) = (&file.gates, TaskGates::default());
    let unevaluated = |gate: &str, reason| VerifyError::UnevaluatedGate {
        gate: gate.to_owned(),
        reason,
    };
    for (gate, value, most) in [
        ("exact_match_rate", given.exact_match_rate, 1.0),
        ("mean_kl_divergence", given.mean_kl_divergence, f64::MAX),
        ("max_kl_divergence", given.max_kl_divergence, f64::MAX),
        ("near_tie_margin", given.near_tie_margin, 1.0),
        ("accuracy", given.accuracy, 1.0),
    ] {
        if value.is_some_and(|v| !(0.0..=most).contains(&v)) {
            return Err(unevaluated(gate, "it is outside its range"));
        }
    }
    if given.accuracy.is_some() && file.cases.iter().any(|c| c.expected.is_none()) {
        return Err(unevaluated("accuracy", "some cases have no `expected`"));
    }
    Ok(TaskGates {
        exact_match_rate: given.exact_match_rate.unwrap_or(default.exact_match_rate),
        mean_kl_divergence: given
            .mean_kl_divergence
            .unwrap_or(default.mean_kl_divergence),
        max_kl_divergence: given.max_kl_divergence.unwrap_or(default.max_kl_divergence),
        near_tie_margin: given.near_tie_margin.unwrap_or(default.near_tie_margin),
        accuracy: given.accuracy,
    })
}

/// The tokenizer of a task; read only when a case is text.
struct TextCases {
    path: Option<PathBuf>,
    special: bool,
    sha256: Option<String>,
    #[cfg(feature = "tokenizers")]
    loaded: Option<tokenizers::Tokenizer>,
}

impl TextCases {
    fn new(file: &File, folder: &Path) -> Result<Self> {
        let path = file.tokenizer.as_ref().map(|t| folder.join(t));
        // A tokenizer that is named has to be there, even when every case has ids.
        if let Some(path) = &path {
            read_bytes(path)?;
        }
        Ok(TextCases {
            path,
            special: file.add_special_tokens.unwrap_or(true),
            sha256: None,
            #[cfg(feature = "tokenizers")]
            loaded: None,
        })
    }

    #[cfg(feature = "tokenizers")]
    fn encode(&mut self, case: &str, text: &str) -> Result<Vec<i64>> {
        use sha2::{Digest, Sha256};
        let Some(path) = &self.path else {
            return Err(VerifyError::NoTokenizer {
                case: case.to_owned(),
                reason: "the task names no tokenizer",
            }
            .into());
        };
        let tokenizer = match &mut self.loaded {
            Some(tokenizer) => tokenizer,
            none => {
                let bytes = read_bytes(path)?;
                let load = || {
                    let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)?;
                    // A text is asked as it is: never cut, and padded by nobody but verification itself, which knows where it ends.
                    tokenizer.with_padding(None);
                    tokenizer.with_truncation(None)?;
                    Ok(tokenizer)
                };
                let tokenizer = contained(load).at_file(path)?;
                let digest = Sha256::digest(&bytes);
                self.sha256 = Some(digest.iter().map(|b| format!("{b:02x}")).collect());
                none.insert(tokenizer)
            }
        };
        let encoding = contained(|| tokenizer.encode(text, self.special)).at_file(path)?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    #[cfg(not(feature = "tokenizers"))]
    fn encode(&mut self, case: &str, _text: &str) -> Result<Vec<i64>> {
        let _ = (&self.path, self.special, &mut self.sha256);
        Err(VerifyError::NoTokenizer {
            case: case.to_owned(),
            reason: "this build has no tokenizers",
        }
        .into())
    }
}

/// Runs the library, which panics on some files: that is an error here, like its own ones.
#[cfg(feature = "tokenizers")]
fn contained<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, VerifyError> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let message = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its file makes the library `tokenizers` fail".to_owned(),
    };
    Err(VerifyError::Tokenizer { message })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: &str =
        "[[classes]]\nname = \"YES\"\ntoken_id = 3\n[[classes]]\nname = \"NO\"\ntoken_id = 4\n";

    fn parse(text: &str) -> Result<Task> {
        Task::parse(text, Path::new("/nonexistent"))
    }

    fn refusal(text: &str) -> (&'static str, String) {
        let error = parse(text).unwrap_err();
        (error.code(), error.to_string())
    }

    #[test]
    fn a_task_is_read() {
        let task = parse(&format!(
            "name = \"t\"\n{CLASSES}[[cases]]\nid = \"a\"\ninput_ids = [1, 2]\nexpected = \"NO\"\n[gates]\naccuracy = 1.0\nexact_match_rate = 0.0\n"
        ))
        .unwrap();
        assert_eq!(task.kind, ClassKind::TokenId);
        assert_eq!(task.cases[0].expected, Some(1));
        assert_eq!(task.gates.accuracy, Some(1.0));
        assert_eq!(task.gates.exact_match_rate, 0.0);
        assert_eq!(task.gates.mean_kl_divergence, 1e-3);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let with = |rest: &str| refusal(&format!("name = \"t\"\n{CLASSES}{rest}"));
        let case = "[[cases]]\nid = \"a\"\ninput_ids = [1]\n";
        assert_eq!(with("[gates]\nanimal = 1\n").0, "bad_task");
        assert_eq!(
            with("[gates]\nexact_match_rate = nan\n").0,
            "unevaluated_gate"
        );
        assert_eq!(
            with("[gates]\nexact_match_rate = 1.5\n").0,
            "unevaluated_gate"
        );
        assert_eq!(
            with(&format!("{case}[gates]\naccuracy = 0.5\n")).0,
            "unevaluated_gate"
        );
        assert!(
            with("[[cases]]\nid = \"a\"\ninput_ids = [1]\nanswer = \"YES\"\n")
                .1
                .contains("answer")
        );
        assert!(
            with("[[cases]]\nid = \"a\"\n")
                .1
                .contains("either `text` or `input_ids`")
        );
        assert!(
            with("[[cases]]\nid = \"a\"\ninput_ids = []\n")
                .1
                .contains("no token")
        );
        assert!(with(&format!("{case}{case}")).1.contains("twice"));
        assert!(
            with("[[cases]]\nid = \"a\"\ninput_ids = [1]\nexpected = \"MAYBE\"\n")
                .1
                .contains("no class")
        );
        assert_eq!(with("[[cases]]\nid = \"a\"\ntext = \"x\"\n").0, "tokenizer");
        assert!(refusal("name = \"t\"\n").1.contains("0 classes"));
        assert!(
            refusal(&format!(
                "name = \"t\"\ntokenizer = \"none.json\"\n{CLASSES}"
            ))
            .1
            .contains("none.json")
        );
        let mixed = "name = \"t\"\n[[classes]]\nname = \"A\"\ntoken_id = 1\n[[classes]]\nname = \"B\"\nlabel_index = 2\n";
        assert!(refusal(mixed).1.contains("others"));
        let same = "name = \"t\"\n[[classes]]\nname = \"A\"\ntoken_id = 1\n[[classes]]\nname = \"B\"\ntoken_id = 1\n";
        assert!(refusal(same).1.contains("same name or index"));
    }
}
