//! Calls that lead back to their function. Each function has one place for its variables, so they cannot run.

use crate::error::LoadError;
use crate::text::lexer::{At, shorten};
use crate::text::tree::Function;

/// A call, by the indices of the two functions.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub caller: usize,
    pub callee: usize,
    pub at: At,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unseen,
    Open,
    Done,
}

/// Refuses the first call that closes a circle.
pub(super) fn refuse(calls: &[Call], functions: &[Function<'_>]) -> Result<(), LoadError> {
    let mut by_caller = vec![Vec::new(); functions.len()];
    for call in calls {
        by_caller[call.caller].push(*call);
    }
    let mut states = vec![State::Unseen; functions.len()];
    for start in 0..functions.len() {
        // Depth first, with the path on a stack of our own: a text can make it as long as it likes.
        let mut path = vec![(start, 0)];
        while let Some((function, next)) = path.pop() {
            if next == 0 && states[function] != State::Unseen {
                continue;
            }
            states[function] = State::Open;
            let Some(call) = by_caller[function].get(next) else {
                states[function] = State::Done;
                continue;
            };
            path.push((function, next + 1));
            if states[call.callee] == State::Open {
                let name = shorten(functions[call.callee].name);
                return Err(call.at.unsupported(format!("recursion, here through `{name}`")));
            }
            path.push((call.callee, 0));
        }
    }
    Ok(())
}
