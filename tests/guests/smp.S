/* Several processors (SDM volume 3, 9.4 and 11.6): starting them, and interrupts between them, none lost. */
#include "prelude.S"

        .set    ROUNDS, 2000
        .set    PING, 0x60
        .set    PONG, 0x61
        .set    NAP, 0x70

main:
        movl    boot_magic, %eax
        expect  "entered by multiboot", $0x2badb002
        sti
        start_aps 4
        movl    work + 4, %eax
        expect  "CPU 1 waits for work", $0
        movl    work + 8, %eax
        expect  "CPU 2 waits for work", $0
        movl    work + 12, %eax
        expect  "CPU 3 waits for work", $0

        run_on  1, count_work
        run_on  2, count_work
        run_on  3, count_work
        wait_idle 1
        wait_idle 2
        wait_idle 3
        movl    counter, %eax
        expect  "each did its work", $3
        movl    numbers, %eax
        expect  "and has a number of its own", $0xe

        // One interrupt at a time, there and back, both sides halted in between.
        on      PONG, eoi_lapic
        on      PING, answer
        movl    $ROUNDS, %esi
1:      hits    PONG
        movl    %eax, %edi
        icr     1, 0x4000 + PING
2:      cli
        hits    PONG
        cmpl    %edi, %eax
        jne     3f
        sti
        hlt
        jmp     2b
3:      sti
        decl    %esi
        jnz     1b
        hits    PING, 1
        expect  "no ping is lost", $ROUNDS
        hits    PONG
        expect  "no pong is lost", $ROUNDS

        // All at once: everybody adds under a lock prefix, and to memory of his own.
        movl    $0, counter
        run_on  1, add_much
        run_on  2, add_much
        run_on  3, add_much
        call    add_much
        wait_idle 1
        wait_idle 2
        wait_idle 3
        movl    counter, %eax
        expect  "locked additions of four CPUs add up", $400000
        movl    exchanged, %eax
        expect  "cmpxchg of four CPUs adds up", $40000

        // A processor that was running starts anew, and again, without the others noticing.
        run_on  2, run_for_ever
        wait_long running, 1
        movl    $2, %eax
        call    start_ap
        movl    work + 8, %eax
        expect  "a running CPU takes INIT and starts again", $0
        run_on  2, count_work
        wait_idle 2
        movl    counter, %eax
        expect  "and works", $400001

        // From a processor that is not the first.
        run_on  1, start_third
        wait_idle 1
        movl    work + 12, %eax
        expect  "a CPU is started by another than the first", $0
        run_on  3, count_work
        wait_idle 3
        movl    counter, %eax
        expect  "and works as well", $400002

        // A start-up message to one that runs is lost.
        icr     3, 0x4600 + PAGE_OF_AP_START
        settle
        run_on  3, count_work
        wait_idle 3
        movl    counter, %eax
        expect  "a start-up message to a running CPU does nothing", $400003

        // Store buffers: each CPU's own store may pass its load, but not behind a fence.
        movl    $0, both_zero
        run_on  1, see_saw_1
        call    see_saw_0
        wait_idle 1
        movl    both_zero, %eax
        expect  "fenced stores are seen before the loads behind them", $0
        ret

count_work:
        lock incl counter
        call    cpu_number
        lock btsl %eax, numbers
        ret

answer:
        lapic_write 0xb0, $0
        icr     0, 0x4000 + PONG
        ret

add_much:
        movl    $100000, %ecx
1:      lock incl counter
        decl    %ecx
        jnz     1b
        movl    $10000, %ecx
2:      movl    exchanged, %eax
3:      leal    1(%eax), %edx
        lock cmpxchgl %edx, exchanged
        jne     3b
        decl    %ecx
        jnz     2b
        ret

run_for_ever:
        movl    $1, running
1:      jmp     1b

start_third:
        movl    $3, %eax
        jmp     start_ap

/* Dekker's game, with CPU 0 and 1 in step: round N is over when both have said so. */
.macro see_saw mine, other
        movl    $1, %esi
1:      movl    $0, \mine
        movl    %esi, ready_\mine
2:      pause
        cmpl    %esi, ready_\other
        jb      2b
        movl    $1, \mine
        mfence
        movl    \other, %eax
        movl    %eax, seen_\mine
        movl    %esi, done_\mine
3:      pause
        cmpl    %esi, done_\other
        jb      3b
        movl    seen_left, %eax
        orl     seen_right, %eax
        jnz     4f
        movl    $1, both_zero
4:      movl    %esi, over_\mine
5:      pause
        cmpl    %esi, over_\other
        jb      5b
        incl    %esi
        cmpl    $ROUNDS, %esi
        jbe     1b
        ret
.endm

see_saw_0:
        see_saw left, right
see_saw_1:
        see_saw right, left

        .bss
        .balign 64
counter: .skip  64
exchanged: .skip 64
numbers: .skip  64
running: .skip  64
left:   .skip   64
right:  .skip   64
ready_left: .skip 64
ready_right: .skip 64
seen_left: .skip 4
seen_right: .skip 4
done_left: .skip 4
done_right: .skip 4
over_left: .skip 4
over_right: .skip 4
both_zero: .skip 4
