//! What is open, and what is known of it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::analysis::Analysis;
use super::document::{Encoding, Text};
use super::uri;

/// One that an editor has opened.
pub struct Document {
    pub uri: String,
    pub path: PathBuf,
    pub version: Option<i64>,
    pub text: Text,
    /// Of the text, unless it has changed since.
    pub analysis: Option<Rc<Analysis>>,
    pub stale: bool,
}

/// What is asked about, and all else that is open.
pub struct World<'w> {
    pub document: &'w Document,
    pub analysis: Rc<Analysis>,
    pub documents: &'w [Document],
    pub encoding: Encoding,
}

impl World<'_> {
    /// Of every open document, the one that is asked about first.
    pub fn analyses(&self) -> Vec<Rc<Analysis>> {
        let others = self.documents.iter().filter(|document| document.uri != self.document.uri);
        std::iter::once(self.analysis.clone()).chain(others.filter_map(|other| other.analysis.clone())).collect()
    }

    /// The address that a file goes by: an open document's is the client's own.
    pub fn uri(&self, path: &Path) -> String {
        let open = self.documents.iter().find(|document| document.path == path);
        open.map_or_else(|| uri::of(path), |document| document.uri.clone())
    }
}
