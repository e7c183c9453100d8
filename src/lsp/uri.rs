//! Addresses of documents: `file:` URIs of RFC 8089 and paths.

use std::path::{Path, PathBuf};

/// The path of a document's address. What lies in no file, such as a text that was never saved, goes by its whole address.
pub fn path(uri: &str) -> PathBuf {
    let Some(rest) = uri.strip_prefix("file://") else { return PathBuf::from(uri.replace([':', '?', '#'], "_")) };
    // Another machine's name stands before the path; `localhost` is this one.
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    let text = decoded(rest);
    // `/c:/…` of Windows.
    let drive = text.strip_prefix('/').filter(|rest| {
        let mut letters = rest.chars();
        letters.next().is_some_and(|c| c.is_ascii_alphabetic()) && letters.next() == Some(':')
    });
    PathBuf::from(drive.unwrap_or(&text))
}

/// The address of a file.
pub fn of(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "/");
    let mut uri = String::from(if text.starts_with('/') { "file://" } else { "file:///" });
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                found.push(byte);
                at += 3;
            }
            None => {
                found.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&found).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_each_others() {
        for path_text in ["/a/b c/λ%.cmae", "/x.cmae"] {
            assert_eq!(path(&of(Path::new(path_text))), Path::new(path_text));
        }
        assert_eq!(path("file:///c%3A/mine/a.cmae"), Path::new("c:/mine/a.cmae"));
        assert_eq!(path("file://localhost/a.cmae"), Path::new("/a.cmae"));
        assert_eq!(path("untitled:Untitled-1"), Path::new("untitled_Untitled-1"));
        assert_eq!(path("file:///100%"), Path::new("/100%"));
    }
}
