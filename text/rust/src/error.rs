//! What goes wrong, as the C side wants it: an absl status code and a sentence.

use std::fmt::Display;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    Unimplemented = 12,
    Internal = 13,
    DataLoss = 15,
}

#[derive(Debug)]
pub struct TextError {
    pub code: Code,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, TextError>;

impl TextError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        TextError {
            code,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// A file that is there but does not hold what it should.
    pub fn broken_file(path: &Path, reason: impl Display) -> Self {
        Self::new(Code::DataLoss, format!("{}: {reason}", path.display()))
    }
}
