//! The numbers by which the client knows objects: a bounded table.

use super::errno::Errno;
use super::tree::{Node, Permit, locked};
use hvf_sys::folder::Listing;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::fs::File;
use std::sync::{Arc, Mutex};

/// The most fids of a connection.
const FIDS_MAX: usize = 1 << 16;

/// An object with what is under way on it.
#[derive(Debug)]
pub(super) struct Fid {
    pub(super) node: Arc<Node>,
    /// On behalf of which of the guest's users.
    pub(super) uid: u32,
    pub(super) state: Mutex<State>,
}

/// What a fid is open for.
#[derive(Debug)]
pub(super) enum State {
    /// For nothing.
    Closed,
    /// Reading and writing a regular file.
    File(Arc<Opened>),
    /// Reading a directory.
    Directory { listing: Listing, _permit: Permit },
    /// Reading an attribute or the list of them.
    Value {
        value: Arc<Vec<u8>>,
        _permit: ValuePermit,
    },
    /// Writing an attribute.
    NewValue(NewValue),
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) write: bool,
    _permit: Permit,
}

impl Opened {
    pub(super) fn new(file: File, write: bool, permit: Permit) -> Arc<Self> {
        Arc::new(Self {
            file,
            write,
            _permit: permit,
        })
    }
}

/// An attribute that is set when the fid is given back.
#[derive(Debug)]
pub(super) struct NewValue {
    pub(super) name: CString,
    pub(super) value: Vec<u8>,
    /// How many bytes it will have.
    pub(super) size: usize,
    pub(super) create: bool,
    pub(super) replace: bool,
    pub(super) _permit: ValuePermit,
}

impl Fid {
    pub(super) fn new(node: Arc<Node>, uid: u32, state: State) -> Arc<Self> {
        Arc::new(Self {
            node,
            uid,
            state: Mutex::new(state),
        })
    }

    /// The regular file that it is open for.
    pub(super) fn file(&self) -> Option<Arc<Opened>> {
        match &*locked(&self.state) {
            State::File(opened) => Some(opened.clone()),
            _ => None,
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Fids(Mutex<HashMap<u32, Arc<Fid>>>);

impl Fids {
    pub(super) fn find(&self, fid: u32) -> Result<Arc<Fid>, Errno> {
        locked(&self.0).get(&fid).cloned().ok_or(Errno::BADF)
    }

    /// Gives a number that must be free an object.
    pub(super) fn add(&self, fid: u32, object: Arc<Fid>) -> Result<(), Errno> {
        let mut fids = locked(&self.0);
        if fids.len() >= FIDS_MAX {
            return Err(Errno::NFILE);
        }
        match fids.entry(fid) {
            Entry::Occupied(_) => Err(Errno::BADF),
            Entry::Vacant(free) => {
                free.insert(object);
                Ok(())
            }
        }
    }

    /// Gives the number of `old` another object, unless it has been given away meanwhile.
    pub(super) fn replace(&self, fid: u32, old: &Arc<Fid>, new: Arc<Fid>) -> Result<(), Errno> {
        match locked(&self.0).get_mut(&fid) {
            Some(place) if Arc::ptr_eq(place, old) => {
                *place = new;
                Ok(())
            }
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn remove(&self, fid: u32) -> Result<Arc<Fid>, Errno> {
        locked(&self.0).remove(&fid).ok_or(Errno::BADF)
    }

    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *locked(&self.0));
        drop(all);
    }
}

/// The right to hold one more attribute's value.
#[derive(Debug)]
pub(super) struct ValuePermit(Arc<Mutex<usize>>);

/// The values of a connection; each has a bounded length.
#[derive(Debug, Default)]
pub(super) struct Values(Arc<Mutex<usize>>);

/// The most values that are held at a time.
const VALUES_MAX: usize = 128;

impl Values {
    pub(super) fn permit(&self) -> Result<ValuePermit, Errno> {
        let mut held = locked(&self.0);
        if *held >= VALUES_MAX {
            return Err(Errno::NOMEM);
        }
        *held += 1;
        Ok(ValuePermit(self.0.clone()))
    }
}

impl Drop for ValuePermit {
    fn drop(&mut self) {
        *locked(&self.0) -= 1;
    }
}
