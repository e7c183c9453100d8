//! The head of a file that NumPy saved: a magic, a version, and a Python dictionary of type, order and shape
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
//!
//! **Invariant:** a header that is read fits its file: as many bytes follow it as its shape and type say, and no more.

const MAGIC: &[u8] = b"\x93NUMPY";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub of: Type,
    /// Whether the first axis is the one whose values lie side by side.
    pub fortran: bool,
    pub shape: Vec<usize>,
}

/// Type of the values, and the order of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    U8,
    U16 { big_endian: bool },
    F32 { big_endian: bool },
}

impl Type {
    fn parse(text: &str) -> Result<Type, String> {
        // `=` is the order of the machine that reads: files do not hold it.
        let (order, kind) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0));
        let big_endian = order == ">";
        match (order, kind) {
            ("|" | "<" | ">" | "", "u1") => Ok(Type::U8),
            ("<" | ">", "u2") => Ok(Type::U16 { big_endian }),
            ("<" | ">", "f4") => Ok(Type::F32 { big_endian }),
            _ => Err(format!("its values are of type `{text}`: u1, u2 and f4 are read (uint8, uint16, float32)")),
        }
    }

    /// Bytes of a value.
    fn size(self) -> usize {
        match self {
            Type::U8 => 1,
            Type::U16 { .. } => 2,
            Type::F32 { .. } => 4,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Type::F32 { .. })
    }

    /// The greatest whole number that it holds.
    pub fn most(self) -> u16 {
        if self == Type::U8 { 255 } else { u16::MAX }
    }

    /// The value `index` of `data`, which holds it.
    pub fn value(self, data: &[u8], index: usize) -> f32 {
        match self {
            Type::U8 => data[index].into(),
            Type::U16 { big_endian } => {
                let bytes = [data[2 * index], data[2 * index + 1]];
                if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }.into()
            }
            Type::F32 { big_endian } => {
                let bytes = [0, 1, 2, 3].map(|byte| data[4 * index + byte]);
                if big_endian { f32::from_be_bytes(bytes) } else { f32::from_le_bytes(bytes) }
            }
        }
    }
}

/// Characters of a type's name that is looked at, such as `<M8[25us]`.
const LONGEST_TYPE: usize = 16;

/// Header and values of a file.
///
/// # Errors
/// Where it is no array, one that is not read, or is longer or shorter than it says.
pub fn read(bytes: &[u8]) -> Result<(Header, &[u8]), String> {
    if !bytes.starts_with(MAGIC) {
        return Err("it is no array that NumPy saved".to_owned());
    }
    let early = || "ends early: cut, or not written to its end".to_owned();
    let word = |at: usize, length: usize| -> Result<usize, String> {
        let digits = bytes.get(at..at + length).ok_or_else(early)?;
        Ok(digits.iter().rev().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    };
    let version = *bytes.get(6).ok_or_else(early)?;
    let (begin, length) = match version {
        1 => (10, word(8, 2)?),
        2 | 3 => (12, word(8, 4)?),
        _ => return Err(format!("it is of version {version} of the format: 1, 2 and 3 are read")),
    };
    let text = bytes.get(begin..).and_then(|rest| rest.get(..length)).ok_or_else(early)?;
    let text = std::str::from_utf8(text).map_err(|_| "damaged: its header is no text".to_owned())?;
    let header = parse(text)?;
    let data = &bytes[begin + length..];
    let values = header.shape.iter().try_fold(header.of.size(), |product, side| product.checked_mul(*side));
    match values {
        Some(expected) if expected == data.len() => Ok((header, data)),
        Some(expected) if expected < data.len() => {
            Err(format!("it holds {} bytes of values, its shape says {expected}", data.len()))
        }
        _ => Err(early()),
    }
}

/// `{'descr': '<u2', 'fortran_order': False, 'shape': (64, 64, 12), }`, its entries in any order.
fn parse(text: &str) -> Result<Header, String> {
    let damaged = |what: &str| format!("damaged: its header has no {what}");
    // What stands behind `'name':`.
    let entry = |name: &str| -> Option<&str> {
        let at = ['\'', '"'].iter().find_map(|quote| {
            let key = format!("{quote}{name}{quote}");
            text.find(&key).map(|at| at + key.len())
        })?;
        text[at..].trim_start().strip_prefix(':').map(str::trim_start)
    };
    let descr = entry("descr").ok_or_else(|| damaged("type"))?;
    if descr.starts_with('[') {
        return Err("its values are records of several, which are not read".to_owned());
    }
    let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or_else(|| damaged("type"))?;
    let (name, _) = descr[1..].split_once(quote).ok_or_else(|| damaged("type"))?;
    // NumPy's names of types are a few such characters; what is not was never one, and is not repeated to people.
    if name.len() > LONGEST_TYPE || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err(damaged("type"));
    }
    let of = Type::parse(name)?;
    let order = entry("fortran_order").ok_or_else(|| damaged("order"))?;
    let fortran = match (order.starts_with("True"), order.starts_with("False")) {
        (true, _) => true,
        (_, true) => false,
        _ => return Err(damaged("order")),
    };
    let shape = entry("shape").and_then(|shape| shape.strip_prefix('(')?.split(')').next());
    let shape = shape.ok_or_else(|| damaged("shape"))?;
    let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape: Result<Vec<usize>, _> = sides.map(str::parse).collect();
    Ok(Header { of, fortran, shape: shape.map_err(|_| damaged("shape"))? })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn types_that_are_none_are_not_repeated() {
        let error = |descr: &str| {
            let parsed = parse(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2, 3, 4), }}"));
            parsed.err().unwrap_or_default()
        };
        assert_eq!(error("'<u2'"), "");
        assert!(error("'<f8'").contains("`<f8`"), "{}", error("'<f8'"));
        // A quote that is gone, as mutations make it: the rest of the file was taken for a type, with the end of its line.
        for damaged in ["'<f4", "'<f4\n'", "'<f4 and much more than that'", "''"] {
            let found = error(damaged);
            assert!(!found.is_empty() && !found.contains('\n') && found.len() < 90, "{damaged}: {found}");
        }
    }
}
