/*
 * From 32-bit mode to real mode and back, and to 64-bit mode and back (SDM volume 3, 10.9 and 10.8.5), with interrupts
 * in each; to virtual-8086 mode and back (21.2), and to another task and back (8.3). What the modes do in detail, the
 * CPU's own tests look at.
 */
#include "prelude.S"

        .set    BLOB, 0x8000
        .set    SOFT, BLOB + 0xf00
        .set    HARD, BLOB + 0xf04
        .set    WRAPPED, BLOB + 0xf08
        .set    STACK_16, BLOB + 0xe00
        .set    V, 0x60

main:
        // Real mode, at 0x8000, where nothing is needed any more.
        movl    $blob, %esi
        movl    $BLOB, %edi
        movl    $blob_end - blob, %ecx
        rep movsb
        movl    $0, SOFT
        movl    $0, HARD
        movl    $0, WRAPPED
        outb_   0x20, $0x11
        outb_   0x21, $0x20
        outb_   0x21, $0x04
        outb_   0x21, $0x01
        outb_   0x21, $0xfe
        call    to_real_mode
        outb_   0x21, $0xff
        movl    SOFT, %eax
        expect  "INT in real mode", $1
        movl    HARD, %eax
        expect  "the timer's interrupt in real mode", $1
        movl    WRAPPED, %eax
        expect  "with A20 on the first mebibyte does not wrap", $0xff
        movl    %cr0, %eax
        andl    $1, %eax
        expect  "and back", $1

        // 64-bit mode.
        call    to_long_mode
        movl    product, %eax
        expect  "a product in 64-bit mode, low half", $0x98d61fff
        movl    product + 4, %eax
        expect  "and high half", $0x3579bdf9
        movl    interrupts, %eax
        expect  "an interrupt through a gate of 64 bits", $1
        lapic_read 0x80
        expect  "CR8 is the upper half of the task priority", $0x50
        movl    cr8_seen, %eax
        expect  "in both directions", $0x5
        movl    efer_seen, %eax
        andl    $0x500, %eax
        expect  "long mode was active", $0x500
        lapic_write 0x80, $0
        movl    $0xc0000080, %ecx
        rdmsr
        andl    $0x500, %eax
        expect  "and no longer is", $0
        icr     0, 0x44000 + V
        settle
        hits    V
        expect  "interrupts are those of 32-bit mode again", $1

        // Tasks, for the stack of the first is what virtual-8086 mode needs.
        call    make_tasks
        lcall   $TASK, $0
        movl    ran, %eax
        expect  "another task runs, nested, linked to the first", $0x4000+FIRST
        movl    %cr0, %eax
        andl    $8, %eax
        expect  "the switch leaves a trace for the FPU", $8
        clts
        movzbl  tables_end - 3, %eax
        expect  "the task is available again", $0x89
        movzbl  tables_end - 11, %eax
        expect  "and the first is busy", $0x8b

        // Virtual-8086 mode: a store, then two instructions that it must not execute.
        movl    $0, SOFT
        call    to_virtual_8086
        movl    SOFT, %eax
        expect  "virtual-8086 mode addresses as real mode does", $0x1234
        movl    faults, %eax
        expect  "INT and HLT are #GP there", $2
        movl    flags_seen, %eax
        andl    $0x20000, %eax
        expect  "the flag says where they come from", $0x20000
        movl    cs_seen, %eax
        expect  "and the selector is a paragraph", $BLOB>>4
        call    load_tables
        ret

/* ---- Tasks and virtual-8086 mode -------------------------------------------------------------------------- */

        .set    FIRST, 0x30
        .set    TASK, 0x38

/* Has two tasks, of which this is the first. */
make_tasks:
        movl    $gdt, %esi
        movl    $tables, %edi
        movl    $6 * 2, %ecx
        rep movsl
        movl    $first, %eax
        call    describe
        movl    $second, %eax
        call    describe
        lgdt    tables_pointer
        movl    $stack_0 + 1024, first + 4
        movl    $DATA32, first + 8
        movl    $104<<16, first + 100
        movw    $FIRST, %ax
        ltr     %ax
        movl    $task, second + 32
        movl    $2, second + 36
        movl    $stack_0 + 512, second + 56
        movl    $DATA32, second + 72
        movl    $CODE32, second + 76
        movl    $DATA32, second + 80
        movl    $DATA32, second + 84
        movl    $104<<16, second + 100
        ret

/* A descriptor at EDI for the TSS at EAX, of 104 bytes. */
describe:
        movl    %eax, %edx
        shll    $16, %eax
        movw    $103, %ax
        stosl
        movl    %edx, %eax
        shrl    $16, %eax
        movzbl  %al, %eax
        orl     $0x8900, %eax
        stosl
        ret

/* The other task: notes NT, and where it came from. */
task:
        pushfl
        popl    %eax
        andl    $0x4000, %eax
        movzwl  second, %edx
        addl    %edx, %eax
        movl    %eax, ran
        iretl

