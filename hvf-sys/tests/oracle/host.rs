//! The child: encodes typed instructions, runs them on the host's processor and tells the state that they leave.
//!
//! It maps a context page, a code arena and one page of memory at fixed addresses (`place`). The arena is writable while a
//! batch is encoded and executable while it runs, never both. A trampoline loads the whole user state from the
//! context, jumps to a case's slot, and stores it again when the code jumps back, or when a signal's handler sends it there.

use crate::place::{
    ARENA_LEN, BATCH, CODE, CODE_32, CODE_64, CONTEXT, DATA, PAGE, SLOT, TAKEN, WAY_BACK, WINDOW,
    WINDOW_LEN, slot,
};
use crate::wire::{self, Case, Fault, Outcome};
use hvf_sys::cpu::State;
use std::arch::{asm, global_asm};
use std::io::{Read, Write};

/// The trampoline's memory, at `CONTEXT`. Its offsets are used in the assembly below.
#[repr(C, align(16))]
struct Context {
    gpr: [u64; 16],
    rflags: u64,
    host_rsp: u64,
    /// Where a case's code jumps at its end, and after a branch that was taken.
    ends: [u64; 2],
    code: u64,
    taken: u64,
    fx: [u8; 512],
    host_fx: [u8; 512],
    /// What the signal handler found.
    faulted: u64,
    fault: [u64; 3],
    fault_rip: u64,
    /// Where 32-bit code is: offset and selector.
    far: [u32; 2],
}

const _: () = {
    assert!(std::mem::offset_of!(Context, rflags) == 128);
    assert!(std::mem::offset_of!(Context, host_rsp) == 136);
    assert!(std::mem::offset_of!(Context, ends) == 144);
    assert!(std::mem::offset_of!(Context, code) == 160);
    assert!(std::mem::offset_of!(Context, taken) == 168);
    assert!(std::mem::offset_of!(Context, fx) == 176);
    assert!(std::mem::offset_of!(Context, host_fx) == 688);
    assert!(std::mem::offset_of!(Context, far) == 1240);
    assert!(CONTEXT == 0x1000_0000);
};

