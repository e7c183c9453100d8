//! What a user is told of a file that is no text of this language.

use crate::diag::{Code, Diagnostic};
use crate::source::{Fault, MAX_BYTES, SourceId, Sources, Span};

/// The error of a source whose bytes are not its text.
pub fn diagnose(sources: &Sources, id: SourceId, fault: Fault) -> Diagnostic {
    let name = &sources.get(id).name;
    let renamed = name.strip_suffix(".cmae").unwrap_or(name);
    let converted = |from: &str| format!("`iconv -f {from} -t UTF-8 {name} > {renamed}_utf8.cmae`");
    let line = sources.get(id).text.lines().next().unwrap_or_default();
    let first = Span::new(id, 0, line.len());
    match fault {
        Fault::TooLong => Diagnostic::new(Code::TooLong, format!("{name} has more than {MAX_BYTES} bytes"))
            .label(first, "begins here")
            .help("name a pipeline's file, and move blocks and functions into files of their own: `use parts::NAME`"),
        Fault::Utf16 => Diagnostic::new(Code::Encoding, format!("{name} is in UTF-16, wanted is UTF-8"))
            .label(first, "two bytes a letter")
            .help(format!("save it as UTF-8, or type {}", converted("UTF-16"))),
        Fault::NotUtf8 { byte, at } => {
            // The letter that stands for what cannot be read.
            let span = Span::new(id, at as usize, at as usize + char::REPLACEMENT_CHARACTER.len_utf8());
            let quote = matches!(byte, 0x91..=0x94);
            let what = if quote { "a curly quote of Windows-1252" } else { "no UTF-8" };
            let straight = if quote { "write it as `\"`, " } else { "" };
            Diagnostic::new(Code::Encoding, format!("the byte 0x{byte:02x} is {what}"))
                .label(span, "cannot be read")
                .help(format!("{straight}save the file as UTF-8, or type {}", converted("WINDOWS-1252")))
        }
        Fault::Zero { at } => Diagnostic::new(Code::Encoding, "a byte 0 stands in the text")
            .label(Span::new(id, at as usize, at as usize + 1), "here")
            .help(format!("remove it: type `tr -d '\\000' < {name} > {renamed}_text.cmae`")),
    }
}
