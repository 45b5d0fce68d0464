//! Which version of the PTX ISA brought what, from the manual's notes on each instruction; the assembler is asked too,
//! by the tests. sm_80, the least target, needs 7.0, so what is older stands there.

use super::Version;

/// Where a spelling first appeared; `None` for what the table does not know.
pub(super) fn since(spelling: &str) -> Option<Version> {
    TABLE.iter().find(|(_, patterns)| patterns.iter().any(|pattern| fits(pattern, spelling))).map(|(since, _)| *since)
}

/// Whether `spelling` is one of a pattern's, in which `{.a|.b}` is a choice that `?` makes optional.
pub(super) fn fits(pattern: &str, spelling: &str) -> bool {
    // A modifier ends where the next begins: `.f16` is no part of `.f16x2`.
    let strip = |part: &str| spelling.strip_prefix(part).filter(|rest| rest.is_empty() || rest.starts_with('.'));
    if pattern.is_empty() {
        return spelling.is_empty();
    }
    if let Some((choice, rest)) = pattern.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        let (rest, optional) = rest.strip_prefix('?').map_or((rest, false), |rest| (rest, true));
        let chosen = |part| strip(part).is_some_and(|left| fits(rest, left));
        return choice.split('|').any(chosen) || (optional && fits(rest, spelling));
    }
    let (part, rest) = pattern.split_at(pattern.find('{').unwrap_or(pattern.len()));
    strip(part).is_some_and(|left| fits(rest, left))
}

macro_rules! integer {
    () => {
        "{.u16|.u32|.u64|.s16|.s32|.s64}"
    };
}

macro_rules! any {
    () => {
        "{.b8|.b16|.b32|.b64|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f32|.f64}"
    };
}

macro_rules! space {
    () => {
        "{.global|.shared|.local|.const|.param}"
    };
}

macro_rules! compare {
    () => {
        "{.eq|.ne|.lt|.le|.gt|.ge|.lo|.ls|.hi|.hs|.equ|.neu|.ltu|.leu|.gtu|.geu|.num|.nan}"
    };
}

/// A version, and the patterns of what it brought. Ascending: the first that fits counts.
pub(super) const TABLE: &[(Version, &[&str])] = &[
    (Version::new(7, 0), BASE),
    (Version::new(7, 1), &[".target.sm_86", "mbarrier.test_wait.parity{.shared}?.b64"]),
    // The assembler does not check it, but those of its time know no `inlined_at`.
    (Version::new(7, 2), &[".loc.inlined_at", "{min|max}{.ftz}?{.NaN}?.xorsign.abs{.f32|.f16|.f16x2|.bf16|.bf16x2}"]),
    (
        Version::new(7, 4),
        &[
            ".target.sm_87",
            concat!(
                "ld{.global}?{.nc}?{.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate}?",
                "{.L2::64B|.L2::128B|.L2::256B}?{.v2|.v4}?",
                any!()
            ),
            concat!(
                "st{.global}?{.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate}",
                "{.v2|.v4}?",
                any!()
            ),
            "cp.async{.ca|.cg}.shared.global{.L2::64B|.L2::128B|.L2::256B}",
        ],
    ),
    (Version::new(7, 6), &["szext{.clamp|.wrap}{.u32|.s32}", "bmsk{.clamp|.wrap}.b32"]),
    (
        Version::new(7, 8),
        &[
            "{.target.sm_89|.target.sm_90}",
            "{.explicitcluster|.reqnctapercluster|.maxclusterrank}",
            "{%clusterid|%nclusterid|%cluster_ctaid|%cluster_nctaid|%cluster_ctarank|%cluster_nctarank|%is_explicit_cluster}",
            "griddepcontrol{.launch_dependents|.wait}",
            "barrier.cluster{.arrive|.wait}{.release|.relaxed|.acquire}?{.aligned}?",
            "{mapa|getctarank}{.shared::cluster}?{.u32|.u64}",
            "{add|sub|mul}{.rn}?{.bf16|.bf16x2}",
            "tanh.approx{.bf16|.bf16x2}",
            "ex2.approx.ftz{.bf16|.bf16x2}",
            "{atom|red}{.relaxed|.acquire|.release|.acq_rel}?{.cta|.gpu|.sys}?{.global|.shared}?.add.noftz{.bf16|.bf16x2}",
            "mma.sync.aligned{.m16n8k4|.m16n8k8|.m16n8k16}.row.col.f64.f64.f64.f64",
            "{stmatrix.sync.aligned.m8n8}{.x1|.x2|.x4}{.trans}?{.shared}?.b16",
            "movmatrix.sync.aligned.m8n8.trans.b16",
            "mbarrier.try_wait{.parity}?{.shared}?.b64",
            concat!("{ld|st}{.weak}?{.shared::cta|.shared::cluster}{.v2|.v4}?", any!()),
        ],
    ),
    (
        Version::new(8, 0),
        &[
            ".target.sm_90a",
            "elect.sync",
            "setmaxnreg{.inc|.dec}.sync.aligned.u32",
            "wgmma{.fence|.commit_group|.wait_group}.sync.aligned",
            "wgmma.mma_async.sync.aligned{.m64n64k16|.m64n128k16|.m64n256k16}.f32{.f16.f16|.bf16.bf16}",
            "fence.proxy.async",
            "mbarrier.arrive.expect_tx{.release.cta}?{.shared|.shared::cta}?.b64",
            "cp.async.bulk{.commit_group|.wait_group|.wait_group.read}",
            "cp.async.bulk.tensor{.1d|.2d|.3d|.4d|.5d}.shared::cluster.global{.tile}?.mbarrier::complete_tx::bytes",
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes",
        ],
    ),
    (
        Version::new(8, 1),
        &["st.async{.weak}?.shared::cluster.mbarrier::complete_tx::bytes{.b32|.b64|.u32|.u64|.f32|.f64}"],
    ),
    (Version::new(8, 3), &[".pragma.used_bytes_mask"]),
];

