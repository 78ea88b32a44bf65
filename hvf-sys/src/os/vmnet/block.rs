//! Blocks of Apple's C, built by hand as Clang's "Block Implementation Specification" lays them out: functions with what
//! they have captured behind them. Ours capture a counted reference.
//!
//! Invariants: a block, and each copy that a runtime makes of it, owns one reference to its context. The runtime
//! moves bytes and then calls the descriptor's `copy`, which counts the new one, and calls `dispose` before it frees
//! a copy. So a context outlives all blocks that know it, however often and late they are called.

use std::ffi::{c_int, c_ulong, c_void};
use std::sync::Arc;

/// The descriptor has helpers that copy and dispose of what was captured.
const BLOCK_HAS_COPY_DISPOSE: c_int = 1 << 25;

#[cfg(target_os = "macos")]
unsafe extern "C" {
    /// The class of blocks that lie on a stack: whoever keeps one copies it. Only its address is used.
    static _NSConcreteStackBlock: [*const c_void; 32];
}

/// `Block_descriptor_1`.
#[repr(C)]
struct Descriptor {
    reserved: c_ulong,
    /// Bytes of a block.
    size: c_ulong,
    copy: unsafe extern "C" fn(*mut c_void, *const c_void),
    dispose: unsafe extern "C" fn(*const c_void),
}

/// `Block_literal_1` with one captured variable.
#[repr(C)]
pub(super) struct Block<C> {
    isa: *const c_void,
    flags: c_int,
    reserved: c_int,
    invoke: *const c_void,
    descriptor: *const Descriptor,
    /// From `Arc::into_raw`.
    context: *const C,
}

impl<C: Send + Sync + 'static> Block<C> {
    const DESCRIPTOR: &'static Descriptor = &Descriptor {
        reserved: 0,
        size: size_of::<Self>() as c_ulong,
        copy: copy::<C>,
        dispose: dispose::<C>,
    };

    /// A block that lies on a stack, for a function that copies it before it returns if it keeps it.
    ///
    /// # Safety
    ///
    /// `invoke` is an `unsafe extern "C"` function whose first parameter is `*const Block<C>` and whose others are those
    /// that the block is called with.
    pub(super) unsafe fn new(invoke: *const c_void, context: Arc<C>) -> Self {
        Self {
            isa: isa(),
            flags: BLOCK_HAS_COPY_DISPOSE,
            reserved: 0,
            invoke,
            descriptor: Self::DESCRIPTOR,
            context: Arc::into_raw(context),
        }
    }

    /// The block as functions take it.
    pub(super) fn as_ptr(&self) -> *const c_void {
        (&raw const *self).cast()
    }

    /// What was captured.
    ///
    /// # Safety
    ///
    /// `block` is the first argument that `invoke` was called with.
    pub(super) unsafe fn context<'a>(block: *const Self) -> &'a C {
        // SAFETY: the caller of a block keeps it for as long as the call lasts, and it keeps its context.
        unsafe { &*(*block).context }
    }
}

impl<C> Drop for Block<C> {
    fn drop(&mut self) {
        // SAFETY: the block owns the reference that came from `Arc::into_raw`; copies own others.
        drop(unsafe { Arc::from_raw(self.context) });
    }
}

#[cfg(target_os = "macos")]
fn isa() -> *const c_void {
    (&raw const _NSConcreteStackBlock).cast()
}

/// Elsewhere only tests call blocks, with a runtime of their own.
#[cfg(not(target_os = "macos"))]
fn isa() -> *const c_void {
    std::ptr::null()
}

unsafe extern "C" fn copy<C>(_to: *mut c_void, from: *const c_void) {
    // SAFETY: the runtime calls this with a block that the descriptor belongs to, which holds a reference; the copy has
    // the same address in it already, and owns the one that is counted here.
    unsafe { Arc::increment_strong_count((*from.cast::<Block<C>>()).context) }
}

unsafe extern "C" fn dispose<C>(block: *const c_void) {
    // SAFETY: the runtime calls this once for each copy, which owns a reference, and frees the copy then.
    unsafe { Arc::decrement_strong_count((*block.cast::<Block<C>>()).context) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;
    use std::sync::atomic::{AtomicU32, Ordering};

    type Sum = AtomicU32;

    unsafe extern "C" fn add(block: *const Block<Sum>, first: u32, second: u32) {
        // SAFETY: a block of this context was called.
        let sum = unsafe { Block::context(block) };
        sum.fetch_add(10 * first + second, Ordering::Relaxed);
    }

    /// Calls a block as compiled code does: knowing nothing but its layout.
    fn call(block: *const c_void, first: u32, second: u32) {
        type Invoke = unsafe extern "C" fn(*const c_void, u32, u32);
        // SAFETY: the third word is the function, and these are its parameters.
        unsafe {
            let invoke = block.cast::<*const c_void>().add(2).read();
            std::mem::transmute::<*const c_void, Invoke>(invoke)(block, first, second);
        }
    }

    #[test]
    fn blocks_lie_as_the_specification_says() {
        let offsets = [
            offset_of!(Block<Sum>, isa),
            offset_of!(Block<Sum>, flags),
            offset_of!(Block<Sum>, reserved),
            offset_of!(Block<Sum>, invoke),
            offset_of!(Block<Sum>, descriptor),
            offset_of!(Block<Sum>, context),
        ];
        assert_eq!(offsets, [0, 8, 12, 16, 24, 32]);
        assert_eq!(Block::<Sum>::DESCRIPTOR.size, 40);
        assert_eq!(offset_of!(Descriptor, copy), 16);
        assert_eq!(offset_of!(Descriptor, dispose), 24);
    }

    #[test]
    fn a_copy_keeps_what_was_captured() {
        let sum = Arc::new(Sum::new(0));
        let invoke: unsafe extern "C" fn(*const Block<Sum>, u32, u32) = add;
        // SAFETY: the function takes such a block.
        let block = unsafe { Block::new(invoke as *const c_void, sum.clone()) };
        assert_eq!(block.flags & BLOCK_HAS_COPY_DISPOSE, 0x0200_0000);
        call(block.as_ptr(), 1, 2);
        // What a runtime does to keep a block: the bytes, then the helper.
        let descriptor = Block::<Sum>::DESCRIPTOR;
        let mut kept = [0_u64; 5];
        // SAFETY: both are 40 bytes long, and the helper is given the copy and its origin.
        unsafe {
            let to = kept.as_mut_ptr().cast::<u8>();
            to.copy_from_nonoverlapping(block.as_ptr().cast(), descriptor.size as usize);
            (descriptor.copy)(to.cast(), block.as_ptr());
        }
        assert_eq!(Arc::strong_count(&sum), 3);
        drop(block);
        assert_eq!(Arc::strong_count(&sum), 2);
        call(kept.as_ptr().cast(), 3, 4);
        // SAFETY: the copy is not used any more.
        unsafe { (descriptor.dispose)(kept.as_ptr().cast()) };
        assert_eq!(Arc::strong_count(&sum), 1);
        assert_eq!(sum.load(Ordering::Relaxed), 12 + 34);
    }
}
