//! libdevice, with and without `--use_fast_math`, against f64, within the errors that the CUDA programming guide states
//! for each function and intrinsic.

use crate::common::{self, Cuda, numbers::Numbers, numbers::ulps};
use ptx_vm::{Arg, Module};
use std::f64::consts::{LN_2, PI};

/// A kernel of `math.cu`.
struct Function {
    name: &'static str,
    exact: fn(f64, f64) -> f64,
    /// Draws operands from everywhere where the function does something different.
    draw: fn(&mut Numbers) -> [f32; 2],
    /// Largest distance from the correctly rounded result.
    ulps: u32,
    /// The same with fast math, absolute, given operands and exact result; `None` where nothing is promised.
    fast: fn(f64, f64, f64) -> Option<f64>,
}

const FUNCTIONS: [Function; 9] = [
    Function {
        name: "exp_of",
        exact: |x, _| x.exp(),
        draw: |numbers| [100.0 * numbers.unit(), 0.0],
        ulps: 2,
        fast: |x, _, exact| (x < 88.0).then(|| (2.0 + (1.173 * x).abs().floor()) * ulp(exact)),
    },
    Function {
        name: "log_of",
        exact: |x, _| x.ln(),
        draw: |numbers| [if numbers.below(3) == 0 { 1.0 + 0.2 * numbers.unit() } else { any(numbers).abs() }, 0.0],
        ulps: 1,
        fast: |x, _, exact| Some(if (0.5..=2.0).contains(&x) { 2f64.powf(-21.41) } else { 3.0 * ulp(exact) }),
    },
    Function {
        name: "tanh_of",
        exact: |x, _| x.tanh(),
        draw: |numbers| [if numbers.below(4) == 0 { any(numbers) } else { 10.0 * numbers.unit() }, 0.0],
        ulps: 2,
        fast: |_, _, exact| Some(exact.abs() * 2f64.powi(-11)),
    },
    Function {
        name: "erf_of",
        exact: |x, _| erf(x),
        draw: |numbers| [if numbers.below(4) == 0 { any(numbers) } else { 4.5 * numbers.unit() }, 0.0],
        ulps: 2,
        // Fast math has no function of its own here.
        fast: |_, _, exact| Some(2.5 * ulp(exact)),
    },
    Function {
        name: "sin_of",
        exact: |x, _| x.sin(),
        draw: |numbers| [if numbers.below(3) == 0 { any(numbers) } else { 200.0 * numbers.unit() }, 0.0],
        ulps: 2,
        fast: |x, _, _| (x.abs() <= PI).then(|| 2f64.powf(-21.41)),
    },
    Function {
        name: "pow_of",
        exact: f64::powf,
        draw: |numbers| match numbers.below(4) {
            // Whole exponents, for negative bases.
            0 => [10.0 * numbers.unit(), numbers.below(21) as f32 - 10.0],
            1 => [any(numbers), numbers.unit()],
            2 => [any(numbers), any(numbers)],
            _ => [1.0 + 0.5 * numbers.unit(), 100.0 * numbers.unit()],
        },
        ulps: 4,
        fast: |x, y, exact| {
            // `ex2.approx(y · lg2.approx(x))`. The logarithm is off by 2^-22, absolutely near 1 and relatively
            // elsewhere, the product by half a unit, and ex2 by 2^-22 relatively; an error e of its argument is ln 2 ·
            // e of its result.
            let lg2 = x.log2();
            let argument = y * lg2;
            let error = 2f64.powi(-22) * y.abs() * lg2.abs().max(1.0) + 2f64.powi(-24) * argument.abs();
            let promised = x > 0.0 && x.is_finite() && y.is_finite() && argument.abs() < 126.0;
            promised.then(|| exact * ((LN_2 * error).exp() * (1.0 + 2f64.powi(-22)) - 1.0) + 0.5 * ulp(exact))
        },
    },
    Function {
        name: "rsqrt_of",
        exact: |x, _| 1.0 / x.sqrt(),
        draw: |numbers| [any(numbers).abs(), 0.0],
        ulps: 2,
        fast: |_, _, exact| Some(2.5 * ulp(exact)),
    },
    Function {
        name: "sqrt_of",
        exact: |x, _| x.sqrt(),
        draw: |numbers| [any(numbers).abs(), 0.0],
        ulps: 0,
        // One unit from the correctly rounded result.
        fast: |_, _, exact| Some(1.5 * ulp(exact)),
    },
    Function {
        name: "quotient_of",
        exact: |x, y| x / y,
        draw: |numbers| [any(numbers), any(numbers)],
        ulps: 0,
        fast: |_, y, exact| {
            let promised = (2f64.powi(-126)..=2f64.powi(126)).contains(&y.abs()) && exact.abs() < f64::from(f32::MAX);
            promised.then(|| 2.5 * ulp(exact))
        },
    },
];

