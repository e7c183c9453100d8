//! What of the Language Server Protocol 3.17 is read, and how places are written.
//!
//! Fields that are not asked for are passed over, and those that a client may leave out are options.

use serde::Deserialize;
use serde_json::{Value, json};

/// A place between two letters: the line, and how many units of the encoding stand before it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Position {
    pub line: u32,
    pub character: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Range {
    pub start: Position,
    pub end: Position,
}

impl Range {
    pub fn json(self) -> Value {
        let at = |position: Position| json!({ "line": position.line, "character": position.character });
        json!({ "start": at(self.start), "end": at(self.end) })
    }

    pub fn touches(self, other: Range) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

#[derive(Deserialize)]
pub struct Identifier {
    pub uri: String,
    #[serde(default)]
    pub version: Option<i64>,
}

#[derive(Deserialize)]
pub struct Item {
    pub uri: String,
    #[serde(default)]
    pub version: Option<i64>,
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DidOpen {
    pub text_document: Item,
}

/// The text of `range`, or all of it, anew.
#[derive(Debug, Clone, Deserialize)]
pub struct ContentChange {
    #[serde(default)]
    pub range: Option<Range>,
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DidChange {
    pub text_document: Identifier,
    pub content_changes: Vec<ContentChange>,
}

/// Of what asks about a whole document, or a part of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfDocument {
    pub text_document: Identifier,
    #[serde(default)]
    pub range: Option<Range>,
}

/// Of what asks about a place.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfPlace {
    pub text_document: Identifier,
    pub position: Position,
    /// Of `textDocument/rename`.
    #[serde(default)]
    pub new_name: Option<String>,
    /// Of `textDocument/references`.
    #[serde(default)]
    pub context: Option<Context>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    #[serde(default)]
    pub include_declaration: bool,
}

/// The severity of `window/logMessage` and of diagnostics.
pub const ERROR: u8 = 1;
pub const WARNING: u8 = 2;

/// Kinds of completions: <https://microsoft.github.io/language-server-protocol>, `CompletionItemKind`.
pub mod kind {
    pub const FUNCTION: u8 = 3;
    pub const FIELD: u8 = 5;
    pub const VARIABLE: u8 = 6;
    pub const MODULE: u8 = 9;
    pub const PROPERTY: u8 = 10;
    pub const UNIT: u8 = 11;
    pub const KEYWORD: u8 = 14;
    pub const CONSTANT: u8 = 21;
}
