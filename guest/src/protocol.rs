//! The framed protocol between the launcher and the guest's init.
//!
//! It does not know its transport: any ordered, lossless, 8-bit clean pair of byte streams will do. A frame is a kind
//! (1 byte), a payload length (4 bytes, little-endian) and the payload. Every kind has a bound on its length, which is checked
//! before the payload is waited for, so that a peer can make the other hold no more than `PAYLOAD_MAX` bytes. A frame
//! that is not exactly as described here is an error and ends the session: on a lossless link it is never an accident.
//!
//! The guest speaks first. What comes before its greeting is not frames (a driver may have probed the port), so the
//! launcher drops bytes until `GREETING`. The launcher stays silent until then, because a terminal that init has not yet
//! made raw would echo.
//!
//! Back-pressure: a sender of a stream may have `WINDOW` bytes under way and gets more by `Credit`. The receiver
//! grants what it has passed on, so a stalled reader stalls its writer and no other stream.

/// The first bytes that the guest sends, before any frame.
pub const GREETING: &[u8; 8] = b"\0xlaunch";
/// The version that both sides must speak.
pub const VERSION: u16 = 2;
/// The bytes of one stream that may be under way without credit.
pub const WINDOW: u32 = 512 * 1024;
/// The most bytes that one data frame carries.
pub const DATA_MAX: usize = 64 * 1024;
/// The most bytes that any frame's payload has.
pub const PAYLOAD_MAX: usize = 128 * 1024;

const HEADER: usize = 5;
const REFUSAL_TEXT_MAX: usize = 4096;
/// A start frame's terminal flag, window, and the lengths of its directory, user, arguments and environment.
const START_MIN: usize = 1 + 4 + 4 * 4;

/// One of the command's three streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input, towards the guest.
    Stdin = 0,
    /// Standard output; also everything that a terminal shows.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The command and its arguments; empty for a login shell.
    pub argv: Vec<Vec<u8>>,
    /// Environment entries, `NAME=value`, over the guest's own.
    pub env: Vec<Vec<u8>>,
    /// The directory to start in; empty for the guest's choice.
    pub cwd: Vec<u8>,
    /// Whom to run it as, `USER[:GROUP]` by names or numbers of the guest; empty for root.
    pub user: Vec<u8>,
    /// The terminal that the command gets, or `None` for three separate streams.
    pub terminal: Option<Window>,
}

/// Why a command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is there but cannot be executed.
    NotExecutable = 126,
    /// It is not there.
    NotFound = 127,
    /// Init could not prepare what the command needs.
    Unprepared = 125,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Guest: init is ready and speaks this version.
    Hello(u16),
    /// Guest: how long its kernel had run, in microseconds, when init began and when it greeted.
    Booted(u64, u64),
    /// Launcher: run this.
    Start(Start),
    /// Either: bytes of a stream.
    Data(Stream, Vec<u8>),
    /// Either: the stream's writer has nothing more to send.
    End(Stream),
    /// Either: the stream's reader is gone; what is still sent is dropped.
    Closed(Stream),
    /// Either: the receiver has passed on this many bytes.
    Credit(Stream, u32),
    /// Launcher: the terminal has a new size.
    Resize(Window),
    /// Launcher: send this signal to the command's process group.
    Signal(u8),
    /// Guest: the command has been started.
    Started,
    /// Guest: the command ended with this code. All its output has been sent.
    Exited(u8),
    /// Guest: this signal ended the command. All its output has been sent.
    Killed(u8),
    /// Guest: the command was not started.
    Refused(Refusal, String),
    /// Launcher: put the file systems in order and power off.
    PowerOff,
    /// Launcher: it is this time, in nanoseconds since 1970 began in UTC.
    Clock(u64),
}

/// A peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No frame has this kind.
    Kind(u8),
    /// A frame of this kind cannot be this long.
    Length(u8, u32),
    /// The payload of a frame of this kind is not as it must be.
    Payload(u8),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a frame of unknown kind {kind:#04x}"),
            Self::Length(kind, length) => {
                write!(f, "a frame of kind {kind:#04x} with {length} bytes")
            }
            Self::Payload(kind) => write!(f, "a frame of kind {kind:#04x} with a wrong payload"),
        }
    }
}

