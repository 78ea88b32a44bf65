//! The instruction families: one handler for each operation, operand form and width.
//!
//! A handler finds `state.rip` at the next instruction. It either completes, or returns a fault and has changed nothing
//! that the guest can see (accessed and dirty bits apart); the run loop then sets RIP back.

mod alu;
mod bits;
mod branch;
mod decimal;
mod far;
mod flag;
mod fpu_state;
mod mov;
mod muldiv;
mod operand;
mod segment;
mod shift;
mod simd;
mod sse;
mod stack;
mod string;
mod system;
mod transfer;
mod x87;

use hvf_sys::cpu::{Insn, Op};

use super::core::{Done, Exec};

/// What executes one instruction.
pub type Handler = for<'io> fn(&mut Exec<'io>, &Insn) -> Done;

/// Picks the instance of a generic handler for an operand size of 1, 2, 4 or 8 bytes.
macro_rules! by_width {
    ($insn:expr, $handler:ident $(, $kind:ty)*) => {
        match $insn.width() {
            1 => $handler::<$($kind,)* u8>,
            2 => $handler::<$($kind,)* u16>,
            4 => $handler::<$($kind,)* u32>,
            _ => $handler::<$($kind,)* u64>,
        }
    };
}
use by_width;

/// The same for operand sizes of 2, 4 or 8 bytes.
macro_rules! by_word {
    ($insn:expr, $handler:ident) => {
        match $insn.width() {
            2 => $handler::<u16>,
            4 => $handler::<u32>,
            _ => $handler::<u64>,
        }
    };
}
use by_word;

/// The handler of an instruction.
pub fn select(insn: &Insn) -> Handler {
    use Op::*;
    match insn.op() {
        Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test | Inc | Dec | Neg | Not => {
            alu::select(insn)
        }
        Mul | Imul | ImulTwo | ImulThree | Div | Idiv => muldiv::select(insn),
        Rol | Ror | Rcl | Rcr | Shl | Shr | Sar | Shld | Shrd => shift::select(insn),
        Bt | Bts | Btr | Btc | Bsf | Bsr | Popcnt | Bswap | Crc32 | Rdrand | Rdseed => {
            bits::select(insn)
        }
        Xadd | Cmpxchg | Cmpxchg8b | Cmpxchg16b | Xchg | Mov | Movzx | Movsx | Movbe | Lea
        | Cmov | Setcc | Cbw | Cwd | Xlat | Movnti => mov::select(insn),
        Aaa | Aas | Daa | Das | Aam | Aad => decimal::select(insn),
        Push | Pop | Pusha | Popa | Pushf | Popf | Enter | Leave => stack::select(insn),
        Jcc | Jmp | Call | Ret | Jcxz | Loop | Loope | Loopne => branch::select(insn),
        Movs | Cmps | Stos | Lods | Scas | Ins | Outs | In | Out => string::select(insn),
        Clc | Stc | Cmc | Cld | Std | Lahf | Sahf | Nop | Pause | Prefetch | Lfence | Mfence
        | Sfence => flag::select(insn),
        Int | Int1 | Int3 | Into | Iret | Syscall | Sysret | Sysenter | Sysexit => {
            transfer::select(insn)
        }
        JmpFar | CallFar | RetFar => far::select(insn),
        MovFromSeg | MovToSeg | PushSeg | PopSeg | Lds | Les | Lfs | Lgs | Lss | Sldt | Str
        | Lldt | Ltr | Lar | Lsl | Verr | Verw | Arpl | Bound => segment::select(insn),
        Hlt | Cli | Sti | Clac | Stac | Cpuid | Rdtsc | Rdtscp | Rdpmc | Rdpid | Rdmsr | Wrmsr
        | MovCr | MovDr | Clts | Lmsw | Smsw | Invd | Wbinvd | Invlpg | Invpcid | Lgdt | Lidt
        | Sgdt | Sidt | Swapgs | Rdfsbase | Rdgsbase | Wrfsbase | Wrgsbase | Xgetbv | Xsetbv
        | Clflush | Clflushopt | Clwb | Vmcall | Monitor | Mwait => system::select(insn),
        Fxsave | Fxrstor | Xsave | Xsaveopt | Xrstor | Ldmxcsr | Stmxcsr | Emms => {
            fpu_state::select(insn)
        }
        _ => simd::select(insn)
            .or_else(|| sse::select(insn))
            .or_else(|| x87::select(insn))
            .unwrap_or(undefined),
    }
}

fn undefined(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    Err(x.undefined())
}

/// Whether control may go elsewhere after this instruction, or what follows depends on what it changes.
pub fn ends_block(insn: &Insn) -> bool {
    use Op::*;
    match insn.op() {
        Ud | Jcc | Jmp | Call | Ret | JmpFar | CallFar | RetFar | Jcxz | Loop | Loope | Loopne => {
            true
        }
        Int | Int1 | Int3 | Into | Iret | Hlt | Sti | Popf | Pause | Syscall | Sysret
        | Sysenter | Sysexit | Rsm | Vmcall => true,
        MovCr | MovDr | Wrmsr | Lmsw | Invlpg | Invpcid | Monitor | Mwait | Xsetbv => true,
        PopSeg | MovToSeg | Lss => insn.a() != hvf_sys::cpu::Operand::NONE,
        Movs | Cmps | Stos | Lods | Scas | Ins | Outs => insn.rep() || insn.repne(),
        _ => false,
    }
}