const BASE: &[&str] = &[
    // Directives, and what stands in their place among the spellings.
    "{.version|.address_size|.file|.loc|.section|.target.sm_80}",
    "{.visible|.extern|.weak|.entry|.func|.maxntid|.reqntid|.minnctapersm|.maxnreg|.noreturn|.branchtargets}",
    "{.reg|.param|.shared|.global|.local|.const|.align|.ptr|.pred|.f16|.f16x2}",
    any!(),
    ".pragma.nounroll",
    "=generic",
    // Special registers.
    "{%tid|%ntid|%ctaid|%nctaid|%laneid|%warpid|%nwarpid|%smid|%nsmid|%gridid|%clock|%clock_hi|%clock64|%globaltimer}",
    "{%lanemask_eq|%lanemask_le|%lanemask_lt|%lanemask_ge|%lanemask_gt|%dynamic_smem_size|%total_smem_size}",
    // Integers.
    concat!("{add|sub|div|rem|min|max|abs|neg}", integer!()),
    "{add|sub}.sat.s32",
    "{add|sub|addc|subc}{.cc}?{.u32|.s32|.u64|.s64}",
    concat!("{mul|mad}{.hi|.lo}", integer!()),
    "{mul|mad}.wide{.u16|.u32|.s16|.s32}",
    "{mad|madc}{.hi|.lo}{.cc}?{.u32|.s32|.u64|.s64}",
    "{mul24|mad24}{.hi|.lo}{.u32|.s32}",
    concat!("sad", integer!()),
    "{popc|clz|brev|bfi}{.b32|.b64}",
    "bfe{.u32|.u64|.s32|.s64}",
    "bfind{.shiftamt}?{.u32|.u64|.s32|.s64}",
    "dp4a{.u32|.s32}{.u32|.s32}",
    "{and|or|xor|not}{.pred|.b16|.b32|.b64}",
    "{cnot|shl}{.b16|.b32|.b64}",
    "shr{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64}",
    "shf{.l|.r}{.clamp|.wrap}.b32",
    "lop3.b32",
    "prmt.b32{.f4e|.b4e|.rc8|.ecl|.ecr|.rc16}?",
    // Floating point.
    "{add|sub|mul}{.rn|.rz|.rm|.rp}?{.ftz}?{.sat}?.f32",
    "{add|sub|mul}{.rn|.rz|.rm|.rp}?.f64",
    "{fma|mad}{.rn|.rz|.rm|.rp}{.ftz}?{.sat}?.f32",
    "{fma|mad}{.rn|.rz|.rm|.rp}.f64",
    "div{.approx|.full|.rn|.rz|.rm|.rp}{.ftz}?.f32",
    "{div|rcp|sqrt}{.rn|.rz|.rm|.rp}.f64",
    "{rcp|sqrt}{.approx|.rn|.rz|.rm|.rp}{.ftz}?.f32",
    "{rsqrt|sin|cos|lg2|ex2}.approx{.ftz}?.f32",
    "{rcp.approx.ftz|rsqrt.approx|rsqrt.approx.ftz}.f64",
    "{abs|neg}{.ftz}?.f32",
    "{min|max}{.ftz}?{.NaN}?{.f32|.f16|.f16x2}",
    "{min|max}{.NaN}?{.bf16|.bf16x2}",
    "{abs|neg|min|max}.f64",
    "{copysign}{.f32|.f64}",
    "testp{.finite|.infinite|.number|.notanumber|.normal|.subnormal}{.f32|.f64}",
    "tanh.approx{.f32|.f16|.f16x2}",
    "ex2.approx{.f16|.f16x2}",
    "{add|sub|mul}{.rn}?{.ftz}?{.sat}?{.f16|.f16x2}",
    "fma.rn{.ftz}?{.sat|.relu}?{.f16|.f16x2}",
    "fma.rn{.relu}?{.bf16|.bf16x2}",
    "{abs|neg}{.ftz}?{.f16|.f16x2}",
    "{abs|neg}{.bf16|.bf16x2}",
    // Comparison and selection.
    concat!(
        "setp",
        compare!(),
        "{.and|.or|.xor}?{.ftz}?{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f16|.f16x2|.f32|.f64}"
    ),
    concat!(
        "set",
        compare!(),
        "{.and|.or|.xor}?{.ftz}?{.u32|.s32|.f32}{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f32|.f64}"
    ),
    concat!("selp", any!()),
    concat!("slct{.ftz}?", any!(), "{.s32|.f32}"),
    // Conversion.
    concat!(
        "cvt{.rn|.rz|.rm|.rp|.rni|.rzi|.rmi|.rpi}?{.ftz}?{.sat}?",
        "{.u8|.s8|.u16|.s16|.u32|.s32|.u64|.s64|.f16|.f32|.f64}",
        "{.u8|.s8|.u16|.s16|.u32|.s32|.u64|.s64|.f16|.f32|.f64}"
    ),
    "cvt{.rn|.rz}{.relu}?{.f16x2|.bf16|.bf16x2}.f32",
    "cvt{.rn|.rz}.relu.f16.f32",
    "cvt.rna.tf32.f32",
    // Moves and memory.
    "mov{.pred|.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f32|.f64}",
    "cvta{.to}?{.global|.shared|.local|.const}{.u32|.u64}",
    "isspacep{.global|.shared|.local|.const}",
    concat!("ld{.weak}?", space!(), "?{.ca|.cg|.cs|.lu|.cv}?{.v2|.v4}?", any!()),
    concat!("ld.global{.ca|.cg|.cs}?.nc{.v2|.v4}?", any!()),
    concat!("st{.weak}?", space!(), "?{.wb|.cg|.cs|.wt}?{.v2|.v4}?", any!()),
    concat!("{ld|st}.volatile{.global|.shared|.local}?{.v2|.v4}?", any!()),
    concat!("{ld|st}{.global|.shared}.volatile{.v2|.v4}?", any!()),
    concat!("ld{.relaxed|.acquire}{.cta|.gpu|.sys}{.global|.shared}?{.v2|.v4}?", any!()),
    concat!("ld{.global|.shared}{.relaxed|.acquire}{.cta|.gpu|.sys}{.v2|.v4}?", any!()),
    concat!("st{.relaxed|.release}{.cta|.gpu|.sys}{.global|.shared}?{.v2|.v4}?", any!()),
    concat!("st{.global|.shared}{.relaxed|.release}{.cta|.gpu|.sys}{.v2|.v4}?", any!()),
    "prefetch{.global}?{.L1|.L2}",
    concat!(
        "{atom|red}{.relaxed|.acquire|.release|.acq_rel}?{.cta|.gpu|.sys}?{.global|.shared}?{.relaxed|.acquire|.release|.acq_rel}?",
        "{.cta|.gpu|.sys}?{.and|.or|.xor|.add|.inc|.dec|.min|.max}{.b32|.b64|.u32|.u64|.s32|.s64|.f32|.f64}"
    ),
    concat!(
        "atom{.relaxed|.acquire|.release|.acq_rel}?{.cta|.gpu|.sys}?{.global|.shared}?{.relaxed|.acquire|.release|.acq_rel}?",
        "{.cta|.gpu|.sys}?{.exch|.cas}{.b16|.b32|.b64}"
    ),
    "{atom|red}{.relaxed|.acquire|.release|.acq_rel}?{.cta|.gpu|.sys}?{.global|.shared}?.add.noftz{.f16|.f16x2}",
    "cp.async{.ca|.cg}.shared.global",
    "cp.async{.commit_group|.wait_group|.wait_all}",
    // Order, warps, tensor cores.
    "membar{.cta|.gl|.sys}",
    "fence{.sc|.acq_rel}{.cta|.gpu|.sys}",
    "{bar|barrier}{.sync|.arrive}{.aligned}?",
    "{bar.warp.sync|activemask.b32}",
    "{bar|barrier}.red{.popc|.and|.or}{.aligned}?{.u32|.pred}",
    "shfl.sync{.up|.down|.bfly|.idx}.b32",
    "vote.sync{.all|.any|.uni}.pred",
    "vote.sync.ballot.b32",
    "match{.any|.all}.sync{.b32|.b64}",
    "redux.sync{.add|.min|.max|.and|.or|.xor}{.u32|.s32|.b32}",
    "ldmatrix.sync.aligned.m8n8{.x1|.x2|.x4}{.trans}?{.shared}?.b16",
    "mma.sync.aligned{.m16n8k8|.m16n8k16}.row.col{.f16.f16.f16.f16|.f32.f16.f16.f32|.f32.bf16.bf16.f32}",
    "mma.sync.aligned{.m16n8k4|.m16n8k8}.row.col.f32.tf32.tf32.f32",
    "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64",
    "mbarrier{.init|.inval|.arrive|.arrive_drop|.test_wait}{.shared}?.b64",
    // Control.
    "{bra|call|ret|exit}{.uni}?",
    "{brx.idx}{.uni}?",
    "{trap|brkpt}",
    "nanosleep.u32",
];
