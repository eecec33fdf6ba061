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
    /// A file that is stated twice.
    #[error("the statement names `{name}` twice")]
    Twice {
        /// The file.
        name: String,
    },
    /// A file without the digest that is compared, or with others.
    #[error("the statement does not give SHA-256, and nothing else, as the digest of `{name}`")]
    Digest {
        /// The file.
        name: String,
    },
    /// Something that was used, but is neither a file nor a commit.
    #[error(
        "the statement's dependency `{name}` is neither a file with size and SHA-256 nor a commit of a repository"
    )]
    Dependency {
        /// Its name or address.
        name: String,
    },
    /// Not one verification.
    #[error("the statement has {found} byproducts, expected one: the verification")]
    Byproducts {
        /// How many there are.
        found: usize,
    },
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
    /// A signature that is too short or too long to be one.
    #[error(
        "a signature has {found} bytes, and one of Ed25519 has 64: it is damaged, or of another kind"
    )]
    SignatureLength {
        /// Its bytes.
        found: usize,
    },
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
            | ProvenanceError::Twice { .. }
            | ProvenanceError::Digest { .. }
            | ProvenanceError::Dependency { .. }
            | ProvenanceError::Byproducts { .. }
            | ProvenanceError::Path { .. }
            | ProvenanceError::Size { .. }
            | ProvenanceError::Base64 { .. }
            | ProvenanceError::Unsigned
            | ProvenanceError::SignatureLength { .. }
            | ProvenanceError::Signature { .. } => Class::Unsafe,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ProvenanceError::Key { .. } => "bad_key",
            ProvenanceError::Unsigned
            | ProvenanceError::SignatureLength { .. }
            | ProvenanceError::Signature { .. } => "bad_signature",
            ProvenanceError::Syntax { .. }
            | ProvenanceError::Kind { .. }
            | ProvenanceError::NoSubject
            | ProvenanceError::Twice { .. }
            | ProvenanceError::Digest { .. }
            | ProvenanceError::Dependency { .. }
            | ProvenanceError::Byproducts { .. }
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
            ProvenanceError::Unsigned
            | ProvenanceError::SignatureLength { .. }
            | ProvenanceError::Signature { .. } => {
                "do not trust what the statement says".into()
            }
            ProvenanceError::Syntax { .. }
            | ProvenanceError::Kind { .. }
            | ProvenanceError::NoSubject
            | ProvenanceError::Twice { .. }
            | ProvenanceError::Digest { .. }
            | ProvenanceError::Dependency { .. }
            | ProvenanceError::Byproducts { .. }
            | ProvenanceError::Path { .. }
            | ProvenanceError::Base64 { .. } => {
                "convert again with `--provenance auto` to get a statement of this version".into()
            }
        })
    }
}
