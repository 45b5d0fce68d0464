//! The table against the assembler, and the reading of PTX.

use super::super::assembler::{assemble, ptxas};
use super::table::{TABLE, fits};
use super::*;

/// Statements of version 7.0 or before, at least one for every pattern of the table.
const BASE: &[&str] = &[
    "add.s32 %r1, %r2, 1; add.sat.s32 %r1, %r2, %r3; add.cc.u32 %r1, %r2, %r3; addc.u32 %r1, %r2, %r3;",
    "mul.lo.s64 %rd1, %rd2, %rd3; mul.wide.u32 %rd1, %r1, 8; mad.lo.cc.u32 %r1, %r2, %r3, %r4;",
    "madc.hi.u32 %r1, %r2, %r3, %r4; mad24.lo.s32 %r1, %r2, %r3, %r4; sad.u32 %r1, %r2, %r3, %r4;",
    "popc.b64 %r1, %rd1; bfi.b32 %r1, %r2, %r3, 4, 8; bfe.u32 %r1, %r2, 4, 8; bfind.shiftamt.u32 %r1, %r2;",
    "dp4a.s32.s32 %r1, %r2, %r3, %r4; and.pred %p1, %p2, %p3; shl.b64 %rd1, %rd2, 3; shr.s32 %r1, %r2, 3;",
    "shf.l.wrap.b32 %r1, %r2, %r3, %r4; lop3.b32 %r1, %r2, %r3, %r4, 0x96; prmt.b32 %r1, %r2, %r3, 0x7610;",
    "add.rn.ftz.f32 %f1, %f2, %f3; sub.f64 %fd1, %fd2, %fd3; fma.rn.f32 %f1, %f2, %f3, %f4;",
    "fma.rn.f64 %fd1, %fd2, %fd3, %fd4; div.full.f32 %f1, %f2, %f3; sqrt.rn.f64 %fd1, %fd2;",
    "rcp.approx.ftz.f32 %f1, %f2; ex2.approx.f32 %f1, %f2; rsqrt.approx.f64 %fd1, %fd2; abs.ftz.f32 %f1, %f2;",
    "max.NaN.f32 %f1, %f2, %f3; min.NaN.bf16x2 %r1, %r2, %r3; neg.f64 %fd1, %fd2; copysign.f32 %f1, %f2, %f3;",
    "testp.finite.f32 %p1, %f1; tanh.approx.f32 %f1, %f2; ex2.approx.f16x2 %r1, %r2; mul.rn.f16x2 %r1, %r2, %r3;",
    "fma.rn.relu.f16x2 %r1, %r2, %r3, %r4; fma.rn.bf16x2 %r1, %r2, %r3, %r4; neg.f16x2 %r1, %r2; abs.bf16 %rs1, %rs2;",
    "setp.geu.and.f32 %p1, %f1, %f2, %p2; set.lt.u32.f32 %r1, %f1, %f2; selp.f32 %f1, %f2, %f3, %p1;",
    "slct.f32.s32 %f1, %f2, %f3, %r1; cvt.rn.f32.u64 %f1, %rd1; cvt.f64.f32 %fd1, %f1; cvt.rn.bf16x2.f32 %r1, %f1, %f2;",
    "cvt.rn.f16.f32 %rs1, %f1; cvt.rn.relu.f16.f32 %rs1, %f1; cvt.rna.tf32.f32 %r1, %f1; mov.b64 %rd1, {%r1, %r2};",
    "cvta.to.global.u64 %rd1, %rd2; isspacep.shared %p1, %rd1; ld.global.v4.f32 {%f1,%f2,%f3,%f4}, [%rd1];",
    "ld.global.nc.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1+16]; st.shared.f64 [%r1], %fd1; ld.volatile.global.u32 %r1, [%rd1];",
    "st.global.volatile.u32 [%rd1], %r1; ld.acquire.gpu.global.u32 %r1, [%rd1]; ld.global.relaxed.gpu.u32 %r1, [%rd1];",
    "st.release.gpu.global.u32 [%rd1], %r1; st.global.relaxed.gpu.u32 [%rd1], %r1; prefetch.global.L2 [%rd1];",
    "atom.global.min.u64 %rd1, [%rd2], %rd3; red.relaxed.gpu.global.add.u32 [%rd1], %r1; atom.cas.b32 %r1, [%rd1], %r2, %r3;",
    "atom.global.add.noftz.f16x2 %r1, [%rd1], %r2; cp.async.cg.shared.global [%r1], [%rd1], 16, %r2;",
    "cp.async.commit_group; cp.async.wait_group 2; membar.gl; fence.acq_rel.gpu; bar.sync 0; barrier.sync 1, 64;",
    "bar.warp.sync 0xffffffff; activemask.b32 %r1; bar.red.and.pred %p1, 0, %p2; barrier.red.popc.u32 %r1, 0, %p1;",
    "shfl.sync.bfly.b32 %r1, %r2, 16, 31, -1; vote.sync.any.pred %p1, %p2, -1; vote.sync.ballot.b32 %r1, %p1, -1;",
    "match.any.sync.b32 %r1, %r2, -1; redux.sync.add.u32 %r1, %r2, -1;",
    "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r1,%r2,%r3,%r4}, [%r5];",
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};",
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};",
    "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%fd1,%fd2}, {%fd3}, {%fd4}, {%fd1,%fd2};",
    "mbarrier.init.shared.b64 [smem], 32; mbarrier.arrive.shared.b64 %rd1, [smem]; trap; nanosleep.u32 32;",
    "mov.u32 %r1, %tid.x; mov.u32 %r1, %lanemask_lt; mov.u64 %rd1, %globaltimer; .pragma \"nounroll\";",
    "targets: .branchtargets $L1, $L2; brx.idx %r1, targets; $L1: @!%p1 bra.uni $L2; $L2: ret;",
    ".loc 1 2 3\n/* a comment; */ mov.u32 %r1, %ctaid.x; // another; %nothing",
];

