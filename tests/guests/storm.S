/*
 * Four tokens go round four CPUs, each as an interrupt that sends the next, while the timers of all CPUs and three
 * devices interrupt as well. A CPU with nothing to do halts. No token may get lost or be doubled.
 */
#include "prelude.S"

        .set    TOKEN, 0x80
        .set    ROUNDS, 1000
        .set    TIMER, 0x70
        .set    BY_HPET, 0x71
        .set    BY_PIT, 0x72
        .set    BY_RTC, 0x73
        .set    HPET, 0xfed00000

main:
        on      TOKEN, pass_on
        on      TOKEN+1, pass_on
        on      TOKEN+2, pass_on
        on      TOKEN+3, pass_on
        on      TIMER, eoi_lapic
        on      BY_HPET, eoi_lapic
        on      BY_PIT, eoi_lapic
        on      BY_RTC, read_c
        sti
        start_aps 4
        call    start_timer
        run_on  1, start_timer
        run_on  2, start_timer
        run_on  3, start_timer
        wait_idle 1
        wait_idle 2
        wait_idle 3

        // The HPET interrupts CPU 1 every 130 us or so, the 8254 CPU 2, the RTC CPU 3.
        movl    $BY_HPET, HPET + 0x110
        movl    $LAPIC + 0x1000, HPET + 0x114
        movl    $0x414c, HPET + 0x100
        movl    $13000, HPET + 0x108
        movl    $13000, HPET + 0x108
        movl    $1, HPET + 0x10
        ioapic_write 0x15, $2<<24
        ioapic_write 0x14, $BY_PIT
        outb_   0x43, $0x34
        outb_   0x40, $0xb9
        outb_   0x40, $0x00
        ioapic_write 0x21, $3<<24
        ioapic_write 0x20, $BY_RTC
        outb_   0x70, $0x0a
        outb_   0x71, $0x23
        outb_   0x70, $0x0b
        outb_   0x71, $0x42
        outb_   0x70, $0x0c
        inb_    0x71

        cli
        movl    $TOKEN, %eax
        call    send_next
        movl    $TOKEN+1, %eax
        call    send_next
        movl    $TOKEN+2, %eax
        call    send_next
        movl    $TOKEN+3, %eax
        call    send_next
        movl    $20, %esi
        sti
1:      wait_long came_home, 4
        cmpl    $4, %eax
        je      2f
        decl    %esi
        jnz     1b
2:
        expect  "all tokens have come home", $4
        movl    $0, HPET + 0x10
        call    wrong_counts
        expect  "every CPU has had each token in every round", $0
        hits    TIMER
        expect_range "CPU 0's timer interrupted it", $1, $-1
        hits    TIMER, 1
        expect_range "and CPU 1's", $1, $-1
        hits    TIMER, 2
        expect_range "and CPU 2's", $1, $-1
        hits    TIMER, 3
        expect_range "and CPU 3's", $1, $-1
        wait_hits BY_HPET, 1, 1
        expect_range "the HPET interrupted CPU 1", $1, $-1
        wait_hits BY_PIT, 1, 2
        expect_range "the 8254 CPU 2", $1, $-1
        wait_hits BY_RTC, 1, 3
        expect_range "the RTC CPU 3", $1, $-1
        ret

/* A token: on to the next CPU, unless it has come home for the last time. */
pass_on:
        pushl   %ebx
        movl    %eax, %ebx
        call    eoi_lapic
        call    cpu_number
        movl    %eax, %ecx
        shll    $8, %ecx
        addl    %ebx, %ecx
        testl   %eax, %eax
        jnz     1f
        cmpl    $ROUNDS, hit_counts(, %ecx, 4)
        jb      1f
        incl    came_home
        jmp     2f
1:      movl    %ebx, %eax
        call    send_next
2:      popl    %ebx
        ret

/* Sends the vector in EAX to the next CPU. Interrupts are off. Clobbers EAX, ECX. */
send_next:
        movl    %eax, %ecx
        call    cpu_number
        incl    %eax
        andl    $3, %eax
        shll    $24, %eax
        movl    %eax, LAPIC + 0x310
        orl     $0x4000, %ecx
        movl    %ecx, LAPIC + 0x300
        ret

/* EAX = how many of the 16 counts are not those of all rounds. */
wrong_counts:
        xorl    %eax, %eax
        xorl    %ebx, %ebx
1:      movl    %ebx, %ecx
        andl    $3, %ecx
        movl    %ebx, %edx
        shrl    $2, %edx
        shll    $8, %edx
        addl    %edx, %ecx
        cmpl    $ROUNDS, hit_counts + 4 * TOKEN(, %ecx, 4)
        je      2f
        incl    %eax
2:      incl    %ebx
        cmpl    $16, %ebx
        jb      1b
        ret

/* Every 100 us at a clock of 100 MHz. */
start_timer:
        lapic_write 0x3e0, $0x0b
        lapic_write 0x320, $0x20000+TIMER
        lapic_write 0x380, $10000
        ret

read_c:
        movb    $0x0c, %al
        outb    %al, $0x70
        inb     $0x71, %al
        jmp     eoi_lapic

        .bss
        .balign 4
came_home: .skip 4
