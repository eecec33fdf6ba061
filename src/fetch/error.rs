//! What can go wrong while files are fetched.
//!
//! What a server says that contradicts itself or the commit is [`Class::Unsafe`]; what a later attempt may mend is [`Class::Io`].

use crate::error::{Class, Diagnostic};
use crate::source::hub::Pinned;

/// Why a fetch stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// An endpoint that is no address.
    #[error("the endpoint `{found}` is not an address: expected `https://HOST`")]
    Endpoint {
        /// What was given.
        found: String,
    },
    /// A token that would be readable on its way.
    #[error("the token would be sent without encryption to `{origin}`")]
    PlainToken {
        /// Where to.
        origin: String,
    },
    /// A branch or tag, and what it means today.
    #[error("`{revision}` is a branch, a tag or an abbreviation: today it means commit `{}`", pinned.commit())]
    Resolved {
        /// What was given.
        revision: String,
        /// What it means.
        pinned: Pinned,
    },
    /// The connection could not be made, or broke.
    #[error("no answer from `{origin}`: {detail}")]
    Network {
        /// The server.
        origin: String,
        /// What happened.
        detail: String,
    },
    /// A server that does not prove to be the one that was asked.
    #[error("the certificate of `{origin}` is not accepted: {detail}; trusted are {trusted}")]
    Certificate {
        /// The server.
        origin: String,
        /// Why.
        detail: String,
        /// Whose certificates are accepted.
        trusted: String,
        /// Whether another authority could be the answer.
        unknown_authority: bool,
    },
    /// A file of authorities that cannot be used.
    #[error("expected PEM certificates (`-----BEGIN CERTIFICATE-----`), found {found}")]
    Authorities {
        /// What is there.
        found: String,
    },
    /// The server took too long.
    #[error("`{origin}` took too long: {detail}")]
    Timeout {
        /// The server.
        origin: String,
        /// Which time ran out.
        detail: String,
    },
    /// An answer that is no success.
    #[error("`{origin}` answered {status} for `{path}`")]
    Status {
        /// The server.
        origin: String,
        /// The path that was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("`{origin}` redirects to `{to}`, {reason}")]
    Redirect {
        /// The server.
        origin: String,
        /// Where to.
        to: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// More than was announced or than is reasonable.
    #[error("`{origin}` sends more than the {limit} bytes expected")]
    TooLong {
        /// The server.
        origin: String,
        /// Bytes expected.
        limit: u64,
    },
    /// The hub's description of the repository is not understood.
    #[error("the hub's list of files is malformed: {detail}")]
    Listing {
        /// What is wrong.
        detail: String,
    },
    /// Another commit than the one asked for.
    #[error("asked for commit `{expected}`, the server gives `{found}`")]
    Commit {
        /// The commit asked for.
        expected: String,
        /// The one given.
        found: String,
    },
    /// A file of another size than the hub's list says.
    #[error("expected {expected} bytes, the server announces {found}")]
    Size {
        /// Size in the list.
        expected: u64,
        /// Size in the answer.
        found: String,
    },
    /// A file with other bytes than the hub's list says.
    #[error("expected {kind} `{expected}`, found `{found}`")]
    Digest {
        /// The kind of digest.
        kind: &'static str,
        /// The digest in the list.
        expected: String,
        /// That of the bytes or of the answer.
        found: String,
    },
    /// The answer ended early.
    #[error("received {received} of {expected} bytes")]
    Truncated {
        /// Bytes received.
        received: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// Files that are too large together.
    #[error("the files have {found} bytes together, expected at most {limit}")]
    Total {
        /// Their sizes together.
        found: u64,
        /// The cap.
        limit: u64,
    },
    /// There are only pickles.
    #[error(
        "the repository has its weights only as pickles ({count} files), which can run code when they are loaded"
    )]
    OnlyPickles {
        /// How many.
        count: usize,
    },
    /// There is nothing that a conversion could use.
    #[error("the repository has no file that would be fetched")]
    Nothing,
    /// Another process fetches the same.
    #[error("another process is fetching this")]
    Busy,
}

impl FetchError {
    /// Whether the same request may succeed in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            FetchError::Network { .. }
            | FetchError::Timeout { .. }
            | FetchError::Truncated { .. } => true,
            FetchError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            FetchError::Endpoint { .. }
            | FetchError::PlainToken { .. }
            | FetchError::Certificate { .. }
            | FetchError::Authorities { .. }
            | FetchError::Resolved { .. }
            | FetchError::Redirect { .. }
            | FetchError::TooLong { .. }
            | FetchError::Listing { .. }
            | FetchError::Commit { .. }
            | FetchError::Size { .. }
            | FetchError::Digest { .. }
            | FetchError::Total { .. }
            | FetchError::OnlyPickles { .. }
            | FetchError::Nothing
            | FetchError::Busy => false,
        }
    }
}

