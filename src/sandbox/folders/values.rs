//! Extended attributes: read and written like files. Only those of users are shown, without the one that is ours.

use super::attributes::OWNER;
use super::errno::Errno;
use super::fids::{Fid, NewValue, State};
use super::session::Session;
use super::tree::{Node, locked};
use super::wire::Reply;
use hvf_sys::folder::Kind;
use std::ffi::{CStr, CString};
use std::io;
use std::sync::Arc;

/// The longest value and the longest list (xattr(7)).
const VALUE_MAX: usize = 64 * 1024;
/// The longest name.
const NAME_MAX: usize = 255;
/// The flags of Txattrcreate (setxattr(2)).
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

/// A name that the guest may use.
fn name(bytes: &[u8]) -> Result<CString, Errno> {
    if !is_shown(bytes) {
        return Err(Errno::OPNOTSUPP);
    }
    if bytes.len() > NAME_MAX {
        return Err(Errno::RANGE);
    }
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

fn is_shown(name: &[u8]) -> bool {
    name.starts_with(b"user.") && name != OWNER.to_bytes()
}

impl Session {
    /// Makes a fid of an attribute's value, or of the list of names.
    pub(super) fn xattrwalk(
        &self,
        fid: u32,
        new: u32,
        called: &[u8],
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        let permit = self.values.permit()?;
        let value = if called.is_empty() {
            list(&fid.node)?
        } else {
            value(&fid.node, &name(called)?)?
        };
        let size = value.len() as u64;
        let state = State::Value {
            value: Arc::new(value),
            _permit: permit,
        };
        let walked = Fid::new(fid.node.clone(), fid.uid, state);
        self.fids.add(new, walked)?;
        reply.u64(size);
        Ok(())
    }

    /// Makes a fid take an attribute's value, which is set when the fid is given back.
    pub(super) fn xattrcreate(
        &self,
        fid: u32,
        called: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let fid = self.fids.find(fid)?;
        let size = usize::try_from(size).map_err(|_| Errno::TOOBIG)?;
        if size > VALUE_MAX {
            return Err(Errno::TOOBIG);
        }
        if flags & !(CREATE | REPLACE) != 0 {
            return Err(Errno::INVAL);
        }
        let mut state = locked(&fid.state);
        if !matches!(*state, State::Closed) {
            return Err(Errno::BADF);
        }
        *state = State::NewValue(NewValue {
            name: name(called)?,
            value: Vec::new(),
            size,
            create: flags & CREATE != 0,
            replace: flags & REPLACE != 0,
            _permit: self.values.permit()?,
        });
        Ok(())
    }

    /// Sets the attribute. An empty one that must be there already is how Linux says that it shall go.
    pub(super) fn commit(&self, node: &Node, new: &NewValue) -> Result<(), Errno> {
        if new.value.len() != new.size {
            return Err(Errno::INVAL);
        }
        if !has_values(node) {
            return Err(Errno::PERM);
        }
        let handle = node.handle()?;
        if new.size == 0 && new.replace {
            handle.remove_attribute(&new.name)?;
        } else {
            handle.set_attribute(&new.name, &new.value, new.create, new.replace)?;
        }
        Ok(())
    }
}

impl NewValue {
    /// Takes the next bytes.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let fits = data.len() <= self.size - self.value.len();
        if offset != self.value.len() as u64 || !fits {
            return Err(Errno::INVAL);
        }
        self.value.extend_from_slice(data);
        Ok(data.len())
    }
}

fn has_values(node: &Node) -> bool {
    matches!(node.kind(), Kind::File | Kind::Directory)
}

fn value(node: &Node, called: &CStr) -> Result<Vec<u8>, Errno> {
    if !has_values(node) {
        return Err(Errno::NODATA);
    }
    Ok(node.handle()?.attribute(called, VALUE_MAX)?)
}

fn list(node: &Node) -> Result<Vec<u8>, Errno> {
    if !has_values(node) {
        return Ok(Vec::new());
    }
    let all = match node.handle()?.attributes(VALUE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Vec::new(),
        result => result?,
    };
    let names = all.split_inclusive(|&it| it == 0);
    let shown = names.filter(|it| is_shown(it.strip_suffix(b"\0").unwrap_or(it)));
    Ok(shown.flatten().copied().collect())
}
