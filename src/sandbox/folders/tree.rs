//! The objects of a folder, each reached by one name from the one before. What leads out has no name here: `hvf_sys::folder`
//! takes single names only and follows nothing, and `..` is the object that one came from.

use super::errno::Errno;
use super::wire::Qid;
use hvf_sys::folder::{Handle, Kind, NAME_MAX, Name, Stat, raise_descriptor_limit};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// What distinguishes an object on the host: file system and number.
pub(super) type Id = (u64, u64);

/// Takes a lock; a thread that panicked with it has left nothing half done that matters.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a name of what the guest sent.
pub(super) fn name(bytes: &[u8]) -> Result<Name, Errno> {
    if bytes.len() > NAME_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    Name::new(bytes).ok_or(Errno::INVAL)
}

/// The right to have one more descriptor open. All folders together leave the rest of the program enough of them.
#[derive(Debug)]
pub(super) struct Permit(());

/// How many descriptors the folders have open.
static OPEN: AtomicU64 = AtomicU64::new(0);
/// What the rest of the program needs at most, and the share of a small limit that it gets.
const RESERVED: u64 = 256;
const RESERVED_SHARE: u64 = 2;

impl Permit {
    pub(super) fn take() -> Result<Self, Errno> {
        static MOST: OnceLock<u64> = OnceLock::new();
        let most = *MOST.get_or_init(|| {
            let limit = raise_descriptor_limit().unwrap_or(RESERVED);
            limit - RESERVED.min(limit / RESERVED_SHARE)
        });
        if OPEN.fetch_add(1, Ordering::Relaxed) < most {
            Ok(Self(()))
        } else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            Err(Errno::NFILE)
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where an object was found.
type Place = (Arc<Node>, Name);

/// An object of the folder.
#[derive(Debug)]
pub(super) struct Node {
    handle: Handle,
    id: Id,
    kind: Kind,
    /// Nothing for the folder itself.
    place: Mutex<Option<Place>>,
    known: Arc<Known>,
    _permit: Permit,
}

impl Node {
    /// What distinguishes it.
    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// Its kind, which never changes.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// What to work on.
    pub(super) fn handle(&self) -> Result<&Handle, Errno> {
        // Where an object is only a name, something else may have that name by now.
        if cfg!(target_os = "macos") {
            self.stat()?;
        }
        Ok(&self.handle)
    }

    /// The same of a directory, to work on its entries.
    pub(super) fn directory(&self) -> Result<&Handle, Errno> {
        match self.kind {
            Kind::Directory => Ok(&self.handle),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// What it is now.
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        let stat = self.handle.stat()?;
        if stat.id() == self.id {
            Ok(stat)
        } else {
            Err(Errno::STALE)
        }
    }

    /// An entry of this directory.
    pub(super) fn child(self: &Arc<Self>, name: &Name) -> Result<(Arc<Self>, Stat), Errno> {
        let permit = Permit::take()?;
        let handle = self.directory()?.child(name)?;
        self.adopt(handle, name, permit)
    }

    /// Takes an object that has just been found or made in this directory.
    pub(super) fn adopt(
        self: &Arc<Self>,
        handle: Handle,
        name: &Name,
        permit: Permit,
    ) -> Result<(Arc<Self>, Stat), Errno> {
        let stat = handle.stat()?;
        let place = Some((self.clone(), name.clone()));
        Ok((Self::new(handle, &stat, place, &self.known, permit), stat))
    }

    fn new(
        handle: Handle,
        stat: &Stat,
        place: Option<Place>,
        known: &Arc<Known>,
        permit: Permit,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            handle,
            id: stat.id(),
            kind: stat.kind(),
            place: Mutex::new(place),
            known: known.clone(),
            _permit: permit,
        });
        known.add(&node);
        node
    }

    /// The directory it was found in, which for the folder itself is the folder.
    pub(super) fn parent(self: &Arc<Self>) -> Arc<Self> {
        let place = locked(&self.place);
        place.as_ref().map_or(self.clone(), |(dir, _)| dir.clone())
    }

    /// Where it is, if it still is there. The folder itself has no place.
    pub(super) fn place(&self) -> Result<Place, Errno> {
        let (dir, name) = locked(&self.place).clone().ok_or(Errno::INVAL)?;
        if dir.handle.child(&name)?.stat()?.id() == self.id {
            Ok((dir, name))
        } else {
            Err(Errno::STALE)
        }
    }

    /// What identifies it to the client.
    pub(super) fn qid(&self, stat: &Stat) -> Qid {
        self.known.qid(stat)
    }

    /// The same, as an entry of a directory tells it.
    pub(super) fn own_qid(&self) -> Qid {
        Qid {
            kind: qid_kind(self.kind),
            version: 0,
            path: self.known.path(self.id),
        }
    }

    /// The same of an entry of this directory of which only the number is known.
    pub(super) fn entry_qid(&self, ino: u64, kind: Kind) -> Qid {
        Qid {
            kind: qid_kind(kind),
            version: 0,
            path: self.known.path((self.id.0, ino)),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.known.remove(self.id);
        // Directories may be nested deeper than a stack is.
        let mut place = locked(&self.place).take();
        while let Some((dir, _)) = place {
            place = Arc::into_inner(dir).and_then(|it| locked(&it.place).take());
        }
    }
}

/// Moves an entry, and tells everything known by its old name.
pub(super) fn rename(
    dir: &Arc<Node>,
    name: &Name,
    into: &Arc<Node>,
    to: &Name,
) -> Result<(), Errno> {
    let (from, target) = (dir.directory()?, into.directory()?);
    let id = from.child(name)?.stat()?.id();
    from.rename(name, target, to)?;
    for node in dir.known.with(id) {
        let mut place = locked(&node.place);
        if place
            .as_ref()
            .is_some_and(|(old, known_as)| old.id == dir.id && known_as == name)
        {
            node.handle.moved(target, to);
            *place = Some((into.clone(), to.clone()));
        }
    }
    Ok(())
}

fn qid_kind(kind: Kind) -> u8 {
    match kind {
        Kind::Directory => Qid::DIRECTORY,
        Kind::Link => Qid::LINK,
        Kind::File | Kind::Special => Qid::FILE,
    }
}

/// The objects that fids stand for, and what identifies objects to the client.
#[derive(Debug)]
struct Known {
    nodes: Mutex<HashMap<Id, Vec<Weak<Node>>>>,
    /// The file systems that were met, the folder's own first.
    systems: Mutex<Vec<u64>>,
}

/// File systems that are told apart; the numbers of those that come later may collide.
const SYSTEMS_MAX: usize = 1 << 12;
/// Where the number of the file system stands in a path.
const SYSTEM_SHIFT: u32 = 52;

impl Known {
    fn add(&self, node: &Arc<Node>) {
        let mut nodes = locked(&self.nodes);
        nodes.entry(node.id).or_default().push(Arc::downgrade(node));
    }

    /// One of them is gone.
    fn remove(&self, id: Id) {
        let mut nodes = locked(&self.nodes);
        if let Some(those) = nodes.get_mut(&id) {
            those.retain(|it| it.strong_count() > 0);
            if those.is_empty() {
                nodes.remove(&id);
            }
        }
    }

    fn with(&self, id: Id) -> Vec<Arc<Node>> {
        let nodes = locked(&self.nodes);
        let those = nodes.get(&id).into_iter().flatten();
        those.filter_map(Weak::upgrade).collect()
    }

    fn qid(&self, stat: &Stat) -> Qid {
        Qid {
            kind: qid_kind(stat.kind()),
            version: version(stat),
            path: self.path(stat.id()),
        }
    }

    fn path(&self, (dev, ino): Id) -> u64 {
        let mut systems = locked(&self.systems);
        let number = systems.iter().position(|&it| it == dev).unwrap_or_else(|| {
            if systems.len() < SYSTEMS_MAX {
                systems.push(dev);
            }
            systems.len() - 1
        });
        ino ^ (number as u64) << SYSTEM_SHIFT
    }
}

/// A number that changes with the content, and is never 0: that says that nothing may be cached.
fn version(stat: &Stat) -> u32 {
    let (sec, nsec) = stat.mtime;
    let mixed = (sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(u64::from(nsec))
        .wrapping_add(stat.size.rotate_left(32))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32 | 1
}

/// The folder itself.
pub(super) fn root(path: &Path) -> io::Result<Arc<Node>> {
    let permit = Permit::take().map_err(|_| {
        io::Error::other("too many descriptors are open; raise the limit by ulimit -n")
    })?;
    let handle = Handle::root(path)?;
    let stat = handle.stat()?;
    let known = Arc::new(Known {
        nodes: Mutex::default(),
        systems: Mutex::new(vec![stat.dev]),
    });
    Ok(Node::new(handle, &stat, None, &known, permit))
}
