//! What the assembler's log and the PTX say of each entry point.

/// What a kernel takes of a multiprocessor, from the log that `--ptxas-options=-v` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// The entry point.
    pub name: String,
    /// Of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of a thread's local memory, called functions included.
    pub stack: u32,
    /// Bytes of a thread's registers that are stored to local memory, and loaded from it.
    pub spills: [u32; 2],
}

/// Every entry point of the log.
///
/// # Errors
/// The line that was expected or not understood.
pub(crate) fn resources(log: &str) -> Result<Vec<Resources>, String> {
    let mut found: Vec<Resources> = Vec::new();
    for line in log.lines() {
        let said = line.split_once(':').map_or(line, |(_, said)| said).trim();
        if let Some(rest) = said.strip_prefix("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            found.push(Resources { name, ..Resources::default() });
        } else if line.contains("bytes stack frame") {
            // Of the entry point, and of each function that it calls.
            let [stack, stores, loads] = frame(line).ok_or_else(|| format!("not understood: {line}"))?;
            let entry = found.last_mut().ok_or_else(|| format!("of no entry point: {line}"))?;
            entry.stack += stack;
            entry.spills = [entry.spills[0] + stores, entry.spills[1] + loads];
        } else if said.starts_with("Used ") {
            let entry = found.last_mut().ok_or_else(|| format!("of no entry point: {line}"))?;
            entry.registers = before(said, " registers").ok_or_else(|| format!("not understood: {line}"))?;
            entry.shared = before(said, " bytes smem").unwrap_or(0);
        }
    }
    match found.iter().find(|entry| entry.registers == 0) {
        Some(entry) => Err(format!("says nothing of the registers of {}", entry.name)),
        None => Ok(found),
    }
}

fn frame(line: &str) -> Option<[u32; 3]> {
    Some([
        before(line, " bytes stack frame")?,
        before(line, " bytes spill stores")?,
        before(line, " bytes spill loads")?,
    ])
}

/// The number before `unit`.
fn before(text: &str, unit: &str) -> Option<u32> {
    text.split_once(unit)?.0.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A parameter of an entry point, as the PTX declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Parameter {
    /// Its bytes.
    pub bytes: usize,
    /// Its alignment in bytes.
    pub align: usize,
}

/// The parameters of an entry point; `None` where the PTX has no such entry point, or declares them otherwise.
pub(crate) fn parameters(ptx: &str, entry: &str) -> Option<Vec<Parameter>> {
    let (_, rest) = ptx.split_once(&format!(".entry {entry}("))?;
    let (list, _) = rest.split_once(')')?;
    list.split(',').map(str::trim).filter(|declared| !declared.is_empty()).map(parameter).collect()
}

/// `.param .u64 x`, `.param .u64 .ptr .global .align 16 x` or `.param .align 8 .b8 x[24]`.
fn parameter(declared: &str) -> Option<Parameter> {
    let mut words = declared.split_whitespace();
    if words.next()? != ".param" {
        return None;
    }
    let first = words.next()?;
    // Behind the type, `.align` is that of what a pointer points to.
    let (align, kind) = if first == ".align" { (words.next()?.parse().ok(), words.next()?) } else { (None, first) };
    let bits: usize = kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    let name = words.last()?;
    let count: usize = match name.split_once('[') {
        Some((_, count)) => count.strip_suffix(']')?.parse().ok()?,
        None => 1,
    };
    Some(Parameter { bytes: count * bits / 8, align: align.unwrap_or(bits / 8) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : 0 bytes gmem, 16 bytes cmem[4]
ptxas info    : Compiling entry function 'second' for 'sm_80'
ptxas info    : Function properties for second
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, used 0 barriers, 392 bytes cmem[0]
ptxas info    : Compile time = 10.159 ms
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for called
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Function properties for first
ptxas         .     16 bytes stack frame, 20 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 24 bytes cumulative stack size, 27648 bytes smem, 400 bytes cmem[0]
";

    #[test]
    fn the_log_is_read() {
        let of = |name: &str, registers, shared, stack, spills| Resources {
            name: name.to_owned(),
            registers,
            shared,
            stack,
            spills,
        };
        assert_eq!(resources(LOG), Ok(vec![of("second", 28, 0, 0, [0, 0]), of("first", 64, 27648, 24, [24, 36])]));
        assert_eq!(resources(""), Ok(Vec::new()));
    }

    #[test]
    fn a_log_that_is_not_understood_is_said() {
        for (log, expected) in [
            (LOG.replace("Used 28 registers", "Used some registers"), "not understood: "),
            (LOG.replace("ptxas info    : Used 28", "ptxas info    : Has 28"), "registers of second"),
            (LOG.replace("0 bytes spill stores", "no spill stores"), "not understood: "),
            (LOG.replace("Compiling entry", "Making entry"), "of no entry point: "),
        ] {
            let reason = resources(&log).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn parameters_are_read_as_declared() {
        let ptx = ".visible .entry longer_name(\n\t.param .u32 a\n)\n{ }\n.visible .entry name(\n\t.param .u64 name_param_0,\n\
            \t.param .u64 .ptr .global .align 1 name_param_1,\n\t.param .align 8 .b8 name_param_2[24],\n\t.param .f32 x\n)\n{ }\n\
            .visible .entry none()\n{ }\n.visible .entry odd(.param .align 8 .b8 x[two])";
        let of = |bytes, align| Parameter { bytes, align };
        assert_eq!(parameters(ptx, "name"), Some(vec![of(8, 8), of(8, 8), of(24, 8), of(4, 4)]));
        assert_eq!(parameters(ptx, "none"), Some(Vec::new()));
        assert_eq!((parameters(ptx, "absent"), parameters(ptx, "odd")), (None, None));
    }
}
