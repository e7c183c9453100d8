//! A text as an editor has it, and places in it as editors count them.
//!
//! **Invariant:** every place that a client can name is one between two letters of the text: what lies past a line's or the text's end
//! is its end, and what lies within a letter is before it.

pub use super::protocol::{ContentChange, Position, Range};

/// What a client counts letters by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Utf16 => "utf-16",
        }
    }

    fn units(self, letter: char) -> usize {
        match self {
            Encoding::Utf8 => letter.len_utf8(),
            Encoding::Utf16 => letter.len_utf16(),
        }
    }
}

/// A text with the places where its lines begin.
#[derive(Debug, Clone)]
pub struct Text {
    text: String,
    lines: Vec<usize>,
    encoding: Encoding,
}

impl Text {
    pub fn new(text: impl Into<String>, encoding: Encoding) -> Self {
        let text = text.into();
        Text { lines: starts(&text), text, encoding }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Without what ends it.
    fn line(&self, line: usize) -> &str {
        let start = self.lines[line];
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        let text = &self.text[start..end];
        text.strip_suffix("\r\n").or(text.strip_suffix(['\n', '\r'])).unwrap_or(text)
    }

    /// The byte at a place.
    pub fn byte(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(start) = self.lines.get(line) else { return self.text.len() };
        let text = self.line(line);
        let mut units = 0;
        for (at, letter) in text.char_indices() {
            units += self.encoding.units(letter);
            if units > position.character as usize {
                return start + at;
            }
        }
        start + text.len()
    }

    /// The place of a byte.
    pub fn position(&self, byte: usize) -> Position {
        let byte = self.floor(byte);
        let line = self.lines.partition_point(|start| *start <= byte) - 1;
        let before = &self.text[self.lines[line]..byte];
        let character = before.chars().map(|letter| self.encoding.units(letter)).sum::<usize>();
        Position { line: line as u32, character: character as u32 }
    }

    pub fn range(&self, start: usize, end: usize) -> Range {
        Range { start: self.position(start), end: self.position(end.max(start)) }
    }

    /// The letter's start that a byte lies in.
    pub fn floor(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }

    /// Changes it as an editor has done.
    pub fn change(&mut self, change: &ContentChange) {
        match change.range {
            None => self.text = change.text.clone(),
            Some(Range { start, end }) => {
                let (start, end) = (self.byte(start), self.byte(end));
                self.text.replace_range(start.min(end)..start.max(end), &change.text);
            }
        }
        self.lines = starts(&self.text);
    }
}

/// Where lines begin: behind `\n`, `\r\n` and a `\r` by itself.
fn starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    #[test]
    fn places_are_counted_in_the_units_of_the_client() {
        // One letter of four bytes and two units of UTF-16, lines of all three kinds.
        let of = |encoding| Text::new("a𝜆b\r\nλ_c\rx\ny", encoding);
        let (wide, narrow) = (of(Encoding::Utf16), of(Encoding::Utf8));
        assert_eq!((wide.position(5), narrow.position(5)), (at(0, 3), at(0, 5)));
        assert_eq!((wide.byte(at(0, 3)), narrow.byte(at(0, 5))), (5, 5));
        // Within the letter, past the line, past the text.
        assert_eq!((wide.byte(at(0, 2)), narrow.byte(at(0, 3))), (1, 1));
        assert_eq!((wide.byte(at(0, 99)), wide.byte(at(99, 0))), (6, 16));
        assert_eq!((wide.byte(at(1, 1)), wide.byte(at(2, 0)), wide.byte(at(3, 1))), (10, 13, 16));
        assert_eq!(
            (0..=16).map(|byte| wide.floor(byte)).filter(|byte| wide.byte(wide.position(*byte)) != *byte).count(),
            1
        );
    }

    #[test]
    fn changes_are_those_of_the_editor() {
        let mut text = Text::new("α = 1\r\nβ = 2\r\n", Encoding::Utf16);
        let mut change = |start, end, new: &str| {
            text.change(&ContentChange { range: Some(Range { start, end }), text: new.to_owned() });
            text.as_str().to_owned()
        };
        assert_eq!(change(at(0, 4), at(0, 5), "𝜆"), "α = 𝜆\r\nβ = 2\r\n");
        assert_eq!(change(at(1, 0), at(0, 9), ""), "α = 𝜆β = 2\r\n");
        assert_eq!(change(at(7, 7), at(7, 7), "end"), "α = 𝜆β = 2\r\nend");
        text.change(&ContentChange { range: None, text: String::new() });
        assert_eq!((text.as_str(), text.position(9)), ("", at(0, 0)));
    }
}