/// What came later: where it did, on which target, and the statement.
const LATER: &[((u8, u8), &str, &str)] = &[
    ((7, 1), "sm_86", "mov.u32 %r1, 1;"),
    ((7, 1), "sm_80", "mbarrier.test_wait.parity.shared.b64 %p1, [smem], 1;"),
    ((7, 2), "sm_80", ".loc 1 4 5\n.loc 1 2 3, function_name $name, inlined_at 1 4 5\nmov.u32 %r1, 1;"),
    ((7, 2), "sm_86", "min.xorsign.abs.f32 %f1, %f2, %f3;"),
    ((7, 4), "sm_87", "mov.u32 %r1, 1;"),
    ((7, 4), "sm_80", "ld.global.L2::128B.v4.f32 {%f1,%f2,%f3,%f4}, [%rd1];"),
    ((7, 4), "sm_80", "ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1];"),
    ((7, 4), "sm_80", "st.global.L1::no_allocate.u32 [%rd1], %r1;"),
    ((7, 4), "sm_80", "cp.async.cg.shared.global.L2::128B [%r1], [%rd1], 16;"),
    ((7, 6), "sm_80", "szext.clamp.u32 %r1, %r2, %r3;"),
    ((7, 6), "sm_80", "bmsk.clamp.b32 %r1, %r2, %r3;"),
    ((7, 8), "sm_80", "ld.shared::cta.u32 %r1, [smem];"),
    ((7, 8), "sm_89", "mov.u32 %r1, 1;"),
    ((7, 8), "sm_90", "mov.u32 %r1, %cluster_ctarank;"),
    ((7, 8), "sm_90", "griddepcontrol.wait;"),
    ((7, 8), "sm_90", "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"),
    ((7, 8), "sm_90", "mapa.shared::cluster.u32 %r1, %r2, 0;"),
    ((7, 8), "sm_90", "add.rn.bf16x2 %r1, %r2, %r3;"),
    ((7, 8), "sm_90", "tanh.approx.bf16x2 %r1, %r2;"),
    ((7, 8), "sm_90", "ex2.approx.ftz.bf16x2 %r1, %r2;"),
    ((7, 8), "sm_90", "atom.global.add.noftz.bf16x2 %r1, [%rd1], %r2;"),
    (
        (7, 8),
        "sm_90",
        "mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%fd1,%fd2,%fd3,%fd4}, {%fd5,%fd6}, {%fd7}, {%fd1,%fd2,%fd3,%fd4};",
    ),
    ((7, 8), "sm_90", "stmatrix.sync.aligned.m8n8.x1.shared.b16 [smem], {%r1};"),
    ((7, 8), "sm_80", "movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r2;"),
    ((7, 8), "sm_90", "mbarrier.try_wait.parity.shared.b64 %p1, [smem], 1;"),
    ((8, 0), "sm_90a", "mov.u32 %r1, 1;"),
    ((8, 0), "sm_90", "elect.sync %r1|%p1, -1;"),
    ((8, 0), "sm_90a", "setmaxnreg.dec.sync.aligned.u32 40;"),
    ((8, 0), "sm_90a", "wgmma.fence.sync.aligned; wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"),
    ((8, 0), "sm_90a", WGMMA),
    ((8, 0), "sm_90", "fence.proxy.async;"),
    ((8, 0), "sm_90", "mbarrier.arrive.expect_tx.shared.b64 %rd1, [smem], 64;"),
    ((8, 0), "sm_90", "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"),
    (
        (8, 0),
        "sm_90",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, %r3}], [%r4];",
    ),
    ((8, 0), "sm_90", "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 64, [%r2];"),
    ((8, 1), "sm_90", "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1], %r2, [%r3];"),
    ((8, 3), "sm_80", ".pragma \"used_bytes_mask 15\"; ld.global.v2.u32 {%r1, %r2}, [%rd1];"),
];

