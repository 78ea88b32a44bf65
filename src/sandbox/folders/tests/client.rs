//! A client for tests: it says what it is told to, and takes answers apart.

use super::super::Server;
use super::super::wire::kind;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// The fid of the folder itself.
pub(super) const ROOT: u32 = 0;
/// A fid for what a test has open.
pub(super) const OPEN: u32 = 1;
/// A fid that the client's own steps use.
const SCRATCH: u32 = 0x7fff_0000;
/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The fields of a message, as they are appended.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) Vec<u8>);

impl Fields {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut with = self.u16(text.len() as u16);
        with.0.extend(text);
        with
    }
}

pub(super) fn fields() -> Fields {
    Fields::default()
}

pub(super) fn message(kind: u8, tag: u16, body: &Fields) -> Vec<u8> {
    let mut bytes = ((body.0.len() + 7) as u32).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(tag.to_le_bytes());
    bytes.extend(&body.0);
    bytes
}

/// An answer's fields, or the error.
pub(super) type Answered = Result<Answer, u32>;

/// An answer's fields, taken from the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        self.0.drain(..count).collect()
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().unwrap())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    pub(super) fn text(&mut self) -> Vec<u8> {
        let length = self.u16();
        self.take(length.into())
    }
}

/// What Rgetattr tells, as far as tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) qid_path: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u64,
    pub(super) size: u64,
    pub(super) mtime: (u64, u64),
}

/// A served folder and a connection to it.
pub(super) struct Client {
    pub(super) dir: TempDir,
    stream: UnixStream,
    served: Option<JoinHandle<io::Result<()>>>,
    early: HashMap<u16, (u8, Answer)>,
    next_tag: u16,
}

