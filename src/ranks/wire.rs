//! What ranks and their store say to one another over TCP: a greeting of fixed length each way, then frames.
//!
//! A frame is a length (u32), and as many bytes: a kind (u8), a number by which an answer finds its question (u64), a key's length
//! (u32), the key, and what is left is a value. All numbers are little-endian.
//!
//! **Invariant:** nothing is taken in that is longer than a frame may be, and no memory is taken for bytes that have not come.

use std::io::{self, ErrorKind, Read, Write};

/// The longest value that is put, or given to an exchange at once.
pub const VALUE: usize = 16 << 20;
/// The longest key.
pub const KEY: usize = 4 << 10;
/// What all ranks give to an exchange at once, together.
pub const EXCHANGED: usize = 64 << 20;
/// The longest frame.
const FRAME: usize = EXCHANGED + (1 << 20);
/// Of a frame before its key.
const HEAD: usize = 13;

/// What both sides begin with; the last byte counts versions of what is said here.
const MAGIC: [u8; 8] = *b"cmaecRK\x01";

/// What a rank says of itself first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    pub rank: u32,
    pub count: u32,
    /// Of the run, and of the program's version.
    pub run: [u8; 32],
}

/// What it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Welcome,
    /// These ranks are another run's, or another version's.
    OtherRun,
    /// A rank of this number is there.
    Taken,
    /// There are so many.
    Count(u32),
}

impl Greeting {
    const LEN: usize = MAGIC.len() + 4 + 4 + 32;

    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.rank.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.run);
        to.write_all(&bytes)
    }

    /// An error of kind `InvalidData` from who speaks otherwise.
    pub fn receive(from: &mut impl Read) -> io::Result<Greeting> {
        let mut bytes = [0; Greeting::LEN];
        from.read_exact(&mut bytes)?;
        let rest = bytes.strip_prefix(&MAGIC).ok_or(ErrorKind::InvalidData)?;
        let mut run = [0; 32];
        run.copy_from_slice(&rest[8..]);
        Ok(Greeting { rank: number(&rest[..4]), count: number(&rest[4..8]), run })
    }
}

impl Answer {
    const LEN: usize = MAGIC.len() + 1 + 4;

