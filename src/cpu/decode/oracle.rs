//! The decoder against an independent one (iced-x86): the same length, operation, operands and #UD for every opcode and
//! ModRM byte in all modes. Every difference that is allowed is named here, with its reason.

use super::{DecodeError, Mode, decode};
use hvf_sys::cpu::{Insn, Op, Operand, Reg};
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register,
};
use std::collections::BTreeMap;

const MODES: [(Mode, u32); 3] = [(Mode::Bits16, 16), (Mode::Bits32, 32), (Mode::Bits64, 64)];

/// A seeded generator: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn bytes(&mut self) -> [u8; 15] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes[..15].try_into().expect("15 of 16")
    }
}

#[test]
fn every_opcode_under_every_prefix_reads_like_the_other_decoder_does() {
    let prefixes: &[&[u8]] = &[
        &[],
        &[0x66],
        &[0xf3],
        &[0xf2],
        &[0x48],
        &[0x66, 0x48],
        &[0xf3, 0x48],
        &[0xf2, 0x48],
        &[0xf0],
        &[0x67],
        &[0x66, 0xf2],
        &[0x66, 0xf3],
        &[0x45],
        &[0x64],
        &[0x36],
        &[0xf0, 0x4f],
        &[0xf3, 0x41],
        &[0x65, 0x67, 0x66],
        &[0xf2, 0xf3],
        &[0xf3, 0xf2, 0x66],
        &[0x48, 0x66],
        &[0x2e, 0x44],
        &[0x64, 0x3e],
    ];
    let maps: &[&[u8]] = &[&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let mut random = Random(1);
    let mut differences = Differences::default();
    for (mode, bits) in MODES {
        for map in maps {
            for opcode in 0..=255u8 {
                for modrm in 0..=255u8 {
                    let some = [random.next() as usize, random.next() as usize]
                        .map(|n| n % prefixes.len());
                    for (n, prefix) in prefixes.iter().enumerate() {
                        if modrm % 29 != 0 && !some.contains(&n) {
                            continue;
                        }
                        let head: Vec<u8> = [*prefix, *map, &[opcode, modrm]].concat();
                        let mut bytes = random.bytes();
                        bytes[..head.len()].copy_from_slice(&head);
                        differences.compare(&bytes, mode, bits);
                    }
                }
            }
        }
    }
    differences.none();
}

#[test]
fn random_bytes_read_like_the_other_decoder_does() {
    let mut random = Random(2);
    let mut differences = Differences::default();
    for _ in 0..600_000 {
        let bytes = random.bytes();
        for (mode, bits) in MODES {
            differences.compare(&bytes, mode, bits);
        }
    }
    differences.none();
}

#[test]
fn bytes_that_end_early_are_truncated_and_never_read_differently() {
    let mut random = Random(3);
    for _ in 0..200_000 {
        let bytes = random.bytes();
        for (mode, _) in MODES {
            let Ok(insn) = decode(&bytes, mode) else {
                continue;
            };
            let len = insn.len() as usize;
            for shorter in 0..len {
                assert_eq!(decode(&bytes[..shorter], mode), Err(DecodeError::Truncated));
            }
            assert_eq!(decode(&bytes[..len], mode), Ok(insn));
        }
    }
}

/// Differences, one a kind of instruction.
#[derive(Default)]
struct Differences(BTreeMap<String, String>);

impl Differences {
    fn compare(&mut self, bytes: &[u8; 15], mode: Mode, bits: u32) {
        let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NONE);
        let other = decoder.decode();
        let ours = decode(bytes, mode);
        if let Some(difference) = difference(&ours, &other, mode) {
            let code = format!("{:?} {mode:?} {difference}", other.code());
            self.0
                .entry(code)
                .or_insert_with(|| format!("{bytes:02x?} {ours:?}"));
        }
    }

    fn none(self) {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(code, bytes)| format!("{code}: {bytes}"))
            .collect();
        assert!(all.is_empty(), "{} kinds:\n{}", all.len(), all.join("\n"));
    }
}

fn difference(ours: &Result<Insn, DecodeError>, other: &Instruction, mode: Mode) -> Option<String> {
    let ours = match ours {
        Ok(insn) => insn,
        Err(DecodeError::TooLong) => {
            return (!other.is_invalid() && !unknown(other)).then(|| "too long".into());
        }
        Err(DecodeError::Truncated) => return Some("15 bytes are never too few".into()),
    };
    if ours.op() == Op::Ud {
        return (!other.is_invalid() && !unknown(other) && !ud_for_us(other, mode))
            .then(|| "#UD".into());
    }
    if other.is_invalid() {
        return Some(format!("{:?} for nothing", ours.op()));
    }
    if ours.len() != other.len() as u64 {
        return Some("length".into());
    }
    if ours.op() == Op::Nop && hint(other) {
        return None;
    }
    if format!("{:?}", ours.op()) != name(other) {
        return Some(format!("not {:?}", ours.op()));
    }
    fields(ours, other, mode)
}

