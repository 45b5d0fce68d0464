//! Errors and their places.

use super::{check, kernel, text};

#[test]
fn instructions() {
    check(
        &[
            ("frobnicate.u32 %r1;", 6, 1, "unknown opcode `frobnicate.u32`"),
            ("  add.u33 %r1, %r1, %r1;", 6, 3, "`add.u33` is not supported with these modifiers"),
            ("add.s32.sat %r1, %r1, %r1;", 6, 1, "`add.s32.sat` is not supported"),
            ("wgmma.fence.sync.aligned;", 6, 1, "unknown opcode"),
            ("cp.async.bulk.tensor.1d [%r1], [%rd1, {%r2}], [%r3];", 6, 1, "not supported with these modifiers"),
            ("call (%r1), %rd1, (%r2), prototype;", 6, 13, "indirect calls"),
            ("bra;", 6, 1, "operand 1 must be present"),
            ("trap", 7, 1, "operand 1 must be left out, found `ret`"),
            ("trap %r1 %r2;", 6, 10, "expected `,` or `;`, found `%r2`"),
            ("@%p1;", 6, 5, "expected a name, found `;`"),
            ("@%r1 trap;", 6, 2, "expected a predicate, found `%r1`"),
            ("@%q trap;", 6, 2, "`%q` is not declared here"),
            ("@!%p1 trap\n;trap 3;", 7, 7, "operand 1 must be left out"),
        ],
        kernel,
    );
}

#[test]
fn operands() {
    check(
        &[
            ("add.u32 %r1, %r1;", 6, 1, "operand 3 must be present (a register or a constant)"),
            ("add.u32 %r1, %r1, %r2,\n  %r3;", 7, 3, "operand 4 must be left out, found `%r3`"),
            ("add.u32 %r1, %r4, %r2;", 6, 14, "`%r4` is not declared here"),
            ("add.u32 %r1, %rd1, %r2;", 6, 14, "operand 2 must be a register of 32 bits"),
            ("add.u32 %rd1, %r1, %r2;", 6, 9, "found `%rd1` of type .b64"),
            ("add.u32 5, %r1, %r2;", 6, 9, "operand 1 must be a register of 32 bits, found an integer"),
            ("add.u32 %tid.x, %r1, %r2;", 6, 9, "found `%tid.x`"),
            ("add.u32 %r1, %clock, %r2;", 6, 14, "operand 2"),
            ("add.u32 %r1, %tid.q, %r2;", 6, 14, "`%tid.q` is not declared here"),
            ("add.u32 %r1, %p1, %r2;", 6, 14, "found `%p1` of type .pred"),
            ("add.u32 %r1, [%r1], %r2;", 6, 14, "found the address [%r1]"),
            ("add.u32 %r1, 1.5, %r2;", 6, 14, "a constant of type .u32, found a floating-point number"),
            ("add.f32 %f1, %f1, 1;", 6, 19, "a constant of type .f32, found an integer"),
            ("mov.u64 %rd1, %tid.x;", 6, 15, "found `%tid.x`"),
            ("mov.u32 %r1, a;", 6, 14, "found the address of `a`"),
            ("mov.u32 %r1, nothing;", 6, 14, "`nothing` is not declared here"),
            ("mov.b32 %r1, {%h1, %h2, %h3};", 6, 14, "a vector that makes up a .b32, found 3 parts"),
            ("mov.u32 %r1, {%h1, %h2};", 6, 14, "a vector"),
            ("mov.b32 {%h1, %r2}, %r1;", 6, 15, "a register of 16 bits, found `%r2`"),
            ("mov.b32 {%h1, 4}, %r1;", 6, 15, "found an integer"),
            ("setp.eq.u32 %r1, %r2, 0;", 6, 13, "a predicate, found `%r1`"),
            ("setp.eq.u32 %p1|%r1, %r2, 0;", 6, 13, "a predicate, found `%r1`"),
            ("selp.u32 %r1, 1, 2, %r3;", 6, 21, "a predicate"),
            ("selp.u32 %r1, 1, 2, !%r3;", 6, 21, "a predicate, found `%r3`"),
            ("add.u32 %r1, !%p1, 2;", 6, 14, "found `!%p1`"),
            ("lop3.b32 %r1, %r1, %r2, %r3, 256;", 6, 30, "0 to 255, found `256`"),
            ("lop3.b32 %r1, %r1, %r2, %r3, %r1;", 6, 30, "an integer, found `%r1`"),
            ("cp.async.ca.shared.global [%r1], [%rd1], 5;", 6, 42, "one of"),
            ("bra %r1;", 6, 5, "expected a label, found `%r1`"),
            ("bra nowhere;", 6, 5, "`nowhere` is not declared here"),
            ("bra L; { L: trap; }", 6, 5, "`L` is not declared here"),
            ("brx.idx %r1, L; L:", 6, 14, "a list of labels, found `L`"),
            ("T: .branchtargets M; brx.idx %r1, T;", 6, 19, "`M` is not declared here"),
        ],
        kernel,
    );
}