    pub fn send(self, to: &mut impl Write) -> io::Result<()> {
        let (kind, number) = match self {
            Answer::Welcome => (0, 0),
            Answer::OtherRun => (1, 0),
            Answer::Taken => (2, 0),
            Answer::Count(count) => (3, count),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        bytes.extend(u32::to_le_bytes(number));
        to.write_all(&bytes)
    }

    /// An error of kind `InvalidData` from who speaks otherwise.
    pub fn receive(from: &mut impl Read) -> io::Result<Answer> {
        let mut bytes = [0; Answer::LEN];
        from.read_exact(&mut bytes)?;
        let rest = bytes.strip_prefix(&MAGIC).ok_or(ErrorKind::InvalidData)?;
        match rest[0] {
            0 => Ok(Answer::Welcome),
            1 => Ok(Answer::OtherRun),
            2 => Ok(Answer::Taken),
            3 => Ok(Answer::Count(number(&rest[1..]))),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a frame is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            fn of(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// From a rank: keeps a value by its key.
    Put = 1,
    /// From a rank: answered as soon as the value is there.
    Get = 2,
    /// From a rank: answered at once.
    TryGet = 3,
    /// From a rank: it no longer waits for that answer.
    Cancel = 4,
    /// From a rank: its part of what all ranks exchange at a turn, which the key names; answered by all parts.
    Exchange = 5,
    /// The same; answered by nothing as soon as all have given theirs.
    Give = 6,
    /// From a rank: it is there.
    Ping = 7,
    /// From a rank: it goes, having done its part.
    Leave = 8,
    /// From a rank: it goes, having said why, and so do all.
    EndAll = 9,
    /// To a rank: what it asked for.
    Value = 20,
    /// To a rank: there is none, or nothing to say.
    Nothing = 21,
    /// To a rank: the key has a value.
    Exists = 22,
    /// To a rank: there is no more room.
    Full = 23,
    /// To a rank: what it said cannot be.
    Wrong = 24,
    /// To a rank: it was heard.
    Pong = 25,
    /// To a rank: the rank of this number is gone, without a word.
    Gone = 26,
    /// To a rank: the rank of this number has not been heard for long.
    Silent = 27,
    /// To a rank: the rank of this number ends all.
    Ended = 28,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub id: u64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Frame {
    /// Sends one whose value may be shared with others.
    pub fn send(to: &mut impl Write, kind: Kind, id: u64, key: &[u8], value: &[u8]) -> io::Result<()> {
        let len = HEAD + key.len() + value.len();
        let (true, Ok(len), Ok(key_len)) = (len <= FRAME, u32::try_from(len), u32::try_from(key.len())) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let mut head = Vec::with_capacity(4 + HEAD + key.len());
        head.extend(len.to_le_bytes());
        head.push(kind as u8);
        head.extend(id.to_le_bytes());
        head.extend(key_len.to_le_bytes());
        head.extend(key);
        to.write_all(&head)?;
        to.write_all(value)
    }

    /// An error of kind `InvalidData` from who speaks otherwise.
    pub fn receive(from: &mut impl Read) -> io::Result<Frame> {
        let invalid = || io::Error::from(ErrorKind::InvalidData);
        let mut bytes = [0; 4 + HEAD];
        from.read_exact(&mut bytes)?;
        let (len, head) = (number(&bytes[..4]) as usize, &bytes[4..]);
        let kind = Kind::of(head[0]).ok_or_else(invalid)?;
        let id = u64::from(number(&head[1..5])) | u64::from(number(&head[5..9])) << 32;
        let key_len = number(&head[9..13]) as usize;
        let rest = len.checked_sub(HEAD).filter(|rest| *rest <= FRAME - HEAD && key_len <= KEY.min(*rest));
        let rest = rest.ok_or_else(invalid)?;
        let mut filled = |len: usize| {
            let mut bytes = Vec::new();
            // Grows as bytes come.
            from.by_ref().take(len as u64).read_to_end(&mut bytes)?;
            if bytes.len() == len { Ok(bytes) } else { Err(io::Error::from(ErrorKind::UnexpectedEof)) }
        };
        Ok(Frame { kind, id, key: filled(key_len)?, value: filled(rest - key_len)? })
    }
}

/// The number that up to four bytes are.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// What ranks have given to an exchange, one behind the other: a length (u32) and the bytes of each.
pub fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        // A part is no longer than a value.
        all.extend((part.len() as u32).to_le_bytes());
        all.extend(part);
    }
    all
}

/// The same taken apart; `None` where it is not that of `count` ranks.
pub fn parts(mut all: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, rest) = all.split_at_checked(4)?;
        let (part, rest) = rest.split_at_checked(number(len) as usize)?;
        parts.push(part);
        all = rest;
    }
    all.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::{Answer, Frame, Greeting, Kind, joined, parts};
    use std::io::ErrorKind;

    #[test]
    fn what_is_sent_is_what_is_received() {
        let mut bytes = Vec::new();
        let greeting = Greeting { rank: 3, count: 70_000, run: [7; 32] };
        greeting.send(&mut bytes).expect("a vector takes all");
        Answer::Count(4).send(&mut bytes).expect("a vector takes all");
        Frame::send(&mut bytes, Kind::Put, u64::MAX - 1, b"key", b"value").expect("a vector takes all");
        let mut from = &bytes[..];
        assert_eq!(Greeting::receive(&mut from).expect("it was sent"), greeting);
        assert_eq!(Answer::receive(&mut from).expect("it was sent"), Answer::Count(4));
        let frame = Frame::receive(&mut from).expect("it was sent");
        assert_eq!(frame, Frame { kind: Kind::Put, id: u64::MAX - 1, key: b"key".to_vec(), value: b"value".to_vec() });
        assert!(from.is_empty());
        let given = [vec![1, 2], Vec::new(), vec![3]];
        let all = joined(&given);
        assert_eq!(parts(&all, 3), Some(given.iter().map(Vec::as_slice).collect()));
        assert_eq!((parts(&all, 2), parts(&all, 4), parts(&all[..all.len() - 1], 3)), (None, None, None));
    }

    /// Every cut and every changed byte of a frame is taken as one, or refused.
    #[test]
    fn other_bytes_are_refused() {
        let mut bytes = Vec::new();
        Frame::send(&mut bytes, Kind::Get, 5, b"key", &[9; 40]).expect("a vector takes all");
        for len in 0..bytes.len() {
            let error = Frame::receive(&mut &bytes[..len]).expect_err("it is cut").kind();
            assert_eq!(error, ErrorKind::UnexpectedEof, "{len}");
        }
        for (at, with) in (0..17).flat_map(|at| (0..=255).map(move |with| (at, with))) {
            let mut changed = bytes.clone();
            changed[at] = with;
            if let Err(error) = Frame::receive(&mut &changed[..]) {
                assert!(matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof), "{error}");
            }
        }
        let web = b"GET / HTTP/1.1\r\nHost: node0:29500\r\nUser-Agent: a program\r\n\r\n";
        for kind in [
            Greeting::receive(&mut &web[..]).map(drop),
            Answer::receive(&mut &web[..]).map(drop),
            Frame::receive(&mut &web[..]).map(drop),
        ] {
            assert_eq!(kind.expect_err("that is no rank").kind(), ErrorKind::InvalidData);
        }
    }
}
