/*
 * What every test guest begins with: #include it first, define `main`, and let main return.
 *
 * A guest is a multiboot kernel linked at 0x20000, so that it runs in a machine of 1 MiB. `start` sets up a flat GDT,
 * an IDT, a stack and COM1, enables the LAPIC and calls `main`, in 32-bit mode without paging, with interrupts off
 * and both 8259 wholly masked. After main it prints `done N`, N checks having been made, and powers the machine off.
 *
 * Checks. Each prints `ok NAME`, or `FAIL NAME got=.. want=..`, and keeps every register and the flags. The harness
 * reads the names from the source and demands them in that order, so each stands in the source once, in the order in
 * which it is run, and no check is in a loop.
 *      expect "NAME", WANT             EAX is WANT, any operand of movl
 *      expect_range "NAME", LOW, HIGH  LOW <= EAX <= HIGH without sign
 *      expect_who "NAME", WANT, V      vector V has interrupted these CPUs, CPU 0 in the lowest four bits, so many
 *                                      times since it was asked last; waits for that, then looks again.
 *                                      Clobbers EAX, ECX, EDX
 * What comes from another CPU or a clock must be waited for; what a CPU does to itself needs no more than `settle`.
 *      hits V, CPU=0       EAX = how often vector V has interrupted that CPU
 *      wait_hits V, N, CPU=0   waits, ten seconds at most, until there were N at least; EAX as in hits
 *      wait_long ADDR, N   waits, ten seconds at most, until the dword there is N; EAX = the dword
 *      settle              lets one millisecond pass with interrupts on, and leaves the CPU's engine some times, since
 *                          the host may have used up the time: what is to come has come
 *      clear_hits          forgets the interrupts of all CPUs
 *
 * Interrupts. Every vector has a gate. Its interrupt is counted (and the CPU's last 16 are in `recent`, the newest in
 * the lowest byte of the first dword), then the vector's routine is called, if
 *      on V, ROUTINE
 * set one: with interrupts off, EAX = V; it may clobber EAX, ECX, EDX. Without one nothing is done, an EOI neither:
 * `eoi_lapic`, `eoi_master` and `eoi_slave` are routines. An exception without a routine ends the guest.
 *
 * CPUs. `start_aps N` starts CPUs 1 to N-1, which then halt and wait for work: `run_on CPU, ROUTINE` sends them vector
 * 0xf0 and does not wait; `wait_idle CPU` does. Their LAPICs are enabled; interrupts reach them in `hlt` only, unless a
 * routine says sti. A CPU's number is its APIC id; `cpu_number` gives it in EAX.
 *
 * `switch_off` and `switch_on` are routines that disable and enable the LAPIC of the CPU that runs them. `start_pic MASK`
 * initialises the first 8259 with vectors from 0x20.
 *
 * Time. `delay_us N` waits by the TSC, whose rate CPUID.15H tells; `stopwatch` begins to measure, and `elapsed_us` gives
 * the microseconds since in EAX. No check may depend on how fast the host is: an upper bound on time is a mistake, since
 * the host may look away for seconds.
 */

        .set    CODE32, 0x08
        .set    DATA32, 0x10
        .set    CODE64, 0x18
        .set    CODE16, 0x20
        .set    DATA16, 0x28
        .set    CPUS_MAX, 8
        .set    STACK, 0x1000
        .set    COM1, 0x3f8
        .set    LAPIC, 0xfee00000
        .set    IOAPIC, 0xfec00000
        .set    WORK_VECTOR, 0xf0

/* ---- Ports and registers ---------------------------------------------------------------------------------- */

.macro outb_ port, value
        movb    \value, %al
        movw    $\port, %dx
        outb    %al, %dx
.endm

/* EAX = the byte at a port. */
.macro inb_ port
        movw    $\port, %dx
        xorl    %eax, %eax
        inb     %dx, %al
.endm

.macro lapic_write reg, value
        movl    \value, LAPIC + \reg
.endm

.macro lapic_read reg
        movl    LAPIC + \reg, %eax
.endm

.macro start_pic mask
        outb_   0x20, $0x11
        outb_   0x21, $0x20
        outb_   0x21, $0x04
        outb_   0x21, $0x01
        outb_   0x21, $\mask