#[test]
fn addresses() {
    check(
        &[
            ("ld.global.u32 %r1, %rd1;", 6, 20, "operand 2 must be an address, found `%rd1`"),
            ("ld.global.u32 %r1, [%r1];", 6, 20, "an address in a register of 64 bits, found `%r1`"),
            ("ld.global.u32 %r1, [%h1];", 6, 20, "found `%h1`"),
            ("ld.global.u32 %r1, [a];", 6, 20, "an address in Global memory, found `a` in Param memory"),
            ("ld.u32 %r1, [a];", 6, 13, "an address in Generic memory"),
            ("ld.param.u32 %r1, [8];", 6, 19, "the address of a parameter"),
            ("ld.shared.u32 %r1, [x];", 6, 20, "`x` is not declared here"),
            ("ld.global.u32 %r1, [%rd1-4];", 6, 25, "expected `]`, found `-`"),
            ("ld.global.u32 %r1, [%rd1+%r1];", 6, 26, "expected a constant, found `%r1`"),
            ("ld.global.u32 %r1, [%rd1", 7, 1, "expected `]`, found `ret`"),
            ("ld.global.v2.u32 {%r1, %r2, %r3}, [%rd1];", 6, 18, "a vector of 2, found a vector of 3"),
            ("ld.global.v2.u32 %r1, [%rd1];", 6, 18, "a vector of 2, found `%r1`"),
            ("ld.global.u32 %h1, [%rd1];", 6, 15, "a register of 32 bits or more, found `%h1`"),
            ("st.global.u64 [%rd1], %r1;", 6, 23, "a register of 64 bits or more"),
            ("ld.global.u32 %r1, [%rd1, {%r1}];", 6, 20, "an address of several parts"),
            ("cp.async.cg.shared.global [%r1], [%rd1+0x80000000], 16;", 6, 34, "an offset of 32 bits"),
        ],
        kernel,
    );
}

#[test]
fn declarations() {
    check(
        &[
            (".reg .u32 %r1;", 6, 11, "`%r1` is already declared in this scope"),
            (".reg .u32 x, y, x;", 6, 17, "`x` is already declared"),
            (".reg .u32 x2; .reg .u32 x<3>;", 6, 25, "`x` is already declared"),
            (".reg .u32 a;", 6, 11, "`a` is already declared"),
            ("L: L:", 6, 4, "`L` is already declared"),
            (".reg .u33 x;", 6, 6, "expected a type, found `.u33`"),
            (".reg .v2 .u32 x;", 6, 6, "registers that are vectors"),
            (".reg .b128 x; mov.b64 %rd1, x;", 6, 29, "registers of 128 bits"),
            (".reg .u32 x<-1>;", 6, 13, "expected a number, found `-`"),
            (".global .u32 x;", 6, 1, "global and constant variables inside functions"),
            (".shared .u32 x = 3;", 6, 18, "initial values outside .global and .const"),
            (".shared .align 3 .u32 x;", 6, 16, "a power of two, found `3`"),
            (".shared .pred x;", 6, 9, "a type that has a size"),
            (".shared .b8 x[];", 6, 13, "a size"),
            (".local .b8 x[4][];", 6, 17, "expected an extent"),
            (".local .b8 x[-4];", 6, 14, "a size, found `-4`"),
            (".wibble 3;", 6, 1, "`.wibble`"),
            (".loc 1 2;", 6, 9, "expected a number, found `;`"),
            ("P: .callprototype _ ();", 6, 4, "indirect calls"),
            ("{ trap;", 7, 7, "the end of the text"),
        ],
        kernel,
    );
}

