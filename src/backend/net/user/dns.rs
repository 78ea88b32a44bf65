//! The guest's name server (RFC 1035): its questions go to the host's, and the answers come back as they are.
//!
//! The name servers are asked one after the other, the next as soon as one fails and after a while even if it says
//! nothing; the first answer wins. Each question to each server has a socket and a number of its own, so that strangers
//! must guess both to answer it (RFC 5452). A failure that all agree on is passed on as well, and where none says
//! anything the guest is told that, so that its resolver need not wait. On macOS the host's own resolver is asked
//! before them all: resolv.conf says there only what the first of several resolvers would do.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(target_os = "macos")]
use hvf_sys::os::names::{Lookup, Progress, Record};
use hvf_sys::random;

#[cfg(target_os = "macos")]
use super::message::{Answer, Asked};
use super::outbox::Outbox;
use super::resolvers::Resolvers;
use super::udp;
use super::watch::{Token, Watches, any_for};

/// The port of name servers.
pub(super) const PORT: u16 = 53;

/// Bytes of a message's header: number, flags, four counts.
const HEADER: usize = 12;
/// The most questions at a time. A new one takes the place of the oldest.
const QUESTIONS_MAX: usize = 128;
/// How long the next name server is not asked.
const NEXT: Duration = Duration::from_secs(2);
/// The same after the host's own resolver was asked, which asks several itself.
const SYSTEM: Duration = Duration::from_secs(5);
/// How long a question is one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bits of the third byte, and the response code in the fourth (RFC 1035, 4.1.1).
const RESPONSE: u8 = 0x80;
const RECURSION_AVAILABLE: u8 = 0x80;
const CODE: u8 = 0x0f;
/// Response codes that answer a question: no error, and no such name.
const ANSWERS: [u8; 2] = [NO_ERROR, NO_SUCH_NAME];
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
const SERVER_FAILURE: u8 = 2;

/// A question of the guest's.
struct Question {
    guest: SocketAddr,
    /// Which address of ours it was sent to.
    asked: SocketAddr,
    message: Vec<u8>,
    /// Who is still to be asked.
    servers: std::vec::IntoIter<SocketAddr>,
    asking: Vec<Asking>,
    /// When the next one is asked.
    next: Instant,
    ends: Instant,
    /// What somebody said who does not know.
    failure: Option<Vec<u8>>,
}

/// A question on its way.
struct Asking {
    way: Way,
    over: bool,
}

enum Way {
    /// To a name server.
    Server { socket: Arc<UdpSocket>, id: [u8; 2] },
    /// To the host's own resolver, which knows the name servers of VPNs.
    #[cfg(target_os = "macos")]
    System { lookup: Arc<Lookup>, asked: Asked },
}

/// What came of it.
enum Heard {
    /// Nothing yet.
    Nothing,
    /// This message.
    Message(Vec<u8>),
    /// It has no answer.
    Failure,
}

/// All questions.
pub(super) struct Dns {
    resolvers: Resolvers,
    questions: BTreeMap<u64, Question>,
    count: u64,
}

impl Dns {
    /// No questions yet.
    pub(super) fn new(resolvers: Resolvers) -> Self {
        Self {
            resolvers,
            questions: BTreeMap::new(),
            count: 0,
        }
    }

    /// The host's name servers of this moment.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        self.resolvers.read()
    }

    /// Takes a question that the guest at `guest` has sent to `asked`.
    pub(super) fn ask(
        &mut self,
        guest: SocketAddr,
        asked: SocketAddr,
        message: &[u8],
        now: Instant,
        watches: &mut Watches,
        out: &mut Outbox,
    ) {
        if message.len() < HEADER || message[2] & RESPONSE != 0 {
            return;
        }
        if self.questions.len() >= QUESTIONS_MAX {
            self.questions.pop_first();
        }
        let asking = Vec::from_iter(Asking::system(message));
        let question = Question {
            guest,
            asked,
            message: message.to_vec(),
            servers: self.servers().into_iter(),
            next: now
                + if asking.is_empty() {
                    Duration::ZERO
                } else {
                    SYSTEM
                },
            asking,
            ends: now + PATIENCE,
            failure: None,
        };
        self.count += 1;
        self.questions.insert(self.count, question);
        watches.changed();
        self.go_on(self.count, now, out);
    }

    /// Asks the next server, if it is time, and gives up, if nobody is left.
    fn go_on(&mut self, number: u64, now: Instant, out: &mut Outbox) {
        let Some(question) = self.questions.get_mut(&number) else {
            return;
        };
        while now >= question.next || question.asking.iter().all(|it| it.over) {
            let Some(server) = question.servers.next() else {
                break;
            };
            question.next = now + NEXT;
            match Asking::begin(server, &question.message) {
                Ok(asking) => question.asking.push(asking),
                Err(error) => log::debug!("cannot ask the name server {server}: {error}"),
            }
        }
        let nobody = question.servers.len() == 0 && question.asking.iter().all(|it| it.over);
        if nobody || now >= question.ends {
            let failure = question.failure.take();
            let failure = failure.unwrap_or_else(|| nobody_knows(&question.message));
            udp::reply(question.asked, question.guest, &failure, out);
            self.questions.remove(&number);
        }
    }

    /// What is waited for, after what is late has been done.
    pub(super) fn watch(
        &mut self,
        now: Instant,
        room: bool,
        watches: &mut Watches,
        out: &mut Outbox,
    ) {
        let numbers: Vec<u64> = self.questions.keys().copied().collect();
        for number in numbers {
            self.go_on(number, now, out);
        }
        for (number, question) in &self.questions {
            for (index, asking) in question.asking.iter().enumerate() {
                asking.watch(Token::Dns(*number, index), room, watches);
            }
            watches.until(question.ends);
            if question.servers.len() > 0 {
                watches.until(question.next);
            }
        }
    }

    /// Receives what a server says.
    pub(super) fn ready(
        &mut self,
        number: u64,
        index: usize,
        buffer: &mut [u8],
        now: Instant,
        out: &mut Outbox,
    ) {
        let Some(question) = self.questions.get_mut(&number) else {
            return;
        };
        let Some(asking) = question.asking.get_mut(index) else {
            return;
        };
        let message = match asking.hear(&question.message, buffer) {
            Heard::Nothing => return,
            Heard::Message(message) => message,
            Heard::Failure => {
                asking.over = true;
                return self.go_on(number, now, out);
            }
        };
        if ANSWERS.contains(&(message[3] & CODE)) {
            udp::reply(question.asked, question.guest, &message, out);
            self.questions.remove(&number);
            return;
        }
        asking.over = true;
        question.failure = Some(message);
        self.go_on(number, now, out);
    }

    #[cfg(test)]
    pub(super) fn questions(&self) -> usize {
        self.questions.len()
    }
}