const WGMMA: &str = "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7,%f8,%f9,\
    %f10,%f11,%f12,%f13,%f14,%f15,%f16,%f17,%f18,%f19,%f20,%f21,%f22,%f23,%f24,%f25,%f26,%f27,%f28,%f29,%f30,%f31}, \
    %rd1, %rd2, %p1, 1, 1, 0, 0;";

/// What today's assembler lets pass in the text of a version that had none of it: the manual alone says when it came.
const UNCHECKED: &[&str] = &[".loc.inlined_at"];

fn module(version: Version, target: &str, statements: &str) -> String {
    format!(
        r#"// Generated by hand
.version {version}
.target {target}
.address_size 64
.visible .global .align 4 .b8 object[4] = {{1, 2, 3, 4}};
.visible .global .u64 address = generic(object);
.visible .entry kernel(
    .param .u64 .ptr .global .align 8 kernel_param_0, .param .align 8 .b8 kernel_param_1[24]
)
.maxntid 256, 1, 1
.minnctapersm 1
{{
    .reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<40>; .reg .b64 %rd<9>; .reg .f32 %f<40>; .reg .f64 %fd<9>;
    .shared .align 128 .b8 smem[1024];
    {statements}
    ret;
}}
.file 1 "kernels/a//b;.cu"
.section .debug_str
{{
$name:
.b8 107,0
}}
"#
    )
}

fn before(version: Version) -> Version {
    if version.minor > 0 { Version::new(version.major, version.minor - 1) } else { Version::new(version.major - 1, 8) }
}

const NEWEST: Version = Version::new(9, 0);
const FIRST: Version = Version::new(7, 0);

#[test]
fn every_statement_needs_what_it_is_said_to_need() {
    for statements in BASE {
        assert_eq!(least(&module(NEWEST, "sm_80", statements)), Ok(FIRST), "{statements}");
    }
    for ((major, minor), target, statement) in LATER {
        assert_eq!(
            least(&module(NEWEST, target, statement)),
            Ok(Version::new(*major, *minor)),
            "{target}: {statement}"
        );
    }
}

#[test]
fn every_pattern_has_a_statement() {
    let mut found: BTreeSet<String> = spellings(&module(NEWEST, "sm_80", &BASE.join("\n")));
    for (_, target, statement) in LATER {
        found.extend(spellings(&module(NEWEST, target, statement)));
        found.insert(format!(".target.{target}"));
    }
    found.insert(".explicitcluster".to_owned()); // see `directives_of_clusters`
    let patterns = TABLE.iter().flat_map(|(_, patterns)| *patterns);
    for pattern in patterns {
        assert!(found.iter().any(|spelling| fits(pattern, spelling)), "no statement has {pattern}");
    }
    assert!(TABLE.is_sorted_by_key(|(since, _)| *since), "the first that fits is the least");
}

