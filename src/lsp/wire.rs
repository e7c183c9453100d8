//! Messages over a stream: each behind a header that says its length.
//!
//! **Invariant:** what cannot be read is told by its reason, and the next message is read.

use std::io::{BufRead, Write};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};
use lsp_server::Message;

/// Bytes of one message: whole texts are sent, and the longest that is checked has 200,000.
const MAX_BYTES: usize = 64 << 20;

/// A message, or why there is none.
pub type Incoming = Result<Message, String>;

/// Reads messages on a thread of their own, until the stream ends.
pub fn read_all(mut reader: impl BufRead + Send + 'static) -> Receiver<Incoming> {
    let (sender, receiver) = unbounded();
    std::thread::spawn(move || {
        loop {
            let incoming = match read(&mut reader) {
                Ok(Some(text)) => serde_json::from_str(&text).map_err(|error| format!("no message: {error}")),
                Ok(None) => break,
                Err(Fault::Message(why)) => Err(why),
                Err(Fault::Stream) => break,
            };
            if sender.send(incoming).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Writes what is sent, until nobody can send any more.
pub fn write_all(mut writer: impl Write + Send + 'static) -> (Sender<Message>, JoinHandle<()>) {
    let (sender, receiver) = unbounded::<Message>();
    // Whoever has gone away reads no more: what is left to say is dropped.
    let thread =
        std::thread::spawn(move || while receiver.recv().is_ok_and(|message| message.write(&mut writer).is_ok()) {});
    (sender, thread)
}

enum Fault {
    /// Of one message; the next may be read.
    Message(String),
    Stream,
}

/// The text of the next message; none at the end.
fn read(reader: &mut impl BufRead) -> Result<Option<String>, Fault> {
    let mut length = None;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).map_err(|_| Fault::Stream)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        match (line.is_empty(), line.split_once(':')) {
            (true, _) if length.is_some() => break,
            // Before a header it says nothing.
            (true, _) => {}
            (false, Some((name, value))) if name.trim().eq_ignore_ascii_case("content-length") => {
                let Ok(bytes) = value.trim().parse::<usize>() else {
                    return Err(Fault::Message(format!("`{value}` is no length of a message")));
                };
                length = Some(bytes);
            }
            (false, Some(_)) => {}
            (false, None) => return Err(Fault::Message("a line that is no header".to_owned())),
        }
    }
    let length = length.unwrap_or_default();
    if length > MAX_BYTES {
        return Err(Fault::Message(format!("a message of {length} bytes, {MAX_BYTES} are the most")));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).map_err(|_| Fault::Stream)?;
    String::from_utf8(bytes).map(Some).map_err(|error| Fault::Message(format!("no message: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_and_the_next_is_read() {
        let good = r#"{"jsonrpc":"2.0","method":"initialized","params":{}}"#;
        let mut bytes = Vec::new();
        for body in [&b"{"[..], b"\xff\xfe", b"[]", good.as_bytes()] {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend(body);
        }
        bytes.extend(b"Content-Length: 99999999999999999999\r\n\r\nrubbish\r\nContent-Length: 99999999999999\r\n\r\n");
        bytes.extend(format!("content-length: {}\r\nContent-Type: x\r\n\r\n{good}", good.len()).bytes());
        let read: Vec<bool> = read_all(std::io::Cursor::new(bytes)).iter().map(|incoming| incoming.is_ok()).collect();
        assert_eq!(read, [false, false, false, true, false, false, false, true]);
    }
}