.endm

/* Sends an interrupt command to the physical destination. */
.macro icr dest, low
        movl    $(\dest) << 24, LAPIC + 0x310
        movl    $(\low), LAPIC + 0x300
.endm

/* Writes the low or high half of an I/O APIC pin's entry. */
.macro ioapic_write reg, value
        movl    $\reg, IOAPIC
        movl    \value, IOAPIC + 0x10
.endm

.macro ioapic_read reg
        movl    $\reg, IOAPIC
        movl    IOAPIC + 0x10, %eax
.endm

/* ---- Checks ----------------------------------------------------------------------------------------------- */

.macro string_ name
        .section .rodata
9990:   .asciz  "\name"
        .previous
.endm

.macro expect name, want
        expect_range "\name", \want, \want
.endm

.macro expect_range name, low, high
        pushfl
        pushal
        pushl   %eax
        pushl   \low
        pushl   \high
        string_ "\name"
        pushl   $9990b
        call    check
        addl    $16, %esp
        popal
        popfl
.endm

.macro expect_who name, want, vector
        pushl   $4 * (\vector)
        pushl   $\want
        call    who
        addl    $8, %esp
        expect  "\name", $\want
.endm

/* ---- Interrupts ------------------------------------------------------------------------------------------- */

.macro on vector, routine
        movl    $\routine, routines + 4 * (\vector)
.endm

.macro hits vector, cpu=0
        movl    hit_counts + 1024 * (\cpu) + 4 * (\vector), %eax
.endm

.macro wait_hits vector, count, cpu=0
        pushl   $\count
        pushl   $hit_counts + 1024 * (\cpu) + 4 * (\vector)
        call    wait_for_hits
        addl    $8, %esp
.endm

.macro wait_long address, value
        pushl   $\value
        pushl   $\address
        call    wait_for
        addl    $8, %esp
.endm

.macro settle
        call    settle_
.endm

.macro clear_hits
        call    clear_hits_
.endm

/* ---- CPUs and time ---------------------------------------------------------------------------------------- */

.macro start_aps count
        movl    $\count, %eax
        call    start_aps_
.endm

.macro run_on cpu, routine
        movl    $\routine, work + 4 * (\cpu)
        icr     \cpu, 0x4000 + WORK_VECTOR
.endm

.macro wait_idle cpu
        wait_long "work+4*(\cpu)", 0
.endm

.macro delay_us us
        pushl   $\us
        call    delay
        addl    $4, %esp
.endm

/* ---- Multiboot -------------------------------------------------------------------------------------------- */

        .section .head, "ax"
        .balign 4
        .long   0x1badb002, 3, -(0x1badb002 + 3)

        .text
        .code32
        .globl  start
start:
        movl    $stacks + STACK, %esp
        movl    %eax, boot_magic
        movl    %ebx, boot_information
        cld
        call    load_tables
        call    make_idt
        call    find_tsc_rate
        outb_   COM1 + 3, $0x03
        outb_   COM1 + 4, $0x03
        outb_   0x21, $0xff
        outb_   0xa1, $0xff
        lapic_write 0xf0, $0x1ff
        call    main
finish:
        cli
        movl    $done_text, %esi
        call    print
        movl    checks_made, %eax
        call    print_decimal
        call    print_newline
power_off:
        movw    $0x3400, %ax
        movw    $0x404, %dx
        outw    %ax, %dx
        hlt
        jmp     power_off

        .section .rodata
done_text:
        .asciz  "done "
ok_text:
        .asciz  "ok "
fail_text:
        .asciz  "FAIL "
got_text:
        .asciz  " got="
want_text:
        .asciz  " want="
exception_text:
        .asciz  "FAIL exception vector, error, eip:"

/* ---- Printing --------------------------------------------------------------------------------------------- */

        .text
/* The byte in AL to COM1. Keeps all registers. */
putc:
        pushl   %edx
        pushl   %eax
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        popl    %eax
        movw    $COM1, %dx
        outb    %al, %dx
        popl    %edx
        ret

/* The string at ESI. Clobbers EAX, ESI. */
print:
1:      lodsb
        testb   %al, %al
        jz      2f
        call    putc
        jmp     1b
