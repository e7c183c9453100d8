//! Thrift's compact protocol, as far as the heads of pages and the depth of a schema are read in it before a library is asked
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>).
//!
//! **Invariant:** nothing is allocated, nothing is read beyond the bytes, and values lie within each other to a fixed depth.

/// Structures within structures that are stepped over.
const DEEPEST: usize = 32;

/// Types of fields and elements, by their number.
pub const I32: u8 = 5;
pub const LIST: u8 = 9;
pub const STRUCT: u8 = 12;

/// Why bytes are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They end before the value does.
    Short,
    Wrong,
}

/// Bytes that are read from their begin to their end.
pub struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Compact<'a> {
    pub fn new(bytes: &'a [u8]) -> Compact<'a> {
        Compact { bytes, at: 0 }
    }

    /// Bytes that were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Calls `each` with the number and the type of each field of a structure; it reads the field and says so, or leaves it.
    pub fn fields(&mut self, each: &mut dyn FnMut(&mut Self, i64, u8) -> Result<bool, Fault>) -> Result<(), Fault> {
        let mut number = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            number = match head >> 4 {
                0 => self.number()?,
                step => number + i64::from(step),
            };
            if !each(self, number, kind)? {
                self.skip(kind, false, DEEPEST)?;
            }
        }
    }

    /// A whole number of any width.
    pub fn number(&mut self) -> Result<i64, Fault> {
        let coded = self.unsigned()?;
        Ok((coded >> 1) as i64 ^ -((coded & 1) as i64))
    }

    /// Type of a list's elements and how many there are.
    pub fn list(&mut self) -> Result<(u8, u64), Fault> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.unsigned()? } else { u64::from(head >> 4) };
        // Each takes a byte at the least.
        if count > (self.bytes.len() - self.at) as u64 { Err(Fault::Short) } else { Ok((head & 0x0f, count)) }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn unsigned(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Wrong)
    }

    fn step(&mut self, bytes: u64) -> Result<(), Fault> {
        if bytes > (self.bytes.len() - self.at) as u64 {
            return Err(Fault::Short);
        }
        self.at += bytes as usize;
        Ok(())
    }

    /// Steps over a value; in a list, truth values take a byte.
    fn skip(&mut self, kind: u8, in_list: bool, deeper: usize) -> Result<(), Fault> {
        let deeper = deeper.checked_sub(1).ok_or(Fault::Wrong)?;
        match kind {
            1 | 2 => self.step(in_list.into()),
            3 => self.step(1),
            4..=6 => self.unsigned().map(drop),
            7 => self.step(8),
            8 => {
                let length = self.unsigned()?;
                self.step(length)
            }
            LIST | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip(kind, true, deeper))
            }
            11 => {
                let count = self.unsigned()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip(kinds >> 4, true, deeper)?;
                    self.skip(kinds & 0x0f, true, deeper)
                })
            }
            STRUCT => loop {
                let head = self.byte()?;
                match head & 0x0f {
                    0 => return Ok(()),
                    kind => {
                        if head >> 4 == 0 {
                            self.number()?;
                        }
                        self.skip(kind, false, deeper)?;
                    }
                }
            },
            _ => Err(Fault::Wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_or_stepped_over_and_an_end_that_lacks_is_told() {
        // 1: i32 150, 3: text "ab", 4: list of two i32, 20 (by its number): true, 21: a structure with 1: i32 -1, and the end.
        let bytes = [0x15, 0xac, 0x02, 0x28, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x01, 40, 0x1c, 0x15, 1, 0, 0];
        let read = |bytes: &[u8]| {
            let mut found = Vec::new();
            let mut compact = Compact::new(bytes);
            let read = compact.fields(&mut |compact, number, kind| {
                found.push(number);
                match number {
                    1 => Ok(compact.number()? == 150 && kind == I32),
                    _ => Ok(false),
                }
            });
            read.map(|()| (found, compact.position()))
        };
        assert_eq!(read(&bytes), Ok((vec![1, 3, 4, 20, 21], bytes.len())));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Err(Fault::Short), "{end}");
        }
        let deep = [vec![0x1c; 100], vec![0; 100]].concat();
        assert_eq!(read(&deep), Err(Fault::Wrong), "no stack is deep enough for all files");
        assert_eq!(read(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0x0f]), Err(Fault::Short), "a list longer than its file");
    }
}