impl std::error::Error for Malformed {}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const START: u8 = 2;
    pub(super) const DATA: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const CLOSED: u8 = 5;
    pub(super) const CREDIT: u8 = 6;
    pub(super) const RESIZE: u8 = 7;
    pub(super) const SIGNAL: u8 = 8;
    pub(super) const EXITED: u8 = 9;
    pub(super) const KILLED: u8 = 10;
    pub(super) const REFUSED: u8 = 11;
    pub(super) const POWER_OFF: u8 = 12;
    pub(super) const CLOCK: u8 = 13;
    pub(super) const BOOTED: u8 = 14;
    pub(super) const STARTED: u8 = 15;

    /// The least and the most bytes that a payload of this kind has.
    pub(super) fn bounds(kind: u8) -> Option<(usize, usize)> {
        Some(match kind {
            HELLO => (2, 2),
            START => (super::START_MIN, super::PAYLOAD_MAX),
            DATA => (2, 1 + super::DATA_MAX),
            END | CLOSED | SIGNAL | EXITED | KILLED => (1, 1),
            CREDIT => (5, 5),
            RESIZE => (4, 4),
            REFUSED => (1, 1 + super::REFUSAL_TEXT_MAX),
            POWER_OFF | STARTED => (0, 0),
            CLOCK => (8, 8),
            BOOTED => (16, 16),
            _ => return None,
        })
    }
}

impl Start {
    /// Whether the command can be sent: its frame's payload is at most `PAYLOAD_MAX` bytes.
    pub fn fits(&self) -> bool {
        let lists = [&self.argv, &self.env];
        let items = lists.into_iter().flatten();
        let items: usize = items.map(|item| 4 + item.len()).sum();
        START_MIN + self.cwd.len() + self.user.len() + items <= PAYLOAD_MAX
    }
}

impl Frame {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind(), 0, 0, 0, 0]);
        self.payload(out);
        let length = out.len() - start - HEADER;
        out[start + 1..start + HEADER].copy_from_slice(&(length as u32).to_le_bytes());
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Booted(..) => kind::BOOTED,
            Self::Started => kind::STARTED,
            Self::Start(_) => kind::START,
            Self::Data(..) => kind::DATA,
            Self::End(_) => kind::END,
            Self::Closed(_) => kind::CLOSED,
            Self::Credit(..) => kind::CREDIT,
            Self::Resize(_) => kind::RESIZE,
            Self::Signal(_) => kind::SIGNAL,
            Self::Exited(_) => kind::EXITED,
            Self::Killed(_) => kind::KILLED,
            Self::Refused(..) => kind::REFUSED,
            Self::PowerOff => kind::POWER_OFF,
            Self::Clock(_) => kind::CLOCK,
        }
    }

    fn payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(version) => out.extend_from_slice(&version.to_le_bytes()),
            Self::Booted(init, ready) => {
                out.extend_from_slice(&init.to_le_bytes());
                out.extend_from_slice(&ready.to_le_bytes());
            }
            Self::Start(start) => encode_start(start, out),
            Self::Data(stream, data) => {
                out.push(*stream as u8);
                out.extend_from_slice(data);
            }
            Self::End(stream) | Self::Closed(stream) => out.push(*stream as u8),
            Self::Credit(stream, bytes) => {
                out.push(*stream as u8);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Self::Resize(window) => encode_window(*window, out),
            Self::Signal(byte) | Self::Exited(byte) | Self::Killed(byte) => out.push(*byte),
            Self::Refused(refusal, text) => {
                out.push(*refusal as u8);
                out.extend_from_slice(
                    &text.as_bytes()[..text.floor_char_boundary(REFUSAL_TEXT_MAX)],
                );
            }
            Self::Started | Self::PowerOff => {}
            Self::Clock(nanoseconds) => out.extend_from_slice(&nanoseconds.to_le_bytes()),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let frame = match kind {
            kind::HELLO => Self::Hello(fields.u16()?),
            kind::BOOTED => Self::Booted(fields.u64()?, fields.u64()?),
            kind::STARTED => Self::Started,
            kind::START => Self::Start(fields.start()?),
            kind::DATA => Self::Data(fields.stream()?, fields.rest().to_vec()),
            kind::END => Self::End(fields.stream()?),
            kind::CLOSED => Self::Closed(fields.stream()?),
            kind::CREDIT => Self::Credit(fields.stream()?, fields.u32()?),
            kind::RESIZE => Self::Resize(fields.window()?),
            kind::SIGNAL => Self::Signal(fields.u8()?),
            kind::EXITED => Self::Exited(fields.u8()?),
            kind::KILLED => Self::Killed(fields.u8()?),
            kind::REFUSED => {
                let refusal = fields.refusal()?;
                Self::Refused(refusal, String::from_utf8(fields.rest().to_vec()).ok()?)
            }
            kind::POWER_OFF => Self::PowerOff,
            kind::CLOCK => Self::Clock(fields.u64()?),
            _ => return None,
        };
        fields.0.is_empty().then_some(frame)
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Takes in bytes as they come. The caller asks `next` until it has no frame before it pushes more, so
    /// that what is held is less than one frame and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let bytes = &self.bytes[self.taken..];
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let length = u32::from_le_bytes(length);
        let (least, most) = kind::bounds(kind).ok_or(Malformed::Kind(kind))?;
        if (length as usize) < least || (length as usize) > most {
            return Err(Malformed::Length(kind, length));
        }
        let Some(payload) = rest.get(..length as usize) else {
            return Ok(None);
        };
        let frame = Frame::decode(kind, payload).ok_or(Malformed::Payload(kind))?;
        self.taken += HEADER + length as usize;
        Ok(Some(frame))
    }
}

