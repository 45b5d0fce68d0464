//! Special registers (manual chapter 10).

use crate::isa::Type;
use crate::program::Special;

/// What a special register reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpecialRegister {
    /// A value of a thread, warp, block or launch, of 32 bits.
    Value(Special),
    /// Nothing on this machine makes it differ.
    Constant(u64, Type),
    /// Counts as the program runs; only `mov` reads it.
    Clock(Type),
}

impl SpecialRegister {
    pub fn ty(self) -> Type {
        match self {
            SpecialRegister::Value(_) => Type::U32,
            SpecialRegister::Constant(_, ty) | SpecialRegister::Clock(ty) => ty,
        }
    }
}

/// The special register of that name. Clusters are of one block each; the performance counters and the driver's
/// registers read as zero.
pub(super) fn special(name: &str) -> Option<SpecialRegister> {
    use SpecialRegister::{Clock, Constant, Value};
    let word = |value: u32| Some(Constant(u64::from(value), Type::U32));
    if let Some((vector, component)) = name.split_once('.') {
        let axis = ["x", "y", "z", "w"].iter().position(|axis| *axis == component)? as u8;
        let of_launch = |value: fn(u8) -> Special| if axis < 3 { Some(Value(value(axis))) } else { word(0) };
        return match vector {
            "%tid" => of_launch(Special::Tid),
            "%ntid" => of_launch(Special::Ntid),
            "%ctaid" | "%clusterid" => of_launch(Special::Ctaid),
            "%nctaid" | "%nclusterid" => of_launch(Special::Nctaid),
            "%cluster_ctaid" => word(0),
            "%cluster_nctaid" => word(u32::from(axis < 3)),
            _ => None,
        };
    }
    match name {
        "%laneid" => Some(Value(Special::LaneId)),
        "%warpid" => Some(Value(Special::WarpId)),
        "%nwarpid" => Some(Value(Special::NwarpId)),
        "%smid" => Some(Value(Special::Constant(0))),
        "%nsmid" => Some(Value(Special::Constant(1))),
        "%gridid" | "%current_graph_exec" => Some(Constant(0, Type::U64)),
        "%is_explicit_cluster" => Some(Constant(0, Type::Pred)),
        "%cluster_ctarank" => word(0),
        "%cluster_nctarank" => word(1),
        "%lanemask_eq" => Some(Value(Special::LanemaskEq)),
        "%lanemask_le" => Some(Value(Special::LanemaskLe)),
        "%lanemask_lt" => Some(Value(Special::LanemaskLt)),
        "%lanemask_ge" => Some(Value(Special::LanemaskGe)),
        "%lanemask_gt" => Some(Value(Special::LanemaskGt)),
        "%clock" | "%globaltimer_lo" => Some(Clock(Type::U32)),
        "%clock64" | "%globaltimer" => Some(Clock(Type::U64)),
        // High halves of counts that stay far below 2^32.
        "%clock_hi" | "%globaltimer_hi" => word(0),
        "%dynamic_smem_size" => Some(Value(Special::DynamicShared)),
        "%total_smem_size" | "%aggr_smem_size" => Some(Value(Special::TotalShared)),
        "%reserved_smem_offset_begin" | "%reserved_smem_offset_end" | "%reserved_smem_offset_cap" => word(0),
        _ => numbered(name),
    }
}

/// `%envreg0` … `%envreg31`, `%pm0` … `%pm7`, `%pm0_64` …, `%reserved_smem_offset_0`, `_1`.
fn numbered(name: &str) -> Option<SpecialRegister> {
    let zero = |digits: &str, count: u32, ty: Type| {
        let number = digits.parse::<u32>().ok().filter(|number| *number < count)?;
        (number.to_string() == digits).then_some(SpecialRegister::Constant(0, ty))
    };
    if let Some(digits) = name.strip_prefix("%envreg") {
        return zero(digits, 32, Type::U32);
    }
    if let Some(digits) = name.strip_prefix("%reserved_smem_offset_") {
        return zero(digits, 2, Type::U32);
    }
    let digits = name.strip_prefix("%pm")?;
    match digits.strip_suffix("_64") {
        Some(digits) => zero(digits, 8, Type::U64),
        None => zero(digits, 8, Type::U32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_register_of_the_manual() {
        use SpecialRegister::{Clock, Constant, Value};
        for (name, expected) in [
            ("%tid.x", Some(Value(Special::Tid(0)))),
            ("%ntid.y", Some(Value(Special::Ntid(1)))),
            ("%ctaid.z", Some(Value(Special::Ctaid(2)))),
            ("%nctaid.x", Some(Value(Special::Nctaid(0)))),
            ("%tid.w", Some(Constant(0, Type::U32))),
            ("%clusterid.y", Some(Value(Special::Ctaid(1)))),
            ("%nclusterid.y", Some(Value(Special::Nctaid(1)))),
            ("%cluster_ctaid.x", Some(Constant(0, Type::U32))),
            ("%cluster_nctaid.x", Some(Constant(1, Type::U32))),
            ("%cluster_nctarank", Some(Constant(1, Type::U32))),
            ("%gridid", Some(Constant(0, Type::U64))),
            ("%lanemask_lt", Some(Value(Special::LanemaskLt))),
            ("%clock", Some(Clock(Type::U32))),
            ("%globaltimer", Some(Clock(Type::U64))),
            ("%envreg31", Some(Constant(0, Type::U32))),
            ("%pm7_64", Some(Constant(0, Type::U64))),
            ("%reserved_smem_offset_1", Some(Constant(0, Type::U32))),
            ("%envreg32", None),
            ("%envreg01", None),
            ("%pm8", None),
            ("%tid", None),
            ("%tid.q", None),
            ("%tid.x.y", None),
            ("%r1", None),
        ] {
            assert_eq!(special(name), expected, "{name}");
        }
    }
}
