//! What a seed says, out of a stream cut anywhere: blocks are counted and skipped, the rest is told.

use anyhow::{Result, ensure};

use super::wire::{BITFIELD, CHOKE, HAVE, PIECE, UNCHOKE, u32_at};

/// Length and id; then a `piece` has two numbers before its block.
const HEAD_LEN: usize = 5;
const PIECE_HEAD_LEN: usize = 13;
/// A bitfield of four million pieces; blocks are shorter.
const MESSAGE_MAX: usize = 1 << 20;

/// One step of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// So many bytes of a block; the last ones of it or not.
    Payload {
        len: u64,
        last: bool,
    },
    Choke,
    Unchoke,
    Have,
    /// So many pieces.
    Bitfield(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The message so far, without a block's bytes.
    message: Vec<u8>,
    /// Bytes of the block that are still to come.
    block: Option<usize>,
}

impl Parser {
    /// Takes a part off `rest`.
    pub(crate) fn take(&mut self, rest: &mut &[u8]) -> Result<Heard> {
        if let Some(left) = self.block {
            let part = left.min(rest.len());
            *rest = &rest[part..];
            let last = left == part;
            if last {
                self.message.clear();
            }
            self.block = (!last).then(|| left - part);
            let len = part as u64;
            return Ok(Heard::Payload { len, last });
        }
        let goal = self.goal()?;
        let part = (goal - self.message.len()).min(rest.len());
        self.message.extend_from_slice(&rest[..part]);
        *rest = &rest[part..];
        if self.message.len() < self.goal()? {
            return Ok(Heard::Nothing);
        }
        self.whole()
    }

    /// How long the message must be before it can be looked at again.
    fn goal(&self) -> Result<usize> {
        let Some(len) = u32_at(&self.message, 0) else {
            return Ok(4);
        };
        let len = len as usize;
        ensure!(len <= MESSAGE_MAX, "a message of {len} bytes");
        Ok(match self.message.get(4) {
            None => HEAD_LEN.min(4 + len),
            Some(&PIECE) => PIECE_HEAD_LEN,
            Some(_) => 4 + len,
        })
    }

    fn whole(&mut self) -> Result<Heard> {
        let heard = match self.message.get(4) {
            Some(&PIECE) => {
                let len = u32_at(&self.message, 0).unwrap_or(0) as usize;
                ensure!(len > 9, "an empty block");
                self.block = Some(len - 9);
                return Ok(Heard::Nothing);
            }
            Some(&CHOKE) => Heard::Choke,
            Some(&UNCHOKE) => Heard::Unchoke,
            Some(&HAVE) => Heard::Have,
            Some(&BITFIELD) => {
                let bits = self.message.get(HEAD_LEN..).unwrap_or_default();
                Heard::Bitfield(bits.iter().map(|byte| byte.count_ones()).sum())
            }
            Some(_) | None => Heard::Nothing,
        };
        self.message.clear();
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::message;
    use super::*;

    /// Any split of the stream says the same, but for how a block's bytes are cut.
    #[test]
    fn any_split_says_the_same() {
        let mut stream = message(BITFIELD, &[0xff, 0x80]);
        stream.extend([0; 4]);
        stream.extend(message(UNCHOKE, &[]));
        stream.extend(message(PIECE, &[7; 8 + 100]));
        stream.extend(message(HAVE, &[0; 4]));
        stream.extend(message(PIECE, &[7; 8 + 50]));
        stream.extend(message(20, b"hello"));
        stream.extend(message(CHOKE, &[]));
        for cut in 1..stream.len() {
            let mut parser = Parser::default();
            let (mut payload, mut blocks, mut words) = (0, 0, Vec::new());
            for part in stream.chunks(cut) {
                let mut rest = part;
                while !rest.is_empty() {
                    match parser.take(&mut rest).unwrap() {
                        Heard::Nothing => {}
                        Heard::Payload { len, last } => {
                            payload += len;
                            blocks += u32::from(last);
                        }
                        word @ (Heard::Choke
                        | Heard::Unchoke
                        | Heard::Have
                        | Heard::Bitfield(_)) => words.push(word),
                    }
                }
            }
            let expected = [
                Heard::Bitfield(9),
                Heard::Unchoke,
                Heard::Have,
                Heard::Choke,
            ];
            assert_eq!((payload, blocks), (150, 2), "{cut}");
            assert_eq!(words, expected, "{cut}");
        }
    }
}