global_asm!(
    ".set C, 0x10000000",
    ".globl oracle_enter",
    "oracle_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov qword ptr [C + 136], rsp",
    "fxsave64 [C + 688]",
    "fxrstor64 [C + 176]",
    "push qword ptr [C + 128]",
    "popfq",
    "mov rax, qword ptr [C + 0]",
    "mov rcx, qword ptr [C + 8]",
    "mov rdx, qword ptr [C + 16]",
    "mov rbx, qword ptr [C + 24]",
    "mov rsp, qword ptr [C + 32]",
    "mov rbp, qword ptr [C + 40]",
    "mov rsi, qword ptr [C + 48]",
    "mov rdi, qword ptr [C + 56]",
    "mov r8, qword ptr [C + 64]",
    "mov r9, qword ptr [C + 72]",
    "mov r10, qword ptr [C + 80]",
    "mov r11, qword ptr [C + 88]",
    "mov r12, qword ptr [C + 96]",
    "mov r13, qword ptr [C + 104]",
    "mov r14, qword ptr [C + 112]",
    "mov r15, qword ptr [C + 120]",
    "jmp qword ptr [C + 160]",
    // A far jump through memory, to 32-bit code.
    ".globl oracle_enter_32",
    "oracle_enter_32:",
    ".byte 0xff, 0x2c, 0x25",
    ".long C + 1240",
    ".globl oracle_taken",
    "oracle_taken:",
    "mov qword ptr [C + 168], 1",
    ".globl oracle_exit",
    "oracle_exit:",
    "mov qword ptr [C + 0], rax",
    "mov qword ptr [C + 8], rcx",
    "mov qword ptr [C + 16], rdx",
    "mov qword ptr [C + 24], rbx",
    "mov qword ptr [C + 32], rsp",
    "mov qword ptr [C + 40], rbp",
    "mov qword ptr [C + 48], rsi",
    "mov qword ptr [C + 56], rdi",
    "mov qword ptr [C + 64], r8",
    "mov qword ptr [C + 72], r9",
    "mov qword ptr [C + 80], r10",
    "mov qword ptr [C + 88], r11",
    "mov qword ptr [C + 96], r12",
    "mov qword ptr [C + 104], r13",
    "mov qword ptr [C + 112], r14",
    "mov qword ptr [C + 120], r15",
    "mov rsp, qword ptr [C + 136]",
    "pushfq",
    "pop qword ptr [C + 128]",
    "cld",
    "fxsave64 [C + 176]",
    "fxrstor64 [C + 688]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

unsafe extern "C" {
    fn oracle_enter();
    fn oracle_enter_32();
    fn oracle_taken();
    fn oracle_exit();
}

/// Serves batches from standard input to standard output until the former ends.
pub(crate) fn serve() {
    let arena = Arena::new();
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    while let Ok(count) = wire::read_u64(&mut input) {
        serve_batch(&arena, count, &mut input, &mut output)
            .expect("the parent reads and writes batches");
    }
}

fn serve_batch(
    arena: &Arena,
    count: u64,
    input: &mut impl Read,
    output: &mut impl Write,
) -> std::io::Result<()> {
    let mut bytes = vec![];
    let cases = (0..count)
        .map(|_| wire::read_case(input))
        .collect::<std::io::Result<Vec<Case>>>()?;
    let ends = arena.fill(&cases);
    for (n, (case, end)) in cases.iter().zip(ends).enumerate() {
        wire::write_outcome(&mut bytes, &arena.run(n, case, end))?;
    }
    output.write_all(&bytes)?;
    output.flush()
}

/// Proof that the fixed mappings and the signal handlers are there.
struct Arena(());

impl Arena {
    fn new() -> Self {
        for (address, len) in [(CONTEXT, 0x2000), (CODE, ARENA_LEN), (PAGE, 0x1000)] {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: NOREPLACE: only addresses where nothing is are mapped.
            let mapped = unsafe {
                libc::mmap(
                    address as *mut _,
                    len as usize,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags,
                    -1,
                    0,
                )
            };
            assert_eq!(mapped as u64, address, "the oracle's addresses are free");
        }
        let context = Self::context();
        // SAFETY: `context` is mapped above, and nobody else uses it now.
        unsafe {
            (*context).ends = [
                oracle_exit as *const () as u64,
                oracle_taken as *const () as u64,
            ]
        };
        // SAFETY: 64-bit code does not use DS and ES; 32-bit code needs the data segment that every process has there.
        unsafe {
            asm!("mov ds, {0:x}", "mov es, {0:x}", in(reg) DATA, options(nostack, preserves_flags))
        };
        handle_signals();
        Self(())
    }

    fn context() -> *mut Context {
        CONTEXT as *mut Context
    }

    fn protect(protection: libc::c_int) {
        // SAFETY: the arena is this program's own mapping, and holds no Rust object.
        let result = unsafe { libc::mprotect(CODE as *mut _, ARENA_LEN as usize, protection) };
        assert_eq!(result, 0, "the code arena changes its protection");
    }

    /// Writes the code of all cases, each into its slot; the addresses of their ends.
    fn fill(&self, cases: &[Case]) -> Vec<u64> {
        assert!(cases.len() <= BATCH);
        Self::protect(libc::PROT_READ | libc::PROT_WRITE);
        let ends = cases.iter().enumerate().map(|(n, case)| {
            let code = code_of(case);
            assert!(code.len() < SLOT as usize);
            // SAFETY: the slot is within the arena, which is writable now; nothing runs in it.
            unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), slot(n) as *mut u8, code.len()) };
            slot(n) + code_len(case)
        });
        let ends = ends.collect();
        let back = way_back();
        // SAFETY: as above; the slot behind the last is the arena's, too.
        unsafe { std::ptr::copy_nonoverlapping(back.as_ptr(), WAY_BACK as *mut u8, back.len()) };
        Self::protect(libc::PROT_READ | libc::PROT_EXEC);
        ends
    }

    fn run(&self, n: usize, case: &Case, end: u64) -> Outcome {
        let context = Self::context();
        // SAFETY: the context and the page are mapped, and only this thread and the handlers that interrupt it use them. The
        // trampoline keeps the registers that a C function keeps. The code in the slot ends in a jump to one of the
        // trampoline's ends, or in a signal that the handler sends there. What it does to memory besides is the case's
        // doing: this process is the oracle's child, and exists for nothing else.
        unsafe {
            std::ptr::copy_nonoverlapping(case.memory.as_ptr(), WINDOW as *mut u8, WINDOW_LEN);
            (*context).gpr = case.state.gpr;
            (*context).rflags = case.state.rflags;
            (*context).fx = fx_image(&case.state);
            (*context).code = if case.long() {
                slot(n)
            } else {
                oracle_enter_32 as *const () as u64
            };
            (*context).far = [slot(n) as u32, u32::from(CODE_32)];
            (*context).taken = 0;
            (*context).faulted = 0;
            oracle_enter();
            let mut memory = [0; WINDOW_LEN];
            std::ptr::copy_nonoverlapping(WINDOW as *const u8, memory.as_mut_ptr(), WINDOW_LEN);
            outcome(&*context, end, memory)
        }
    }
}

