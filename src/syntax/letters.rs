//! Letters that the language does not have, or not there: comments, quotes and signs of other languages, letters that a word
//! processor or a web page puts in place of plain ones, strings without an end.
//!
//! **Invariant:** what it leaves is plain outside strings and comments, and each string ends on its line.

use super::mended::Fault;
use super::token::{line_end, string};
use crate::diag::Code;

/// All of them, in order.
pub fn faults(text: &str) -> Vec<Fault> {
    let mut scan = Scan { text, at: 0, brackets: 0, faults: Vec::new() };
    while let Some(letter) = text[scan.at..].chars().next() {
        scan.step(letter);
    }
    scan.faults
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// Round and square ones that are open.
    brackets: usize,
    faults: Vec<Fault>,
}

impl Scan<'_> {
    fn step(&mut self, letter: char) {
        let (at, rest) = (self.at, &self.text[self.at..]);
        let length = match letter {
            '"' if rest.starts_with("\"\"\"") => self.docstring("\"\"\""),
            '\'' if rest.starts_with("'''") => self.docstring("'''"),
            '"' => string(rest).unwrap_or_else(|length| self.open_string(length)),
            '/' if rest.starts_with("//") => line_end(rest),
            '/' if rest.starts_with("/*") => self.block_comment(),
            '#' => self.hash(),
            '`' => self.backticks(),
            '\'' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{300c}' | '\u{300d}' => self.quote(letter),
            ';' | '\u{ff1b}' => self.semicolon(letter.len_utf8()),
            '\\' if rest[1..].trim_start_matches([' ', '\t']).starts_with(['\n', '\r']) => {
                let fault = Fault::new("continued", Code::OtherLanguage, "a line goes on without a `\\`")
                    .label(at..at + 1, "not needed")
                    .help("leave out the `\\`: an entry ends where the next one begins");
                self.tell(fault.edit(at..at + 1, ""), 1)
            }
            '<' | '=' | '>' | '|' if self.is_conflict(rest) => {
                let length = line_end(rest);
                let fault = Fault::new("conflict", Code::OtherLanguage, "a merge conflict is not settled")
                    .label(at..at + length, "written by git")
                    .help("keep one of the two versions, and remove the lines `<<<<<<<`, `=======` and `>>>>>>>`");
                self.tell(fault.edit(at..at + length, ""), length)
            }
            c if c.is_ascii_alphabetic() || c == '_' || is_name(c) => self.name(rest),
            c if c.is_ascii() && !c.is_control() || matches!(c, '\t' | '\r' | '\n') => {
                match c {
                    '(' | '[' => self.brackets += 1,
                    ')' | ']' => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                }
                1
            }
            _ => self.look_alike(letter),
        };
        self.at = at + length;
    }

    fn tell(&mut self, fault: Fault, length: usize) -> usize {
        self.faults.push(fault);
        length
    }

    fn is_first(&self) -> bool {
        self.text[..self.at].rsplit(['\n', '\r']).next().is_none_or(|before| before.trim().is_empty())
    }

    fn is_conflict(&self, rest: &str) -> bool {
        let at_line = self.at == 0 || self.text[..self.at].ends_with(['\n', '\r']);
        at_line && ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| rest.starts_with(mark))
    }

    /// `# x`
    fn hash(&mut self) -> usize {
        let (at, rest) = (self.at, &self.text[self.at..]);
        let length = line_end(rest);
        let comment = rest[..length].trim_start_matches('#').trim();
        let fault = Fault::new("hash", Code::OtherLanguage, "a comment begins with `//`, not with `#`")
            .label(at..at + 1, "write `//`")
            .help(format!("write `// {}`", shown(comment)))
            .edit(at..at + length, "");
        self.tell(fault, length)
    }

    fn block_comment(&mut self) -> usize {
        let (at, rest) = (self.at, &self.text[self.at..]);
        let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
        let comment = rest[2..length].trim_end_matches("*/").trim().lines().next().unwrap_or_default();
        let fault =
            Fault::new("block_comment", Code::OtherLanguage, "a comment begins with `//` and ends with its line")
                .label(at..at + 2, "no comment here")
                .help(format!("write `// {}`, and `//` before each further line", shown(comment)))
                .edit(at..at + length, " ");
        self.tell(fault, length)
    }

    /// Three quotes, and all up to the next three.
    fn docstring(&mut self, quotes: &str) -> usize {
        let (at, rest) = (self.at, &self.text[self.at..]);
        let length = rest[3..].find(quotes).map_or(rest.len(), |end| end + 6);
        let inner = rest[3..length].trim_end_matches(quotes).trim();
        let first = inner.lines().next().unwrap_or_default();
        let fault = Fault::new("docstring", Code::OtherLanguage, "three quotes begin no text here");
        // Before a line of its own it describes; elsewhere it is a value.
        let fault = match self.is_first() {
            true => fault.help(format!("write it as a comment: `/// {}`", shown(first))).edit(at..at + length, ""),
            false => fault
                .help(format!("write it on one line, in one quote each: `\"{}\"`", shown(first)))
                .edit(at..at + length, format!("\"{}\"", first.replace('"', "'"))),
        };
        self.tell(fault.label(at..at + 3, "here"), length)
    }

    fn backticks(&mut self) -> usize {
        let (at, rest) = (self.at, &self.text[self.at..]);
        let line = line_end(rest);
        let fault = Fault::new("backtick", Code::Letter, "a backtick is no letter of the language");
        if rest.starts_with("```") {
            let fault = fault.label(at..at + line, "of a page, not of the file").help("remove this line");
            return self.tell(fault.edit(at..at + line, ""), line);
        }
        if let Some(inner) = rest[1..line].find('`') {
            let text = &rest[1..1 + inner];
            let fault = fault
                .label(at..at + inner + 2, "no quotes of the language")
                .help(format!("write `\"{}\"`", shown(text)));
            return self.tell(fault.edit(at..at + inner + 2, format!("\"{}\"", text.replace('"', "'"))), inner + 2);
        }
        let fault = fault.label(at..at + 1, "here").help("remove it: names stand without quotes, texts in `\"`");
        self.tell(fault.edit(at..at + 1, ""), 1)
    }

    /// A quote of another kind. What it opens is read to its end on the same line.
    fn quote(&mut self, letter: char) -> usize {
        let (at, rest) = (self.at, &self.text[self.at..]);
        let line = &rest[..line_end(rest)];
        let body = &line[letter.len_utf8()..];
        let is_quote = |c: char| match letter {
            '\'' => matches!(c, '\'' | '\u{2019}' | '"'),
            _ => matches!(c, '"' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{300c}' | '\u{300d}'),
        };
        let Some(inner) = body.find(is_quote) else {
            let inner = unquoted(body);
            let end = at + letter.len_utf8() + inner;
            let word = &body[..inner];
            let fault = Fault::new("open_string", Code::OpenString, "a string has no end on its line")
                .label(at..end, "begins here")
                .help(format!("write `\"{}\"`", shown(word)))
                .edit(at..end, format!("\"{}\"", word.replace('"', "'")));
            return self.tell(fault, letter.len_utf8() + inner);
        };
        let close = body[inner..].chars().next().map_or(1, char::len_utf8);
        let length = letter.len_utf8() + inner + close;
        let text = &body[..inner];
        let what = if letter == '\'' { "single quotes".to_owned() } else { format!("`{letter}`") };
        let fault = Fault::new("quotes", Code::Letter, format!("a text stands in `\"`, not in {what}"))
            .label(at..at + length, "write `\"` before and after it")
            .help(format!("write `\"{}\"`", shown(text)))
            .edit(at..at + length, format!("\"{}\"", text.replace('"', "'")));
        self.tell(fault, length)
    }

    fn open_string(&mut self, length: usize) -> usize {
        let at = self.at;
        let body = &self.text[at + 1..at + length];
        let fault = Fault::new("open_string", Code::OpenString, "a string has no end on its line");
        // `"D:\data\"`: the backslash takes the quote that should end it.
        if let Some(inner) = body.find("\\\"") {
            let path = body[..inner].replace('\\', "/");
            let fault = fault
                .label(at..at + inner + 3, "begins here")
                .help(format!("`\\\"` is a quote within a string: write the path with `/`, as `\"{path}\"`"));
            return self.tell(fault.edit(at..at + inner + 3, format!("\"{path}\"")), inner + 3);
        }
        // `train")`: it is the first quote that is missing.
        let before = &self.text[..at];
        let word = before.len() - before.trim_end_matches(|c: char| is_of_path(c)).len();
        if word > 0 && unquoted(body) == 0 {
            let text = before[at - word..].to_owned();
            let fault = fault
                .label(at - word..at + 1, "its first quote is missing")
                .help(format!("write `\"{}\"`", shown(&text)))
                .edit(at - word..at - word, "\"");
            return self.tell(fault, 1);
        }
        let inner = unquoted(body);
        let text = body[..inner].trim_end_matches('\'');
        let fault = fault
            .label(at..at + 1 + inner, "begins here")
            .help(format!("write the second quote: `\"{}\"`", shown(text)))
            .edit(at..at + 1 + inner, format!("\"{text}\""));
        self.tell(fault, 1 + inner)
    }

    fn semicolon(&mut self, length: usize) -> usize {
        let at = self.at;
        let rest = &self.text[at + length..];
        let is_last = rest[..line_end(rest)].trim_start().is_empty() || rest.trim_start().starts_with("//");
        let fault = Fault::new("semicolon", Code::Separator, "nothing ends with `;` here");
        let fault = match (self.brackets > 0, is_last) {
            (true, _) => {
                fault.label(at..at + length, "write `,`").help("put `,` between arguments").edit(at..at + length, ",")
            }
            (false, true) => {
                fault.label(at..at + length, "not needed").help("leave out the `;`").edit(at..at + length, "")
            }
            (false, false) => fault
                .label(at..at + length, "a new line here")
                .help("leave out the `;`, and write what follows on a line of its own")
                .edit(at..at + length, "\n"),
        };
        self.tell(fault, length)
    }

    /// A name, which is of plain letters.
    fn name(&mut self, rest: &str) -> usize {
        let at = self.at;
        let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..length];
        if name.is_ascii() {
            return length;
        }
        let plain = plain_name(name);
        let fault = Fault::new(
            "name",
            Code::Letter,
            format!("`{}` has letters other than a to z, 0 to 9 and `_`", shown(name)),
        )
        .label(at..at + length, "not a name here")
        .help(format!("write `{plain}`"))
        .edit(at..at + length, plain);
        self.tell(fault, length)
    }

    fn look_alike(&mut self, letter: char) -> usize {
        if matches!(letter, '\u{2010}'..='\u{2015}' | '\u{2022}' | '\u{b7}') && self.is_first() {
            let rest = &self.text[self.at..];
            let length = line_end(rest);
            let comment = rest[..length].trim_start_matches(letter).trim();
            let fault = Fault::new("dashes", Code::OtherLanguage, format!("no line begins with `{letter}`"))
                .label(self.at..self.at + letter.len_utf8(), "write `//`")
                .help(format!("a comment is `// {}`", shown(comment)))
                .edit(self.at..self.at + length, "");
            return self.tell(fault, length);
        }
        let (at, length) = (self.at, letter.len_utf8());
        let number = format!("U+{:04X}", u32::from(letter));
        let (message, help, put) = match letter {
            '\u{a0}'
            | '\u{2000}'..='\u{200a}'
            | '\u{202f}'
            | '\u{205f}'
            | '\u{3000}'
            | '\u{1680}'
            | '\u{85}'
            | '\u{b}'
            | '\u{c}'
            | '\u{2028}'
            | '\u{2029}' => {
                let help = "it is another blank: write a plain one".to_owned();
                (format!("a blank that is not a plain one ({number})"), help, " ".to_owned())
            }
            '\u{200b}'..='\u{200f}'
            | '\u{2060}'..='\u{206f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{feff}'
            | '\u{ad}'
            | '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{fe00}'..='\u{fe0f}' => {
                (format!("a sign that is not shown ({number})"), "remove it".to_owned(), String::new())
            }
            '\u{b2}' | '\u{b3}' => {
                let help = "write the product: `x * x`".to_owned();
                (format!("`{letter}` ({number}) is no sign of the language"), help, String::new())
            }
            _ => match plain(letter) {
                Some(put) => {
                    (format!("`{letter}` ({number}) is no sign of the language"), format!("write `{put}`"), put)
                }
                None => {
                    let help = "remove it: outside texts and comments stand plain letters and signs alone".to_owned();
                    (format!("`{letter}` ({number}) is no sign of the language"), help, String::new())
                }
            },
        };
        let label = if help.starts_with("write `") { help.clone() } else { "here".to_owned() };
        let fault = Fault::new("letter", Code::Letter, message).label(at..at + length, label).help(help);
        self.tell(fault.edit(at..at + length, put), length)
    }
}

