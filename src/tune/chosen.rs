//! What a plan has been told to run.

use super::Config;
use crate::elem::Dtype;

/// Configurations by element and number of tokens, rounded up to a power of two: what a tuner has chosen for a plan. Where it
/// says nothing, an operation runs its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen(Vec<(Dtype, usize, Config)>);

#[allow(dead_code)] // as above
impl Chosen {
    /// Puts a choice in the place of the one for the same kernels, element and number of tokens.
    pub fn set(&mut self, dtype: Dtype, tokens: usize, config: Config, replaces: impl Fn(&Config) -> bool) {
        let bucket = bucket(tokens);
        self.0.retain(|(d, b, c)| (*d, *b) != (dtype, bucket) || !replaces(c));
        self.0.push((dtype, bucket, config));
    }

    /// The choice for which `pick` finds something.
    pub fn find<C>(&self, dtype: Dtype, tokens: usize, pick: impl Fn(&Config) -> Option<C>) -> Option<C> {
        let bucket = bucket(tokens);
        self.0.iter().filter(|(d, b, _)| (*d, *b) == (dtype, bucket)).find_map(|(.., config)| pick(config))
    }
}

/// The number of tokens that stands for all up to it: the next power of two.
pub(crate) fn bucket(tokens: usize) -> usize {
    tokens.checked_next_power_of_two().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_holds_for_its_kernel_element_and_tokens() {
        let down = |tokens| Config::LowrankDown { tokens, columns: 64 };
        let is_down = |config: &Config| matches!(config, Config::LowrankDown { .. });
        let decode = Config::LowrankDecode { tokens: 16, windows: 2 };
        let mut chosen = Chosen::default();
        chosen.set(Dtype::F16, 300, down(1), is_down);
        chosen.set(Dtype::F16, 300, decode, |config| *config == decode);
        chosen.set(Dtype::BF16, 300, down(2), is_down);
        chosen.set(Dtype::F16, 512, down(3), is_down);
        let find = |dtype, tokens| chosen.find(dtype, tokens, |config| is_down(config).then_some(*config));
        assert_eq!(find(Dtype::F16, 257), Some(down(3)), "replaced, for all tokens up to 512");
        assert_eq!(find(Dtype::BF16, 512), Some(down(2)));
        assert_eq!((find(Dtype::F32, 300), find(Dtype::F16, 256), find(Dtype::F16, 513)), (None, None, None));
        assert_eq!(chosen.find(Dtype::F16, 400, |config| (*config == decode).then_some(())), Some(()));
    }

    #[test]
    fn tokens_are_rounded_up_to_a_power_of_two() {
        assert_eq!([0, 1, 2, 3, 512, 513].map(bucket), [1, 1, 2, 4, 512, 1024]);
        assert_eq!(bucket(usize::MAX), usize::MAX);
    }
}
