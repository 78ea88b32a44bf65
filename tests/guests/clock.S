/*
 * All clocks of the machine side by side, for as long as the harness lets it run; it has no checks of its own.
 *
 * It prints `C rate`, the TSC's in kHz as CPUID tells it; then `T before pm hpet lapic pit after`, all in hexadecimal and as their registers have them: the TSC before and
 * after (16 digits), the ACPI PM timer, the low half of the HPET's counter, the LAPIC timer's and the 8254's count,
 * which run downwards. And `R edge`: the TSC when the RTC's seconds have changed.
 */
#include "prelude.S"

        .set    PM_TIMER, 0x408
        .set    HPET, 0xfed00000

.macro print_field value
        movb    $' ', %al
        call    putc
        movl    \value, %eax
        call    print_hex
.endm

/* Puts the TSC in the 64-bit variable `name`. */
.macro stamp name
        rdtsc
        movl    %eax, \name
        movl    %edx, \name + 4
.endm

main:
        // The TSC's rate in kHz: the crystal's, times EBX / EAX.
        movl    $0x15, %eax
        xorl    %ecx, %ecx
        cpuid
        movl    %eax, tsc_per
        movl    %ecx, %eax
        xorl    %edx, %edx
        movl    $1000, %ecx
        divl    %ecx
        mull    %ebx
        divl    tsc_per
        movl    %eax, tsc_khz
        movb    $'C', %al
        call    putc
        print_field tsc_khz
        call    print_newline
        // 8254: counter 0, both bytes, mode 2, 65536.
        outb_   0x43, $0x34
        outb_   0x40, $0
        outb_   0x40, $0
        // LAPIC timer: one shot, masked, a sixteenth of its clock, the longest way.
        lapic_write 0x3e0, $3
        lapic_write 0x320, $0x10000
        lapic_write 0x380, $0xffffffff
        movl    $1, HPET + 0x10
        call    rtc_second
        movl    %eax, second

again:
        call    rtc_second
        cmpl    %eax, second
        je      1f
        movl    %eax, second
        stamp   before
        movb    $'R', %al
        call    putc
        print_field before+4
        print_field before
        call    print_newline
1:      rdtsc
        cmpl    next + 4, %edx
        jb      again
        ja      2f
        cmpl    next, %eax
        jb      again
2:      call    sample
        jmp     again

/* One line of all clocks, and the time of the next, 50 ms later. */
sample:
        stamp   before
        movw    $PM_TIMER, %dx
        inl     %dx, %eax
        movl    %eax, pm
        movl    HPET + 0xf0, %eax
        movl    %eax, hpet
        lapic_read 0x390
        movl    %eax, lapic
        // Latched, low byte first.
        outb_   0x43, $0
        inb_    0x40
        movl    %eax, %ecx
        inb_    0x40
        movb    %al, %ch
        movl    %ecx, pit
        stamp   after
        movb    $'T', %al
        call    putc
        print_field before+4
        print_field before
        print_field pm
        print_field hpet
        print_field lapic
        print_field pit
        print_field after+4
        print_field after
        call    print_newline
        movl    tsc_per_us, %eax
        movl    $50000, %ecx
        mull    %ecx
        addl    before, %eax
        adcl    before + 4, %edx
        movl    %eax, next
        movl    %edx, next + 4
        ret

/* EAX = the RTC's seconds register, outside an update. */
rtc_second:
        outb_   0x70, $0x0a
        inb_    0x71
        testb   $0x80, %al
        jnz     rtc_second
        outb_   0x70, $0x00
        inb_    0x71
        ret

        .bss
        .balign 8
tsc_per: .skip 4
tsc_khz: .skip 4
before: .skip   8
after:  .skip   8
next:   .skip   8
pm:     .skip   4
hpet:   .skip   4
lapic:  .skip   4
pit:    .skip   4
second: .skip   4