/// What the other decoder knows and we mean not to: instruction sets that CPUID does not offer.
fn unknown(other: &Instruction) -> bool {
    use CpuidFeature::*;
    const KNOWN: &[CpuidFeature] = &[
        INTEL8086,
        INTEL8086_ONLY,
        INTEL186,
        INTEL286,
        INTEL386,
        INTEL486,
        X64,
        CPUID,
        CMOV,
        CX8,
        CMPXCHG16B,
        FPU,
        FPU287,
        FPU387,
        FXSR,
        MMX,
        SSE,
        SSE2,
        SSE3,
        SSSE3,
        SSE4_1,
        SSE4_2,
        POPCNT,
        MOVBE,
        MSR,
        TSC,
        RDTSCP,
        RDPMC,
        RDRAND,
        RDSEED,
        RDPID,
        FSGSBASE,
        INVPCID,
        SMAP,
        XSAVE,
        XSAVEOPT,
        CLFSH,
        CLFLUSHOPT,
        CLWB,
        SYSCALL,
        SEP,
        PAUSE,
        MULTIBYTENOP,
        PREFETCHW,
        MONITOR,
        SMM,
    ];
    let features = other.cpuid_features();
    // RSM's features are told twice, as of the 386 or the 486.
    features.iter().any(|feature| !KNOWN.contains(feature))
        && !matches!(other.mnemonic(), Mnemonic::Rsm | Mnemonic::Vmcall)
}

/// What the other decoder knows as an instruction and Intel's processors of today do not.
fn ud_for_us(other: &Instruction, mode: Mode) -> bool {
    match other.mnemonic() {
        // The architecture's own undefined instructions.
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => true,
        // AMD's, outside 64-bit mode.
        Mnemonic::Syscall | Mnemonic::Sysret => mode != Mode::Bits64,
        // Undocumented for decades.
        Mnemonic::Salc => true,
        _ => false,
    }
}

/// Instructions that do nothing on a processor without their extension.
fn hint(other: &Instruction) -> bool {
    use CpuidFeature::*;
    other.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            MPX | CET_IBT | CET_SS | CLDEMOTE | PREFETCHITI | MULTIBYTENOP | PREFETCHW
        )
    })
}

