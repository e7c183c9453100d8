//! The server: messages in order, and what is open.
//!
//! **Invariant:** a text is checked when no message waits, so that after a burst of edits the last text alone is; what asks about a
//! text is answered of the text as it is then.

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;

use crossbeam::channel::{Receiver, Sender};
use lsp_server::{ErrorCode, Message, Notification, Request, RequestId, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::analysis::Analysis;
use super::document::{Encoding, Text};
use super::protocol::{DidChange, DidOpen, ERROR, OfDocument, OfPlace};
use super::wire::{Incoming, read_all, write_all};
use super::world::{Document, World};
use super::{actions, completion, hints, hover, library, problems, references, rename, symbols, uri};
use crate::diag::Diagnostics;
use crate::elab::Library;
use crate::source::Sources;
use crate::syntax::parse_file;

/// Serves until `exit`, or the end of what is read. An error is that of a client that left without saying so.
pub fn serve(
    reader: impl BufRead + Send + 'static,
    writer: impl Write + Send + 'static,
    stdlib: Option<PathBuf>,
) -> Result<(), String> {
    let incoming = read_all(reader);
    let (outgoing, written) = write_all(writer);
    let mut server = Server {
        incoming,
        waiting: VecDeque::new(),
        outgoing,
        stdlib,
        documents: Vec::new(),
        library: Library::default(),
        encoding: Encoding::Utf16,
        phase: Phase::Start,
    };
    let ended = server.run();
    drop(server);
    // What was answered is to arrive.
    let _ = written.join();
    if ended { Ok(()) } else { Err(String::new()) }
}

#[derive(PartialEq, Eq)]
enum Phase {
    Start,
    Serving,
    Ending,
}

struct Server {
    incoming: Receiver<Incoming>,
    waiting: VecDeque<Message>,
    outgoing: Sender<Message>,
    stdlib: Option<PathBuf>,
    documents: Vec<Document>,
    library: Library,
    encoding: Encoding,
    phase: Phase,
}

/// Why a request has no answer.
struct Refused {
    code: ErrorCode,
    message: String,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refused { code, message: message.into() }
    }
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Refused::new(ErrorCode::RequestFailed, message)
    }
}

type Answer = Result<Value, Refused>;

impl Server {
    /// Whether the client said goodbye.
    fn run(&mut self) -> bool {
        while let Some(message) = self.next() {
            match message {
                Message::Request(request) => self.request(request),
                Message::Notification(notification) if notification.method == "exit" => {
                    return self.phase == Phase::Ending;
                }
                Message::Notification(notification) => self.notified(notification),
                // Nothing is asked of the client.
                Message::Response(_) => {}
            }
        }
        false
    }

