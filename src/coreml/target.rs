//! Deployment targets: which operating system an artifact is for, and the specification version and opset that follow from it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Class, Diagnostic};

/// The oldest system that an artifact must run on. Order: by specification version, iOS before macOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DeploymentTarget {
    /// iOS 15 (2021): the first with ML programs.
    IOS15,
    /// macOS 12 (2021).
    MacOS12,
    /// iOS 16 (2022): half-precision inputs and outputs.
    IOS16,
    /// macOS 13 (2022).
    MacOS13,
    /// iOS 17 (2023): parameters of mixed precision. The default.
    #[default]
    IOS17,
    /// macOS 14 (2023).
    MacOS14,
    /// iOS 18 (2024): several inputs with enumerated shapes.
    IOS18,
    /// macOS 15 (2024).
    MacOS15,
    /// iOS 26 (2025).
    IOS26,
    /// macOS 26 (2025).
    MacOS26,
}

/// One row per target: its name, and its generation.
const TABLE: [(DeploymentTarget, &str, Opset); 10] = [
    (DeploymentTarget::IOS15, "iOS15", Opset::CoreML5),
    (DeploymentTarget::MacOS12, "macOS12", Opset::CoreML5),
    (DeploymentTarget::IOS16, "iOS16", Opset::CoreML6),
    (DeploymentTarget::MacOS13, "macOS13", Opset::CoreML6),
    (DeploymentTarget::IOS17, "iOS17", Opset::CoreML7),
    (DeploymentTarget::MacOS14, "macOS14", Opset::CoreML7),
    (DeploymentTarget::IOS18, "iOS18", Opset::CoreML8),
    (DeploymentTarget::MacOS15, "macOS15", Opset::CoreML8),
    (DeploymentTarget::IOS26, "iOS26", Opset::CoreML9),
    (DeploymentTarget::MacOS26, "macOS26", Opset::CoreML9),
];

impl DeploymentTarget {
    /// Every target, oldest first.
    pub fn all() -> impl Iterator<Item = DeploymentTarget> {
        TABLE.iter().map(|row| row.0)
    }

    /// The name on the command line: `iOS17`.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("", |row| row.1)
    }

    /// The opset of the program.
    #[must_use]
    pub fn opset(self) -> Opset {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or(Opset::CoreML5, |row| row.2)
    }

    /// The specification version of the model.
    #[must_use]
    pub fn spec_version(self) -> i32 {
        self.opset().spec_version()
    }

    /// The oldest target of the same system that has `opset`.
    #[must_use]
    pub fn with_opset(self, opset: Opset) -> DeploymentTarget {
        let system = |name: &str| name.starts_with("mac");
        TABLE
            .iter()
            .find(|row| row.2 == opset && system(row.1) == system(self.name()))
            .map_or(self, |row| row.0)
    }
}

impl fmt::Display for DeploymentTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeploymentTarget {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        TABLE
            .iter()
            .find(|row| row.1.eq_ignore_ascii_case(text))
            .map(|row| row.0)
            .ok_or_else(|| UnknownTarget {
                found: text.to_owned(),
            })
    }
}

/// A deployment target that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown deployment target `{found}`")]
pub struct UnknownTarget {
    /// What was asked for.
    pub found: String,
}

impl Diagnostic for UnknownTarget {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn code(&self) -> &'static str {
        "unknown_deployment_target"
    }

    fn hint(&self) -> Option<String> {
        let names: Vec<&str> = TABLE.iter().map(|row| row.1).collect();
        Some(format!("known targets: {}", names.join(", ")))
    }
}

/// A generation of the operation set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opset {
    /// Specification 6.
    CoreML5,
    /// Specification 7.
    CoreML6,
    /// Specification 8.
    CoreML7,
    /// Specification 9.
    CoreML8,
    /// Specification 10.
    CoreML9,
}

impl Opset {
    /// Every opset, oldest first.
    pub const ALL: [Opset; 5] = [
        Opset::CoreML5,
        Opset::CoreML6,
        Opset::CoreML7,
        Opset::CoreML8,
        Opset::CoreML9,
    ];

    /// The name in the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Opset::CoreML5 => "CoreML5",
            Opset::CoreML6 => "CoreML6",
            Opset::CoreML7 => "CoreML7",
            Opset::CoreML8 => "CoreML8",
            Opset::CoreML9 => "CoreML9",
        }
    }

    /// The least specification version that has it.
    #[must_use]
    pub fn spec_version(self) -> i32 {
        match self {
            Opset::CoreML5 => 6,
            Opset::CoreML6 => 7,
            Opset::CoreML7 => 8,
            Opset::CoreML8 => 9,
            Opset::CoreML9 => 10,
        }
    }

    /// The opset of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Opset> {
        Opset::ALL.into_iter().find(|o| o.name() == name)
    }
}

impl serde::Serialize for Opset {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_unknown_ones_list_the_known() {
        for target in DeploymentTarget::all() {
            assert_eq!(target.name().parse(), Ok(target));
        }
        assert_eq!("ios17".parse(), Ok(DeploymentTarget::IOS17));
        let error = "iOS14".parse::<DeploymentTarget>().unwrap_err();
        assert_eq!(error.to_string(), "unknown deployment target `iOS14`");
        assert!(error.hint().is_some_and(|h| h.contains("macOS15")));
    }

    #[test]
    fn a_newer_opset_keeps_the_system() {
        let raised = |t: DeploymentTarget| t.with_opset(Opset::CoreML8);
        assert_eq!(raised(DeploymentTarget::MacOS12), DeploymentTarget::MacOS15);
        assert_eq!(raised(DeploymentTarget::IOS15), DeploymentTarget::IOS18);
    }
}