/// The name of the operation that we give to what the other decoder found.
fn name(other: &Instruction) -> String {
    use Mnemonic as M;
    let string = other.is_string_instruction();
    let fixed = match other.mnemonic() {
        M::Jcxz | M::Jecxz | M::Jrcxz => "Jcxz",
        M::Imul if other.op_count() == 2 => "ImulTwo",
        M::Imul if other.op_count() == 3 => "ImulThree",
        M::Movsxd => "Movsx",
        M::Cbw | M::Cwde | M::Cdqe => "Cbw",
        M::Cwd | M::Cdq | M::Cqo => "Cwd",
        M::Pusha | M::Pushad => "Pusha",
        M::Popa | M::Popad => "Popa",
        M::Pushf | M::Pushfd | M::Pushfq => "Pushf",
        M::Popf | M::Popfd | M::Popfq => "Popf",
        M::Iret | M::Iretd | M::Iretq => "Iret",
        // Without their extensions these prefixes do nothing.
        M::Tzcnt => "Bsf",
        M::Lzcnt => "Bsr",
        M::Wbnoinvd => "Wbinvd",
        // REX.W is in `aux`.
        M::Pcmpestri64 => "Pcmpestri",
        M::Pcmpestrm64 => "Pcmpestrm",
        M::Sysretq => "Sysret",
        M::Sysexitq => "Sysexit",
        M::Retf => "RetFar",
        M::Xlatb => "Xlat",
        M::Sal => "Shl",
        M::Wait => "Fwait",
        M::Fneni | M::Fndisi | M::Fnsetpm => "Fnop",
        M::Fxsave64 => "Fxsave",
        M::Fxrstor64 => "Fxrstor",
        M::Xsave64 => "Xsave",
        M::Xsaveopt64 => "Xsaveopt",
        M::Xrstor64 => "Xrstor",
        M::Rdfsbase => "Rdfsbase",
        M::Fstpnce => "Fstp",
        M::Reservednop => "Nop",
        M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchw
        | M::Prefetchwt1
        | M::Prefetch => "Prefetch",
        M::Movsb | M::Movsw | M::Movsq => "Movs",
        M::Movsd if string => "Movs",
        M::Cmpsb | M::Cmpsw | M::Cmpsq => "Cmps",
        M::Cmpsd if string => "Cmps",
        M::Cmpsd => "CmpsdXmm",
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => "Stos",
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => "Lods",
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => "Scas",
        M::Insb | M::Insw | M::Insd => "Ins",
        M::Outsb | M::Outsw | M::Outsd => "Outs",
        // MOVQ between an XMM or MMX register and r/m64 is MOVD with REX.W.
        M::Movq if matches!(other.op0_kind(), OpKind::Register) && (0x6e, 0x7e).eq(&(0, 0)) => {
            "Movd"
        }
        M::Jmp if other.is_jmp_far() || other.is_jmp_far_indirect() => "JmpFar",
        M::Call if other.is_call_far() || other.is_call_far_indirect() => "CallFar",
        M::Push if other.op0_register().is_segment_register() => "PushSeg",
        M::Pop if other.op0_register().is_segment_register() => "PopSeg",
        M::Mov if other.op0_register().is_segment_register() => "MovToSeg",
        M::Mov if other.op1_register().is_segment_register() => "MovFromSeg",
        M::Mov if other.op0_register().is_cr() || other.op1_register().is_cr() => "MovCr",
        M::Mov if other.op0_register().is_dr() || other.op1_register().is_dr() => "MovDr",
        _ => "",
    };
    if !fixed.is_empty() {
        return fixed.into();
    }
    let name = format!("{:?}", other.mnemonic());
    if other.condition_code() != iced_x86::ConditionCode::None && !name.starts_with("Loop") {
        return ["Jcc", "Setcc", "Cmov"]
            .iter()
            .find(|n| n[..1] == name[..1])
            .expect("one of the three")
            .to_string();
    }
    if name.starts_with("Fcmov") {
        return "Fcmov".into();
    }
    let code = format!("{:?}", other.code());
    // MOVQ between an XMM or MMX register and r/m64 is MOVD with REX.W.
    if name == "Movq" && (code.ends_with("_rm64") || code.starts_with("Movq_rm64")) {
        return "Movd".into();
    }
    name
}

/// The first field that differs.
fn fields(ours: &Insn, other: &Instruction, mode: Mode) -> Option<String> {
    if ours.lock() != other.has_lock_prefix() {
        return Some("LOCK".into());
    }
    if let Some(condition) = condition(other)
        && condition != ours.aux()
    {
        return Some(format!("condition {condition}"));
    }
    if other.is_string_instruction() {
        return string(ours, other);
    }
    if matches!(ours.op(), Op::Xlat | Op::Maskmovq | Op::Maskmovdqu) {
        let segment = other.memory_segment();
        return (!same_segment(ours, segment, mode)).then(|| format!("segment {segment:?}"));
    }
    if matches!(ours.op(), Op::Monitor | Op::Mwait | Op::Nop) {
        return None;
    }
    let operands: Vec<u32> = (0..other.op_count())
        .filter(|n| counts(ours, other, *n))
        .collect();
    for (slot, mine) in [ours.a(), ours.b(), ours.c()].into_iter().enumerate() {
        let Some(n) = operands.get(slot) else {
            if !mine.is_none() {
                return Some(format!("operand {slot} too many"));
            }
            continue;
        };
        if let Some(difference) = operand(ours, mine, other, *n, mode) {
            return Some(format!("operand {slot}: {difference}"));
        }
    }
    size(ours, other)
}

/// Whether the other decoder's operand `n` is one of ours: not what an operation implies.
fn counts(ours: &Insn, other: &Instruction, n: u32) -> bool {
    let implied = match ours.op() {
        // Intel writes them with one register.
        Op::Fcom | Op::Fcomp | Op::Fucom | Op::Fucomp | Op::Fxch => n == 0 && other.op_count() == 2,
        Op::Fst | Op::Fstp => n == 1,
        // XMM0.
        Op::Blendvps | Op::Blendvpd | Op::Pblendvb => n == 2,
        // The level is in `aux`.
        Op::Enter => n == 1,
        _ => false,
    };
    !implied
}

