//! The machine against what it must compute, on programs, operations and texts that nobody wrote.

mod corpus;
mod hostile;
mod program;
mod programs;
mod pure;
