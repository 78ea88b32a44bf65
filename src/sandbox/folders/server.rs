//! Reads requests and answers them, several at a time.
//!
//! The threads of a connection take turns at reading: who has read a request that may wait for a disk lets another read
//! on, and who has read one that does not answers it at once, so that most requests wake one thread only. Locks that must
//! wait are kept aside by one thread more. All of it is made when it is first needed.

use super::errno::Errno;
use super::files::again;
use super::locks::status;
use super::session::{Answer, Blocked, Session};
use super::tree::{self, Node, locked};
use super::wire::{self, HEADER, Reply, Request, kind};
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

/// The most threads that answer a connection's requests.
const WORKERS_MAX: usize = 8;
/// The most locks that wait; who comes later is told to ask again.
const WAITING_MAX: usize = 1024;
/// How long a lock waits until it is tried again, at first and at most.
const PATIENCE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(50);
/// What is read ahead: many short requests at once, while a long one goes straight to its place.
const READ_AHEAD: usize = 16 * 1024;

/// A folder that can be served.
#[derive(Debug)]
pub struct Server {
    root: Arc<Node>,
    read_only: bool,
}

impl Server {
    /// Opens a directory of the host. The error says what is wrong with it, without its name.
    pub fn new(root: &Path, read_only: bool) -> io::Result<Self> {
        let root = tree::root(root)?;
        Ok(Self { root, read_only })
    }

    /// Answers requests until the reader ends, breaks, or brings something that is no message; that, and a writer that
    /// breaks, is an error. Every call is a connection of its own.
    pub fn serve(&self, reader: impl Read + Send, writer: impl Write + Send) -> io::Result<()> {
        let connection = Connection {
            session: Session::new(self.root.clone(), self.read_only),
            reader: Mutex::new(BufReader::with_capacity(READ_AHEAD, reader)),
            readers: AtomicUsize::new(0),
            workers: AtomicUsize::new(1),
            writer: Mutex::new(writer),
            pending: Mutex::default(),
            waiting: Mutex::default(),
            changed: Condvar::new(),
            ended: Mutex::default(),
        };
        thread::scope(|scope| connection.work(scope));
        let ended = connection.ended.into_inner();
        ended
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or(Ok(()))
    }
}

/// Locks that wait.
#[derive(Default)]
struct Waiting {
    locks: Vec<(u16, Blocked)>,
    /// Whether a thread tries them.
    watched: bool,
}

struct Connection<R, W> {
    session: Session,
    reader: Mutex<BufReader<R>>,
    /// Threads that read or want to.
    readers: AtomicUsize,
    workers: AtomicUsize,
    writer: Mutex<W>,
    /// The requests that are not answered yet by their tags, and the flushes that wait for them.
    pending: Mutex<HashMap<u16, Vec<u16>>>,
    /// Is taken before `pending`.
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Why no more requests are read.
    ended: Mutex<Option<io::Result<()>>>,
}

/// A request as it came.
#[derive(Default)]
struct Message {
    /// At least `len` bytes; the memory is kept for the next one.
    bytes: Vec<u8>,
    len: usize,
}

impl Message {
    fn kind(&self) -> u8 {
        self.bytes[4]
    }

    fn tag(&self) -> u16 {
        u16::from_le_bytes([self.bytes[5], self.bytes[6]])
    }

    fn body(&self) -> &[u8] {
        &self.bytes[HEADER..self.len]
    }

    /// Reads the next one. False at the end.
    fn read(&mut self, reader: &mut impl Read, longest: u32) -> io::Result<bool> {
        let mut length = [0; 4];
        let first = again(|| reader.read(&mut length[..1]))?;
        if first == 0 {
            return Ok(false);
        }
        reader.read_exact(&mut length[1..])?;
        let size = u32::from_le_bytes(length);
        if size > longest || (size as usize) < HEADER {
            return Err(malformed(format!("a message of {size} bytes")));
        }
        self.len = size as usize;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        self.bytes[..4].copy_from_slice(&length);
        reader.read_exact(&mut self.bytes[4..self.len])?;
        Ok(true)
    }
}

