//! XLA's text of an optimised program, as far as its kernels' bytes and FLOP are to be read from it.
//!
//! **Invariant:** what is not understood is passed over, never guessed: a line of another form has no instruction.

use std::collections::HashMap;

/// An array's element type and axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub element: String,
    pub axes: Vec<u64>,
}

impl Shape {
    pub fn elements(&self) -> u64 {
        self.axes.iter().product()
    }

    pub fn bytes(&self) -> u64 {
        let size = match self.element.as_str() {
            "f64" | "s64" | "u64" | "c64" => 8,
            "bf16" | "f16" | "s16" | "u16" => 2,
            "pred" | "s8" | "u8" => 1,
            _ => 4,
        };
        self.elements() * size
    }
}

/// `%name = shape op(%operands), attributes`.
#[derive(Debug, Clone)]
pub struct Instruction {
    pub name: String,
    /// Of an array, or of all arrays of a tuple.
    pub shapes: Vec<Shape>,
    pub op: String,
    pub operands: Vec<String>,
    /// What stands behind the operands.
    pub attributes: String,
}

impl Instruction {
    /// The word behind `key=`, without `%`.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let rest = &self.attributes[self.attributes.find(&format!("{key}="))? + key.len() + 1..];
        let rest = rest.trim_start_matches(['%', '"']);
        Some(&rest[..rest.find([',', ' ', '"', '}']).unwrap_or(rest.len())])
    }

    /// The numbers of `key={0,1}` or `"key":["0","1"]`.
    pub fn axes(&self, key: &str) -> Option<Vec<usize>> {
        let rest = &self.attributes[self.attributes.find(key)? + key.len()..];
        let rest = &rest[rest.find(['{', '['])? + 1..];
        let list = &rest[..rest.find(['}', ']'])?];
        Some(list.split(',').filter_map(|axis| axis.trim_matches(['"', ' ']).parse().ok()).collect())
    }
}

/// Computations by name.
#[derive(Debug, Clone, Default)]
pub struct Module {
    pub computations: HashMap<String, Vec<Instruction>>,
    pub entry: String,
}

impl Module {
    pub fn read(text: &str) -> Self {
        let mut module = Module::default();
        let mut open: Option<String> = None;
        for line in text.lines() {
            if line.starts_with('}') {
                open = None;
            } else if !line.starts_with(' ') && line.ends_with('{') && line.contains("->") {
                let head = line.strip_prefix("ENTRY ").unwrap_or(line);
                let name = head.trim_start_matches('%').split([' ', '(']).next().unwrap_or_default().to_owned();
                if line.starts_with("ENTRY ") {
                    module.entry.clone_from(&name);
                }
                module.computations.insert(name.clone(), Vec::new());
                open = Some(name);
            } else if let Some(computation) = open.as_ref().and_then(|name| module.computations.get_mut(name)) {
                computation.extend(instruction(line));
            }
        }
        module
    }

    pub fn computation(&self, name: &str) -> &[Instruction] {
        self.computations.get(name).map_or(&[], Vec::as_slice)
    }
}

fn instruction(line: &str) -> Option<Instruction> {
    let (name, rest) = line.trim_start().split_once(" = ")?;
    let name = name.trim_start_matches("ROOT ").trim_start_matches('%').to_owned();
    // A tuple's shape has spaces, an array's has none.
    let end = if rest.starts_with('(') { closing(rest)? } else { rest.find(' ')? };
    let (shape, rest) = rest.split_at(end);
    let rest = rest.trim_start();
    let open = rest.find('(')?;
    let op = rest[..open].to_owned();
    let close = open + closing(&rest[open..])?;
    let operands = names(&rest[open..close]);
    Some(Instruction { name, shapes: shapes(shape), op, operands, attributes: rest[close..].to_owned() })
}

/// The place behind the bracket that closes the first one.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(place + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// `%a`, `%b#1`: without their signs.
fn names(text: &str) -> Vec<String> {
    let is_of_name = |byte: char| byte.is_ascii_alphanumeric() || "._-#".contains(byte);
    let name = |rest: &str| rest.split(|byte| !is_of_name(byte)).next().map(str::to_owned);
    text.split('%').skip(1).filter_map(name).collect()
}

/// All arrays of a shape: `f32[8,16]{1,0}` or `(bf16[8]{0}, f32[])`.
fn shapes(text: &str) -> Vec<Shape> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let element = rest[..open].rsplit(|byte: char| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
        let Some(length) = rest[open..].find(']') else { break };
        let axes = rest[open + 1..open + length].split(',').filter_map(|axis| axis.parse().ok()).collect();
        found.push(Shape { element: element.to_owned(), axes });
        rest = &rest[open + length + 1..];
    }
    found
}