fn is_name(c: char) -> bool {
    (c.is_alphabetic() || c.is_ascii_digit()) && plain(c).is_none() || c == '_'
}

fn is_of_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '~')
}

/// Bytes of what was meant to stand within quotes, at a line whose second quote is missing.
fn unquoted(line: &str) -> usize {
    line.find([',', ')', ']', '}', ' ', '\t']).unwrap_or(line.len())
}

/// The plain spelling of a sign.
fn plain(letter: char) -> Option<String> {
    let plain = match letter {
        // Full-width forms of all that is plain.
        '\u{ff01}'..='\u{ff5e}' => return char::from_u32(u32::from(letter) - 0xfee0).map(String::from),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' => "-",
        '\u{d7}' | '\u{22c5}' | '\u{b7}' | '\u{2217}' | '\u{2022}' => "*",
        '\u{f7}' | '\u{2215}' | '\u{2044}' => "/",
        '\u{2026}' => "..",
        '\u{2264}' => "<=",
        '\u{2265}' => ">=",
        '\u{2260}' => "!=",
        '\u{2192}' | '\u{21d2}' | '\u{25b7}' | '\u{25b6}' => "|>",
        '\u{2190}' => "=",
        '\u{2208}' => "in",
        '\u{3001}' => ",",
        '\u{3002}' => ".",
        '\u{bd}' => "0.5",
        '\u{bc}' => "0.25",
        '\u{be}' => "0.75",
        '\u{2030}' => "%",
        _ => return None,
    };
    Some(plain.to_owned())
}