impl Client {
    /// A new folder, `inside` a directory that also has `outside`.
    pub(super) fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), false)
    }

    pub(super) fn with(dir: TempDir, read_only: bool) -> Self {
        let inside = dir.path().join("inside");
        if !inside.exists() {
            std::fs::create_dir(&inside).unwrap();
            std::fs::create_dir(dir.path().join("outside")).unwrap();
            std::fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        }
        let mut client = Self::silent(dir, read_only);
        let body = fields().u32(1 << 20).text("9P2000.L");
        let mut agreed = client.call(kind::VERSION, &body).unwrap();
        assert_eq!(
            (agreed.u32(), agreed.text()),
            (512 << 10, b"9P2000.L".to_vec())
        );
        client.attach(ROOT, 0);
        client
    }

    /// A connection on which nothing was said yet.
    pub(super) fn silent(dir: TempDir, read_only: bool) -> Self {
        let server = Server::new(&dir.path().join("inside"), read_only).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let served = std::thread::spawn(move || {
            let served = server.serve(theirs.try_clone().unwrap(), &theirs);
            let _ = theirs.shutdown(Shutdown::Both);
            served
        });
        Self {
            dir,
            stream: ours,
            served: Some(served),
            early: HashMap::new(),
            next_tag: 0,
        }
    }

    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("inside").join(inside)
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Sends a request and says its tag.
    pub(super) fn send(&mut self, kind: u8, body: &Fields) -> u16 {
        self.next_tag = (self.next_tag + 1) & 0x7fff;
        self.send_raw(&message(kind, self.next_tag, body));
        self.next_tag
    }

    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        // A server that has seen enough does not read on.
        let _ = self.stream.write_all(bytes);
    }

    /// The next answer, whatever it is for: tag, kind, fields.
    pub(super) fn receive(&mut self) -> io::Result<(u16, u8, Answer)> {
        let mut header = [0; 7];
        self.stream.read_exact(&mut header)?;
        let size = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        assert!((7..=512 << 10).contains(&size), "{size}");
        let mut body = vec![0; size - 7];
        self.stream.read_exact(&mut body)?;
        let tag = u16::from_le_bytes([header[5], header[6]]);
        Ok((tag, header[4], Answer(body)))
    }

    /// Waits for the answer to a request of this kind.
    pub(super) fn answer_to(&mut self, kind: u8, tag: u16) -> Answered {
        while !self.early.contains_key(&tag) {
            let (tag, kind, answer) = self.receive().unwrap();
            assert!(self.early.insert(tag, (kind, answer)).is_none());
        }
        match self.early.remove(&tag).unwrap() {
            (7, mut error) => Err(error.u32()),
            (answered, answer) => {
                assert_eq!(answered, kind + 1);
                Ok(answer)
            }
        }
    }

    pub(super) fn call(&mut self, kind: u8, body: &Fields) -> Answered {
        let tag = self.send(kind, body);
        self.answer_to(kind, tag)
    }

    pub(super) fn attach(&mut self, fid: u32, uid: u32) {
        let body = fields().u32(fid).u32(u32::MAX).text("").text("").u32(uid);
        self.call(kind::ATTACH, &body).unwrap();
    }

    /// Walks from a fid and says how many names were found.
    pub(super) fn walk(&mut self, fid: u32, new: u32, names: &[&str]) -> Result<usize, u32> {
        let mut body = fields().u32(fid).u32(new).u16(names.len() as u16);
        for name in names {
            body = body.text(name);
        }
        let mut answer = self.call(kind::WALK, &body)?;
        let found = answer.u16().into();
        assert_eq!(answer.0.len(), 13 * found);
        Ok(found)
    }

    /// Walks all of a path from the folder.
    pub(super) fn find(&mut self, path: &str, new: u32) -> Result<(), u32> {
        let names: Vec<_> = path.split('/').filter(|it| !it.is_empty()).collect();
        match self.walk(ROOT, new, &names)? {
            found if found == names.len() => Ok(()),
            _ => Err(2),
        }
    }

    pub(super) fn clunk(&mut self, fid: u32) -> Result<(), u32> {
        self.call(kind::CLUNK, &fields().u32(fid)).map(drop)
    }

    pub(super) fn open(&mut self, fid: u32, flags: u32) -> Result<(), u32> {
        self.call(kind::LOPEN, &fields().u32(fid).u32(flags))
            .map(drop)
    }

    /// Opens a path as `OPEN`.
    pub(super) fn open_path(&mut self, path: &str, flags: u32) -> Result<(), u32> {
        self.find(path, OPEN)?;
        let opened = self.open(OPEN, flags);
        if opened.is_err() {
            self.clunk(OPEN).unwrap();
        }
        opened
    }

    /// Makes a file in a directory and leaves it open as `OPEN`.
    pub(super) fn create(
        &mut self,
        dir: &str,
        name: &str,
        flags: u32,
        mode: u32,
    ) -> Result<(), u32> {
        self.find(dir, OPEN)?;
        let body = fields().u32(OPEN).text(name).u32(flags).u32(mode).u32(0);
        let made = self.call(kind::LCREATE, &body).map(drop);
        if made.is_err() {
            self.clunk(OPEN).unwrap();
        }
        made
    }

    pub(super) fn read(&mut self, fid: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let body = fields().u32(fid).u64(offset).u32(count);
        let mut answer = self.call(kind::READ, &body)?;
        assert_eq!(answer.u32() as usize, answer.0.len());
        Ok(answer.0)
    }

    pub(super) fn write(&mut self, fid: u32, offset: u64, data: &[u8]) -> Result<u32, u32> {
        let mut body = fields().u32(fid).u64(offset).u32(data.len() as u32);
        body.0.extend(data);
        self.call(kind::WRITE, &body).map(|mut it| it.u32())
    }

    pub(super) fn attributes(&mut self, fid: u32) -> Result<Attributes, u32> {
        let mut answer = self.call(kind::GETATTR, &fields().u32(fid).u64(0x3fff))?;
        assert_eq!(answer.0.len(), 153);
        assert_eq!(answer.u64(), 0x7ff);
        answer.take(5);
        let qid_path = answer.u64();
        let (mode, uid, gid) = (answer.u32(), answer.u32(), answer.u32());
        let (nlink, _rdev, size) = (answer.u64(), answer.u64(), answer.u64());
        answer.take(32);
        let mtime = (answer.u64(), answer.u64());
        Ok(Attributes {
            qid_path,
            mode,
            uid,
            gid,
            nlink,
            size,
            mtime,
        })
    }

    pub(super) fn attributes_of(&mut self, path: &str) -> Result<Attributes, u32> {
        self.on(path, |client, fid| client.attributes(fid))
    }

    /// Does something with a fid of a path.
    pub(super) fn on<T>(
        &mut self,
        path: &str,
        call: impl FnOnce(&mut Self, u32) -> Result<T, u32>,
    ) -> Result<T, u32> {
        self.find(path, SCRATCH)?;
        let result = call(self, SCRATCH);
        self.clunk(SCRATCH).unwrap();
        result
    }

    /// Sends a request whose first field is a fid, with one of a path.
    pub(super) fn call_on(&mut self, path: &str, kind: u8, rest: Fields) -> Answered {
        self.on(path, |client, fid| {
            let mut body = fields().u32(fid);
            body.0.extend(&rest.0);
            client.call(kind, &body)
        })
    }

    pub(super) fn mkdir(&mut self, dir: &str, name: &str) -> Result<(), u32> {
        self.call_on(dir, kind::MKDIR, fields().text(name).u32(0o755).u32(0))
            .map(drop)
    }

    pub(super) fn unlink(&mut self, dir: &str, name: &str, flags: u32) -> Result<(), u32> {
        self.call_on(dir, kind::UNLINKAT, fields().text(name).u32(flags))
            .map(drop)
    }

    pub(super) fn symlink(&mut self, dir: &str, name: &str, target: &str) -> Result<(), u32> {
        self.call_on(dir, kind::SYMLINK, fields().text(name).text(target).u32(0))
            .map(drop)
    }

    pub(super) fn readlink(&mut self, path: &str) -> Result<Vec<u8>, u32> {
        self.call_on(path, kind::READLINK, fields())
            .map(|mut it| it.text())
    }

    pub(super) fn rename(&mut self, from: (&str, &str), to: (&str, &str)) -> Result<(), u32> {
        const INTO: u32 = SCRATCH + 1;
        self.find(to.0, INTO)?;
        let body = fields().text(from.1).u32(INTO).text(to.1);
        let renamed = self.call_on(from.0, kind::RENAMEAT, body).map(drop);
        self.clunk(INTO).unwrap();
        renamed
    }

    pub(super) fn link(&mut self, path: &str, dir: &str, name: &str) -> Result<(), u32> {
        const OLD: u32 = SCRATCH + 1;
        self.find(path, OLD)?;
        let linked = self
            .call_on(dir, kind::LINK, fields().u32(OLD).text(name))
            .map(drop);
        self.clunk(OLD).unwrap();
        linked
    }

    /// Changes attributes of a fid: which, mode, owner, size, time of change.
    pub(super) fn set(&mut self, fid: u32, valid: u32, set: Set) -> Result<(), u32> {
        let body = fields()
            .u32(fid)
            .u32(valid)
            .u32(set.mode)
            .u32(set.owner.0)
            .u32(set.owner.1);
        let body = body
            .u64(set.size)
            .u64(0)
            .u64(0)
            .u64(set.mtime.0)
            .u64(set.mtime.1);
        self.call(kind::SETATTR, &body).map(drop)
    }

    /// The entries of a directory from a position on, with the position behind each.
    pub(super) fn entries(
        &mut self,
        fid: u32,
        from: u64,
        count: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, u32> {
        let body = fields().u32(fid).u64(from).u32(count);
        let mut answer = self.call(kind::READDIR, &body)?;
        assert_eq!(answer.u32() as usize, answer.0.len());
        assert!(answer.0.len() <= count as usize);
        let mut entries = Vec::new();
        let mut rest = answer.0.as_slice();
        while !rest.is_empty() {
            let next = u64::from_le_bytes(rest[13..21].try_into().unwrap());
            let length = usize::from(u16::from_le_bytes([rest[22], rest[23]]));
            entries.push((next, rest[24..24 + length].to_vec()));
            rest = &rest[24 + length..];
        }
        Ok(entries)
    }

    /// The names in a directory, without `.` and `..`, in order.
    pub(super) fn list(&mut self, path: &str) -> Result<Vec<String>, u32> {
        self.on(path, |client, fid| {
            client.open(fid, 0)?;
            let (mut names, mut from) = (Vec::new(), 0);
            loop {
                let some = client.entries(fid, from, 8192)?;
                let Some((next, _)) = some.last() else { break };
                from = *next;
                names.extend(
                    some.into_iter()
                        .map(|(_, name)| String::from_utf8(name).unwrap()),
                );
            }
            names.retain(|it| it != "." && it != "..");
            names.sort();
            Ok(names)
        })
    }

    /// Hangs up, and says how serving ended.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.ended()
    }

    /// How serving ended by itself.
    pub(super) fn ended(&mut self) -> io::Result<()> {
        self.served.take().unwrap().join().unwrap()
    }
}

/// Values for `Client::set`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Set {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) size: u64,
    pub(super) mtime: (u64, u64),
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(served) = self.served.take() {
            let _ = served.join();
        }
    }
}

/// What a file of the host holds.
pub(super) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