fn condition(other: &Instruction) -> Option<u8> {
    use iced_x86::ConditionCode as C;
    if matches!(
        other.mnemonic(),
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne
    ) {
        return None;
    }
    let fcmov = match other.mnemonic() {
        Mnemonic::Fcmovb => Some(2),
        Mnemonic::Fcmovnb => Some(3),
        Mnemonic::Fcmove => Some(4),
        Mnemonic::Fcmovne => Some(5),
        Mnemonic::Fcmovbe => Some(6),
        Mnemonic::Fcmovnbe => Some(7),
        Mnemonic::Fcmovu => Some(10),
        Mnemonic::Fcmovnu => Some(11),
        _ => None,
    };
    fcmov.or(match other.condition_code() {
        C::o => Some(0),
        C::no => Some(1),
        C::b => Some(2),
        C::ae => Some(3),
        C::e => Some(4),
        C::ne => Some(5),
        C::be => Some(6),
        C::a => Some(7),
        C::s => Some(8),
        C::ns => Some(9),
        C::p => Some(10),
        C::np => Some(11),
        C::l => Some(12),
        C::ge => Some(13),
        C::le => Some(14),
        C::g => Some(15),
        C::None => None,
    })
}

fn string(ours: &Insn, other: &Instruction) -> Option<String> {
    let compares = matches!(ours.op(), Op::Cmps | Op::Scas);
    let (rep, repne) = match (other.has_rep_prefix(), other.has_repne_prefix()) {
        (rep, repne) if compares => (rep, repne),
        (rep, repne) => (rep || repne, false),
    };
    if (ours.rep(), ours.repne()) != (rep, repne) {
        return Some("repetition".into());
    }
    if usize::from(ours.width()) != other.memory_size().size() {
        return Some("width".into());
    }
    let kinds = [other.op0_kind(), other.op1_kind()];
    let address_size = match () {
        () if kinds.contains(&OpKind::MemorySegSI) || kinds.contains(&OpKind::MemoryESDI) => 2,
        () if kinds.contains(&OpKind::MemorySegESI) || kinds.contains(&OpKind::MemoryESEDI) => 4,
        () => 8,
    };
    (ours.address_size() != address_size).then(|| "address size".into())
}

fn operand(ours: &Insn, mine: Operand, other: &Instruction, n: u32, mode: Mode) -> Option<String> {
    match other.op_kind(n) {
        OpKind::Register => {
            let register = other.op_register(n);
            (mine.as_reg() != Some(reg(register))).then(|| format!("{register:?}"))
        }
        OpKind::Memory => memory(ours, mine, other, mode),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            let mask = mask(ours.width());
            let target = ours.immediate().wrapping_add(other.next_ip()) & mask;
            (!mine.is_imm() || target != other.near_branch_target() & mask).then(|| "target".into())
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => {
            let far = u64::from(other.far_branch_selector()) << 32
                | if ours.width() == 2 {
                    u64::from(other.far_branch16())
                } else {
                    u64::from(other.far_branch32())
                };
            (!mine.is_imm() || ours.immediate() != far).then(|| "far pointer".into())
        }
        _ => {
            let (left, right) = (ours.immediate(), other.immediate(n));
            let same = left == right || left & mask(ours.width()) == right & mask(ours.width());
            (!mine.is_imm() || !same).then(|| format!("immediate {right:#x}"))
        }
    }
}

fn mask(width: u8) -> u64 {
    if width >= 8 {
        u64::MAX
    } else {
        (1 << (8 * width)) - 1
    }
}

fn memory(ours: &Insn, mine: Operand, other: &Instruction, mode: Mode) -> Option<String> {
    let Some(mem) = ours.mem().filter(|_| mine.is_mem()) else {
        return Some("no memory".into());
    };
    let rip = other.is_ip_rel_memory_operand();
    if mem.rip_relative != rip {
        return Some("RIP".into());
    }
    if !same_segment(ours, other.memory_segment(), mode) {
        return Some(format!("segment {:?}", other.memory_segment()));
    }
    let number = |register: Register| (register != Register::None).then(|| register.number() as u8);
    if !rip
        && (mem.base != number(other.memory_base()) || mem.index != number(other.memory_index()))
    {
        return Some("base or index".into());
    }
    if mem.index.is_some() && 1 << mem.scale != other.memory_index_scale() {
        return Some("scale".into());
    }
    let size = match (rip, other.memory_base(), other.memory_index()) {
        (true, base, _) => base.size(),
        (_, Register::None, Register::None) => other.memory_displ_size() as usize,
        (_, Register::None, index) => index.size(),
        (_, base, _) => base.size(),
    } as u8;
    if size > 1
        && mem.address_size != size
        && !(size == 4 && mem.address_size == 8 && mem.base.is_none())
    {
        return Some(format!("address size {size}"));
    }
    let place = (mem.displacement as u64).wrapping_add(if rip { other.next_ip() } else { 0 });
    let differs = (place ^ other.memory_displacement64()) & mask(mem.address_size) != 0;
    differs.then(|| format!("displacement {:#x}", other.memory_displacement64()))
}

