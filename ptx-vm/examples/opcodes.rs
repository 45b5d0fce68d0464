//! Prints `OPCODES.md`: every spelling that the loader accepts, as the loader's own table has it.

fn main() {
    print!("{}", ptx_vm::isa::opcode_document());
}
