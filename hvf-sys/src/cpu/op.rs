//! Every operation that the software CPU knows, named by Intel's mnemonic (SDM volume 2).
//!
//! One operation covers all operand sizes and kinds of a mnemonic; `Insn` says which. Operations that differ in
//! what they do and not only in their operands are apart (`Cmpsd` is the string comparison, `CmpsdXmm` the SSE one).

macro_rules! ops {
    ($($(#[$meta:meta])* $name:ident)*) => {
        /// An operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[allow(missing_docs, reason = "the names are Intel's mnemonics")]
        pub enum Op { $($(#[$meta])* $name),* }

        impl Op {
            /// All operations, in the order of their numbers.
            pub const ALL: &'static [Op] = &[$(Op::$name),*];
        }
    };
}

ops! {
    // Not an instruction: raises #UD when it is executed. Also UD0, UD1, UD2.
    Ud
    // Integer arithmetic and logic
    Add Or Adc Sbb And Sub Xor Cmp Test Inc Dec Neg Not Mul Imul ImulTwo ImulThree Div Idiv
    Rol Ror Rcl Rcr Shl Shr Sar Shld Shrd
    Bt Bts Btr Btc Bsf Bsr Popcnt Bswap Xadd Cmpxchg Cmpxchg8b Cmpxchg16b Xchg
    Aaa Aas Daa Das Aam Aad
    Crc32 Rdrand Rdseed
    // Data movement
    Mov Movzx Movsx Movbe Lea Cmov Setcc Cbw Cwd Xlat Movnti
    Push Pop Pusha Popa Pushf Popf PushSeg PopSeg MovFromSeg MovToSeg Enter Leave
    Lahf Sahf Lds Les Lfs Lgs Lss
    // Control flow. Near; conditions in `Insn::condition`.
    Jcc Jmp Call Ret JmpFar CallFar RetFar Jcxz Loop Loope Loopne
    Int Int1 Int3 Into Iret Bound
    // Flags, waiting, hints
    Clc Stc Cmc Cld Std Cli Sti Clac Stac Hlt Nop Pause Prefetch
    Lfence Mfence Sfence Clflush Clflushopt Clwb
    // Strings and port I/O. The element size is the width.
    Movs Cmps Stos Lods Scas Ins Outs In Out
    // System
    Cpuid Rdtsc Rdtscp Rdpmc Rdmsr Wrmsr Rdpid
    MovCr MovDr Clts Lmsw Smsw Invd Wbinvd Invlpg Invpcid
    Lgdt Lidt Sgdt Sidt Lldt Ltr Sldt Str Lar Lsl Verr Verw Arpl
    Syscall Sysret Sysenter Sysexit Swapgs Rdfsbase Rdgsbase Wrfsbase Wrgsbase
    Xgetbv Xsetbv Fxsave Fxrstor Xsave Xsaveopt Xrstor Ldmxcsr Stmxcsr
    Vmcall Monitor Mwait Rsm
    // x87. Memory forms have the memory operand's size in bytes as the width (2, 4, 8, 10), register forms 10.
    Fadd Fmul Fcom Fcomp Fsub Fsubr Fdiv Fdivr
    Faddp Fmulp Fcompp Fsubp Fsubrp Fdivp Fdivrp
    Fiadd Fimul Ficom Ficomp Fisub Fisubr Fidiv Fidivr
    Fld Fst Fstp Fild Fist Fistp Fisttp Fbld Fbstp Fxch
    Fcmov Fucom Fucomp Fucompp Fcomi Fcomip Fucomi Fucomip
    Fnop Fchs Fabs Ftst Fxam Fld1 Fldl2t Fldl2e Fldpi Fldlg2 Fldln2 Fldz
    F2xm1 Fyl2x Fptan Fpatan Fxtract Fprem1 Fdecstp Fincstp Fprem Fyl2xp1 Fsqrt Fsincos Frndint Fscale Fsin Fcos
    Fldenv Fldcw Fnstenv Fnstcw Fnstsw Frstor Fnsave Fnclex Fninit Ffree Ffreep Fwait
    // MMX and SSE integer; the operands say which of the two register files
    Emms Movd Movq Movdqa Movdqu Movntq Movntdq Movntdqa Lddqu Maskmovq Maskmovdqu Movq2dq Movdq2q
    Punpcklbw Punpcklwd Punpckldq Punpcklqdq Punpckhbw Punpckhwd Punpckhdq Punpckhqdq
    Packsswb Packssdw Packuswb Packusdw
    Paddb Paddw Paddd Paddq Paddsb Paddsw Paddusb Paddusw
    Psubb Psubw Psubd Psubq Psubsb Psubsw Psubusb Psubusw
    Pmullw Pmulhw Pmulhuw Pmuludq Pmuldq Pmulld Pmaddwd Pmaddubsw Pmulhrsw
    Pcmpeqb Pcmpeqw Pcmpeqd Pcmpeqq Pcmpgtb Pcmpgtw Pcmpgtd Pcmpgtq
    Pand Pandn Por Pxor
    Psllw Pslld Psllq Pslldq Psrlw Psrld Psrlq Psrldq Psraw Psrad
    Pavgb Pavgw Pminub Pminsw Pmaxub Pmaxsw Psadbw
    Pminsb Pminsd Pminuw Pminud Pmaxsb Pmaxsd Pmaxuw Pmaxud Phminposuw
    Pshufw Pshufd Pshufhw Pshuflw Pshufb Palignr
    Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw Psignb Psignw Psignd Pabsb Pabsw Pabsd
    Pmovmskb Pextrb Pextrw Pextrd Pextrq Pinsrb Pinsrw Pinsrd Pinsrq
    Pmovsxbw Pmovsxbd Pmovsxbq Pmovsxwd Pmovsxwq Pmovsxdq
    Pmovzxbw Pmovzxbd Pmovzxbq Pmovzxwd Pmovzxwq Pmovzxdq
    Ptest Pblendvb Pblendw Mpsadbw Pcmpestri Pcmpestrm Pcmpistri Pcmpistrm
    // SSE floating point
    Movaps Movapd Movups Movupd Movss Movsd Movlps Movlpd Movhps Movhpd Movhlps Movlhps Movntps Movntpd
    Movmskps Movmskpd Movsldup Movshdup Movddup
    Addps Addpd Addss Addsd Subps Subpd Subss Subsd Mulps Mulpd Mulss Mulsd Divps Divpd Divss Divsd
    Minps Minpd Minss Minsd Maxps Maxpd Maxss Maxsd Sqrtps Sqrtpd Sqrtss Sqrtsd
    Rcpps Rcpss Rsqrtps Rsqrtss
    Addsubps Addsubpd Haddps Haddpd Hsubps Hsubpd Dpps Dppd
    Andps Andpd Andnps Andnpd Orps Orpd Xorps Xorpd
    Cmpps Cmppd Cmpss CmpsdXmm Comiss Comisd Ucomiss Ucomisd
    Shufps Shufpd Unpcklps Unpcklpd Unpckhps Unpckhpd Blendps Blendpd Blendvps Blendvpd Insertps Extractps
    Roundps Roundpd Roundss Roundsd
    Cvtps2pd Cvtpd2ps Cvtss2sd Cvtsd2ss Cvtdq2ps Cvtdq2pd Cvtps2dq Cvttps2dq Cvtpd2dq Cvttpd2dq
    Cvtsi2ss Cvtsi2sd Cvtss2si Cvtsd2si Cvttss2si Cvttsd2si
    Cvtpi2ps Cvtpi2pd Cvtps2pi Cvtpd2pi Cvttps2pi Cvttpd2pi
}
