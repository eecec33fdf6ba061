//! What can be wrong with a statement, a signature or a key.

use crate::error::{Class, Diagnostic};

/// Why a statement cannot be used, or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// Not the JSON that is expected.
    #[error("not a statement that this version understands: {detail}")]
    Syntax {
        /// What the parser said.
        detail: String,
    },
    /// Another type of statement.
    #[error("{what}: expected `{expected}`, found `{found}`")]
    Kind {
        /// Which type.
        what: &'static str,
        /// The one that is known.
        expected: &'static str,
        /// The one that stands there.
        found: String,
    },
    /// A statement about nothing.
    #[error("the statement names no file")]
    NoSubject,
    /// A path out of the artifact.
    #[error("the statement names `{path}`, which is no path inside the artifact's folder")]
    Path {
        /// The path.
        path: String,
    },
    /// Too large to be a statement or a key.
    #[error("the file has more than {cap} bytes")]
    Size {
        /// The cap.
        cap: u64,
    },
    /// A payload or signature that is not base64.
    #[error("the envelope's {part} is not base64")]
    Base64 {
        /// Which part.
        part: &'static str,
    },
    /// A key that is none.
    #[error("not an Ed25519 {kind} key: expected {expected}")]
    Key {
        /// `private` or `public`.
        kind: &'static str,
        /// What is read.
        expected: &'static str,
    },
    /// A bare statement where a signed one is expected.
    #[error("the statement is not signed")]
    Unsigned,
    /// No signature of the key.
    #[error("none of the {count} signatures is by the key `{keyid}`")]
    Signature {
        /// How many there are.
        count: usize,
        /// The key's name: SHA-256 of the public key.
        keyid: String,
    },
}

impl ProvenanceError {
    pub(super) fn syntax(error: &dyn std::fmt::Display) -> Self {
        ProvenanceError::Syntax {
            detail: error.to_string(),
        }
    }
}

impl Diagnostic for ProvenanceError {
    fn class(&self) -> Class {
        match self {
            ProvenanceError::Key { .. } => Class::Usage,
            ProvenanceError::Syntax { .. }
            | ProvenanceError::Kind { .. }
            | ProvenanceError::NoSubject
            | ProvenanceError::Path { .. }
            | ProvenanceError::Size { .. }
            | ProvenanceError::Base64 { .. }
            | ProvenanceError::Unsigned
            | ProvenanceError::Signature { .. } => Class::Unsafe,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ProvenanceError::Key { .. } => "bad_key",
            ProvenanceError::Unsigned | ProvenanceError::Signature { .. } => "bad_signature",
            ProvenanceError::Syntax { .. }
            | ProvenanceError::Kind { .. }
            | ProvenanceError::NoSubject
            | ProvenanceError::Path { .. }
            | ProvenanceError::Size { .. }
            | ProvenanceError::Base64 { .. } => "bad_statement",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ProvenanceError::Key { .. } => {
                "`openssl genpkey -algorithm ed25519 -out key.pem`, and for the public one `openssl pkey -in key.pem -pubout`".into()
            }
            ProvenanceError::Size { .. } => crate::limits::SIDE_FILE_BYTES.hint(),
            ProvenanceError::Unsigned | ProvenanceError::Signature { .. } => {
                "do not trust what the statement says".into()
            }
            ProvenanceError::Syntax { .. }
            | ProvenanceError::Kind { .. }
            | ProvenanceError::NoSubject
            | ProvenanceError::Path { .. }
            | ProvenanceError::Base64 { .. } => {
                "convert again with `--provenance auto` to get a statement of this version".into()
            }
        })
    }
}