to_virtual_8086:
        pushal
        movl    %esp, saved_stack
        movl    $code_8086, %esi
        movl    $BLOB, %edi
        movl    $code_8086_end - code_8086, %ecx
        rep movsb
        movl    $protection, %eax
        movw    %ax, idt + 8 * 13
        shrl    $16, %eax
        movw    %ax, idt + 8 * 13 + 6
        pushl   $0
        pushl   $0
        pushl   $(BLOB >> 4)
        pushl   $0
        pushl   $(BLOB >> 4)
        pushl   $0xe00
        pushl   $0x20002
        pushl   $(BLOB >> 4)
        pushl   $0
        iretl

/* #GP from there: over the first instruction, and out at the second. */
protection:
        pushl   %eax
        movw    $DATA32, %ax
        movw    %ax, %ds
        movw    %ax, %es
        incl    faults
        movl    12(%esp), %eax
        movl    %eax, cs_seen
        movl    16(%esp), %eax
        movl    %eax, flags_seen
        cmpl    $1, faults
        jne     1f
        addl    $2, 8(%esp)
        popl    %eax
        addl    $4, %esp
        iretl
1:      movl    saved_stack, %esp
        popal
        ret

        .section .rodata
        .code16
code_8086:
        movw    $0x1234, %ax
        movw    %ax, SOFT - BLOB
        int     $0x80
        hlt
code_8086_end:
        .code32
        .text

/* ---- Real mode -------------------------------------------------------------------------------------------- */

to_real_mode:
        pushal
        movl    %esp, saved_stack
        lidt    idt_16
        ljmp    $CODE16, $BLOB
back_from_real_mode:
        movw    $DATA32, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    saved_stack, %esp
        call    load_tables
        popal
        ret

        .section .rodata
idt_16: .word   0x3ff
        .long   0

        .code16
blob:
        movw    $DATA16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        ljmp    $0, $BLOB + 1f - blob
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $STACK_16, %sp
        movw    $BLOB + soft - blob, 4 * 0x80
        movw    $0, 4 * 0x80 + 2
        movw    $BLOB + hard - blob, 4 * 0x20
        movw    $0, 4 * 0x20 + 2
        int     $0x80
        movw    $0xffff, %ax
        movw    %ax, %es
        movb    $0x5a, 0x7f00
        movb    %es:0x7f10, %al
        movb    %al, WRAPPED
        movb    $0x30, %al
        outb    %al, $0x43
        movb    $0x10, %al
        outb    %al, $0x40
        xorb    %al, %al
        outb    %al, $0x40
        sti
        rdtsc
        movl    %edx, %ebx
        addl    $3, %ebx
2:      cmpw    $0, HARD
        jne     3f
        rdtsc
        cmpl    %ebx, %edx
        jb      2b
3:      cli
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $CODE32, $back_from_real_mode
soft:   incw    SOFT
        iretw
hard:   incw    HARD
        pushw   %ax
        movb    $0x20, %al
        outb    %al, $0x20
        popw    %ax
        iretw
blob_end:

/* ---- 64-bit mode ------------------------------------------------------------------------------------------ */

        .text
        .code32
to_long_mode:
        pushal
        movl    $directory_pointers + 7, level_4
        movl    $page_directory + 7, directory_pointers
        movl    $0x83, page_directory
        // A gate of 16 bytes: offset, selector, type, offset.
        movl    $interrupt_64, %eax
        movw    %ax, idt_64 + 16 * V
        movw    $CODE64, idt_64 + 16 * V + 2
        movw    $0x8e00, %ax
        movl    %eax, idt_64 + 16 * V + 4
        lidt    idt_64_pointer
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $level_4, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmp    $CODE64, $in_long_mode
from_long_mode:
        movl    %cr0, %eax
        andl    $0x7fffffff, %eax
        movl    %eax, %cr0
        movl    $0xc0000080, %ecx
        rdmsr
        andl    $~0x100, %eax
        wrmsr
        movl    %cr4, %eax
        andl    $~0x20, %eax
        movl    %eax, %cr4
        call    load_tables
        popal
        ret

        .code64
in_long_mode:
        movl    $0xc0000080, %ecx
        rdmsr
        movl    %eax, efer_seen(%rip)
        movl    $0x9abcdef1, %eax
        movl    $0x12345678, %edx
        shlq    $32, %rdx
        orq     %rdx, %rax
        movl    $0x89abcdef, %edx
        imulq   %rdx, %rax
        movq    %rax, product(%rip)
        int     $V
        movl    $5, %eax
        movq    %rax, %cr8
        movq    %cr8, %rcx
        movl    %ecx, cr8_seen(%rip)
        ljmp    *to_32(%rip)
interrupt_64:
        incl    interrupts(%rip)
        iretq

        .code32
        .data
        .balign 8
to_32:  .long   from_long_mode
        .word   CODE32
idt_64_pointer:
        .word   16 * 256 - 1
        .long   idt_64

tables_pointer:
        .word   tables_end - tables - 1
        .long   tables

        .bss
        .balign 8
tables: .skip   8 * 8
tables_end:
first:  .skip   104
second: .skip   104
stack_0: .skip  1024
ran:    .skip   4
faults: .skip   4
flags_seen: .skip 4
cs_seen: .skip  4

        .balign 4096
level_4: .skip  4096
directory_pointers: .skip 4096
page_directory: .skip 4096
idt_64: .skip   16 * 256
product: .skip  8
interrupts: .skip 4
cr8_seen: .skip 4
efer_seen: .skip 4
saved_stack: .skip 4
