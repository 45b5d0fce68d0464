//! The choices that decide an adapter.

use crate::choices::Choice;
use crate::pointer::{Growing, GrowingPlace};
use crate::status::{Answer, answer};
use idlora::adapter::Config;

/// Everything that decides an adapter, apart from the weight W [m, n] and the module's name. Start from
/// idlora_config_default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_config {
    /// sizeof(idlora_config).
    pub struct_size: usize,
    /// Rank r of a component (16). r * clusters <= m.
    pub rank: usize,
    /// Components k (4).
    pub clusters: usize,
    /// Fewest rows in a cluster, at least the rank; 0 stands for the rank (0).
    pub min_size: usize,
    /// Split s of the shared matrix (2); divides the rank and m.
    pub split: usize,
    /// Steps of the clustering at most (100).
    pub max_iterations: usize,
    /// Seed of everything random (0). Modules of one model share it: their names make them differ.
    pub seed: u64,
    /// alpha, of which the factor on the update is made (32).
    pub alpha: f32,
    /// An idlora_space: where rows are compared (IDLORA_SPACE_FULL).
    pub cluster_by: u32,
    /// An idlora_selection: which rows of a cluster are chosen (IDLORA_SELECTION_PIVOTED_QR).
    pub select: u32,
    /// An idlora_gate: how components are weighted (IDLORA_GATE_LINEAR_SOFTMAX).
    pub gate: u32,
    /// An idlora_scaling: the factor on the update (IDLORA_SCALING_ALPHA_OVER_RANK).
    pub scaling: u32,
    /// An idlora_b_init: how B starts (IDLORA_B_INIT_ZERO).
    pub b_init: u32,
}

// SAFETY: `repr(C)`, `struct_size` first, numbers alone.
unsafe impl Growing for idlora_config {
    const NAME: &'static str = "idlora_config";
    const FIRST: usize = size_of::<Self>();
}

/// The library's configuration. Rows are what is chosen: columns have no adapter.
pub(crate) fn of(config: &idlora_config) -> Answer<Config> {
    Ok(Config {
        rank: config.rank,
        alpha: config.alpha,
        clusters: config.clusters,
        min_size: (config.min_size != 0).then_some(config.min_size),
        split: config.split,
        cluster_by: Choice::of("cluster_by", config.cluster_by)?,
        select: Choice::of("select", config.select)?,
        gate: Choice::of("gate", config.gate)?,
        scaling: Choice::of("scaling", config.scaling)?,
        b_init: Choice::of("b_init", config.b_init)?,
        max_iterations: config.max_iterations,
        seed: config.seed,
        ..Config::default()
    })
}

/// The header's form of a configuration.
pub(crate) fn to(config: &Config) -> idlora_config {
    idlora_config {
        struct_size: size_of::<idlora_config>(),
        rank: config.rank,
        clusters: config.clusters,
        min_size: config.min_size.unwrap_or(0),
        split: config.split,
        max_iterations: config.max_iterations,
        seed: config.seed,
        alpha: config.alpha,
        cluster_by: config.cluster_by.number(),
        select: config.select.number(),
        gate: config.gate.number(),
        scaling: config.scaling.number(),
        b_init: config.b_init.number(),
    }
}

/// Fills in the defaults, which stand in brackets above. struct_size must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_config_default(config: *mut idlora_config) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_config_default: `config` is writable, and its struct_size is set.
        let place = unsafe { GrowingPlace::at("config", config) }?;
        place.put(&to(&Config::default()));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use idlora::adapter::{BInit, Scaling};
    use idlora::cluster::Space;
    use idlora::lowrank::Gate;
    use idlora::select::Selection;

    /// No two members have the same value, so that one in another's place is seen.
    #[test]
    fn a_configuration_survives_the_border() {
        let config = Config {
            rank: 6,
            alpha: 5.5,
            clusters: 3,
            min_size: Some(7),
            split: 2,
            cluster_by: Space::Norm,
            select: Selection::Random,
            gate: Gate::RmsInner,
            scaling: Scaling::One,
            b_init: BInit::Normal,
            max_iterations: 41,
            seed: u64::MAX - 3,
            ..Config::default()
        };
        assert_eq!(of(&to(&config)).unwrap(), config);
        assert_eq!(of(&to(&Config::default())).unwrap(), Config::default());
        let mut wrong = to(&config);
        wrong.select = 9;
        assert!(of(&wrong).unwrap_err().message.contains("`select` is 9"));
    }
}