impl Asking {
    fn begin(server: SocketAddr, message: &[u8]) -> io::Result<Self> {
        let socket = UdpSocket::bind(any_for(server))?;
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        let mut id = [0; 2];
        random::fill(&mut id)?;
        let mut message = message.to_vec();
        message[..2].copy_from_slice(&id);
        socket.send(&message)?;
        let socket = Arc::new(socket);
        Ok(Self {
            way: Way::Server { socket, id },
            over: false,
        })
    }

    /// Asks the host's own resolver, where there is one that can be asked such a thing.
    #[cfg(target_os = "macos")]
    fn system(message: &[u8]) -> Option<Self> {
        let asked = Asked::read(message)?;
        match Lookup::begin(&asked.name, asked.kind, asked.class) {
            Ok(lookup) => Some(Self {
                way: Way::System {
                    lookup: Arc::new(lookup),
                    asked,
                },
                over: false,
            }),
            Err(error) => {
                log::debug!("cannot ask the host's resolver: {error}");
                None
            }
        }
    }

    #[cfg(not(target_os = "macos"))]
    fn system(_message: &[u8]) -> Option<Self> {
        None
    }

    fn watch(&self, token: Token, room: bool, watches: &mut Watches) {
        let read = room && !self.over;
        match &self.way {
            Way::Server { socket, .. } => watches.socket(token, socket, read, false),
            #[cfg(target_os = "macos")]
            Way::System { lookup, .. } => watches.socket(token, lookup, read, false),
        }
    }

    /// What has come in answer to `question`, with the number of that.
    fn hear(&self, question: &[u8], buffer: &mut [u8]) -> Heard {
        match &self.way {
            Way::Server { socket, id } => {
                let message = match socket.recv(buffer) {
                    Ok(len) => &buffer[..len],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Heard::Nothing;
                    }
                    // It is not there.
                    Err(_) => return Heard::Failure,
                };
                let answers = message.len() >= HEADER && message[..2] == *id;
                if !answers || message[2] & RESPONSE == 0 {
                    return Heard::Nothing;
                }
                let mut message = message.to_vec();
                message[..2].copy_from_slice(&question[..2]);
                Heard::Message(message)
            }
            #[cfg(target_os = "macos")]
            Way::System { lookup, asked } => match lookup.process() {
                Progress::Waiting => Heard::Nothing,
                Progress::NoName => Heard::Message(asked.answer(question, NO_SUCH_NAME, &[])),
                Progress::Failed(error) => {
                    log::debug!("the host's resolver fails: {error}");
                    Heard::Failure
                }
                Progress::Records(records) => {
                    let answers: Vec<_> = records.iter().map(Answer::from).collect();
                    Heard::Message(asked.answer(question, NO_ERROR, &answers))
                }
            },
        }
    }
}

#[cfg(target_os = "macos")]
impl<'a> From<&'a Record> for Answer<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            name: &record.name,
            kind: record.kind,
            class: record.class,
            ttl: record.ttl,
            data: &record.data,
        }
    }
}

/// The answer that there is none: the question's header and its own question, if it has one as everybody has.
fn nobody_knows(message: &[u8]) -> Vec<u8> {
    let mut answer = message[..question_end(message).unwrap_or(HEADER)].to_vec();
    answer[2] |= RESPONSE;
    answer[3] = RECURSION_AVAILABLE | SERVER_FAILURE;
    let questions = u8::from(answer.len() > HEADER);
    answer[4..HEADER].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
    answer
}

/// Where the one question of a message ends: its name's labels, type and class. Names in questions are not compressed.
fn question_end(message: &[u8]) -> Option<usize> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            len @ 1..=63 => at += 1 + usize::from(len),
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= message.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_nobody_answers_is_told_so() {
        let mut question = vec![0xab, 0xcd, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        question.extend(b"\x01a\x07example\x00\x00\x01\x00\x01");
        let plain = question.len();
        question.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let answer = nobody_knows(&question);
        assert_eq!(answer[..4], [0xab, 0xcd, 0x81, 0x82]);
        assert_eq!(answer[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer[12..], question[12..plain]);
    }

    #[test]
    fn names_that_never_end_are_not_followed() {
        let header = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for name in [
            &b"\x3f"[..],
            b"\xc0\x0c\0\x01\0\x01",
            b"\x01a",
            b"\x01a\0\0\x01\0",
            b"",
        ] {
            let message = [&header[..], name].concat();
            assert_eq!(question_end(&message), None, "{name:?}");
            let answer = nobody_knows(&message);
            assert_eq!(answer.len(), HEADER, "{name:?}");
            assert_eq!(answer[5], 0, "{name:?}");
        }
    }
}
