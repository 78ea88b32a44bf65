//! An interface, from its start to its end.
//!
//! Invariants: an `Interface` owns its handle, which one thread at a time uses, under the lock, and which nobody uses once it
//! is being stopped. The framework is given addresses of live, borrowed buffers, which it uses only until the call returns.
//! It copies the blocks that it keeps, and a block owns what it has captured.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::block::Block;
use super::ffi;
use super::{
    BYTES_MAX, Error, PACKETS_MAX, Status, VMNET_INVALID_ARGUMENT, VMNET_SUCCESS,
    VMNET_TOO_MANY_PACKETS, check, parse_mac,
};

/// How long the system may take to start an interface, or to stop it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a reason is waited for where a start gave no interface.
const REASON: Duration = Duration::from_secs(1);

/// An interface in shared mode.
#[derive(Debug)]
pub struct Interface {
    handle: Mutex<Handle>,
    queue: Queue,
    parameters: Parameters,
}

/// What the system says of an interface.
#[derive(Clone, Copy, Debug)]
struct Parameters {
    mac: [u8; 6],
    mtu: u16,
    packet_max: usize,
}

#[derive(Debug)]
struct Handle(ffi::interface_ref);

// SAFETY: the framework ties an interface to no thread.
unsafe impl Send for Handle {}

/// A serial queue of ours.
#[derive(Debug)]
struct Queue(ffi::dispatch_queue_t);

// SAFETY: queues are made to be used by all threads.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// Who is to be called when there are packets.
type Arrived = Box<dyn Fn() + Send + Sync>;
/// What the handler of a start says.
type Started = Result<Parameters, Error>;

