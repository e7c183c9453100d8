//! What a pickle asks for: the names of Python's functions and classes in it, before anything is made of it.
//!
//! A pickle is a program for a small machine. Of ours nothing is run: the reader of checkpoints knows the few calls that rebuild
//! tensors, and takes all else for objects without meaning. This looks through the program first, so that a file that asks for
//! anything else is refused by the name of what it asks for.
//!
//! **Invariant:** the text is gone through once, byte by byte; no length in it is believed before it was checked.

use std::collections::HashMap;

/// Bytes of a pickle that are read at most: some hundred times those of the largest checkpoint that is known.
pub const MAX_PICKLE: usize = 16 << 20;

/// Why a pickle is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Cut short, or no pickle.
    Damaged(String),
    /// It asks for this.
    Refused(String),
}

/// Functions and classes that a checkpoint may ask for, by module: what tensors are rebuilt by, and containers.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "torch._utils",
        &[
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
        ],
    ),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("torch.storage", &["UntypedStorage", "TypedStorage", "_UntypedStorage", "_TypedStorage"]),
    ("torch.nn.parameter", &["Parameter"]),
    ("torch", &["Size", "device", "Tensor"]),
    ("torch.serialization", &["_get_layout"]),
    ("collections", &["OrderedDict", "defaultdict", "Counter", "deque"]),
    ("builtins", BUILTINS),
    ("__builtin__", BUILTINS),
    ("copyreg", &["_reconstructor"]),
    ("copy_reg", &["_reconstructor"]),
    // Bytes, as older protocols write them.
    ("_codecs", &["encode"]),
    // Settings that are saved beside the tensors.
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    ("pathlib", &["Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("uuid", &["UUID"]),
    ("typing", &["Any"]),
    ("numpy", &["dtype", "ndarray", "float64", "float32", "int64", "int32", "bool_"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy.dtypes", &["Float64DType", "Float32DType", "Int64DType"]),
];

const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "long",
    "unicode",
];

/// Libraries whose classes hold settings, which are passed over.
const SETTINGS: &[&str] = &[
    "omegaconf",
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "lightly_train",
    "mmengine",
    "mmcv",
    "timm",
    "transformers",
];

fn is_known(module: &str, name: &str) -> bool {
    let listed = KNOWN.iter().any(|(known, names)| *known == module && names.contains(&name));
    // `torch.FloatStorage`; `torch.float32`, `torch.strided` and their kind are written as names alone.
    let of_torch = module == "torch"
        && (name.ends_with("Storage") || name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
        && !["load", "save", "compile", "hub", "jit"].contains(&name);
    // A whole module, which is read as its tensors.
    let layer = module.starts_with("torch.nn.modules.");
    let settings = SETTINGS.contains(&module.split('.').next().unwrap_or(module));
    listed || of_torch || layer || settings
}

/// Goes through the pickle that `bytes` begin with; gives where it ends.
pub fn check(bytes: &[u8]) -> Result<usize, Fault> {
    let mut scan = Scan { bytes, at: 0, memo: HashMap::new(), memoized: 0, pushed: [None, None] };
    while !scan.step()? {}
    Ok(scan.at)
}

struct Scan<'b> {
    bytes: &'b [u8],
    at: usize,
    /// What was kept under a number, where it is a text.
    memo: HashMap<u32, &'b str>,
    memoized: u32,
    /// The last two values that were pushed, the later one second; `None` for what is no text.
    pushed: [Option<&'b str>; 2],
}

impl<'b> Scan<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Fault> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| match self.bytes.len() {
            MAX_PICKLE => Fault::Damaged(format!("its pickle has more than {} MiB", MAX_PICKLE >> 20)),
            _ => Fault::Damaged("its pickle is cut short".to_owned()),
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A number of `width` bytes, the least first.
    fn number(&mut self, width: usize) -> Result<u64, Fault> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// What follows a length of `width` bytes.
    fn counted(&mut self, width: usize) -> Result<&'b [u8], Fault> {
        let length = self.number(width)?;
        self.take(usize::try_from(length).map_err(|_| Fault::Damaged("its pickle is cut short".to_owned()))?)
    }

    fn line(&mut self) -> Result<&'b str, Fault> {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| Fault::Damaged("its pickle holds a name that is no text".to_owned()))
    }

    fn push(&mut self, text: Option<&'b str>) {
        self.pushed = [self.pushed[1], text];
    }

    fn push_text(&mut self, bytes: &'b [u8]) {
        self.push(std::str::from_utf8(bytes).ok());
    }

    fn keep(&mut self, number: u32) {
        match self.pushed[1] {
            Some(text) => drop(self.memo.insert(number, text)),
            None => drop(self.memo.remove(&number)),
        }
    }

    fn recall(&mut self, number: u32) {
        let kept = self.memo.get(&number).copied();
        self.push(kept);
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        match is_known(module, name) {
            true => self.push(None),
            false => return Err(Fault::Refused(format!("{module}.{name}"))),
        }
        Ok(())
    }

    /// One operation; whether it was the last.
    fn step(&mut self) -> Result<bool, Fault> {
        let operation = self.take(1)?[0];
        match operation {
            b'.' => return Ok(true),
            // PROTO, FRAME
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            // Texts: BINUNICODE and its kind.
            b'X' | b'T' => {
                let text = self.counted(4)?;
                self.push_text(text);
            }
            0x8c | b'U' => {
                let text = self.counted(1)?;
                self.push_text(text);
            }
            0x8d => {
                let text = self.counted(8)?;
                self.push_text(text);
            }
            b'V' => {
                let text = self.line()?;
                self.push(Some(text));
            }
            // Bytes and long numbers.
            b'B' | 0x8b => {
                self.counted(4)?;
                self.push(None);
            }
            b'C' | 0x8a => {
                self.counted(1)?;
                self.push(None);
            }
            0x8e | 0x96 => {
                self.counted(8)?;
                self.push(None);
            }
            // Numbers as text, a text in quotes, a persistent id.
            b'I' | b'L' | b'F' | b'S' | b'P' => {
                self.line()?;
                self.push(None);
            }
            // BININT, BININT1, BININT2, BINFLOAT
            b'J' => self.number(4).map(|_| self.push(None))?,
            b'K' => self.number(1).map(|_| self.push(None))?,
            b'M' => self.number(2).map(|_| self.push(None))?,
            b'G' => self.number(8).map(|_| self.push(None))?,
            // What is kept and fetched again.
            b'q' => {
                let number = self.number(1)? as u32;
                self.keep(number);
            }
            b'r' => {
                let number = self.number(4)? as u32;
                self.keep(number);
            }
            b'p' | b'g' => {
                let number = self.line()?.trim().parse();
                let number =
                    number.map_err(|_| Fault::Damaged("its pickle keeps a value under no number".to_owned()))?;
                if operation == b'p' { self.keep(number) } else { self.recall(number) }
            }
            0x94 => {
                self.keep(self.memoized);
                self.memoized += 1;
            }
            b'h' => {
                let number = self.number(1)? as u32;
                self.recall(number);
            }
            b'j' => {
                let number = self.number(4)? as u32;
                self.recall(number);
            }
            // GLOBAL, INST, STACK_GLOBAL
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name)?;
            }
            0x93 => {
                let [Some(module), Some(name)] = self.pushed else {
                    return Err(Fault::Refused("a function whose name is computed".to_owned()));
                };
                self.name(module, name)?;
            }
            // EXT1, EXT2, EXT4: functions by number, as nobody has agreed on.
            0x82..=0x84 => return Err(Fault::Refused("a function by number".to_owned())),
            // NEXT_BUFFER, READONLY_BUFFER: bytes that are not in the file.
            0x97 | 0x98 => return Err(Fault::Damaged("its pickle wants bytes from elsewhere".to_owned())),
            // Marks, containers, calls, constants: what is on the stack alone.
            b'('
            | b')'
            | b']'
            | b'}'
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'Q'
            | b'R'
            | b'a'
            | b'b'
            | b'd'
            | b'e'
            | b'l'
            | b'o'
            | b's'
            | b't'
            | b'u'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92 => self.push(None),
            other => {
                return Err(Fault::Damaged(format!("its pickle has the operation {other:#04x}, which there is not")));
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `os.system("…")`, as protocols 0 and 4 write it; and the same with a name that was kept before.
    #[test]
    fn what_is_no_tensor_is_refused_by_its_name() {
        let refused = Err(Fault::Refused("posix.system".to_owned()));
        assert_eq!(check(b"cposix\nsystem\n(S'id'\ntR."), refused);
        assert_eq!(check(b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94."), refused);
        assert_eq!(check(b"\x80\x04\x8c\x06system\x94\x8c\x05posix\x94h\x00\x93."), refused);
        assert_eq!(check(b"c__builtin__\neval\n."), Err(Fault::Refused("__builtin__.eval".to_owned())));
        assert_eq!(check(b"ctorch\nload\n."), Err(Fault::Refused("torch.load".to_owned())));
    }

    #[test]
    fn what_rebuilds_tensors_and_holds_settings_is_known() {
        let text = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01ctorch._utils\n_rebuild_tensor_v2\nctorch\nFloatStorage\ncargparse\nNamespace\n.rest";
        assert_eq!(check(text), Ok(text.len() - 4));
        assert!(matches!(check(&text[..20]), Err(Fault::Damaged(_))));
        assert!(matches!(check(b"X\xff\xff\xff\x7fabc"), Err(Fault::Damaged(_))));
    }
}
