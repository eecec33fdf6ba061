//! Errors: *what* went wrong is an enum per module, *where* is a [`Place`] that callers fill in on the way up.
//!
//! Owns the class of an error, which gives the exit code. Does not own any message: those live with the module that raises them.

use std::fmt;
use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an error is; gives the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The input is malformed or contradicts itself: exit code 1.
    Invalid,
    /// The input is well-formed, but asks for something this version does not do: exit code 1.
    Unsupported,
    /// The operating system refused: exit code 1.
    Io,
    /// The command line asks for something that makes no sense: exit code 2.
    Usage,
    /// The artifact was written, but its verification failed or could not run: exit code 3.
    Verification,
    /// The input was refused because using it would be unsafe: exit code 4.
    Unsafe,
}

impl Class {
    /// The exit code of the command line for this class.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Invalid | Class::Unsupported | Class::Io => 1,
            Class::Usage => 2,
            Class::Verification => 3,
            Class::Unsafe => 4,
        }
    }
}

/// What a module's error enum tells beside its message.
pub trait Diagnostic: std::error::Error + Send + Sync + 'static {
    /// The class, which gives the exit code.
    fn class(&self) -> Class;
    /// A stable machine-readable code (`snake_case`), never renamed.
    fn code(&self) -> &'static str;
    /// The way out, if there is one.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Where something went wrong; every part is optional and is filled in by whoever knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File or folder.
    pub file: Option<PathBuf>,
    /// Offset in the file, in bytes.
    pub offset: Option<u64>,
    /// Name of a checkpoint tensor.
    pub tensor: Option<String>,
    /// Name of a graph node.
    pub node: Option<String>,
    /// Name of a pass.
    pub pass: Option<String>,
}

/// An error *at* a place.
#[derive(Debug)]
pub struct At<E> {
    /// Where.
    pub place: Place,
    /// What.
    pub error: E,
}

/// The crate's error: any module's error at a place.
pub type Error = Box<At<Box<dyn Diagnostic>>>;

impl<E: Diagnostic> From<E> for Error {
    fn from(error: E) -> Self {
        Box::new(At {
            place: Place::default(),
            error: Box::new(error),
        })
    }
}

impl At<Box<dyn Diagnostic>> {
    /// The class of the error.
    #[must_use]
    pub fn class(&self) -> Class {
        self.error.class()
    }

    /// The machine-readable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.error.code()
    }

    /// The way out, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.error.hint()
    }
}

impl fmt::Display for At<Box<dyn Diagnostic>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        if let Some(file) = &place.file {
            write!(f, "{}", escape_name(&file.display().to_string()))?;
            if let Some(offset) = place.offset {
                write!(f, " at byte {offset}")?;
            }
            write!(f, ": ")?;
        }
        if let Some(pass) = &place.pass {
            write!(f, "pass `{}`: ", shown(pass))?;
        }
        if let Some(node) = &place.node {
            write!(f, "node `{}`: ", shown(node))?;
        }
        if let Some(tensor) = &place.tensor {
            write!(f, "tensor `{}`: ", shown(tensor))?;
        }
        write!(f, "{}", escape(&self.error.to_string()))
    }
}

impl std::error::Error for At<Box<dyn Diagnostic>> {}

/// Makes text safe to print: control characters (terminal commands) and characters that change the direction or order of what is shown
/// become escapes. Line breaks stay: whoever prints indents the lines after the first, so that none can pass for a line of ours.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_all(text, true)
}

/// [`escape`] for a name from a file, which has no reason to have a line break.
#[must_use]
pub fn escape_name(text: &str) -> String {
    escape_all(text, false)
}

/// Longest name from a file that a message repeats, in characters.
const SHOWN: usize = 200;

/// A name from a file as a message shows it: escaped, and cut when it is so long that it would bury the rest.
#[must_use]
pub fn shown(name: &str) -> String {
    let Some((cut, _)) = name.char_indices().nth(SHOWN) else {
        return escape_name(name);
    };
    let more = name.len() - cut;
    format!("{}… ({more} more bytes)", escape_name(&name[..cut]))
}

