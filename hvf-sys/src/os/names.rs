//! Names asked of macOS itself, as its own programs do it, so that the name servers of a VPN are asked for its names:
//! the part of <dns_sd.h> that asks for one record.
//!
//! Invariants: a `Lookup` owns its service reference, which is used by one thread at a time, under the lock; the
//! library calls back only from within `DNSServiceProcessResult`, with the address of a `Found` that is freed after the
//! reference.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// The names are <dns_sd.h>'s.
mod ffi {
    use super::{c_char, c_void};

    pub(super) type DNSServiceRef = *mut c_void;
    pub(super) type Reply = unsafe extern "C" fn(
        DNSServiceRef,
        u32,
        u32,
        i32,
        *const c_char,
        u16,
        u16,
        u16,
        *const c_void,
        u32,
        *mut c_void,
    );

    pub(super) const MORE_COMING: u32 = 0x1;
    pub(super) const ADD: u32 = 0x2;
    pub(super) const RETURN_INTERMEDIATES: u32 = 0x1000;
    pub(super) const NO_ERROR: i32 = 0;
    pub(super) const NO_SUCH_NAME: i32 = -65_538;
    pub(super) const NO_SUCH_RECORD: i32 = -65_554;

    unsafe extern "C" {
        pub(super) fn DNSServiceQueryRecord(
            service: *mut DNSServiceRef,
            flags: u32,
            interface: u32,
            name: *const c_char,
            kind: u16,
            class: u16,
            reply: Reply,
            context: *mut c_void,
        ) -> i32;
        pub(super) fn DNSServiceRefSockFD(service: DNSServiceRef) -> i32;
        pub(super) fn DNSServiceProcessResult(service: DNSServiceRef) -> i32;
        pub(super) fn DNSServiceRefDeallocate(service: DNSServiceRef);
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose, in the text form of RFC 1035, 5.1: dots between labels, escapes with a backslash.
    pub name: Vec<u8>,
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// For how many seconds it is good.
    pub ttl: u32,
    /// Its data, as on the wire, without compression.
    pub data: Vec<u8>,
}

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing final.
    Waiting,
    /// These records are all; perhaps none.
    Records(Vec<Record>),
    /// There is no such name.
    NoName,
    /// The system cannot say, by this error of <dns_sd.h>.
    Failed(i32),
}

struct Found {
    kind: u16,
    records: Vec<Record>,
    over: bool,
    error: i32,
}

struct Service {
    reference: ffi::DNSServiceRef,
    found: *mut Found,
}

/// A question on its way.
pub struct Lookup {
    service: Mutex<Service>,
    socket: i32,
}

// SAFETY: the library ties a reference to no thread; the lock keeps all but one away from it.
unsafe impl Send for Lookup {}
// SAFETY: as above; the socket's number does not change.
unsafe impl Sync for Lookup {}

impl Lookup {
    /// Asks for the records of a name, given as in `Record`. The answer comes in parts: whenever the descriptor can
    /// be read, `process` takes the next.
    pub fn begin(name: &[u8], kind: u16, class: u16) -> io::Result<Self> {
        let name = CString::new(name)?;
        let found = Box::into_raw(Box::new(Found {
            kind,
            records: Vec::new(),
            over: false,
            error: ffi::NO_ERROR,
        }));
        let mut reference = null_mut();
        // SAFETY: the name is a live string, the reference a live local, and `found` lives until the reference is gone.
        let result = unsafe {
            ffi::DNSServiceQueryRecord(
                &mut reference,
                ffi::RETURN_INTERMEDIATES,
                0,
                name.as_ptr(),
                kind,
                class,
                reply,
                found.cast(),
            )
        };
        if result != ffi::NO_ERROR {
            // SAFETY: it came from a box, and no reference was made that knows it.
            drop(unsafe { Box::from_raw(found) });
            return Err(io::Error::other(format!("DNSServiceQueryRecord: {result}")));
        }
        // SAFETY: the reference was just made.
        let socket = unsafe { ffi::DNSServiceRefSockFD(reference) };
        let lookup = Self {
            service: Mutex::new(Service { reference, found }),
            socket,
        };
        if socket < 0 {
            return Err(io::Error::other("DNSServiceRefSockFD gives no socket"));
        }
        Ok(lookup)
    }

    /// Takes what has come, and says what is known. It waits where nothing has come.
    pub fn process(&self) -> Progress {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the reference lives, and nobody else uses it.
        let result = unsafe { ffi::DNSServiceProcessResult(service.reference) };
        // SAFETY: `found` lives as long as the reference, and callbacks are over.
        let found = unsafe { &mut *service.found };
        match (result, found.error) {
            (ffi::NO_ERROR, ffi::NO_SUCH_NAME) => Progress::NoName,
            (ffi::NO_ERROR, ffi::NO_ERROR | ffi::NO_SUCH_RECORD) if found.over => {
                Progress::Records(std::mem::take(&mut found.records))
            }
            (ffi::NO_ERROR, ffi::NO_ERROR) => Progress::Waiting,
            (ffi::NO_ERROR, error) | (error, _) => Progress::Failed(error),
        }
    }
}

impl AsFd for Lookup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open for as long as the reference, which we own.
        unsafe { BorrowedFd::borrow_raw(self.socket) }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let service = self
            .service
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // SAFETY: nobody uses the reference any more, and after it nobody knows `found`, which came from a box.
        unsafe {
            ffi::DNSServiceRefDeallocate(service.reference);
            drop(Box::from_raw(service.found));
        }
    }
}

/// The most bytes of records that are kept of one answer.
const RECORDS_MAX: usize = 32 << 10;

unsafe extern "C" fn reply(
    _service: ffi::DNSServiceRef,
    flags: u32,
    _interface: u32,
    error: i32,
    name: *const c_char,
    kind: u16,
    class: u16,
    len: u16,
    data: *const c_void,
    ttl: u32,
    context: *mut c_void,
) {
    // SAFETY: the context is the `Found` that was given, and only this call uses it now.
    let found = unsafe { &mut *context.cast::<Found>() };
    if error != ffi::NO_ERROR {
        (found.error, found.over) = (error, true);
        return;
    }
    let held: usize = found
        .records
        .iter()
        .map(|it| it.data.len() + it.name.len())
        .sum();
    if flags & ffi::ADD != 0 && !name.is_null() && !data.is_null() && held < RECORDS_MAX {
        found.records.push(Record {
            // SAFETY: the library gives a string that ends with a zero byte.
            name: unsafe { CStr::from_ptr(name) }.to_bytes().to_vec(),
            kind,
            class,
            ttl,
            // SAFETY: the library gives so many bytes.
            data: unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len.into()) }.to_vec(),
        });
    }
    // What an alias leads to comes behind it.
    found.over = kind == found.kind && flags & ffi::MORE_COMING == 0;
}