/// Too low an entry of the table is refused by the assembler, too high a one accepted at the version before.
#[test]
fn the_assembler_agrees_with_the_table() {
    let Some(ptxas) = ptxas() else { return };
    let whole = module(FIRST, "sm_80", &BASE.join("\n"));
    assemble(&ptxas, &whole, "sm_80").unwrap_or_else(|log| panic!("{log}\n{whole}"));
    let mut wrong = Vec::new();
    for (_, target, statement) in LATER {
        let newest = module(NEWEST, target, statement);
        let found = least(&newest).unwrap();
        let assembled = |version| assemble(&ptxas, &module(version, target, statement), target);
        if let Err(log) = assembled(found) {
            wrong.push(format!("{found} lacks {target}: {statement}\n{log}"));
        }
        let unchecked = spellings(&newest).iter().any(|spelling| UNCHECKED.contains(&spelling.as_str()));
        if !unchecked && assembled(before(found)).is_ok() {
            wrong.push(format!("{} has {target}: {statement}", before(found)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn directives_of_clusters() {
    let ptx = module(NEWEST, "sm_90", "").replace(".maxntid 256, 1, 1", ".explicitcluster\n.reqntid 32");
    assert_eq!(least(&ptx), Ok(Version::new(7, 8)));
}

#[test]
fn what_the_table_does_not_know_keeps_the_compiler_s_version() {
    for (statement, unknown) in [
        ("frobnicate.u32 %r1, %r2;", "frobnicate.u32"),
        ("@%p1 add.frob.u32 %r1, %r2, %r3;", "add.frob.u32"),
        ("add.u128 %r1, %r2, %r3;", "add.u128"),
        ("{ mov.u32 %r1, %r2; ld.global.v8.b32 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8}, [%rd1]; }", "ld.global.v8.b32"),
        ("mov.u32 %r1, %current_graph_exec;", "%current_graph_exec"),
        ("ld.global.u32 %r1, [%rd1].unified;", ".unified"),
        ("ld.global.v2.u32 {%r1, _}, [%rd1];", "_"),
        (".pragma \"frobnicate 4\";", ".pragma.frobnicate 4"),
        (".local .attribute(.managed) .b8 x[4];", ".attribute"),
        ("cp.async.ca.shared.global [%r1], [%rd1], 4, %p1;", "cp.async.ca.shared.global.ignore_src"),
        (".global .u8 low = mask(0xFF)(object);", "=mask"),
        ("call.frob (%r1), f, (%r2);", "call.frob"),
    ] {
        let ptx = module(NEWEST, "sm_80", statement);
        assert_eq!(least(&ptx), Err(unknown.to_owned()), "{statement}");
        assert_eq!(lowered(ptx.clone()), ptx);
    }
    for (target, unknown) in [("sm_100a", ".target.sm_100a"), ("sm_80, debug", ".target.debug"), ("", ".target.")] {
        assert_eq!(least(&module(NEWEST, target, "")), Err(unknown.to_owned()));
    }
}

#[test]
fn only_the_version_line_changes_and_it_is_never_raised() {
    let ptx = module(NEWEST, "sm_80", "mov.u32 %r1, 1; // .version 9.0\n");
    let expected = module(FIRST, "sm_80", "mov.u32 %r1, 1; // .version 9.0\n");
    assert_eq!((stated(&ptx), stated(&expected)), (Some(NEWEST), Some(FIRST)));
    assert_eq!(lowered(ptx), expected);
    let low = module(FIRST, "sm_90a", "");
    assert_eq!(lowered(low.clone()), low);
    assert_eq!(lowered("no PTX".to_owned()), "no PTX");
    assert_eq!(stated("no PTX"), None);
}

#[test]
fn modifiers_are_matched_whole() {
    assert!(fits("a{.f16|.f16x2}?.b", "a.f16x2.b") && fits("a{.f16|.f16x2}?.b", "a.b") && fits("{a|ab}.c", "ab.c"));
    for spelling in ["a.f16x2", "a.f16x3.b", "a.f16.f16.b", "a.bc", "ab", "a"] {
        assert!(!fits("a{.f16|.f16x2}?.b", spelling), "{spelling}");
    }
}