2:      ret

print_newline:
        movb    $'\n', %al
        jmp     putc

/* EAX in hexadecimal. Clobbers EAX, ECX, EDX. */
print_hex:
        movl    $8, %ecx
        movl    %eax, %edx
1:      roll    $4, %edx
        movl    %edx, %eax
        andl    $0xf, %eax
        movb    hex_digits(%eax), %al
        call    putc
        decl    %ecx
        jnz     1b
        ret

/* EAX in decimal. Clobbers EAX, ECX, EDX. */
print_decimal:
        movl    $10, %ecx
        xorl    %edx, %edx
        divl    %ecx
        pushl   %edx
        testl   %eax, %eax
        jz      1f
        call    print_decimal
1:      popl    %eax
        addb    $'0', %al
        jmp     putc

        .section .rodata
hex_digits:
        .ascii  "0123456789abcdef"

/* ---- Checks ----------------------------------------------------------------------------------------------- */

        .text
/* On the stack: name, highest, lowest, value. */
check:
        incl    checks_made
        movl    16(%esp), %ebx
        cmpl    12(%esp), %ebx
        jb      1f
        cmpl    8(%esp), %ebx
        ja      1f
        movl    $ok_text, %esi
        call    print
        movl    4(%esp), %esi
        call    print
        jmp     print_newline
1:      movl    $fail_text, %esi
        call    print
        movl    4(%esp), %esi
        call    print
        movl    $got_text, %esi
        call    print
        movl    %ebx, %eax
        call    print_hex
        movl    $want_text, %esi
        call    print
        movl    12(%esp), %eax
        call    print_hex
        movl    8(%esp), %eax
        cmpl    12(%esp), %eax
        je      print_newline
        movb    $'-', %al
        call    putc
        movl    8(%esp), %eax
        call    print_hex
        jmp     print_newline

/* On the stack: what is wanted, offset of the vector. EAX = the counts of CPUs 3 to 0, which are cleared. */
who:
        pushl   %ebx
        pushl   %esi
        pushfl
        sti
        call    ten_seconds
1:      call    count_hits
        cmpl    16(%esp), %esi
        je      2f
        call    is_waiting
        jc      1b
2:      settle
        call    count_hits
        movl    20(%esp), %edx
        .irp    cpu, 0, 1, 2, 3
        movl    $0, hit_counts + 1024 * \cpu(%edx)
        .endr
        movl    %esi, %eax
        popfl
        popl    %esi
        popl    %ebx
        ret

/* ESI = the counts, for `who`. Clobbers EDX. */
count_hits:
        movl    24(%esp), %edx
        xorl    %esi, %esi
        .irp    cpu, 3, 2, 1, 0
        shll    $4, %esi
        orl     hit_counts + 1024 * \cpu(%edx), %esi
        .endr
        ret

/* ---- Descriptor tables ------------------------------------------------------------------------------------ */

/* Loads GDT and IDT and all segment registers. Clobbers EAX. */
load_tables:
        lgdt    gdt_pointer
        ljmp    $CODE32, $1f
1:      movw    $DATA32, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        lidt    idt_pointer
        ret

make_idt:
        movl    $idt, %edi
        movl    $stubs, %eax
1:      movw    %ax, (%edi)
        movw    $CODE32, 2(%edi)
        movl    %eax, %edx
        movw    $0x8e00, %dx
        movl    %edx, 4(%edi)
        addl    $16, %eax
        addl    $8, %edi
        cmpl    $idt + 256 * 8, %edi
        jb      1b
        ret

        .balign 16
stubs:
        .set    vector_, 0
        .rept   256
        .balign 16
        .if     !(vector_ == 8 || (vector_ >= 10 && vector_ <= 14) || vector_ == 17 || vector_ == 21)
        pushl   $0
        .endif
        pushl   $vector_
        jmp     interrupt
        .set    vector_, vector_ + 1
        .endr
        .balign 16

