//! The module, its functions, and what the kernel does before and after its body.

use super::super::interpret::{OUTPUT, SCALARS};
use super::super::operations::TOTALS;
use super::super::tree::{Class, REGION, Var, parameter_variables};
use super::{Printer, name, prefix, suffix};

impl Printer<'_> {
    pub(super) fn module(&mut self) {
        self.put("// A random program.");
        self.put(".version 8.0\n.target sm_80\n.address_size 64\n");
        if self.program.dynamic {
            self.put(".extern .shared .align 16 .b8 exchange[];");
        }
        for number in 0..self.program.functions.len() {
            self.function(number);
        }
        self.kernel();
        if self.program.line_info {
            self.put("\t.file\t1 \"/somewhere/random; kernel.cu\"");
        }
    }

    fn registers(&mut self) {
        for class in Class::ALL {
            let ty = if class == Class::Float { ".f32" } else { suffix(class) };
            self.put(format!(".reg {ty} {}<{}>;", prefix(class), class.variables().0));
        }
        self.put(format!(".local .align 16 .b8 frame[{REGION}];"));
        self.put(".reg .b64 %local, %glocal;");
        self.put("mov.u64 %local, frame;");
        self.put("cvta.local.u64 %glocal, %local;");
    }

    fn function(&mut self, number: usize) {
        let function = &self.program.functions[number];
        let result = function.result;
        let params = std::iter::once(Class::Long).chain(function.params.iter().copied());
        let params: Vec<String> =
            params.enumerate().map(|(i, class)| format!(".param {} f{number}_param_{i}", suffix(class))).collect();
        let ty = suffix(result.class());
        self.put(format!(".func (.param {ty} result) f{number}({})", params.join(", ")));
        self.open("");
        self.registers();
        self.put(".reg .b64 %passed;");
        self.put(format!("ld.param.b64 %passed, [f{number}_param_0];"));
        let initialised = parameter_variables(&function.params);
        for (i, var) in initialised.iter().enumerate() {
            self.put(format!("ld.param{} {}, [f{number}_param_{}];", suffix(var.class()), name(*var), i + 1));
        }
        for var in (0..Var::COUNT as u8).map(Var).filter(|var| !initialised.contains(var)) {
            self.put(match var.class() {
                Class::Float => format!("mov.f32 {}, 0f00000000;", name(var)),
                Class::Pred => format!("setp.ne.b32 {}, 0, 0;", name(var)),
                class => format!("mov{} {}, 0;", suffix(class), name(var)),
            });
        }
        self.open(".reg .b64 zero; mov.b64 zero, 0;");
        (0..REGION).step_by(16).for_each(|at| self.put(format!("st.local.v2.b64 [frame+{at}], {{zero, zero}};")));
        self.close();
        self.result = Some(result);
        self.stmts(&function.body);
        self.result = None;
        self.put("$L_leave:");
        self.put(format!("st.param{ty} [result], {};", name(result)));
        self.put("ret;");
        self.close();
    }

    fn kernel(&mut self) {
        let [x, y, z] = self.program.block;
        let types = [".u64", ".u8", ".u64", ".f32", ".u16", ".u64", ".u64", ".u64"];
        let params: Vec<String> =
            types.iter().enumerate().map(|(i, ty)| format!("    .param {ty} random_param_{i}")).collect();
        self.put(format!(".visible .entry random(\n{}\n)", params.join(",\n")));
        let bound = if self.program.seed.is_multiple_of(2) { ".reqntid" } else { ".maxntid" };
        self.put(format!("{bound} {x}, {y}, {z}"));
        self.open("");
        self.registers();
        self.addresses();
        self.start_values();
        self.stmts(&self.program.body);
        self.output();
        self.put("ret;");
        self.close();
    }

    /// Who the thread is and where its memory lies.
    fn addresses(&mut self) {
        let threads = self.program.threads();
        self.put(format!(".shared .align 16 .b8 slots[{}];", REGION as u32 * threads));
        self.put(format!(".shared .align 8 .b8 totals[{}];", 8 * TOTALS.len()));
        if !self.program.dynamic {
            self.put(format!(".shared .align 8 .b8 exchange[{}];", 8 * threads));
        }
        self.put(".reg .b32 %linear, %block, %thread, %threads, %shared, %member, %t<4>;");
        self.put(".reg .b64 %in, %slot, %totals, %out, %gshared, %a<4>;");
        self.put(".reg .pred %q<2>;");
        for line in [
            // Numbers of the thread in its block, of the block, of the thread in the grid.
            "mov.u32 %t0, %tid.z; mov.u32 %t1, %ntid.y; mov.u32 %t2, %tid.y; mad.lo.s32 %t0, %t0, %t1, %t2;",
            "mov.u32 %t1, %ntid.x; mov.u32 %t2, %tid.x; mad.lo.s32 %linear, %t0, %t1, %t2;",
            "mov.u32 %t0, %ctaid.z; mov.u32 %t1, %nctaid.y; mov.u32 %t2, %ctaid.y; mad.lo.s32 %t0, %t0, %t1, %t2;",
            "mov.u32 %t1, %nctaid.x; mov.u32 %t2, %ctaid.x; mad.lo.s32 %block, %t0, %t1, %t2;",
            "mov.u32 %threads, %ntid.x; mov.u32 %t0, %ntid.y; mul.lo.s32 %threads, %threads, %t0;",
            "mov.u32 %t0, %ntid.z; mul.lo.s32 %threads, %threads, %t0;",
            "mad.lo.s32 %thread, %block, %threads, %linear;",
            // Lanes of the warp that exist.
            "and.b32 %t0, %linear, -32; sub.s32 %t0, %threads, %t0; mov.u32 %t1, 1;",
            "shl.b32 %member, %t1, %t0; sub.s32 %member, %member, 1;",
            "ld.param.u64 %a0, [random_param_2]; cvta.to.global.u64 %a0, %a0;",
        ] {
            self.put(line);
        }
        self.put(format!("mul.wide.u32 %a1, %thread, {REGION}; add.s64 %slot, %a0, %a1;"));
        self.put("ld.param.u64 %in, [random_param_0]; cvta.to.global.u64 %in, %in;");
        self.put(format!("mul.wide.u32 %a1, %thread, {}; add.s64 %in, %in, %a1;", 8 * Var::COUNT));
        self.put("ld.param.u64 %totals, [random_param_5]; cvta.to.global.u64 %totals, %totals;");
        self.put("ld.param.u64 %out, [random_param_7]; cvta.to.global.u64 %out, %out;");
        self.put(format!("mul.wide.u32 %a1, %thread, {}; add.s64 %out, %out, %a1;", 8 * OUTPUT));
        self.put(format!("mov.u32 %t0, slots; mad.lo.s32 %shared, %linear, {REGION}, %t0;"));
        self.put("cvt.u64.u32 %a0, %shared; cvta.shared.u64 %gshared, %a0;");
    }

    fn start_values(&mut self) {
        for var in (0..Var::COUNT as u8).map(Var) {
            let (to, at) = (name(var), 8 * var.0);
            self.put(match var.class() {
                Class::Short => format!("ld.global.u16 {to}, [%in+{at}];"),
                Class::Word => format!("ld.global.nc.u32 {to}, [%in+{at}];"),
                Class::Float => format!("ld.global.f32 {to}, [%in+{at}];"),
                Class::Long => format!("ld.global.nc.u64 {to}, [%in+{at}];"),
                Class::Pred => {
                    format!("ld.global.u8 %t0, [%in+{at}]; and.b32 %t0, %t0, 1; setp.ne.u32 {to}, %t0, 0;")
                }
            });
        }
        let scalars = [(".u8", 1), (".f32", 3), (".u16", 4), (".u64", 6)];
        for (var, (ty, param)) in SCALARS.iter().zip(scalars) {
            self.put(format!("ld.param{ty} {}, [random_param_{param}];", name(*var)));
        }
        for at in (0..REGION).step_by(16) {
            self.put(format!("ld.global.v4.u32 {{%t0, %t1, %t2, %t3}}, [%slot+{at}];"));
            self.put(format!("st.shared.v4.u32 [%shared+{at}], {{%t0, %t1, %t2, %t3}};"));
            self.put(format!("st.local.v4.u32 [frame+{at}], {{%t0, %t1, %t2, %t3}};"));
        }
        self.put("setp.ne.u32 %q0, %linear, 0; @%q0 bra $L_set;");
        for (i, total) in TOTALS.iter().enumerate() {
            self.put(format!("mov.u64 %a0, 0x{:X}; st.shared.u64 [totals+{}], %a0;", total.start, 8 * i));
        }
        self.put("$L_set:");
        self.put("bar.sync 0;");
    }

    fn output(&mut self) {
        for var in (0..Var::COUNT as u8).map(Var) {
            let from = name(var);
            self.put(match var.class() {
                Class::Short => format!("cvt.u64.u16 %a0, {from};"),
                Class::Word => format!("cvt.u64.u32 %a0, {from};"),
                Class::Float => format!("mov.b32 %t0, {from}; cvt.u64.u32 %a0, %t0;"),
                Class::Long => format!("mov.u64 %a0, {from};"),
                Class::Pred => format!("selp.u64 %a0, 1, 0, {from};"),
            });
            self.put(format!("st.global.u64 [%out+{}], %a0;", 8 * var.0));
        }
        for at in (0..REGION).step_by(16) {
            let shared = 8 * Var::COUNT + at;
            self.put(format!("ld.shared.v2.u64 {{%a0, %a1}}, [%shared+{at}];"));
            self.put(format!("st.global.v2.u64 [%out+{shared}], {{%a0, %a1}};"));
            self.put(format!("ld.local.v2.u64 {{%a0, %a1}}, [frame+{at}];"));
            self.put(format!("st.global.v2.u64 [%out+{}], {{%a0, %a1}};", shared + REGION));
        }
    }
}
