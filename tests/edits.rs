//! Edits drawn from bytes, for the fuzz target `editing` and its slice in the tests: a simple model says what a text must be after them,
//! and a server is asked about it everywhere.

use std::io::{BufReader, Cursor, Write};
use std::sync::{Arc, Mutex};

use cmae::lsp::document::{ContentChange, Encoding, Position, Range, Text};
use serde_json::{Value, json};

/// What is typed: letters of one to four bytes, all ends of lines, and pieces of the language.
const PIECES: [&str; 24] = [
    "a",
    "\n",
    "\r\n",
    "\r",
    "λ",
    "𝜆",
    "\u{feff}",
    " ",
    "x = 1",
    "{",
    "}",
    "\0",
    "(",
    ")",
    ".",
    "\"",
    "//",
    "50",
    "%",
    ", ",
    "use std::",
    "op::",
    "encoder",
    "…",
];

/// Bytes that say what is done; 0 when they are used up.
struct Draws<'b>(std::slice::Iter<'b, u8>);

impl Draws<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().map_or(0, usize::from)
    }

    fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// Somewhere in `text`, or past its end or that of a line.
    fn place(&mut self, text: &str) -> Position {
        let lines = text.matches(['\n', '\r']).count() + 2;
        let line = (self.next() * 256 + self.next()) % lines;
        Position { line: line as u32, character: self.next() as u32 }
    }

    fn change(&mut self, text: &str) -> ContentChange {
        let range = match self.next() % 16 {
            0 => None,
            _ => {
                let start = self.place(text);
                // Mostly a few letters, as one types; at times from anywhere to anywhere, also backwards.
                let end = match self.next() % 8 {
                    0 => self.place(text),
                    letters => Position { character: start.character.saturating_add(letters as u32 - 1), ..start },
                };
                Some(Range { start, end })
            }
        };
        let pieces = self.next() % 4;
        let typed: String = (0..pieces).map(|_| PIECES[self.next() % PIECES.len()]).collect();
        // A text anew is one that there was.
        let text = if range.is_none() { format!("{text}{typed}") } else { typed };
        ContentChange { range, text }
    }
}

/// The byte of a place, letter by letter.
fn byte(text: &str, place: Position, encoding: Encoding) -> usize {
    let (mut line, mut units) = (0, 0);
    for (at, letter) in text.char_indices() {
        if line == place.line {
            let size = if encoding == Encoding::Utf8 { letter.len_utf8() } else { letter.len_utf16() };
            if matches!(letter, '\n' | '\r') || units + size as u32 > place.character {
                return at;
            }
            units += size as u32;
        }
        let ends = letter == '\n' || letter == '\r' && !text[at + 1..].starts_with('\n');
        line += u32::from(ends);
    }
    text.len()
}

/// The text after a change, by the model.
pub fn edited(text: &str, change: &ContentChange, encoding: Encoding) -> String {
    let Some(Range { start, end }) = change.range else { return change.text.clone() };
    let (start, end) = (byte(text, start, encoding), byte(text, end, encoding));
    format!("{}{}{}", &text[..start.min(end)], change.text, &text[start.max(end)..])
}

/// Makes the changes that `bytes` say to `text`, and holds the server's text against the model's.
pub fn agree(text: &str, bytes: &[u8]) {
    let mut draws = Draws(bytes.iter());
    let encoding = if draws.next().is_multiple_of(2) { Encoding::Utf16 } else { Encoding::Utf8 };
    let mut model = text.to_owned();
    let mut served = Text::new(text, encoding);
    while !draws.is_empty() {
        let change = draws.change(&model);
        model = edited(&model, &change, encoding);
        served.change(&change);
        assert_eq!(served.as_str(), model, "{change:?}");
        let at = draws.place(&model);
        assert_eq!(served.byte(at), byte(&model, at, encoding), "{at:?}");
        let place = served.position(served.byte(at));
        assert_eq!(served.byte(place), served.byte(at), "{at:?}");
    }
}

/// What the server writes, for whoever looks at it when it is done.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const ASKED: [&str; 10] = [
    "hover",
    "definition",
    "references",
    "documentHighlight",
    "completion",
    "signatureHelp",
    "prepareRename",
    "rename",
    "inlayHint",
    "codeAction",
];

/// Opens `text`, makes the changes that `bytes` say, and asks about a place after each: every question is answered, and the compiler
/// never gives up. Gives how many were asked.
pub fn serve(text: &str, bytes: &[u8]) -> usize {
    let mut draws = Draws(bytes.iter());
    let uri = "file:///edited/example.cmae";
    let mut messages = vec![
        json!({ "id": 0, "method": "initialize", "params": { "capabilities": {} } }),
        json!({ "method": "textDocument/didOpen", "params": { "textDocument": { "uri": uri, "text": text, "version": 0 } } }),
    ];
    let (mut model, mut asked) = (text.to_owned(), 0);
    while !draws.is_empty() {
        let change = draws.change(&model);
        model = edited(&model, &change, Encoding::Utf16);
        let mut sent = json!({ "text": change.text });
        if let Some(range) = change.range {
            sent["range"] = range.json();
        }
        messages.push(json!({
            "method": "textDocument/didChange",
            "params": { "textDocument": { "uri": uri, "version": asked + 1 }, "contentChanges": [sent] },
        }));
        for _ in 0..4 {
            let (method, at) = (ASKED[draws.next() % ASKED.len()], draws.place(&model));
            let at = json!({ "line": at.line, "character": at.character });
            asked += 1;
            let params = json!({
                "textDocument": { "uri": uri }, "position": at, "newName": "anew", "range": { "start": at, "end": at },
                "context": { "diagnostics": [], "includeDeclaration": true },
            });
            messages.push(json!({ "id": asked, "method": format!("textDocument/{method}"), "params": params }));
        }
    }
    messages.push(
        json!({ "id": asked + 1, "method": "textDocument/formatting", "params": { "textDocument": { "uri": uri } } }),
    );
    let sent: String = messages
        .into_iter()
        .map(|mut message| {
            message["jsonrpc"] = "2.0".into();
            let text = message.to_string();
            format!("Content-Length: {}\r\n\r\n{text}", text.len())
        })
        .collect();
    let written = Written::default();
    // The client leaves without goodbye.
    let left = cmae::lsp::serve(BufReader::new(Cursor::new(sent.into_bytes())), written.clone(), None);
    assert!(left.is_err());
    let bytes = written.0.lock().expect("no writer panics").clone();
    let told = String::from_utf8(bytes).expect("it is JSON");
    assert!(!told.contains("graph::internal"), "{model}\n{told}");
    let answers: Vec<Value> = told
        .split("Content-Length: ")
        .filter_map(|part| serde_json::from_str(part.split_once("\r\n\r\n")?.1).ok())
        .filter(|message: &Value| message["id"].is_i64())
        .collect();
    assert_eq!(answers.len(), asked + 2, "each question has an answer");
    for answer in answers {
        // A name that may not be renamed is refused; nothing else is.
        assert!(answer.get("error").is_none_or(|error| error["code"] == -32803), "{answer}\n{model}");
    }
    asked
}