fn malformed(what: String) -> io::Error {
    let text = format!("the guest's 9P client sent {what}, which no client does");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Whether a request may wait for a disk. The others look at what is in memory as a rule.
fn may_wait(kind: u8) -> bool {
    !matches!(
        kind,
        kind::VERSION
            | kind::AUTH
            | kind::ATTACH
            | kind::FLUSH
            | kind::WALK
            | kind::GETATTR
            | kind::READLINK
            | kind::CLUNK
            | kind::LOCK
            | kind::GETLOCK
            | kind::XATTRWALK
            | kind::XATTRCREATE
    )
}

impl<R: Read + Send, W: Write + Send> Connection<R, W> {
    /// Reads and answers until there is nothing more to read.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut message = Message::default();
        let mut reply = Reply::default();
        while self.next(scope, &mut message, &mut reply) {
            self.answer(scope, &message, &mut reply);
        }
    }

    /// Reads a request that may wait, after having answered all that do not. False at the end.
    fn next<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        message: &mut Message,
        reply: &mut Reply,
    ) -> bool {
        self.readers.fetch_add(1, Ordering::Relaxed);
        let mut reader = locked(&self.reader);
        while locked(&self.ended).is_none() {
            match message.read(&mut *reader, self.session.longest()) {
                Ok(true) if !self.register(message.tag()) => {
                    self.end(Err(malformed(format!("tag {} twice", message.tag()))));
                }
                Ok(true) if may_wait(message.kind()) => {
                    if self.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
                        self.add_worker(scope);
                    }
                    return true;
                }
                Ok(true) => self.answer(scope, message, reply),
                Ok(false) => self.end(Ok(())),
                Err(error) => self.end(Err(error)),
            }
        }
        self.readers.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Nothing more is read; the first reason is the one that is told.
    fn end(&self, reason: io::Result<()>) {
        locked(&self.ended).get_or_insert(reason);
        // The watcher looks before it waits.
        drop(locked(&self.waiting));
        self.changed.notify_all();
    }

    /// One thread more to read, if there may be one. Without it the requests wait for each other.
    fn add_worker<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        if self.workers.fetch_add(1, Ordering::Relaxed) < WORKERS_MAX {
            let started = thread::Builder::new()
                .name("folder".to_owned())
                .spawn_scoped(scope, move || self.work(scope));
            if started.is_ok() {
                return;
            }
        }
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a request has come. False if there is one with that tag.
    fn register(&self, tag: u16) -> bool {
        locked(&self.pending).insert(tag, Vec::new()).is_none()
    }

    fn answer<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        message: &Message,
        reply: &mut Reply,
    ) {
        let (kind, tag) = (message.kind(), message.tag());
        reply.clear();
        let answered = match wire::decode(kind, message.body()) {
            Ok(Request::Flush { old }) if !self.flush(tag, old) => return,
            Ok(Request::Flush { .. }) => Ok(Answer::Now),
            Ok(request) => self.session.answer(request, reply),
            Err(error) => Err(error),
        };
        let result = match answered {
            Ok(Answer::Now) => Ok(()),
            Ok(Answer::Later(blocked)) => {
                if self.wait_for(scope, tag, blocked) {
                    return;
                }
                reply.u8(status::BLOCKED);
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.send(tag, Some((kind, result)), reply);
    }

    /// Whether a flush can be answered at once. Otherwise it is when the request has been answered that it is about.
    fn flush(&self, tag: u16, old: u16) -> bool {
        let mut waiting = locked(&self.waiting);
        let mut pending = locked(&self.pending);
        let before = waiting.locks.len();
        waiting.locks.retain(|(waits, _)| *waits != old);
        if waiting.locks.len() < before {
            pending.remove(&old);
        }
        match pending.get_mut(&old) {
            Some(flushes) if old != tag => {
                flushes.push(tag);
                false
            }
            _ => true,
        }
    }

    /// Sends the answer to a request, if it gets one, and to the flushes that wait for it.
    fn send(&self, tag: u16, answer: Option<(u8, Result<(), Errno>)>, reply: &mut Reply) {
        // First the writer: a flush that finds the request answered must not overtake the answer. The client may use
        // the tag again as soon as it has that.
        let mut writer = locked(&self.writer);
        let mut flushes = locked(&self.pending).remove(&tag).unwrap_or_default();
        let mut written = match answer {
            Some((kind, result)) => writer.write_all(reply.finish(kind, tag, result)),
            None => Ok(()),
        };
        while let Some(flush) = flushes.pop() {
            let more = locked(&self.pending).remove(&flush);
            flushes.extend(more.unwrap_or_default());
            reply.clear();
            let rflush = reply.finish(kind::FLUSH, flush, Ok(()));
            written = written.and_then(|()| writer.write_all(rflush));
        }
        let written = written.and_then(|()| writer.flush());
        drop(writer);
        if let Err(error) = written {
            self.end(Err(error));
        }
    }

    /// Keeps a lock to be tried again. False if too many wait.
    fn wait_for<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        tag: u16,
        blocked: Blocked,
    ) -> bool {
        let mut waiting = locked(&self.waiting);
        let flushed = locked(&self.pending)
            .get(&tag)
            .is_some_and(|it| !it.is_empty());
        if flushed {
            drop(waiting);
            self.send(tag, None, &mut Reply::default());
            return true;
        }
        if !waiting.watched {
            let started = thread::Builder::new()
                .name("folder locks".to_owned())
                .spawn_scoped(scope, move || self.watch());
            waiting.watched = started.is_ok();
        }
        if !waiting.watched || waiting.locks.len() >= WAITING_MAX {
            return false;
        }
        waiting.locks.push((tag, blocked));
        self.changed.notify_all();
        true
    }

    /// Tries the locks that wait again and again.
    fn watch(&self) {
        let mut reply = Reply::default();
        let mut pause = *PATIENCE.start();
        let mut waiting = locked(&self.waiting);
        while locked(&self.ended).is_none() {
            let answered = self.try_again(&mut waiting);
            if !answered.is_empty() {
                drop(waiting);
                for (tag, result) in answered {
                    reply.clear();
                    reply.u8(status::SUCCESS);
                    self.send(tag, Some((kind::LOCK, result)), &mut reply);
                }
                waiting = locked(&self.waiting);
                continue;
            }
            if waiting.locks.is_empty() {
                let woken = self.changed.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                pause = *PATIENCE.start();
            } else {
                let woken = self.changed.wait_timeout(waiting, pause);
                waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
                pause = (pause * 2).min(*PATIENCE.end());
            }
        }
    }

    /// Takes out what need not wait any more.
    fn try_again(&self, waiting: &mut Waiting) -> Vec<(u16, Result<(), Errno>)> {
        let mut answered = Vec::new();
        waiting.locks.retain(|(tag, blocked)| {
            let result = match self.session.try_again(blocked) {
                Ok(false) => return true,
                Ok(true) => Ok(()),
                Err(error) => Err(error),
            };
            answered.push((*tag, result));
            false
        });
        answered
    }
}
