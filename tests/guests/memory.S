/*
 * A machine of 5 GiB, of which 2 GiB lie above 4 GiB: seen through PAE paging (SDM volume 3, 4.4), with 2 MiB pages. All
 * of the lowest 2 GiB is itself; the third is a window that `show` moves.
 */
#include "prelude.S"

        .set    WINDOW, 0x80000000

/* Has the window show the 2 MiB at this address; EBX = the window. */
.macro show low, high
        movl    $(\low) | 0x83, directories + 2 * 4096
        movl    $\high, directories + 2 * 4096 + 4
        movl    %cr3, %eax
        movl    %eax, %cr3
        movl    $WINDOW, %ebx
.endm

main:
        movl    boot_information, %ebx
        movl    8(%ebx), %eax
        expect  "multiboot tells 3 GiB less one MiB", $(3<<20)-1024
        call    page
        movl    $0x11111111, 0x200000
        movl    $0x22222222, 0x40000000
        show    0x00200000, 0
        movl    (%ebx), %eax
        expect  "the window shows low memory", $0x11111111
        show    0x00000000, 1
        movl    (%ebx), %eax
        expect  "memory at 4 GiB is zero", $0
        movl    $0x33333333, (%ebx)
        show    0x7fe00000, 1
        movl    $0x44444444, 0x1ffffc(%ebx)
        show    0xbfe00000, 0
        movl    $0x55555555, 0x1ffffc(%ebx)
        show    0x00000000, 1
        movl    (%ebx), %eax
        expect  "what is written at 4 GiB is there", $0x33333333
        show    0x7fe00000, 1
        movl    0x1ffffc(%ebx), %eax
        expect  "and at the end of 6 GiB", $0x44444444
        show    0xbfe00000, 0
        movl    0x1ffffc(%ebx), %eax
        expect  "and before 3 GiB", $0x55555555
        movl    0x200000, %eax
        expect  "low memory is another", $0x11111111
        movl    0x40000000, %eax
        expect  "at 1 GiB as well", $0x22222222
        show    0x80000000, 1
        movl    $0x66666666, (%ebx)
        movl    (%ebx), %eax
        expect  "behind 6 GiB there is nothing", $-1
        show    0xc0000000, 1
        movl    (%ebx), %eax
        expect  "nor where the hole would be", $-1
        show    0x00000000, 1
        movl    $0x89abcdef, 0xffd(%ebx)
        movl    0x1000(%ebx), %eax
        andl    $0xff, %eax
        expect  "a store over the end of a page", $0x89
        movl    $100, %ecx
1:      lock incl 4(%ebx)
        decl    %ecx
        jnz     1b
        movl    4(%ebx), %eax
        expect  "locked additions up there", $100
        ret

/* Switches to PAE paging. */
page:
        xorl    %ecx, %ecx
        movl    $0x83, %eax
1:      movl    %eax, directories(, %ecx, 8)
        addl    $0x200000, %eax
        incl    %ecx
        cmpl    $1024, %ecx
        jb      1b
        movl    $directories + 1, pointers
        movl    $directories + 4096 + 1, pointers + 8
        movl    $directories + 2 * 4096 + 1, pointers + 16
        movl    $directories + 3 * 4096 + 1, pointers + 24
        movl    $0xfee00000 | 0x9b, directories + 3 * 4096 + 8 * ((0xfee00000 >> 21) & 511)
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $pointers, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ret

        .bss
        .balign 4096
directories: .skip 4 * 4096
pointers: .skip 32
