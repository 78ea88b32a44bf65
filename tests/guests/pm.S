/*
 * ACPI's fixed hardware (ACPI 6.5, 4.8): PM timer, PM1 registers, the switch to ACPI; and every way to reset. What has
 * to outlive a reset lies in the RTC's memory: how far the guest is, and how many checks it has made. Power off, by S5,
 * is how every guest ends.
 */
#include "prelude.S"

        .set    PHASE, 0x50
        .set    CHECKS, 0x51
        .set    TIMER_HZ, 3579545

.macro cmos_read index
        outb_   0x70, $\index
        inb_    0x71
.endm

.macro cmos_write index, value
        outb_   0x70, $\index
        outb_   0x71, \value
.endm

.macro inw_ port
        movw    $\port, %dx
        xorl    %eax, %eax
        inw     %dx, %ax
.endm

.macro outw_ port, value
        movw    $\value, %ax
        movw    $\port, %dx
        outw    %ax, %dx
.endm

/* The next phase begins when the machine comes back. */
.macro next_phase number
        cmos_write CHECKS, checks_made
        cmos_write PHASE, $\number
.endm

/* Resets, which may take a moment; in a machine that goes on the guest ends without its last line. */
.macro reset_by instruction:vararg
        \instruction
        delay_us 10000000
        jmp     power_off
.endm

main:
        cmos_read PHASE
        movl    %eax, %ebx
        cmos_read CHECKS
        cmpl    $0, %ebx
        je      phase_0
        movb    %al, checks_made
        cmpl    $1, %ebx
        je      phase_1
        cmpl    $2, %ebx
        je      phase_2
        cmpl    $3, %ebx
        je      phase_3
        cmpl    $4, %ebx
        je      phase_4
        ret

phase_0:
        // The timer.
        movl    $5, %edi
        xorl    %esi, %esi
1:      call    timer_is_wrong
        addl    %eax, %esi
        decl    %edi
        jnz     1b
        movl    %esi, %eax
        expect  "the timer has its rate", $0
        movl    $100000, %edi
        movw    $0x408, %dx
        xorl    %esi, %esi
        inl     %dx, %eax
2:      movl    %eax, %ebx
        inl     %dx, %eax
        cmpl    %ebx, %eax
        jae     3f
        cmpl    $0xf0000000, %ebx
        jae     3f
        incl    %esi
3:      decl    %edi
        jnz     2b
        movl    %esi, %eax
        expect  "and never runs backwards", $0

        // Events.
        inw_    0x400
        expect  "no event at first", $0
        inw_    0x402
        expect  "none enabled", $0
        outw_   0x402, 0xffff
        inw_    0x402
        expect  "timer, global lock, power button and RTC can be enabled", $0x0521
        inb_    0x402
        expect  "a byte of it reads as well", $0x21
        inb_    0x403
        expect  "and the other", $0x05
        outw_   0x402, 0
        inw_    0x404
        expect  "the machine starts without ACPI", $0
        outw_   0x404, 1
        inw_    0x404
        expect  "which no write of the register changes", $0
        outb_   0xb2, $0xa0
        inw_    0x404
        expect  "but the command", $1
        outw_   0x404, 0
        inw_    0x404
        expect  "it stays on", $1
        outb_   0xb2, $0xa1
        inw_    0x404
        expect  "until the other command", $0
        outb_   0xb3, $0x5a
        inb_    0xb3
        expect  "the byte beside the command is free", $0x5a
        outw_   0x404, 0x2400
        delay_us 1000
        inw_    0x404
        expect  "a sleep without sleep type 5 is none, SLP_EN reads as zero", $0x0400
        outw_   0x404, 0x1400
        delay_us 1000
        inw_    0x404
        expect  "nor is a type without SLP_EN", $0x1400

        // Resets.
        outb_   0xb2, $0xa0
        outw_   0x402, 0x0101
        outb_   0x21, $0x00
        ioapic_write 0x10, $0x1234
        movb    $0x02, %al
        movw    $0xcf9, %dx
        outb    %al, %dx
        delay_us 1000
        movl    $1, %eax
        expect  "CF9 without its CPU bit does nothing", $1
        next_phase 1
        movb    $0x06, %al
        movw    $0xcf9, %dx
        reset_by outb %al, %dx
phase_1:
        movl    $1, %eax
        expect  "CF9 resets", $1
        inb_    0xcf9
        expect  "and is clear afterwards", $0
        inw_    0x402
        expect  "as are the enabled events", $0
        inw_    0x404
        expect  "and ACPI's switch", $0
        ioapic_read 0x10
        expect  "and the I/O APIC", $0x10000
        lapic_read 0x350
        expect  "and the LAPIC", $0x700
        next_phase 2
        movb    $0x01, %al
        reset_by outb %al, $0x92
phase_2:
        movl    $1, %eax
        expect  "port 92h resets", $1
        inb_    0x92
        andl    $3, %eax
        expect  "address line 20 is on, the reset bit clear", $2
        next_phase 3
        movb    $0xfe, %al
        reset_by outb %al, $0x64
phase_3:
        movl    $1, %eax
        expect  "the keyboard controller's command resets", $1
        inb_    0x64
        expect  "though there is none", $0xff
        next_phase 4
        reset_by icr 0, 0x4500
phase_4:
        movl    $1, %eax
        expect  "INIT of the first CPU resets", $1
        cmos_write PHASE, $0
        cmos_write CHECKS, $0
        ret

/* EAX = 1 where the ticks in some time are more or fewer than the TSC allows. */
timer_is_wrong:
        rdtsc
        movl    %eax, outer
        call    read_timer
        movl    %eax, first
        rdtsc
        movl    %eax, inner
        delay_us 20000
        rdtsc
        subl    inner, %eax
        pushl   %eax
        call    read_timer
        subl    first, %eax
        movl    %eax, first
        rdtsc
        subl    outer, %eax
        call    to_ticks
        addl    $5, %eax
        cmpl    %eax, first
        popl    %eax
        ja      1f
        call    to_ticks
        subl    $5, %eax
        cmpl    %eax, first
        jb      1f
        xorl    %eax, %eax
        ret
1:      movl    $1, %eax
        ret

/* EAX = TSC ticks in, PM timer ticks out. */
to_ticks:
        xorl    %edx, %edx
        divl    tsc_per_us
        movl    $TIMER_HZ, %ecx
        mull    %ecx
        movl    $1000000, %ecx
        divl    %ecx
        ret

read_timer:
        movw    $0x408, %dx
        inl     %dx, %eax
        ret

        .bss
        .balign 4
outer:  .skip   4
inner:  .skip   4
first:  .skip   4
