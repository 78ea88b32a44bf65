/* A machine of 1 MiB: what a multiboot kernel is told of it (Multiboot Specification 0.6.96), and that it is true. */
#include "prelude.S"

main:
        movl    boot_magic, %eax
        expect  "multiboot", $0x2badb002
        movl    boot_information, %ebx
        movl    (%ebx), %eax
        expect  "memory, command line, modules, map and loader are told", $0x24d
        movl    4(%ebx), %eax
        expect  "639 KiB below", $639
        movl    8(%ebx), %eax
        expect  "none from 1 MiB on", $0
        movl    20(%ebx), %eax
        expect  "one module", $1
        movl    24(%ebx), %esi
        movl    (%esi), %edi
        movl    %edi, %eax
        andl    $0xfff, %eax
        expect  "on a page", $0
        movl    4(%esi), %eax
        subl    %edi, %eax
        expect  "of four bytes", $4
        movl    (%edi), %eax
        expect  "which are there", $0x65646f6d
        movl    8(%esi), %edi
        movl    (%edi), %eax
        expect  "with a text", $0x747865
        movl    16(%ebx), %esi
        lodsl
        expect  "the command line", $0x20656e6f
        lodsl
        expect  "to its end", $0x006f7774
        movl    64(%ebx), %esi
        lodsl
        expect  "the loader's name", $0x75616c78
        call    usable
        expect  "the map has no other memory", $639*1024
        movl    0x9fbfc, %ecx
        movl    $0x12345678, 0x9fbfc
        movl    0x9fbfc, %eax
        expect  "there is memory to its end", $0x12345678
        movl    $0x12345678, 0x100000
        movl    0x100000, %eax
        expect  "and none behind 1 MiB", $-1
        movl    0xf8000, %eax
        expect  "firmware's tables are there", $0x20445352
        ret

/* EAX = how many bytes the map calls usable. */
usable:
        movl    48(%ebx), %esi
        movl    44(%ebx), %edi
        addl    %esi, %edi
        xorl    %eax, %eax
1:      cmpl    %edi, %esi
        jae     3f
        cmpl    $1, 20(%esi)
        jne     2f
        addl    12(%esi), %eax
2:      addl    (%esi), %esi
        addl    $4, %esi
        jmp     1b
3:      ret