fn outcome(context: &Context, end: u64, memory: [u8; WINDOW_LEN]) -> Outcome {
    let mut state = State {
        gpr: context.gpr,
        rflags: context.rflags,
        rip: end + if context.taken != 0 { TAKEN } else { 0 },
        ..State::default()
    };
    read_fx_image(&context.fx, &mut state);
    let fault = (context.faulted != 0).then(|| {
        state.rip = context.fault_rip;
        let [vector, error, address] = context.fault;
        Fault {
            vector,
            error,
            address,
        }
    });
    Outcome {
        state,
        memory,
        fault,
    }
}

/// The instructions' bytes, which `case` must have.
fn encoded(case: &Case) -> Vec<u8> {
    let bytes = case.insns.iter().map(|insn| {
        let encoded = Case::encode(insn);
        encoded.unwrap_or_else(|| panic!("only what has an encoding is sent: {insn:?}"))
    });
    bytes
        .flat_map(|encoded| encoded.as_bytes().to_vec())
        .collect()
}

fn code_len(case: &Case) -> u64 {
    encoded(case).len() as u64
}

/// The instructions, a jump to the first end, and the same to the second where taken branches go.
fn code_of(case: &Case) -> Vec<u8> {
    let mut code = encoded(case);
    let taken = code.len() + TAKEN as usize;
    code.extend(jump_to_end(case.long(), 0));
    code.resize(taken, 0xcc);
    code.extend(jump_to_end(case.long(), 1));
    code
}

/// From 64-bit code an indirect jump; from 32-bit code a far one to such a jump.
fn jump_to_end(long: bool, end: u32) -> Vec<u8> {
    let indirect = CONTEXT as u32 + 144 + 8 * end;
    let back = WAY_BACK as u32 + 16 * end;
    if long {
        [&[0xff, 0x24, 0x25][..], &indirect.to_le_bytes()].concat()
    } else {
        [&[0xea][..], &back.to_le_bytes(), &CODE_64.to_le_bytes()].concat()
    }
}

/// The 64-bit jumps that 32-bit code comes to.
fn way_back() -> Vec<u8> {
    let mut code = jump_to_end(true, 0);
    code.resize(16, 0xcc);
    code.extend(jump_to_end(true, 1));
    code
}

