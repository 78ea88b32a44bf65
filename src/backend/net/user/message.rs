//! Messages of DNS (RFC 1035) where a resolver gives records instead of messages: the question taken apart, and the
//! answer put together.

/// Bytes of the header.
const HEADER: usize = 12;
/// The longest answer for a question that says nothing about length (RFC 1035, 4.2.1).
const ANSWER_MAX: usize = 512;
/// The most that is sent however much the question allows: what fits in any packet.
const EXTENDED_MAX: usize = 1232;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_AVAILABLE: u8 = 0x80;
/// A pointer to the question's name.
const TO_QUESTION: [u8; 2] = [0xc0, HEADER as u8];
/// The type of the record by which a question says how long an answer may be (RFC 6891).
const OPT: u8 = 41;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The name, dots between its labels, and escapes where RFC 1035, 5.1 wants them.
    pub(super) name: Vec<u8>,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// Where in the message the question ends.
    end: usize,
}

/// A record of the answer.
pub(super) struct Answer<'a> {
    /// Whose, written as `Asked::name`.
    pub(super) name: &'a [u8],
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: &'a [u8],
}

impl Asked {
    /// The one question of a message that is a question. Names in questions are not compressed.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        // A standard query.
        if message.get(4..6)? != [0, 1] || message[2] & 0xf8 != 0 {
            return None;
        }
        let mut name = Vec::new();
        let mut at = HEADER;
        loop {
            let len = usize::from(*message.get(at)?);
            let label = message.get(at + 1..at + 1 + len)?;
            at += 1 + len;
            match len {
                0 => break,
                1..=63 => write_label(label, &mut name),
                _ => return None,
            }
        }
        let rest: &[u8; 4] = message.get(at..)?.first_chunk()?;
        if name.is_empty() {
            name.push(b'.');
        }
        Some(Self {
            name,
            kind: u16::from_be_bytes([rest[0], rest[1]]),
            class: u16::from_be_bytes([rest[2], rest[3]]),
            end: at + 4,
        })
    }

    /// How long the answer may be: the question may say so in a record behind it, which is the only one.
    fn room(&self, message: &[u8]) -> usize {
        match message.get(self.end..) {
            Some([0, 0, OPT, high, low, ..]) if message[10..HEADER] == [0, 1] => {
                let said = usize::from(u16::from_be_bytes([*high, *low]));
                said.clamp(ANSWER_MAX, EXTENDED_MAX)
            }
            _ => ANSWER_MAX,
        }
    }

    /// The answer to `message`: these records, and this response code.
    pub(super) fn answer(&self, message: &[u8], code: u8, records: &[Answer<'_>]) -> Vec<u8> {
        let room = self.room(message);
        let mut answer = message[..self.end].to_vec();
        answer[2] = RESPONSE | answer[2] & !TRUNCATED;
        answer[3] = RECURSION_AVAILABLE | code;
        answer[6..HEADER].fill(0);
        let mut count = 0_u16;
        for record in records {
            let before = answer.len();
            let written = self.write(record, &mut answer);
            if written.is_none() || answer.len() > room {
                answer.truncate(before);
                answer[2] |= TRUNCATED;
                break;
            }
            count += 1;
        }
        answer[6..8].copy_from_slice(&count.to_be_bytes());
        answer
    }

    fn write(&self, record: &Answer<'_>, to: &mut Vec<u8>) -> Option<()> {
        let bare = |name: &[u8]| name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
        if bare(record.name) == bare(&self.name) {
            to.extend(TO_QUESTION);
        } else {
            write_name(record.name, to)?;
        }
        to.extend(record.kind.to_be_bytes());
        to.extend(record.class.to_be_bytes());
        to.extend(record.ttl.to_be_bytes());
        to.extend(u16::try_from(record.data.len()).ok()?.to_be_bytes());
        to.extend(record.data);
        Some(())
    }
}

fn write_label(label: &[u8], to: &mut Vec<u8>) {
    for &byte in label {
        match byte {
            b'.' | b'\\' => to.extend([b'\\', byte]),
            b'!'..=b'~' => to.push(byte),
            _ => to.extend(format!("\\{byte:03}").into_bytes()),
        }
    }
    to.push(b'.');
}

