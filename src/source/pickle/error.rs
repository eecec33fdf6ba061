//! Why a pickle was refused. Whatever the reason, it is unsafe: a pickle that is not understood to its last byte is not used at all.

use crate::error::{Class, Diagnostic};

/// Why a pickle was refused. The place holds the offset of the opcode in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// An opcode that does not build data, or that no checkpoint uses.
    #[error("opcode `{opcode}` is not one that builds plain data{}", asked(name.as_deref(), later.as_ref()))]
    Opcode {
        /// The opcode.
        opcode: String,
        /// What it asks for, if it names something.
        name: Option<String>,
        /// If it names nothing: the next opcode that asks for a name which is not on the list.
        later: Option<Asked>,
    },
    /// A name of something that checkpoints are not made of.
    #[error(
        "opcode `{opcode}` asks for `{name}`, which is not on the list of what a checkpoint is made of"
    )]
    Global {
        /// The opcode.
        opcode: &'static str,
        /// `module.name`.
        name: String,
    },
    /// A call of something that only names a type, or with arguments that do not fit.
    #[error("opcode `{opcode}` applies `{name}` to {found}; expected {expected}")]
    Call {
        /// The opcode.
        opcode: &'static str,
        /// What is called.
        name: String,
        /// The arguments that it takes.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A persistent id that names no storage.
    #[error(
        "opcode `BINPERSID` asks for {found}; expected a storage: `('storage', type, key, device, elements)`"
    )]
    PersistentId {
        /// What was found.
        found: String,
    },
    /// An opcode that needs something else on the stack.
    #[error("opcode `{opcode}` needs {expected}, found {found}")]
    Stack {
        /// The opcode.
        opcode: &'static str,
        /// What it needs.
        expected: &'static str,
        /// What the stack holds.
        found: &'static str,
    },
    /// A memo entry that is not there, or is written twice.
    #[error("opcode `{opcode}`: memo entry {index} {problem}")]
    Memo {
        /// The opcode.
        opcode: &'static str,
        /// The entry.
        index: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key that cannot be one.
    #[error("opcode `{opcode}`: {found} cannot be a key")]
    Key {
        /// The opcode.
        opcode: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// The same key twice.
    #[error("opcode `{opcode}`: key `{key}` stands twice")]
    DuplicateKey {
        /// The opcode.
        opcode: &'static str,
        /// The key.
        key: String,
    },
    /// The bytes end inside an opcode.
    #[error("the pickle ends within opcode `{opcode}`")]
    Truncated {
        /// The opcode.
        opcode: &'static str,
    },
    /// The first opcode is not the protocol, or a protocol that is not read.
    #[error("expected a pickle of protocol 2 to 5, found {found}")]
    Protocol {
        /// What was found.
        found: String,
    },
    /// Text that is not UTF-8, or a name without end.
    #[error("opcode `{opcode}` holds {problem}")]
    Text {
        /// The opcode.
        opcode: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// More of something than any real checkpoint has.
    #[error("the pickle holds more {what} than {cap}")]
    Limit {
        /// What.
        what: &'static str,
        /// The cap.
        cap: String,
    },
    /// Bytes after the end.
    #[error("{count} bytes follow the end of the pickle")]
    Trailing {
        /// How many.
        count: u64,
    },
}

/// A name that a pickle asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The opcode that asks.
    pub opcode: &'static str,
    /// Its offset in the file.
    pub offset: u64,
    /// `module.name`.
    pub name: String,
}

fn asked(name: Option<&str>, later: Option<&Asked>) -> String {
    match (name, later) {
        (Some(name), _) => format!("; it asks for `{name}`"),
        (
            None,
            Some(Asked {
                opcode,
                offset,
                name,
            }),
        ) => {
            format!("; opcode `{opcode}` at byte {offset} asks for `{name}`")
        }
        (None, None) => String::new(),
    }
}

impl Diagnostic for PickleError {
    fn class(&self) -> Class {
        Class::Unsafe
    }

    fn code(&self) -> &'static str {
        "unsafe_pickle"
    }

    fn hint(&self) -> Option<String> {
        Some(
            "nothing was executed. If you trust where the file comes from, save its tensors alone: \
             `torch.save(model.state_dict(), FILE)`, or `safetensors.torch.save_file`, in Python"
                .to_owned(),
        )
    }
}
