//! What the launcher serves on the private link: the session, and each shared folder.
//!
//! A service is a port of the link. Init connects to those that it needs, in each round of the machine anew. The
//! session's comes as a `Line`, whose first read waits for init; a folder's is served by a thread of its own as long as
//! the round lasts.

use super::folders;
use super::line::Line;
use crate::backend::net::Network;
use crate::backend::net::link::{LinkNet, LinkReader, LinkWriter, Listener};
use guest::link::port;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The services of one run.
pub struct Services {
    link: Arc<LinkNet>,
    folders: Vec<Arc<folders::Server>>,
}

impl Services {
    /// Services with these folders, the first of which has the first port. Errors are the system's, where it has no
    /// more threads.
    pub fn new(folders: Vec<folders::Server>) -> io::Result<Self> {
        let link = Arc::new(LinkNet::new()?);
        let folders = folders.into_iter().map(Arc::new).collect();
        Ok(Self { link, folders })
    }

    /// The link, for the machine.
    pub fn network(&self) -> Arc<dyn Network> {
        self.link.clone()
    }

    /// Listens for a round of the machine, before it begins; gives the session's line. Errors are the system's, where
    /// it has no more threads.
    pub fn listen(&self) -> io::Result<Line> {
        for (server, port) in self.folders.iter().zip(port::FOLDERS..) {
            let (server, listener) = (server.clone(), self.link.listen(port));
            let builder = thread::Builder::new().name("folder".to_owned());
            builder.spawn(move || serve(&server, &listener))?;
        }
        let writer = Writer::default();
        Ok(Line {
            from_guest: Box::new(FromInit {
                listener: self.link.listen(port::SESSION),
                reader: None,
                writer: writer.clone(),
            }),
            to_guest: Box::new(ToInit(writer)),
        })
    }

    /// Ends the round: everybody who reads comes to an end.
    pub fn hang_up(&self) {
        self.link.hang_up();
    }

    /// Lets a new round begin.
    pub fn pick_up(&self) {
        self.link.pick_up();
    }
}

/// Serves a folder until the round ends.
fn serve(server: &folders::Server, listener: &Listener) {
    let mut told = false;
    while let Some((reader, writer)) = listener.accept() {
        // What ends it early is the guest's doing, and its loss alone. It is told once, since the guest can do it again.
        if let Err(error) = server.serve(reader, writer)
            && !std::mem::replace(&mut told, true)
        {
            log::warn!("a shared folder's connection ended: {error}");
        }
    }
}

/// The session's writing half, once init has connected.
type Writer = Arc<Mutex<Option<LinkWriter>>>;

struct FromInit {
    listener: Listener,
    reader: Option<LinkReader>,
    writer: Writer,
}

impl Read for FromInit {
    /// Waits for init at first.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reader.is_none() {
            let Some((reader, writer)) = self.listener.accept() else {
                return Ok(0);
            };
            *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            self.reader = Some(reader);
        }
        self.reader
            .as_mut()
            .map_or(Ok(0), |reader| reader.read(buffer))
    }
}

struct ToInit(Writer);

impl ToInit {
    fn with<T>(&self, act: impl FnOnce(&mut LinkWriter) -> io::Result<T>) -> io::Result<T> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is told anything before having said something.
        let writer = writer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        act(writer)
    }
}

impl Write for ToInit {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Write::flush)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn init_knows_the_links_interface() {
        assert_eq!(crate::layout::LINK_MAC, guest::link::MAC);
    }
}