impl Diagnostic for FetchError {
    fn class(&self) -> Class {
        match self {
            FetchError::Endpoint { .. } | FetchError::Resolved { .. } => Class::Usage,
            FetchError::Network { .. }
            | FetchError::Timeout { .. }
            | FetchError::Status { .. }
            | FetchError::Truncated { .. }
            | FetchError::Busy => Class::Io,
            FetchError::Listing { .. } | FetchError::Nothing | FetchError::Authorities { .. } => {
                Class::Invalid
            }
            FetchError::PlainToken { .. }
            | FetchError::Certificate { .. }
            | FetchError::Redirect { .. }
            | FetchError::TooLong { .. }
            | FetchError::Commit { .. }
            | FetchError::Size { .. }
            | FetchError::Digest { .. }
            | FetchError::Total { .. }
            | FetchError::OnlyPickles { .. } => Class::Unsafe,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            FetchError::Endpoint { .. } => "bad_endpoint",
            FetchError::PlainToken { .. } => "token_unprotected",
            FetchError::Certificate { .. } => "bad_certificate",
            FetchError::Authorities { .. } => "bad_authorities",
            FetchError::Resolved { .. } => "unpinned_revision",
            FetchError::Network { .. } | FetchError::Truncated { .. } => "network",
            FetchError::Timeout { .. } => "timeout",
            FetchError::Status { .. } => "http_status",
            FetchError::Redirect { .. } => "bad_redirect",
            FetchError::TooLong { .. } | FetchError::Size { .. } => "size_mismatch",
            FetchError::Listing { .. } => "bad_listing",
            FetchError::Commit { .. } => "commit_mismatch",
            FetchError::Digest { .. } => "digest_mismatch",
            FetchError::Total { .. } => "too_large",
            FetchError::OnlyPickles { .. } => "unsafe_format",
            FetchError::Nothing => "missing_file",
            FetchError::Busy => "busy",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            FetchError::Endpoint { .. } => "set `HF_ENDPOINT`, or leave it unset".into(),
            FetchError::PlainToken { .. } => {
                "use an `https` endpoint, or unset `HF_TOKEN` for public models".into()
            }
            FetchError::Certificate { unknown_authority: true, .. } => {
                "if a proxy of your own network answers, name its authority with `--ca-file FILE` or `SSL_CERT_FILE`; otherwise do not go on"
                    .into()
            }
            FetchError::Certificate { .. } => {
                "somebody else answers, or the server is not set up well: check `HF_ENDPOINT` and the clock".into()
            }
            FetchError::Authorities { .. } => {
                "name a file of certificates of authorities in PEM with `--ca-file` or `SSL_CERT_FILE`, or unset it".into()
            }
            FetchError::Resolved { pinned, .. } => {
                format!("if that is the one you want: `distill-convert fetch {pinned} -o FOLDER`")
            }
            FetchError::Network { .. }
            | FetchError::Timeout { .. }
            | FetchError::Truncated { .. } => {
                "run the command again: what has arrived is kept, and the rest is fetched".into()
            }
            FetchError::Status { status: 401 | 403, .. } => {
                "the repository may be private or gated: set `HF_TOKEN` to a token that may read it"
                    .into()
            }
            FetchError::Status { status: 404, .. } => {
                "check the names of repository and commit; a private repository needs `HF_TOKEN`"
                    .into()
            }
            FetchError::Status { .. } => "run the command again later".into(),
            FetchError::Redirect { .. }
            | FetchError::TooLong { .. }
            | FetchError::Commit { .. }
            | FetchError::Size { .. }
            | FetchError::Digest { .. } => {
                "the server, or something on the way, gives other bytes than the commit has: do not use them"
                    .into()
            }
            FetchError::Listing { .. } => "check that `HF_ENDPOINT` is a hub".into(),
            FetchError::Total { .. } => crate::limits::READ_BYTES.hint(),
            FetchError::OnlyPickles { .. } => {
                "`--allow-pickle` fetches them; `distill-convert import` reads them without running them"
                    .into()
            }
            FetchError::Nothing => "a model has `config.json` and safetensors".into(),
            FetchError::Busy => "wait for it, or end it".into(),
        })
    }
}