fn escape_all(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) && !(lines && c == '\n') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a terminal may act on a character instead of showing it: control characters, marks that reorder text, line separators, and
/// characters without any width.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Adds the place to an error on its way up; a part that is already set is kept, since the innermost knows best.
pub trait Context<T> {
    /// Names the file.
    ///
    /// # Errors
    /// The same error, with the file.
    fn at_file(self, path: &Path) -> Result<T>;
    /// Names the byte offset.
    ///
    /// # Errors
    /// The same error, with the offset.
    fn at_offset(self, offset: u64) -> Result<T>;
    /// Names the checkpoint tensor.
    ///
    /// # Errors
    /// The same error, with the tensor.
    fn at_tensor(self, name: &str) -> Result<T>;
    /// Names the node.
    ///
    /// # Errors
    /// The same error, with the node.
    fn at_node(self, name: &str) -> Result<T>;
    /// Names the pass.
    ///
    /// # Errors
    /// The same error, with the pass.
    fn at_pass(self, name: &str) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn at_file(self, path: &Path) -> Result<T> {
        self.map_err(|e| {
            let mut e: Error = e.into();
            e.place.file.get_or_insert_with(|| named(path));
            e
        })
    }

    fn at_offset(self, offset: u64) -> Result<T> {
        self.map_err(|e| {
            let mut e: Error = e.into();
            e.place.offset.get_or_insert(offset);
            e
        })
    }

    fn at_tensor(self, name: &str) -> Result<T> {
        self.map_err(|e| {
            let mut e: Error = e.into();
            e.place.tensor.get_or_insert_with(|| name.to_owned());
            e
        })
    }

    fn at_node(self, name: &str) -> Result<T> {
        self.map_err(|e| {
            let mut e: Error = e.into();
            e.place.node.get_or_insert_with(|| name.to_owned());
            e
        })
    }

    fn at_pass(self, name: &str) -> Result<T> {
        self.map_err(|e| {
            let mut e: Error = e.into();
            e.place.pass.get_or_insert_with(|| name.to_owned());
            e
        })
    }
}

/// The operating system refused a file operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct IoError {
    /// What was tried, as a verb phrase: `read`, `create the output folder`.
    pub action: &'static str,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

impl Diagnostic for IoError {
    fn class(&self) -> Class {
        Class::Io
    }

    fn code(&self) -> &'static str {
        "io"
    }
}

/// Turns an [`std::io::Error`] into an [`Error`] that says what was tried on which file.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| {
        let mut e: Error = IoError { action, source }.into();
        e.place.file = Some(named(&path));
        e
    }
}

/// What the names of private folders begin with, in which outputs are made.
pub(crate) const PRIVATE: &str = ".distill-convert-";

/// The path by which the user knows a file that was reached through an open folder, `/proc/self/fd/N`: where it is, or for one in a private
/// folder where it was to be.
fn named(path: &Path) -> PathBuf {
    let open = |rest: &Path| {
        let (number, rest) = (rest.components().next()?, rest);
        let folder = Path::new(OPEN_FOLDERS).join(number).read_link().ok()?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let folder = if name.starts_with(PRIVATE) {
            folder.parent()?
        } else {
            &folder
        };
        Some(folder.join(rest.strip_prefix(number).ok()?))
    };
    let found = path.strip_prefix(OPEN_FOLDERS).ok().and_then(open);
    found.unwrap_or_else(|| path.to_path_buf())
}

/// Where Linux shows what this process holds open.
const OPEN_FOLDERS: &str = "/proc/self/fd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn innermost_place_wins_and_control_characters_are_escaped() {
        let error = std::io::Error::other("bad \u{1b}[31m");
        let result: Result<()> = Err(io_error("read", Path::new("a\u{7}"))(error));
        let text = result
            .at_file(Path::new("outer"))
            .at_tensor("w")
            .unwrap_err()
            .to_string();
        assert_eq!(text, "a\\u{7}: tensor `w`: cannot read: bad \\u{1b}[31m");
        // A name with a line break or with marks that turn text around cannot imitate our own lines.
        let error =
            io_error("read", Path::new("x\nok\u{202e}"))(std::io::Error::other("c1 \u{9b}31m"));
        let text = error.to_string();
        assert_eq!(text, "x\\nok\\u{202e}: cannot read: c1 \\u{9b}31m");
        assert_eq!(escape("a\nb\r\u{2028}"), "a\nb\\r\\u{2028}");
        assert_eq!(escape("höhe 模型 é"), "höhe 模型 é");
    }

    #[test]
    fn names_of_any_length_are_shown_in_a_line() {
        assert_eq!(shown("model.embed\n"), "model.embed\\n");
        let long = "é".repeat(SHOWN);
        assert_eq!(shown(&long), long);
        let text = shown(&format!("{long}\u{1b}é"));
        assert_eq!(text, format!("{long}… (3 more bytes)"));
        let error: Result<()> = Err(io_error("read", Path::new("x"))(std::io::Error::other(
            "no",
        )));
        let text = error
            .at_tensor(&"w".repeat(1 << 20))
            .unwrap_err()
            .to_string();
        assert!(text.len() < 300, "{text}");
    }
}