/// The FXSAVE image (SDM volume 1, table 10-2) of x87, SSE and MXCSR.
fn fx_image(state: &State) -> [u8; 512] {
    let mut fx = [0; 512];
    let fpu = &state.fpu;
    let status = fpu.status & !0x3800 | u16::from(fpu.top & 7) << 11;
    fx[0..2].copy_from_slice(&fpu.control.to_le_bytes());
    fx[2..4].copy_from_slice(&status.to_le_bytes());
    fx[4] = fpu.valid;
    fx[24..28].copy_from_slice(&state.mxcsr.to_le_bytes());
    for n in 0..8 {
        let (significand, exponent) = fpu.registers[(n + usize::from(fpu.top)) & 7];
        let at = 32 + 16 * n;
        fx[at..at + 8].copy_from_slice(&significand.to_le_bytes());
        fx[at + 8..at + 10].copy_from_slice(&exponent.to_le_bytes());
    }
    for (n, xmm) in state.xmm.iter().enumerate() {
        fx[160 + 16 * n..][..16].copy_from_slice(&xmm.to_le_bytes());
    }
    fx
}

fn read_fx_image(fx: &[u8; 512], state: &mut State) {
    let u16_at = |at: usize| u16::from_le_bytes([fx[at], fx[at + 1]]);
    let u64_at = |at: usize| u64::from_le_bytes(fx[at..at + 8].try_into().expect("eight bytes"));
    let status = u16_at(2);
    let top = (status >> 11 & 7) as u8;
    state.fpu.control = u16_at(0);
    state.fpu.status = status & !0x3800;
    state.fpu.top = top;
    state.fpu.valid = fx[4];
    state.mxcsr = u64_at(24) as u32;
    for n in 0..8 {
        let at = 32 + 16 * n;
        state.fpu.registers[(n + usize::from(top)) & 7] = (u64_at(at), u16_at(at + 8));
    }
    for n in 0..16 {
        let at = 160 + 16 * n;
        state.xmm[n] = u128::from(u64_at(at)) | u128::from(u64_at(at + 8)) << 64;
    }
}

fn handle_signals() {
    const STACK: usize = 64 << 10;
    let stack = Box::leak(vec![0u8; STACK].into_boxed_slice());
    let alternate = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: STACK,
    };
    // SAFETY: the stack is leaked, so it outlives the handlers; they are installed for synchronous signals only.
    unsafe {
        assert_eq!(libc::sigaltstack(&alternate, std::ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        for signal in [
            libc::SIGFPE,
            libc::SIGSEGV,
            libc::SIGILL,
            libc::SIGBUS,
            libc::SIGTRAP,
        ] {
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    }
}

/// Writes down the fault and sends the interrupted code to the trampoline's end. A fault anywhere else ends the child.
extern "C" fn handler(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted context, and `Context` is mapped before handlers are installed. The
    // interrupted code is a case's, so nothing holds a reference into `Context`.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let rip = registers[libc::REG_RIP as usize] as u64;
        let ours = Arena::context();
        if (*ours).faulted != 0 || !in_code(rip, registers[libc::REG_TRAPNO as usize]) {
            libc::_exit(99);
        }
        (*ours).faulted = 1;
        (*ours).fault =
            [libc::REG_TRAPNO, libc::REG_ERR, libc::REG_CR2].map(|n| registers[n as usize] as u64);
        (*ours).fault_rip = rip;
        registers[libc::REG_RIP as usize] = oracle_exit as *const () as i64;
        let selectors = &mut registers[libc::REG_CSGSFS as usize];
        *selectors = *selectors & !0xffff | i64::from(CODE_64);
    }
}

/// Whether a fault at `rip` is a case's: in its code, or at the address to which it jumped.
fn in_code(rip: u64, vector: i64) -> bool {
    (CODE..CODE + BATCH as u64 * SLOT).contains(&rip) || matches!(vector, 13 | 14)
}