/// The name in plain letters: of Greek by their names, of Cyrillic by their look.
fn plain_name(name: &str) -> String {
    let mut plain = String::new();
    for letter in name.chars() {
        match letter {
            c if c.is_ascii() => plain.push(c),
            'α' => plain.push_str("alpha"),
            'β' => plain.push_str("beta"),
            'γ' => plain.push_str("gamma"),
            'δ' | 'Δ' => plain.push_str("delta"),
            'ε' | 'ϵ' => plain.push_str("epsilon"),
            'η' => plain.push_str("eta"),
            'θ' => plain.push_str("theta"),
            'λ' => plain.push_str("lambda"),
            'μ' | 'µ' => plain.push_str("mu"),
            'π' => plain.push_str("pi"),
            'ρ' => plain.push_str("rho"),
            'σ' | 'Σ' => plain.push_str("sigma"),
            'τ' => plain.push_str("tau"),
            'φ' => plain.push_str("phi"),
            'ω' => plain.push_str("omega"),
            'ä' | 'Ä' => plain.push_str("ae"),
            'ö' | 'Ö' => plain.push_str("oe"),
            'ü' | 'Ü' => plain.push_str("ue"),
            'ß' => plain.push_str("ss"),
            'é' | 'è' | 'ê' | 'е' | 'ё' => plain.push('e'),
            'á' | 'à' | 'â' | 'а' => plain.push('a'),
            'о' | 'ó' | 'ô' => plain.push('o'),
            'с' | 'ç' => plain.push('c'),
            'р' => plain.push('p'),
            'х' => plain.push('x'),
            'у' => plain.push('y'),
            'і' | 'í' => plain.push('i'),
            'к' => plain.push('k'),
            'м' => plain.push('m'),
            'т' => plain.push('t'),
            _ => plain.push_str("name"),
        }
    }
    if plain.starts_with(|c: char| c.is_ascii_digit()) {
        plain.insert(0, '_');
    }
    plain
}

/// So much of a text as a help line holds.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} …", text[..at].trim_end()),
        None => text.to_owned(),
    }
}