impl Interface {
    /// Starts an interface. `arrived` is called on a thread of the system's whenever there are packets to read, perhaps
    /// once more while the interface is being dropped.
    pub fn start(arrived: Arrived) -> Result<Self, Error> {
        let queue = Queue::new()?;
        let description = Dictionary::new()?;
        // SAFETY: the framework's key is a constant, and the dictionary is ours.
        unsafe {
            let key = ffi::vmnet_operation_mode_key;
            ffi::xpc_dictionary_set_uint64(description.0, key, ffi::VMNET_SHARED_MODE);
        }
        let (sender, receiver) = channel::<Started>();
        let invoke: unsafe extern "C" fn(_, _, _) = started;
        // SAFETY: the function's parameters are a block of this context and those of the handler.
        let block = unsafe { Block::new(invoke as *const c_void, Arc::new(sender)) };
        // SAFETY: dictionary, queue and block are live; the framework retains or copies what it keeps.
        let handle = unsafe { ffi::vmnet_start_interface(description.0, queue.0, block.as_ptr()) };
        if handle.is_null() {
            let reason = receiver.recv_timeout(REASON).ok().and_then(Result::err);
            return Err(reason.unwrap_or(Error::Null("vmnet_start_interface")));
        }
        let parameters = match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(parameters)) => parameters,
            Ok(Err(refused @ Error::Refused { .. })) => return Err(refused),
            Ok(Err(error)) => {
                let _ = stop(handle, &queue);
                return Err(error);
            }
            Err(_) => {
                let _ = stop(handle, &queue);
                return Err(Error::Silent("vmnet_start_interface"));
            }
        };
        let interface = Self {
            handle: Mutex::new(Handle(handle)),
            queue,
            parameters,
        };
        interface.listen(arrived)?;
        Ok(interface)
    }

    fn listen(&self, arrived: Arrived) -> Result<(), Error> {
        let invoke: unsafe extern "C" fn(_, _, _) = packets_available;
        // SAFETY: the function's parameters are a block of this context and those of the callback.
        let block = unsafe { Block::new(invoke as *const c_void, Arc::new(arrived)) };
        let handle = self.handle();
        let events = ffi::VMNET_INTERFACE_PACKETS_AVAILABLE;
        // SAFETY: the handle is ours, queue and block are live; the framework retains or copies what it keeps.
        let status = unsafe {
            ffi::vmnet_interface_set_event_callback(handle.0, events, self.queue.0, block.as_ptr())
        };
        check("vmnet_interface_set_event_callback", status)
    }

    /// The address that the guest's interface is to have.
    pub fn mac(&self) -> [u8; 6] {
        self.parameters.mac
    }

    /// The most bytes behind an Ethernet header.
    pub fn mtu(&self) -> u16 {
        self.parameters.mtu
    }

    /// The most bytes of a packet, its Ethernet header with it; at most `BYTES_MAX`.
    pub fn packet_max(&self) -> usize {
        self.parameters.packet_max
    }

    /// Reads the packets that are there, as many as one call gives, each to the next `packet_max` bytes of `buffer`, and their
    /// lengths. It does not wait.
    pub fn read(&self, buffer: &mut [u8], lens: &mut Vec<usize>) -> Result<(), Error> {
        lens.clear();
        let max = self.packet_max();
        let most = PACKETS_MAX.min(BYTES_MAX / max);
        let mut vectors: Vec<_> = buffer
            .chunks_exact_mut(max)
            .take(most)
            .map(|room| vector(room.as_mut_ptr(), max))
            .collect();
        let mut packets: Vec<_> = vectors.iter_mut().map(packet).collect();
        let mut count = packets.len() as c_int;
        if count == 0 {
            return Ok(());
        }
        let handle = self.handle();
        // SAFETY: there are so many packets, each with one vector, which is a part of the buffer of its own.
        let status = unsafe { ffi::vmnet_read(handle.0, packets.as_mut_ptr(), &mut count) };
        drop(handle);
        check("vmnet_read", status)?;
        let count = usize::try_from(count).unwrap_or(0);
        // A length that exceeds its room could only be the framework's mistake.
        lens.extend(packets.iter().take(count).map(|it| it.vm_pkt_size.min(max)));
        Ok(())
    }

    /// Writes the packets that lie one behind the other in `buffer` and have these lengths: at most `PACKETS_MAX`, of at
    /// most `BYTES_MAX` together and `packet_max` each. Says how many the system has taken. It does not wait.
    pub fn write(&self, buffer: &[u8], lens: &[usize]) -> Result<usize, Error> {
        let mut rest = buffer;
        let mut vectors = Vec::with_capacity(lens.len());
        for &len in lens {
            let Some((packet, behind)) = rest.split_at_checked(len) else {
                return Err(refused("vmnet_write", VMNET_INVALID_ARGUMENT));
            };
            vectors.push(vector(packet.as_ptr().cast_mut(), len));
            rest = behind;
        }
        let mut packets: Vec<_> = vectors.iter_mut().map(packet).collect();
        if packets.is_empty() {
            return Ok(0);
        }
        if packets.len() > PACKETS_MAX {
            return Err(refused("vmnet_write", VMNET_TOO_MANY_PACKETS));
        }
        let mut count = packets.len() as c_int;
        let handle = self.handle();
        // SAFETY: there are so many packets, each with one vector, which is a borrowed slice that is only read.
        let status = unsafe { ffi::vmnet_write(handle.0, packets.as_mut_ptr(), &mut count) };
        check("vmnet_write", status)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        let handle = self.handle().0;
        let events = ffi::VMNET_INTERFACE_PACKETS_AVAILABLE;
        // SAFETY: the handle is ours and nobody else has this any more; without queue and handler the call takes the
        // callback away.
        let _ =
            unsafe { ffi::vmnet_interface_set_event_callback(handle, events, null_mut(), null()) };
        // Whatever it says: the system takes the interfaces of a process that ends.
        let _ = stop(handle, &self.queue);
    }
}

/// Stops an interface that nobody uses any more, and waits until that is done.
fn stop(handle: ffi::interface_ref, queue: &Queue) -> Result<(), Error> {
    const CALL: &str = "vmnet_stop_interface";
    let (sender, receiver) = channel::<Status>();
    let invoke: unsafe extern "C" fn(_, _) = stopped;
    // SAFETY: the function's parameters are a block of this context and that of the handler.
    let block = unsafe { Block::new(invoke as *const c_void, Arc::new(sender)) };
    // SAFETY: the caller gives the handle up; queue and block are live, and retained or copied where they are kept.
    check(CALL, unsafe {
        ffi::vmnet_stop_interface(handle, queue.0, block.as_ptr())
    })?;
    match receiver.recv_timeout(PATIENCE) {
        Ok(status) => check(CALL, status),
        Err(_) => Err(Error::Silent(CALL)),
    }
}

fn refused(call: &'static str, status: Status) -> Error {
    Error::Refused { call, status }
}