/// In 64-bit mode the other decoder reports overrides that are ignored.
fn same_segment(ours: &Insn, segment: Register, mode: Mode) -> bool {
    let number = segment.number();
    if mode != Mode::Bits64 {
        return ours.segment() == number;
    }
    let stack = ours.has_mem() && !ours.rip_relative() && matches!(ours.base(), Some(4 | 5));
    ours.segment()
        == if number >= 4 {
            number
        } else if stack {
            2
        } else {
            3
        }
}

fn reg(register: Register) -> Reg {
    let number = register.number() as u8;
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            Reg::High(register as u8 - Register::AH as u8)
        }
        _ if register.is_gpr() => Reg::Gpr(register.full_register().number() as u8),
        _ if register.is_xmm() => Reg::Xmm(number),
        _ if register.is_mm() => Reg::Mm(number),
        _ if register.is_st() => Reg::St(number),
        _ if register.is_segment_register() => Reg::Seg(number),
        _ if register.is_cr() => Reg::Cr(number),
        _ => Reg::Dr(number),
    }
}

/// The width against the size of memory, or of the registers.
fn size(ours: &Insn, other: &Instruction) -> Option<String> {
    let memory = other.memory_size().size();
    let width = usize::from(ours.width());
    let expected = match ours.op() {
        Op::Movzx | Op::Movsx | Op::Crc32 | Op::Lar | Op::Lsl if ours.has_mem() => {
            return (usize::from(ours.aux()) != memory || width != other.op0_register().size())
                .then(|| format!("aux or width, of {memory}"));
        }
        // The integer's size is the width; the floating point number's follows from the operation.
        Op::Cvtss2si | Op::Cvtsd2si | Op::Cvttss2si | Op::Cvttsd2si => other.op0_register().size(),
        // The operand size.
        Op::Lgdt | Op::Lidt | Op::Sgdt | Op::Sidt => {
            return (other.memory_size().size() != width.max(4) + 2 && width != 2)
                .then(|| "width".into());
        }
        Op::Fldenv | Op::Fnstenv | Op::Frstor | Op::Fnsave => {
            let small = matches!(memory, 14 | 94);
            if small { 2 } else { 4 }
        }
        Op::Fxsave | Op::Fxrstor | Op::Xsave | Op::Xsaveopt | Op::Xrstor => {
            if format!("{:?}", other.mnemonic()).ends_with("64") {
                8
            } else {
                4
            }
        }
        // A pair of two, a far pointer.
        Op::Bound => memory / 2,
        Op::Les | Op::Lds | Op::Lfs | Op::Lgs | Op::Lss => other.op0_register().size(),
        Op::JmpFar | Op::CallFar if ours.has_mem() => memory - 2,
        Op::Invpcid => other.op0_register().size(),
        // No size of their own.
        Op::Lea | Op::Prefetch | Op::Invlpg | Op::Clflush | Op::Clflushopt | Op::Clwb => {
            return None;
        }
        _ if ours.has_mem() => memory,
        _ => return register_size(ours, other),
    };
    (width != expected).then(|| format!("width is not {expected}"))
}

fn register_size(ours: &Insn, other: &Instruction) -> Option<String> {
    let width = usize::from(ours.width());
    let general = ours.a().is_gpr() || ours.a().is_high();
    let plain = general
        && other.op0_kind() == OpKind::Register
        && !ours.b().is_xmm()
        && mm(ours.b()).is_none();
    let fixed = matches!(
        ours.op(),
        Op::Lldt
            | Op::Ltr
            | Op::Verr
            | Op::Verw
            | Op::Lmsw
            | Op::Movd
            | Op::In
            | Op::Out
            | Op::Fnstsw
            | Op::Rdpid
            | Op::Arpl
    );
    let register = other.op0_register().size();
    (plain && !fixed && width != register).then(|| format!("width is not {register}"))
}

fn mm(operand: Operand) -> Option<u8> {
    match operand.as_reg() {
        Some(Reg::Mm(n)) => Some(n),
        _ => None,
    }
}

#[test]
fn the_other_decoder_is_asked() {
    let mut decoder = Decoder::new(64, &[0x0f, 0xa2], DecoderOptions::NONE);
    assert_eq!(decoder.decode().code(), Code::Cpuid);
}
