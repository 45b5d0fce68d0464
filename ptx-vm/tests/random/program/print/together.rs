//! What warps and blocks do together.

use super::super::operations::TOTALS;
use super::super::tree::{BlockVote, Class, Collective, Shuffle, Stmt, Uniform, Vote};
use super::{Printer, condition, name, operand, suffix};

impl Printer<'_> {
    pub(super) fn together(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Barrier(spelling) => self.put(spelling),
            Stmt::Masked { pred, then, other } => {
                let p = name(*pred);
                self.open(".reg .b32 m;");
                let (otherwise, end) = (self.label("else"), self.label("end"));
                self.put(format!("vote.sync.ballot.b32 m, {p}, %member;"));
                self.put(format!("@!{p} bra {otherwise};"));
                self.collective(then, "m");
                self.put(format!("bra {end};"));
                self.put(format!("{otherwise}:"));
                self.put("xor.b32 m, m, %member;");
                self.collective(other, "m");
                self.put(format!("{end}:"));
                self.close();
            }
            Stmt::Together { when, then, other } => {
                let (number, bit) = match when {
                    Uniform::BlockBit(bit) => ("%block", *bit),
                    Uniform::WarpBit(bit) => ("%linear", 5 + bit),
                };
                self.open(".reg .b32 t; .reg .pred p;");
                self.put(format!("and.b32 t, {number}, {}; setp.eq.s32 p, t, 0;", 1 << bit));
                self.branch("p", then, other);
                self.close();
            }
            Stmt::Repeat { times, body } => {
                self.open(".reg .b32 i; .reg .pred p;");
                let head = self.label("head");
                self.put("mov.u32 i, 0;");
                self.put(format!("{head}:"));
                self.stmts(body);
                self.put(format!("add.s32 i, i, 1; setp.ne.s32 p, i, {times}; @p bra {head};"));
                self.close();
            }
            Stmt::BlockVote { kind, dst, pred } => {
                let kind = match kind {
                    BlockVote::Count => "popc.u32",
                    BlockVote::And => "and.pred",
                    BlockVote::Or => "or.pred",
                };
                self.put(format!("bar.red.{kind} {}, 0, {};", name(*dst), condition(*pred)));
            }
            Stmt::Exchange { dst, src, distance } => {
                self.open(".reg .b32 e, t;");
                self.put("mov.u32 e, exchange; mad.lo.s32 t, %linear, 8, e;");
                self.put(format!("st.shared{} [t], {};", suffix(src.class()), name(*src)));
                self.put("bar.sync 0;");
                self.put(format!("add.s32 t, %linear, {distance}; rem.u32 t, t, %threads; mad.lo.s32 t, t, 8, e;"));
                self.put(format!("ld.shared{} {}, [t];", suffix(dst.class()), name(*dst)));
                self.put("bar.sync 0;");
                self.close();
            }
            Stmt::ReadTotal { dst, index } => {
                self.put("bar.sync 0;");
                self.put(format!("ld.shared{} {}, [totals+{}];", suffix(TOTALS[*index].class), name(*dst), 8 * index));
                self.put("bar.sync 0;");
            }
            _ => unreachable!("nothing that a warp or block does together"),
        }
    }

    pub(super) fn collective(&mut self, collective: &Collective, member: &str) {
        let text = match *collective {
            Collective::Vote { kind, dst, pred } => {
                let kind = match kind {
                    Vote::All => "all.pred",
                    Vote::Any => "any.pred",
                    Vote::Uniform => "uni.pred",
                    Vote::Ballot => "ballot.b32",
                };
                format!("vote.sync.{kind} {}, {}, {member};", name(dst), condition(pred))
            }
            Collective::Shuffle { mode, dst, pred, src, b, c } => {
                let mode = match mode {
                    Shuffle::Up => "up",
                    Shuffle::Down => "down",
                    Shuffle::Butterfly => "bfly",
                    Shuffle::Index => "idx",
                };
                let pred = pred.map_or(String::new(), |pred| format!("|{}", name(pred)));
                let (d, a, b) = (name(dst), name(src), operand(b, Class::Word));
                format!("shfl.sync.{mode}.b32 {d}{pred}, {a}, {b}, {c}, {member};")
            }
            Collective::Reduce { reduction, dst, src } => {
                format!("redux.sync{}{} {}, {}, {member};", reduction.op, reduction.suffix, name(dst), name(src))
            }
            Collective::MatchAny { dst, src } => {
                format!("match.any.sync{} {}, {}, {member};", suffix(src.class()), name(dst), name(src))
            }
            Collective::MatchAll { dst, pred, src } => {
                let (d, p, a) = (name(dst), name(pred), name(src));
                format!("match.all.sync{} {d}|{p}, {a}, {member};", suffix(src.class()))
            }
        };
        self.put(text);
    }
}