fn vector(base: *mut u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base.cast(),
        iov_len: len,
    }
}

/// A packet of one piece.
fn packet(vector: &mut libc::iovec) -> ffi::vmpktdesc {
    ffi::vmpktdesc {
        vm_pkt_size: vector.iov_len,
        vm_pkt_iov: vector,
        vm_pkt_iovcnt: 1,
        vm_flags: 0,
    }
}

unsafe extern "C" fn started(
    block: *const Block<Sender<Started>>,
    status: ffi::vmnet_return_t,
    parameters: ffi::xpc_object_t,
) {
    // SAFETY: this was called as a block of this context.
    let sender = unsafe { Block::context(block) };
    let outcome = match status {
        VMNET_SUCCESS if !parameters.is_null() => {
            // SAFETY: the framework gives a dictionary, which lives for as long as this call lasts.
            unsafe { Parameters::read(parameters) }
        }
        VMNET_SUCCESS => Err(Error::Null("vmnet_start_interface")),
        status => Err(refused("vmnet_start_interface", status)),
    };
    // Nobody waits any more where it took too long.
    let _ = sender.send(outcome);
}

unsafe extern "C" fn stopped(block: *const Block<Sender<Status>>, status: ffi::vmnet_return_t) {
    // SAFETY: this was called as a block of this context.
    let sender = unsafe { Block::context(block) };
    let _ = sender.send(status);
}

unsafe extern "C" fn packets_available(
    block: *const Block<Arrived>,
    _events: ffi::interface_event_t,
    _event: ffi::xpc_object_t,
) {
    // SAFETY: this was called as a block of this context.
    let arrived = unsafe { Block::context(block) };
    arrived();
}

impl Parameters {
    /// # Safety
    ///
    /// `dictionary` is a live dictionary.
    unsafe fn read(dictionary: ffi::xpc_object_t) -> Started {
        // SAFETY: keys are the framework's constants; a value that is missing or of another type is 0 or NULL.
        let (mac, mtu, packet_max) = unsafe {
            (
                ffi::xpc_dictionary_get_string(dictionary, ffi::vmnet_mac_address_key),
                ffi::xpc_dictionary_get_uint64(dictionary, ffi::vmnet_mtu_key),
                ffi::xpc_dictionary_get_uint64(dictionary, ffi::vmnet_max_packet_size_key),
            )
        };
        let mac = if mac.is_null() {
            None
        } else {
            // SAFETY: the string ends with a zero byte, and belongs to the dictionary.
            let text = unsafe { CStr::from_ptr(mac) };
            text.to_str().ok().and_then(parse_mac)
        };
        let mtu = u16::try_from(mtu).ok().filter(|&mtu| mtu > 0);
        let packet_max = usize::try_from(packet_max).ok();
        let packet_max = packet_max.filter(|len| (1..=BYTES_MAX).contains(len));
        Ok(Self {
            mac: mac.ok_or(Error::Parameter("vmnet_mac_address_key"))?,
            mtu: mtu.ok_or(Error::Parameter("vmnet_mtu_key"))?,
            packet_max: packet_max.ok_or(Error::Parameter("vmnet_max_packet_size_key"))?,
        })
    }
}

impl Queue {
    fn new() -> Result<Self, Error> {
        // SAFETY: the label is a constant, and NULL asks for a serial queue.
        let queue = unsafe { ffi::dispatch_queue_create(c"xlaunch.vmnet".as_ptr(), null_mut()) };
        if queue.is_null() {
            return Err(Error::Null("dispatch_queue_create"));
        }
        Ok(Self(queue))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference is ours; the framework has its own while it needs the queue.
        unsafe { ffi::dispatch_release(self.0) }
    }
}

/// A dictionary of ours.
struct Dictionary(ffi::xpc_object_t);

impl Dictionary {
    fn new() -> Result<Self, Error> {
        // SAFETY: with no keys and values it is empty.
        let dictionary = unsafe { ffi::xpc_dictionary_create(null(), null(), 0) };
        if dictionary.is_null() {
            return Err(Error::Null("xpc_dictionary_create"));
        }
        Ok(Self(dictionary))
    }
}

impl Drop for Dictionary {
    fn drop(&mut self) {
        // SAFETY: the reference is ours; the framework has its own while it needs the dictionary.
        unsafe { ffi::xpc_release(self.0) }
    }
}