#[test]
fn modules() {
    let whole = |case: &str| case.to_owned();
    check(
        &[
            ("", 1, 1, "expected `.version`, found the end of the text"),
            ("\n  hello", 2, 3, "expected `.version`, found `hello`"),
            (".version 9", 1, 10, "a version such as 9.0"),
            (".version 9.0\n.address_size 64", 2, 1, "expected `.target`"),
            (".version 9.0 .target gfx90", 1, 22, "a target such as sm_80"),
            (".version 9.0 .target sm_80, map_f64_to_f32", 1, 29, "target option"),
            (".version 9.0 .target sm_80 /* ", 1, 28, "`*/`"),
            (".version 9.0 .target sm_80 \u{e9}", 1, 28, "the character"),
            (".version 9.0 .target sm_80 // \u{e9}\u{e9}\n/* \u{e9} */ #", 2, 9, "the character \"#\""),
        ],
        whole,
    );
    check(
        &[
            (".address_size 32", 4, 1, "addresses of 32 bits"),
            (".alias a, b;", 4, 1, "aliases"),
            (".frob", 4, 1, "a directive of a module"),
            ("frob", 4, 1, "expected a directive"),
            (".visible .reg .u32 x;", 4, 10, "a kernel, a function or a variable"),
            (".global .texref t;", 4, 9, "textures and surfaces"),
            (".global .u32 x; .global .u32 x;", 4, 30, "`x` is already declared"),
            (".entry k { ret; }\n.entry k { ret; }", 5, 8, "`k` is already declared"),
            (".entry k(.param .u32 x, .param .u32 x) { ret; }", 4, 37, "`x` is already declared"),
            (".entry k(.reg .u32 x) { ret; }", 4, 20, "a parameter in .param"),
            (".entry k .reqnctapercluster 2, 1, 1 { ret; }", 4, 10, "clusters of blocks"),
            (".entry k .maxfoo 3 { ret; }", 4, 10, "a performance directive"),
            (".func f(.param .b8 x[]) { ret; }", 4, 22, "any number of arguments"),
            (".section .debug_str {\n.b8 1,2", 5, 8, "expected `}`"),
            (".global .u32 x[2] = {1, 2, 3};", 4, 28, "no more values"),
            (".global .u32 x[2][1] = {{1, 2}};", 4, 29, "no more values"),
            (".global .u32 x = {1};", 4, 18, "a constant"),
            (".global .u32 x = y;", 4, 18, "incomplete addresses"),
            (".global .u64 x = y;", 4, 18, "`y` is not declared"),
            (".func f { ret; }\n.global .u64 x = f;", 5, 18, "addresses of functions"),
            (".global .u8 x[8] = {0xFF00(y)};", 4, 21, "incomplete addresses"),
            (".global .u8 x[8] = {0xFF(y), 0xFF00(z)};", 4, 30, "incomplete addresses"),
            (".global .u8 x[8] = {0xFF(y), 0};", 4, 30, "incomplete addresses"),
            (".global .u8 x[8] = {0xFF(y)};", 4, 29, "incomplete addresses"),
            (".global .u16 x[8] = {0xFF(y)};", 4, 22, "incomplete addresses"),
            (".global .u32 x = 1.5;", 4, 18, "a value of type .u32"),
            (".global .u32 x = 0x;", 4, 18, "expected a constant, found `0x`"),
        ],
        text,
    );
}

#[test]
fn calls() {
    let with_functions = |body: &str| {
        kernel(body).replace(
            ".visible .entry",
            ".extern .func printf(.param .b64 f); .func (.param .b32 r) f(.param .b32 a) { ret; } \
             .func g(.param .align 8 .b8 s[16]) { ret; } .global .u32 v; .entry other { ret; } .visible .entry",
        )
    };
    check(
        &[
            ("call nothing;", 6, 6, "`nothing` is not declared here"),
            ("call v;", 6, 6, "a function, found `v`"),
            ("call other;", 6, 6, "calls of kernels"),
            ("call printf, (%rd1);", 6, 6, "`printf` is external and this text does not define it"),
            ("call f, (%r1);", 6, 6, "called with 1 results, found 0 results"),
            ("call (%r1), f, (%r1, %r2);", 6, 13, "called with 1 arguments, found 2 arguments"),
            ("call (%rd1), f, (%r1);", 6, 7, "a register of 32 bits"),
            ("call (%r1), f, (%rd1);", 6, 17, "a register of 32 bits"),
            ("call g, (%rd1);", 6, 10, "a .param variable, found `%rd1`"),
            ("{ .param .b8 x[8];\ncall g, (x); }", 7, 10, "a .param variable of 16 bytes"),
            ("{ .param .b32 x;\ncall (x), f, (x); }", 7, 7, "passed as two different parameters"),
            ("{ .param .b32 x;\nmov.u64 %rd1, x; }", 7, 15, "the address of a variable that holds an argument"),
            ("call;", 6, 1, "operand 1 must be a function"),
            ("call f, 3;", 6, 9, "a list in parentheses"),
        ],
        with_functions,
    );
}

#[test]
fn recursion() {
    check(
        &[
            (".func f { call f; ret; }", 4, 11, "recursion, here through `f`"),
            (
                ".func f; .func g { call f; ret; }\n.func f {\n call g; ret; }\n.entry k { ret; }",
                6,
                2,
                "recursion, here through `g`",
            ),
        ],
        text,
    );
}

#[test]
fn what_no_kernel_reaches_is_checked_too() {
    check(&[(".func f {\n frob; }\n.entry k { ret; }", 5, 2, "unknown opcode `frob`")], text);
}
