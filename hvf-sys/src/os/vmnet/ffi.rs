//! What is used of <vmnet/vmnet.h>, <xpc/xpc.h> and <dispatch/dispatch.h>, all of it there since macOS 10.10.

#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};

use super::Status;

/// What every function returns.
pub(super) type vmnet_return_t = Status;
/// An interface.
pub(super) type interface_ref = *mut c_void;
/// A set of events.
pub(super) type interface_event_t = u32;
/// There are packets to read.
pub(super) const VMNET_INTERFACE_PACKETS_AVAILABLE: interface_event_t = 1 << 0;
/// The system shares its own network: a value of `operating_modes_t`.
pub(super) const VMNET_SHARED_MODE: u64 = 1001;

/// `void (^)(vmnet_return_t status, xpc_object_t interface_param)`.
pub(super) type start_handler_t = *const c_void;
/// `void (^)(vmnet_return_t status)`.
pub(super) type stop_handler_t = *const c_void;
/// `void (^)(interface_event_t event_mask, xpc_object_t event)`.
pub(super) type event_handler_t = *const c_void;

/// A packet.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct vmpktdesc {
    pub(super) vm_pkt_size: usize,
    pub(super) vm_pkt_iov: *mut libc::iovec,
    pub(super) vm_pkt_iovcnt: u32,
    pub(super) vm_flags: u32,
}

/// An object of XPC.
pub(super) type xpc_object_t = *mut c_void;
/// A queue of blocks.
pub(super) type dispatch_queue_t = *mut c_void;

#[link(name = "vmnet", kind = "framework")]
unsafe extern "C" {
    pub(super) static vmnet_operation_mode_key: *const c_char;
    pub(super) static vmnet_mac_address_key: *const c_char;
    pub(super) static vmnet_mtu_key: *const c_char;
    pub(super) static vmnet_max_packet_size_key: *const c_char;

    pub(super) fn vmnet_start_interface(
        interface_desc: xpc_object_t,
        queue: dispatch_queue_t,
        handler: start_handler_t,
    ) -> interface_ref;
    pub(super) fn vmnet_interface_set_event_callback(
        interface: interface_ref,
        event_mask: interface_event_t,
        queue: dispatch_queue_t,
        callback: event_handler_t,
    ) -> vmnet_return_t;
    pub(super) fn vmnet_read(
        interface: interface_ref,
        packets: *mut vmpktdesc,
        pktcnt: *mut c_int,
    ) -> vmnet_return_t;
    pub(super) fn vmnet_write(
        interface: interface_ref,
        packets: *mut vmpktdesc,
        pktcnt: *mut c_int,
    ) -> vmnet_return_t;
    pub(super) fn vmnet_stop_interface(
        interface: interface_ref,
        queue: dispatch_queue_t,
        handler: stop_handler_t,
    ) -> vmnet_return_t;
}

// In the system's own library.
unsafe extern "C" {
    pub(super) fn xpc_dictionary_create(
        keys: *const *const c_char,
        values: *const xpc_object_t,
        count: usize,
    ) -> xpc_object_t;
    pub(super) fn xpc_dictionary_set_uint64(xdict: xpc_object_t, key: *const c_char, value: u64);
    pub(super) fn xpc_dictionary_get_uint64(xdict: xpc_object_t, key: *const c_char) -> u64;
    pub(super) fn xpc_dictionary_get_string(
        xdict: xpc_object_t,
        key: *const c_char,
    ) -> *const c_char;
    pub(super) fn xpc_release(object: xpc_object_t);

    pub(super) fn dispatch_queue_create(
        label: *const c_char,
        attr: *mut c_void,
    ) -> dispatch_queue_t;
    pub(super) fn dispatch_release(object: dispatch_queue_t);
}