/// Every function is tried on these first, in all pairs.
const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.0,
    3.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    1e-40,
    -1e-40,
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    16_777_217.0,
];

/// A finite number with any sign and exponent.
fn any(numbers: &mut Numbers) -> f32 {
    let bits = numbers.next() as u32;
    if bits >> 23 & 255 == 255 { f32::from_bits(bits ^ 1 << 30) } else { f32::from_bits(bits) }
}

/// The unit in the last place of the f32 nearest to x.
fn ulp(x: f64) -> f64 {
    if x == 0.0 { 2f64.powi(-149) } else { 2f64.powi((x.abs().log2().floor() as i32).clamp(-126, 128) - 23) }
}

/// erf by a series of positive terms, so nothing cancels: 2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·…·(2n+1)).
fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        // Beyond 6, 1 − erf is below 2^-55.
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum, mut n) = (x, 0.0, 0.0);
    while sum + term != sum {
        sum += term;
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
    }
    2.0 / PI.sqrt() * (-x * x).exp() * if sum == 0.0 { x } else { sum }
}

fn operands(function: &Function) -> (Vec<f32>, Vec<f32>) {
    let mut numbers = Numbers::new(function.name.len() as u64);
    let special = SPECIAL.iter().flat_map(|x| SPECIAL.map(|y| [*x, y]));
    let drawn = std::iter::repeat_with(|| (function.draw)(&mut numbers)).take(3000);
    special.chain(drawn).map(|[x, y]| (x, y)).unzip()
}

fn run(module: &Module, function: &Function, xs: &[f32], ys: &[f32]) -> Vec<f32> {
    let n = xs.len();
    common::run(&module.kernel(function.name).unwrap(), &common::shape(n.div_ceil(128) as u32, 128), |memory| {
        let (x, y, out) = (memory.upload(xs).unwrap(), memory.upload(ys).unwrap(), memory.allocate(n).unwrap());
        (vec![x.into(), y.into(), out.into(), Arg::value(n as i32)], out)
    })
}

#[test]
fn accurate_functions() {
    let Some(module) = common::load("kernels/math.cu") else { return };
    for function in &FUNCTIONS {
        let (xs, ys) = operands(function);
        for ((x, y), found) in xs.iter().zip(&ys).zip(run(&module, function, &xs, &ys)) {
            let expected = (function.exact)((*x).into(), (*y).into()) as f32;
            let distance = ulps(found, expected);
            assert!(
                distance <= function.ulps,
                "{} of {x:e}, {y:e}: {found:e}, {distance} from {expected:e}",
                function.name
            );
        }
    }
}

#[test]
fn fast_functions() {
    let Some(module) = (Cuda { options: &["--use_fast_math"], ..Cuda::new("kernels/math.cu") }).load() else { return };
    // Fast math takes subnormal operands for zeros of their sign.
    let flushed = |x: f32| f64::from(if x.is_subnormal() { 0f32.copysign(x) } else { x });
    for function in &FUNCTIONS {
        let (xs, ys) = operands(function);
        let mut checked = 0;
        for ((x, y), found) in xs.iter().zip(&ys).zip(run(&module, function, &xs, &ys)) {
            let (wide_x, wide_y) = (flushed(*x), flushed(*y));
            let exact = (function.exact)(wide_x, wide_y);
            let Some(bound) = (function.fast)(wide_x, wide_y, exact) else { continue };
            checked += 1;
            // …and returns zeros for subnormal results.
            let near = (f64::from(found) - exact).abs() <= bound + f64::from(f32::MIN_POSITIVE);
            assert!(
                near || ulps(found, exact as f32) == 0,
                "{} of {x:e}, {y:e}: {found:e}, exactly {exact:e}, allowed {bound:e}",
                function.name
            );
        }
        assert!(checked > 300, "{}: {checked} operands", function.name);
    }
}