    /// The next message; texts are checked until there is one.
    fn next(&mut self) -> Option<Message> {
        loop {
            while let Ok(incoming) = self.incoming.try_recv() {
                self.take(incoming);
            }
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if let Some(at) = self.documents.iter().position(|document| document.stale) {
                self.check(at);
                continue;
            }
            let incoming = self.incoming.recv().ok()?;
            self.take(incoming);
        }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Ok(Message::Notification(cancelled)) if cancelled.method == "$/cancelRequest" => {
                self.cancel(&cancelled.params)
            }
            Ok(message) => self.waiting.push_back(message),
            Err(why) => self.log(&why),
        }
    }

    /// A request that waits still is not answered any more.
    fn cancel(&mut self, params: &Value) {
        let Ok(id) = serde_json::from_value::<RequestId>(params["id"].clone()) else { return };
        let asked = |message: &Message| matches!(message, Message::Request(request) if request.id == id);
        if let Some(at) = self.waiting.iter().position(asked) {
            self.waiting.remove(at);
            self.send(Response::new_err(id, ErrorCode::RequestCanceled as i32, "cancelled".to_owned()));
        }
    }

    fn send(&self, message: impl Into<Message>) {
        // Who has gone away hears nothing.
        let _ = self.outgoing.send(message.into());
    }

    fn log(&self, why: &str) {
        let params = json!({ "type": ERROR, "message": format!("cmaec lsp: {why}") });
        self.send(Notification::new("window/logMessage".to_owned(), params));
    }

    fn request(&mut self, Request { id, method, params }: Request) {
        let answer = match (&self.phase, method.as_str()) {
            (Phase::Start, "initialize") => Ok(self.initialize(&params)),
            (Phase::Start, _) => Err(Refused::new(ErrorCode::ServerNotInitialized, "`initialize` comes first")),
            (Phase::Ending, _) => Err(Refused::new(ErrorCode::InvalidRequest, "the server is shut down")),
            (Phase::Serving, "shutdown") => {
                self.phase = Phase::Ending;
                Ok(Value::Null)
            }
            (Phase::Serving, method) => self.answer(method, params),
        };
        self.send(match answer {
            Ok(value) => Response::new_ok(id, value),
            Err(Refused { code, message }) => Response::new_err(id, code as i32, message),
        });
    }

    fn initialize(&mut self, params: &Value) -> Value {
        self.phase = Phase::Serving;
        let offered = params["capabilities"]["general"]["positionEncodings"].as_array();
        if offered.is_some_and(|offered| offered.iter().any(|encoding| encoding == Encoding::Utf8.name())) {
            self.encoding = Encoding::Utf8;
        }
        json!({
            "serverInfo": { "name": "cmaec", "version": env!("CARGO_PKG_VERSION") },
            "capabilities": {
                "positionEncoding": self.encoding.name(),
                // 2: changes, not whole texts.
                "textDocumentSync": { "openClose": true, "change": 2, "save": true },
                "hoverProvider": true,
                "definitionProvider": true,
                "referencesProvider": true,
                "documentHighlightProvider": true,
                "documentSymbolProvider": true,
                "documentFormattingProvider": true,
                "renameProvider": { "prepareProvider": true },
                "completionProvider": { "triggerCharacters": [".", ":", "(", ","] },
                "signatureHelpProvider": { "triggerCharacters": ["(", ","] },
                "inlayHintProvider": true,
                "codeActionProvider": { "codeActionKinds": ["quickfix"] },
            },
        })
    }

    fn notified(&mut self, Notification { method, params }: Notification) {
        if self.phase != Phase::Serving {
            return;
        }
        let done = match method.as_str() {
            "textDocument/didOpen" => read::<DidOpen>(params).map(|opened| self.open(opened)),
            "textDocument/didChange" => read::<DidChange>(params).map(|changed| self.change(changed)),
            "textDocument/didClose" => read::<OfDocument>(params).map(|closed| self.close(&closed.text_document.uri)),
            // What lies on the disk may be another's.
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => {
                self.documents.iter_mut().for_each(|document| document.stale = true);
                Ok(())
            }
            // Others are for who knows them.
            _ => Ok(()),
        };
        if let Err(refused) = done {
            self.log(&format!("`{method}`: {}", refused.message));
        }
    }

    fn open(&mut self, DidOpen { text_document: item }: DidOpen) {
        self.documents.retain(|document| document.uri != item.uri);
        let path = uri::path(&item.uri);
        self.documents.push(Document {
            text: Text::new(item.text, self.encoding),
            version: item.version,
            uri: item.uri,
            path,
            analysis: None,
            stale: true,
        });
        self.outdate(self.documents.len() - 1);
    }

    fn change(&mut self, DidChange { text_document, content_changes }: DidChange) {
        let Some(at) = self.documents.iter().position(|document| document.uri == text_document.uri) else {
            return self.log(&format!("{} is changed and not open", text_document.uri));
        };
        let document = &mut self.documents[at];
        content_changes.iter().for_each(|change| document.text.change(change));
        document.version = text_document.version;
        self.outdate(at);
    }

    fn close(&mut self, uri: &str) {
        let Some(at) = self.documents.iter().position(|document| document.uri == uri) else { return };
        self.outdate(at);
        let Document { uri, .. } = self.documents.remove(at);
        // Nothing is said of what nobody looks at.
        self.send(Notification::new(
            "textDocument/publishDiagnostics".to_owned(),
            json!({ "uri": uri, "diagnostics": [] }),
        ));
    }

    /// The document and those that hang on it are to be checked anew.
    fn outdate(&mut self, at: usize) {
        let path = self.documents[at].path.clone();
        for document in &mut self.documents {
            let reads = document.analysis.as_ref().is_some_and(|analysis| analysis.reads(&path));
            document.stale |= reads || document.path == path;
        }
    }

    /// Checks a document and tells what is wrong in it.
    fn check(&mut self, at: usize) {
        let overlay: Vec<(PathBuf, String)> =
            self.documents.iter().map(|document| (document.path.clone(), document.text.as_str().to_owned())).collect();
        let document = &mut self.documents[at];
        let mut analysis = Analysis::of(&document.path, &overlay, self.stdlib.as_deref(), self.library.clone());
        let last = document.analysis.take();
        if analysis.has_errors() {
            analysis.before = last.and_then(|last| if last.has_errors() { last.before.clone() } else { Some(last) });
        }
        let told = match library::holds(&document.path) {
            true => Vec::new(),
            false => problems::json(&analysis, document),
        };
        document.analysis = Some(Rc::new(analysis));
        document.stale = false;
        let mut params = json!({ "uri": document.uri, "diagnostics": told });
        if let Some(version) = document.version {
            params["version"] = version.into();
        }
        self.send(Notification::new("textDocument/publishDiagnostics".to_owned(), params));
    }

    fn answer(&mut self, method: &str, params: Value) -> Answer {
        match method {
            "textDocument/hover" => self.at(params, |world, at, _| Ok(hover::at(&world, at))),
            "textDocument/definition" => self.at(params, |world, at, _| Ok(references::definition(&world, at))),
            "textDocument/references" => self.at(params, |world, at, asked| {
                let with_definition = asked.context.as_ref().is_none_or(|context| context.include_declaration);
                Ok(references::all(&world, at, with_definition))
            }),
            "textDocument/documentHighlight" => self.at(params, |world, at, _| Ok(references::here(&world, at))),
            "textDocument/completion" => self.at(params, |world, at, _| Ok(completion::at(&world, at))),
            "textDocument/signatureHelp" => self.at(params, |world, at, _| Ok(super::signature::at(&world, at))),
            "textDocument/prepareRename" => self.at(params, |world, at, _| Ok(rename::prepare(&world, at))),
            "textDocument/rename" => self.at(params, |world, at, asked| {
                let name = asked.new_name.as_deref().unwrap_or_default();
                Ok(rename::edits(&world, at, name)?)
            }),
            "textDocument/inlayHint" => self.of(params, |world, asked| hints::within(&world, asked.range)),
            "textDocument/codeAction" => self.of(params, |world, asked| actions::within(&world, asked.range)),
            "textDocument/documentSymbol" => self.of(params, |world, _| symbols::of(&world)),
            "textDocument/formatting" => self.of(params, |world, _| formatted(world.document)),
            method => Err(Refused::new(ErrorCode::MethodNotFound, format!("`{method}` is not served"))),
        }
    }

    fn of(&mut self, params: Value, answer: impl FnOnce(World<'_>, &OfDocument) -> Value) -> Answer {
        let asked: OfDocument = read(params)?;
        let world = self.world(&asked.text_document.uri)?;
        Ok(answer(world, &asked))
    }

    fn at(&mut self, params: Value, answer: impl FnOnce(World<'_>, usize, &OfPlace) -> Answer) -> Answer {
        let asked: OfPlace = read(params)?;
        let world = self.world(&asked.text_document.uri)?;
        let at = world.document.text.byte(asked.position);
        answer(world, at, &asked)
    }

    /// The document with what is known of it now.
    fn world(&mut self, uri: &str) -> Result<World<'_>, Refused> {
        let unknown = || Refused::new(ErrorCode::InvalidParams, format!("{uri} is not open"));
        let at = self.documents.iter().position(|document| document.uri == uri).ok_or_else(unknown)?;
        if self.documents[at].stale {
            self.check(at);
        }
        let document = &self.documents[at];
        let analysis = document.analysis.clone().ok_or_else(unknown)?;
        Ok(World { document, analysis, documents: &self.documents, encoding: self.encoding })
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Refused> {
    serde_json::from_value(params).map_err(|error| Refused::new(ErrorCode::InvalidParams, error.to_string()))
}

/// The whole text anew, where it should stand otherwise; of a text with mistakes nothing.
fn formatted(document: &Document) -> Value {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let text = document.text.as_str();
    let id = sources.add_text("document", text);
    if parse_file(&sources, id, &mut diagnostics).is_err() || diagnostics.has_errors() {
        return Value::Null;
    }
    let new = crate::format::format(text);
    if new == text {
        return json!([]);
    }
    json!([{ "range": document.text.range(0, text.len()).json(), "newText": new }])
}
