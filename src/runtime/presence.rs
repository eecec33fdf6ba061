//! Which engines this build and this machine have, and how to get what is missing.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Whether an engine can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Presence {
    /// It can.
    Here {
        /// Its version.
        version: String,
        /// Its shared library, if it has one.
        path: Option<PathBuf>,
    },
    /// It cannot.
    Absent {
        /// Why.
        reason: String,
    },
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Name.
    pub name: &'static str,
    /// Whether it can be used.
    #[serde(flatten)]
    pub presence: Presence,
    /// How to get it.
    pub how_to_get: Option<String>,
}

/// Whether ONNX Runtime's sums of 8-bit products may saturate on this processor: on x86 without VNNI instructions, it adds pairs of products of
/// `uint8` and `int8` in `int16`, where 2 · 255 · 127 has no room.
#[must_use]
pub fn saturates_eight_bits() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has_room = std::arch::is_x86_feature_detected!("avx512vnni")
        || std::arch::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    let has_room = true;
    !has_room
}

/// Every engine, with `library` as the explicit path of ONNX Runtime.
#[must_use]
pub fn engines(library: Option<&Path>) -> Vec<EngineInfo> {
    let built_in = |version: &str| Presence::Here {
        version: version.to_owned(),
        path: None,
    };
    #[cfg(feature = "tract")]
    let tract = built_in(super::tract::VERSION);
    #[cfg(not(feature = "tract"))]
    let tract = Presence::Absent {
        reason: "built without the feature `tract`".into(),
    };
    let folder = super::library::folders()
        .last()
        .map(|f| f.display().to_string())
        .unwrap_or_default();
    vec![
        EngineInfo {
            name: "interpreter",
            presence: built_in(env!("CARGO_PKG_VERSION")),
            how_to_get: None,
        },
        EngineInfo {
            name: "tract",
            presence: tract,
            how_to_get: Some("build with the feature `tract` (a default)".into()),
        },
        EngineInfo {
            name: "ONNX Runtime",
            presence: onnxruntime(library),
            how_to_get: Some(format!(
                "run `scripts/setup-onnxruntime` from the project's sources, which puts the pinned library into {folder}, \
                 or set ORT_DYLIB_PATH to a library that is already there"
            )),
        },
    ]
}

fn onnxruntime(library: Option<&Path>) -> Presence {
    let found = match super::library::find(library) {
        Ok(found) => found,
        Err(error) => {
            return Presence::Absent {
                reason: error.to_string(),
            };
        }
    };
    #[cfg(feature = "ort")]
    match super::ort::load(&found.path) {
        Ok(version) => Presence::Here {
            version,
            path: Some(found.path),
        },
        Err(error) => Presence::Absent {
            reason: error.to_string(),
        },
    }
    #[cfg(not(feature = "ort"))]
    Presence::Absent {
        reason: format!(
            "built without the feature `ort` (found `{}`)",
            found.path.display()
        ),
    }
}