/// Finds the greeting in what comes first on a link.
#[derive(Debug, Default)]
pub struct GreetingFinder {
    matched: usize,
}

impl GreetingFinder {
    /// Looks through `bytes`. `Some(rest)` are the bytes after the greeting, once it has been seen.
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        for (at, &byte) in bytes.iter().enumerate() {
            // The greeting's first byte occurs in it only once, so a mismatch can only restart at that byte.
            if byte != GREETING[self.matched] {
                self.matched = 0;
            }
            if byte == GREETING[self.matched] {
                self.matched += 1;
            }
            if self.matched == GREETING.len() {
                self.matched = 0;
                return Some(&bytes[at + 1..]);
            }
        }
        None
    }
}

fn encode_window(window: Window, out: &mut Vec<u8>) {
    out.extend_from_slice(&window.rows.to_le_bytes());
    out.extend_from_slice(&window.columns.to_le_bytes());
}

fn encode_start(start: &Start, out: &mut Vec<u8>) {
    let none = Window {
        rows: 0,
        columns: 0,
    };
    out.push(u8::from(start.terminal.is_some()));
    encode_window(start.terminal.unwrap_or(none), out);
    encode_bytes(&start.cwd, out);
    encode_bytes(&start.user, out);
    for list in [&start.argv, &start.env] {
        out.extend_from_slice(&(list.len() as u32).to_le_bytes());
        list.iter().for_each(|item| encode_bytes(item, out));
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What is left of a payload. Every method takes from its front and gives `None` where it is too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A length and that many bytes.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.u32()? as usize;
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head.to_vec())
    }

    /// A count and that many byte strings. The count reserves nothing: each item must be there.
    fn list(&mut self) -> Option<Vec<Vec<u8>>> {
        let count = self.u32()?;
        (0..count).map(|_| self.bytes()).collect()
    }

    fn stream(&mut self) -> Option<Stream> {
        Some(match self.u8()? {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        })
    }

    fn window(&mut self) -> Option<Window> {
        Some(Window {
            rows: self.u16()?,
            columns: self.u16()?,
        })
    }

    fn refusal(&mut self) -> Option<Refusal> {
        Some(match self.u8()? {
            125 => Refusal::Unprepared,
            126 => Refusal::NotExecutable,
            127 => Refusal::NotFound,
            _ => return None,
        })
    }

    fn start(&mut self) -> Option<Start> {
        let terminal = match self.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let window = self.window()?;
        Some(Start {
            terminal: terminal.then_some(window),
            cwd: self.bytes()?,
            user: self.bytes()?,
            argv: self.list()?,
            env: self.list()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Frame> {
        let window = Window {
            rows: 25,
            columns: 80,
        };
        vec![
            Frame::Hello(VERSION),
            Frame::Booted(u64::MAX, 1),
            Frame::Started,
            Frame::Start(Start::default()),
            Frame::Start(Start {
                argv: vec![b"sh".to_vec(), b"-c".to_vec(), Vec::new()],
                env: vec![b"A=\xff".to_vec()],
                cwd: b"/tmp".to_vec(),
                user: b"nobody".to_vec(),
                terminal: Some(window),
            }),
            Frame::Data(Stream::Stdin, vec![0; DATA_MAX]),
            Frame::Data(Stream::Stdout, b"x".to_vec()),
            Frame::End(Stream::Stderr),
            Frame::Closed(Stream::Stdout),
            Frame::Credit(Stream::Stdin, u32::MAX),
            Frame::Resize(window),
            Frame::Signal(15),
            Frame::Exited(42),
            Frame::Killed(9),
            Frame::Refused(Refusal::NotFound, "no such command".to_owned()),
            Frame::PowerOff,
            Frame::Clock(u64::MAX - 1),
        ]
    }

    fn bytes_of(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    }

    fn decode_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for chunk in bytes.chunks(piece) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = every_kind();
        let bytes = bytes_of(&frames);
        for piece in [1, 2, 5, 7, 4096, bytes.len()] {
            assert_eq!(
                decode_in_pieces(&bytes, piece).as_ref(),
                Ok(&frames),
                "{piece}"
            );
        }
    }

    #[test]
    fn a_frame_cut_short_is_waited_for() {
        for frame in every_kind() {
            let bytes = bytes_of(&[frame]);
            assert_eq!(
                decode_in_pieces(&bytes[..bytes.len() - 1], 3),
                Ok(Vec::new())
            );
        }
    }

    #[test]
    fn wrong_kinds_and_lengths_are_refused_from_the_header_alone() {
        let error = |bytes: &[u8]| decode_in_pieces(bytes, bytes.len()).unwrap_err();
        assert_eq!(error(&[0, 0, 0, 0, 0]), Malformed::Kind(0));
        assert_eq!(error(&[16, 0, 0, 0, 0]), Malformed::Kind(16));
        let long = u32::MAX.to_le_bytes();
        for kind in 1..=15 {
            let header = [kind, long[0], long[1], long[2], long[3]];
            assert_eq!(error(&header), Malformed::Length(kind, u32::MAX));
        }
        assert_eq!(error(&[kind::DATA, 1, 0, 0, 0, 0]), Malformed::Length(3, 1));
    }

    #[test]
    fn payloads_that_lie_about_themselves_are_refused() {
        let error = |kind: u8, payload: &[u8]| {
            let mut bytes = vec![kind];
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(payload);
            decode_in_pieces(&bytes, bytes.len())
        };
        let start = [0; START_MIN];
        assert!(error(kind::START, &start).is_ok());
        let with = |at: usize, byte: u8| {
            let mut wrong = start;
            wrong[at] = byte;
            wrong
        };
        let lies = [
            with(0, 2),
            with(5, 1),
            with(9, 200),
            with(12, 0xff),
            with(16, 0xff),
        ];
        for lie in lies {
            assert_eq!(
                error(kind::START, &lie),
                Err(Malformed::Payload(kind::START))
            );
        }
        assert_eq!(error(kind::END, &[3]), Err(Malformed::Payload(kind::END)));
        assert_eq!(
            error(kind::REFUSED, &[1, b'x']),
            Err(Malformed::Payload(kind::REFUSED))
        );
        assert_eq!(
            error(kind::REFUSED, &[126, 0xff]),
            Err(Malformed::Payload(kind::REFUSED))
        );
    }

    #[test]
    fn a_command_fits_up_to_the_bound() {
        let start = |length| Start {
            argv: vec![vec![b'x'; length]],
            ..Start::default()
        };
        let most = PAYLOAD_MAX - START_MIN - 4;
        assert!(start(most).fits());
        assert!(!start(most + 1).fits());
        let bytes = bytes_of(&[Frame::Start(start(most))]);
        assert_eq!(
            decode_in_pieces(&bytes, 1000),
            Ok(vec![Frame::Start(start(most))])
        );
    }

    #[test]
    fn the_greeting_is_found_after_noise_and_in_pieces() {
        let mut finder = GreetingFinder::default();
        assert_eq!(finder.feed(b"noise\0xlau\0"), None);
        assert_eq!(finder.feed(b"xlaunc"), None);
        assert_eq!(finder.feed(b"hframes"), Some(&b"frames"[..]));
    }

    #[test]
    fn random_bytes_never_panic_and_hold_little() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        let mut refused = 0;
        for _ in 0..20_000 {
            let kind = random() % 17;
            let length = random() % 40;
            let mut bytes = vec![kind, length, 0, 0, 0];
            bytes.extend((0..length).map(|_| random() % 4));
            refused += u32::from(decode_in_pieces(&bytes, 64).is_err());
        }
        assert!(refused > 1000, "{refused}");
    }
}