/* Count, remember, call the routine. */
interrupt:
        pushal
        movl    32(%esp), %eax
        call    cpu_by_stack
        imull   $256, %ebx, %ecx
        addl    %eax, %ecx
        incl    hit_counts(, %ecx, 4)
        shll    $4, %ebx
        movl    recent + 8(%ebx), %edx
        shldl   $8, %edx, recent + 12(%ebx)
        movl    recent + 4(%ebx), %edx
        shldl   $8, %edx, recent + 8(%ebx)
        movl    recent(%ebx), %edx
        shldl   $8, %edx, recent + 4(%ebx)
        shll    $8, %edx
        movb    %al, %dl
        movl    %edx, recent(%ebx)
        movl    routines(, %eax, 4), %edx
        testl   %edx, %edx
        jz      1f
        call    *%edx
        jmp     2f
1:      cmpl    $2, %eax
        je      2f
        cmpl    $32, %eax
        jb      unexpected
2:      popal
        addl    $8, %esp
        iret

unexpected:
        movl    $exception_text, %esi
        call    print
        xorl    %ebx, %ebx
1:      movb    $' ', %al
        call    putc
        movl    32(%esp, %ebx, 4), %eax
        call    print_hex
        incl    %ebx
        cmpl    $3, %ebx
        jb      1b
        call    print_newline
        jmp     power_off

/* In the mode that the LAPIC is in. */
eoi_lapic:
        movl    $0x1b, %ecx
        rdmsr
        testl   $0x400, %eax
        jnz     1f
        lapic_write 0xb0, $0
        ret
1:      movl    $0x80b, %ecx
        xorl    %eax, %eax
        xorl    %edx, %edx
        wrmsr
        ret

eoi_master:
        movb    $0x20, %al
        outb    %al, $0x20
        ret

eoi_slave:
        movb    $0x20, %al
        outb    %al, $0xa0
        outb    %al, $0x20
        ret

clear_hits_:
        pushal
        movl    $hit_counts, %edi
        movl    $CPUS_MAX * (256 + 4), %ecx
        xorl    %eax, %eax
        rep stosl
        popal
        ret

/* ---- Waiting ---------------------------------------------------------------------------------------------- */

/* Clobbers EAX, EBX, ECX, EDX. A crystal of some hertz, EBX / EAX ticks of the TSC for each of its own. */
find_tsc_rate:
        movl    $0x15, %eax
        xorl    %ecx, %ecx
        cpuid
        pushl   %eax
        movl    %ebx, %eax
        mull    %ecx
        divl    (%esp)
        addl    $4, %esp
        xorl    %edx, %edx
        movl    $1000000, %ecx
        divl    %ecx
        movl    %eax, tsc_per_us
        ret

/* On the stack: microseconds. Clobbers EAX, ECX, EDX. */
delay:
        rdtsc
        pushl   %edx
        pushl   %eax
        movl    tsc_per_us, %eax
        mull    12(%esp)
        addl    %eax, (%esp)
        adcl    %edx, 4(%esp)
1:      pause
        rdtsc
        cmpl    4(%esp), %edx
        jb      1b
        ja      2f
        cmpl    (%esp), %eax
        jb      1b
2:      addl    $8, %esp
        ret

stopwatch:
        rdtsc
        movl    %eax, began
        movl    %edx, began + 4
        ret

/* EAX = microseconds since. Clobbers EDX. */
elapsed_us:
        rdtsc
        subl    began, %eax
        sbbl    began + 4, %edx
        divl    tsc_per_us
        ret

/* On the stack: address, value. Waits until what is there is as wanted; EAX = what is there in the end. Clobbers ECX, EDX. */
.macro waiter jump
        call    ten_seconds
1:      movl    4(%esp), %eax
        movl    (%eax), %eax
        cmpl    8(%esp), %eax
        \jump   2f
        call    is_waiting
        jc      1b
        movl    4(%esp), %eax
        movl    (%eax), %eax
2:      ret
.endm

wait_for:
        waiter  je

/* For a number that grows. */
wait_for_hits:
        waiter  jae

/* Begins to wait for ten seconds. Clobbers EAX, ECX, EDX. */
ten_seconds:
        movl    tsc_per_us, %eax
        movl    $10000000, %ecx
        mull    %ecx
        movl    %eax, patience
        movl    %edx, patience + 4
        rdtsc
        addl    %eax, patience
        adcl    %edx, patience + 4
        ret

