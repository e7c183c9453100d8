//! An editor, as `cmaec lsp` sees one: it speaks to the real binary over stdin and stdout.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{cmaec, root};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An editor with one document open.
pub struct Client {
    server: Child,
    pub stdin: Option<ChildStdin>,
    heard: Receiver<Value>,
    asked: i64,
    pub uri: String,
    pub text: String,
    pub version: i64,
}

impl Client {
    /// Has said hello; `encoding` is what it counts letters by.
    pub fn new(encoding: &str) -> Client {
        let mut command = cmaec(&["lsp"]);
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built for this test");
        let (stdin, stdout) = (server.stdin.take(), server.stdout.take().expect("it is piped"));
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            while let Some(message) = read(&mut reader) {
                let _ = sender.send(message);
            }
        });
        let uri = format!("file://{}", root("pipelines/written.cmae").display());
        let mut client = Client { server, stdin, heard, asked: 0, uri, text: String::new(), version: 0 };
        let hello = json!({ "processId": null, "capabilities": { "general": { "positionEncodings": [encoding] } } });
        let welcome = client.ask("initialize", hello);
        assert_eq!(welcome["capabilities"]["positionEncoding"], encoding);
        client.tell("initialized", json!({}));
        client
    }

    pub fn send_text(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open until the end");
        write!(stdin, "Content-Length: {}\r\n\r\n{text}", text.len()).expect("the server reads");
        stdin.flush().expect("the server reads");
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        self.send_text(&message.to_string());
    }

    pub fn tell(&mut self, method: &str, params: Value) {
        self.send(json!({ "method": method, "params": params }));
    }

    /// The next message that is `wanted`; others are passed over.
    pub fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.heard.recv_timeout(PATIENCE).expect("the server answers");
            if wanted(&message) {
                return message;
            }
        }
    }

    pub fn answer(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(json!({ "id": id, "method": method, "params": params }));
        self.hear(|message| message["id"] == id)
    }

    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub fn open(&mut self, text: &str) -> Vec<Value> {
        (self.text, self.version) = (text.to_owned(), 1);
        let document = json!({ "uri": self.uri, "languageId": "cmae", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.problems()
    }

    /// What is wrong in the text as it is now.
    pub fn problems(&mut self) -> Vec<Value> {
        let version = self.version;
        let told = self.hear(|message| {
            message["method"] == "textDocument/publishDiagnostics" && message["params"]["version"] == version
        });
        told["params"]["diagnostics"].as_array().expect("a list").clone()
    }

    /// Types `new` in the place of `old`, of which there is one.
    pub fn replace(&mut self, old: &str, new: &str) -> Vec<Value> {
        assert_eq!(self.text.matches(old).count(), 1, "{old}");
        let at = self.text.find(old).expect("it was counted");
        let edit = json!({ "range": self.range(at, at + old.len()), "newText": new });
        self.apply(&[edit])
    }

    /// Makes edits of the server's, or of the user, and says so.
    pub fn apply(&mut self, edits: &[Value]) -> Vec<Value> {
        let mut edits = edits.to_vec();
        edits.sort_by_key(|edit| std::cmp::Reverse(self.byte(&edit["range"]["start"])));
        let mut changes = Vec::new();
        for edit in edits {
            let (start, end) = (self.byte(&edit["range"]["start"]), self.byte(&edit["range"]["end"]));
            self.text.replace_range(start..end, edit["newText"].as_str().expect("a text"));
            changes.push(json!({ "range": edit["range"], "text": edit["newText"] }));
        }
        self.version += 1;
        let document = json!({ "uri": self.uri, "version": self.version });
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
        self.problems()
    }

    /// In units of UTF-16.
    fn place(&self, byte: usize) -> Value {
        let before = &self.text[..byte];
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        json!({ "line": before.matches('\n').count(), "character": before[line..].encode_utf16().count() })
    }

    pub fn range(&self, start: usize, end: usize) -> Value {
        json!({ "start": self.place(start), "end": self.place(end) })
    }

    pub fn byte(&self, place: &Value) -> usize {
        let at = |field: &str| place[field].as_u64().expect("a number") as usize;
        let start: usize = self.text.split_inclusive('\n').take(at("line")).map(str::len).sum();
        let mut units = 0;
        let letters = self.text[start..].chars().take_while(|c| {
            units += c.len_utf16();
            units <= at("character")
        });
        start + letters.map(char::len_utf8).sum::<usize>()
    }

    /// Parameters of what asks about the letter behind the first `before` and its `skip` letters.
    pub fn at(&self, before: &str, skip: usize) -> Value {
        let at = self.text.find(before).unwrap_or_else(|| panic!("{before}")) + skip;
        json!({ "textDocument": { "uri": self.uri }, "position": self.place(at) })
    }

    pub fn hover(&mut self, before: &str, skip: usize) -> String {
        let params = self.at(before, skip);
        self.ask("textDocument/hover", params)["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    pub fn completions(&mut self, before: &str) -> Vec<String> {
        let params = self.at(before, before.len());
        let offers = self.ask("textDocument/completion", params);
        let labels = offers.as_array().expect("a list").iter().map(|offer| offer["label"].as_str().unwrap_or_default());
        labels.map(str::to_owned).collect()
    }

    pub fn actions(&mut self) -> Vec<Value> {
        let range = self.range(0, self.text.len());
        let params = json!({ "textDocument": { "uri": self.uri }, "range": range, "context": { "diagnostics": [] } });
        self.ask("textDocument/codeAction", params).as_array().expect("a list").clone()
    }

    /// Says goodbye; gives the exit code.
    pub fn leave(mut self) -> Option<i32> {
        assert_eq!(self.ask("shutdown", Value::Null), Value::Null);
        self.tell("exit", Value::Null);
        self.stdin = None;
        self.server.wait().expect("it ends").code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Of a test that failed it is alive still.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn read(reader: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.trim().split_once(':') {
            Some(("Content-Length", value)) => length = value.trim().parse().ok()?,
            _ if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}