/// A name's labels, each with its length in front, and the end.
fn write_name(name: &[u8], to: &mut Vec<u8>) -> Option<()> {
    let mut label = Vec::new();
    let mut rest = name;
    loop {
        let end = match rest {
            [] => true,
            [b'.', tail @ ..] => {
                rest = tail;
                true
            }
            [
                b'\\',
                a @ b'0'..=b'9',
                b @ b'0'..=b'9',
                c @ b'0'..=b'9',
                tail @ ..,
            ] => {
                let digits = [*a, *b, *c].map(|it| u16::from(it - b'0'));
                let number = 100 * digits[0] + 10 * digits[1] + digits[2];
                label.push(u8::try_from(number).ok()?);
                rest = tail;
                false
            }
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                label.push(*byte);
                rest = tail;
                false
            }
        };
        if end && !label.is_empty() {
            to.push(u8::try_from(label.len()).ok().filter(|len| *len < 64)?);
            to.append(&mut label);
        }
        if end && rest.is_empty() {
            to.push(0);
            return Some(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(name: &[u8]) -> Vec<u8> {
        let mut message = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(name);
        message.extend([0, 1, 0, 1]);
        message
    }

    #[test]
    fn a_question_is_taken_apart_and_answered() {
        let message = question(b"\x03www\x04a.b\\\x02\xff \0");
        let asked = Asked::read(&message).unwrap();
        assert_eq!(asked.name, b"www.a\\.b\\\\.\\255\\032.");
        assert_eq!((asked.kind, asked.class, asked.end), (1, 1, message.len()));
        let alias = Answer {
            name: b"WWW.a\\.b\\\\.\\255\\032",
            kind: 5,
            class: 1,
            ttl: 60,
            data: b"\x01x\0",
        };
        let address = Answer {
            name: b"x.",
            kind: 1,
            data: &[192, 0, 2, 1],
            ..alias
        };
        let answer = asked.answer(&message, 0, &[alias, address]);
        assert_eq!(answer[..12], [1, 2, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        let expected = [
            &b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x03\x01x\0"[..],
            b"\x01x\0\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01",
        ];
        assert_eq!(answer[message.len()..], expected.concat());
    }

    #[test]
    fn what_is_too_long_is_cut_short() {
        let data = [7; 255];
        let records = || {
            (0..8).map(|_| Answer {
                name: b"a.",
                kind: 16,
                class: 1,
                ttl: 1,
                data: &data,
            })
        };
        let plain = question(b"\x01a\0");
        let mut long = plain.clone();
        long[11] = 1;
        long.extend([0, 0, 41, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        for (message, count) in [(plain, 1), (long, 4)] {
            let asked = Asked::read(&message).unwrap();
            let records: Vec<_> = records().collect();
            let answer = asked.answer(&message, 0, &records);
            assert_eq!((answer[2] & 2, answer[7]), (2, count));
            assert_eq!(answer.len(), 12 + 7 + usize::from(count) * (12 + 255));
        }
    }

    #[test]
    fn what_is_no_question_is_not_read() {
        let good = question(b"\x01a\0");
        for (at, value) in [(5, 0), (5, 2), (2, 0x81), (2, 0x28), (12, 0x40), (12, 0xc0)] {
            let mut message = good.clone();
            message[at] = value;
            assert_eq!(Asked::read(&message), None, "{at} {value}");
        }
        for len in 0..good.len() {
            assert_eq!(Asked::read(&good[..len]), None, "{len}");
        }
        assert_eq!(Asked::read(&question(b"\0")).unwrap().name, b".");
    }

    proptest! {
        #[test]
        fn names_are_written_as_they_were_read(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 1..4)) {
            let wire: Vec<u8> = labels.iter().flat_map(|it| [&[it.len() as u8][..], it].concat()).chain([0]).collect();
            let asked = Asked::read(&question(&wire)).unwrap();
            let mut again = Vec::new();
            prop_assert_eq!(write_name(&asked.name, &mut again), Some(()));
            prop_assert_eq!(again, wire);
        }

        #[test]
        fn any_names_at_all(name in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = write_name(&name, &mut Vec::new());
            let _ = Asked::read(&name);
        }
    }
}
