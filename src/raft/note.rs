//! Notes.

/// What happened and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note;