/* Carry: they are not over. Clobbers EAX, EDX. */
is_waiting:
        pause
        rdtsc
        subl    patience, %eax
        sbbl    patience + 4, %edx
        ret

settle_:
        pushfl
        pushal
        sti
        delay_us 1000
        // A KVM that emulates may look for interrupts only where the guest leaves it, and the host may have been away
        // for all of the millisecond.
        movl    $8, %ecx
2:      outb    %al, $0xed
        nop
        loop    2b
        popal
        popfl
        ret

/* ---- CPUs ------------------------------------------------------------------------------------------------- */

/* EBX = the CPU's number, found by its stack. */
cpu_by_stack:
        leal    (%esp), %ebx
        subl    $stacks, %ebx
        shrl    $12, %ebx
        ret

switch_off:
        lapic_write 0xf0, $0xff
        ret

switch_on:
        lapic_write 0xf0, $0x1ff
        ret

/* EAX = the CPU's number. */
cpu_number:
        pushl   %ebx
        call    cpu_by_stack
        movl    %ebx, %eax
        popl    %ebx
        ret

/* EAX CPUs in all. INIT, and a start-up message twice as the MP specification has it (B.4). */
start_aps_:
        pushal
        movl    %eax, %edi
        movl    $1, %esi
1:      cmpl    %edi, %esi
        jae     3f
        movl    %esi, %eax
        call    start_ap
        incl    %esi
        jmp     1b
3:      popal
        ret

/* Starts the CPU in EAX and waits until it waits for work. Keeps all registers. */
start_ap:
        pushal
        movl    %eax, %esi
        shll    $24, %eax
        movl    $1, work(, %esi, 4)
        movl    %eax, LAPIC + 0x310
        movl    $0x4500, LAPIC + 0x300
        delay_us 200
        movl    %esi, %eax
        shll    $24, %eax
        movl    %eax, LAPIC + 0x310
        movl    $0x4600 + PAGE_OF_AP_START, LAPIC + 0x300
        leal    work(, %esi, 4), %esi
        pushl   $0
        pushl   %esi
        call    wait_for
        addl    $8, %esp
        popal
        ret

/* Where an AP starts, in real mode. The linker script puts it on a page of its own. */
        .section .ap, "ax"
        .code16
        .globl  ap_start
ap_start:
        cli
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   ap_gdt_pointer - ap_start
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $CODE32, $ap_protected
ap_gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt

        .text
        .code32
ap_protected:
        movw    $DATA32, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movl    LAPIC + 0x20, %eax
        shrl    $24, %eax
        movl    %eax, %ebx
        shll    $12, %eax
        leal    stacks + STACK(%eax), %esp
        call    load_tables
        lapic_write 0xf0, $0x1ff
        movl    $0, work(, %ebx, 4)
ap_wait:
        cli
        movl    work(, %ebx, 4), %eax
        testl   %eax, %eax
        jnz     1f
        sti
        hlt
        jmp     ap_wait
1:      pushl   %ebx
        call    *%eax
        popl    %ebx
        movl    $0, work(, %ebx, 4)
        jmp     ap_wait

/* ---- Data ------------------------------------------------------------------------------------------------- */

        .data
        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9a000000ffff
        .quad   0x00cf92000000ffff
        .quad   0x00af9a000000ffff
        .quad   0x00009a000000ffff
        .quad   0x000092000000ffff
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt
idt_pointer:
        .word   256 * 8 - 1
        .long   idt
        .balign 4
routines:
        .rept   256
        .if     (. - routines) / 4 == WORK_VECTOR
        .long   eoi_lapic
        .else
        .long   0
        .endif
        .endr

        .bss
        .balign 4096
stacks:
        .skip   CPUS_MAX * STACK
idt:
        .skip   256 * 8
/* How often each vector has interrupted each CPU, and the last 16 of each. */
hit_counts:
        .skip   CPUS_MAX * 256 * 4
recent:
        .skip   CPUS_MAX * 16
/* What an AP is to do: 0 once it waits. */
work:
        .skip   CPUS_MAX * 4
patience:
        .skip   8
checks_made:
        .skip   4
began:
        .skip   8
tsc_per_us:
        .skip   4
boot_magic:
        .skip   4
boot_information:
        .skip   4

        .text
