//! The table as text: a line for every variant, kernel and problem, and how two tables differ.

use std::collections::{BTreeMap, BTreeSet};

/// Variant, kernel, problem.
pub type Key = [String; 3];

/// What a kernel costs, by the name of what is counted. Less is better in all of them, and what is missing is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures(pub Vec<(String, u64)>);

impl Figures {
    fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(own, _)| own == name).map_or(0, |(_, figure)| *figure)
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The compiler that made the kernels, as it calls itself.
    pub compiler: String,
    pub lines: BTreeMap<Key, Figures>,
}

const COMPILER: &str = "# Compiler: ";

impl Table {
    /// The table of a text; `None` where a line is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                table.compiler = compiler.to_owned();
            }
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let mut words = line.split(' ');
            let key = [words.next()?, words.next()?, words.next()?].map(str::to_owned);
            let figure = |word: &str| {
                let (name, figure) = word.split_once('=')?;
                Some((name.to_owned(), figure.parse().ok()?))
            };
            let figures = words.map(figure).collect::<Option<_>>()?;
            if table.lines.insert(key, Figures(figures)).is_some() {
                return None;
            }
        }
        Some(table)
    }

    /// The text of the table.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# What every kernel costs on the virtual machine: variant, kernel, problem of tests/counted/guard, then\n\
             # launches, thread and warp instructions, tensor-core operations, passes over the banks of shared memory and\n\
             # conflicts among them, waits at barriers, registers of a thread, bytes of static shared memory, bytes spilled,\n\
             # and the sectors of 32 bytes read and written of each operand. `scripts/counters` writes it.\n\
             {COMPILER}{}\n",
            self.compiler
        );
        for (key, Figures(figures)) in &self.lines {
            text += &key.join(" ");
            figures.iter().for_each(|(name, figure)| text += &format!(" {name}={figure}"));
            text.push('\n');
        }
        text
    }

    /// Every difference to what was found now, one a line: what got worse first.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let (mut worse, mut better, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let keys: BTreeSet<&Key> = self.lines.keys().chain(found.lines.keys()).collect();
        for key in keys {
            let name = key.join(" ");
            match (self.lines.get(key), found.lines.get(key)) {
                (Some(before), Some(now)) => {
                    for (worsened, change) in changes(before, now) {
                        let (list, word) = if worsened { (&mut worse, "worse") } else { (&mut better, "better") };
                        list.push(format!("{word:<6} {name}: {change}"));
                    }
                }
                (Some(_), None) => lines.push(format!("gone   {name}: in the table, and no problem launches it")),
                (None, _) => lines.push(format!("new    {name}: not in the table")),
            }
        }
        [worse, better, lines].concat()
    }

    /// Keys that only one of the two has.
    pub fn incomplete(&self, found: &Self) -> Vec<String> {
        let keys = |table: &Self| table.lines.keys().map(|key| (key.clone(), Figures::default())).collect();
        let bare = |table: &Self| Self { compiler: String::new(), lines: keys(table) };
        bare(self).differences(&bare(found))
    }
}

/// What differs between two lines, and whether it is more now.
fn changes(before: &Figures, now: &Figures) -> Vec<(bool, String)> {
    let mut names: Vec<&String> = now.0.iter().map(|(name, _)| name).collect();
    names.extend(before.0.iter().map(|(name, _)| name).filter(|name| now.0.iter().all(|(own, _)| own != *name)));
    let change = |name: &String| {
        let (before, now) = (before.get(name), now.get(name));
        let by = if before == 0 {
            format!("{:+}", i128::from(now) - i128::from(before))
        } else {
            format!("{:+.2} %", 100.0 * (now as f64 / before as f64 - 1.0))
        };
        (before != now).then(|| (now > before, format!("{name} {before} → {now} ({by})")))
    };
    names.into_iter().filter_map(change).collect()
}

mod tests {
    use super::*;

    fn table(lines: &[&str]) -> Table {
        Table::parse(&format!("# Compiler: of old\n{}\n", lines.join("\n"))).unwrap()
    }

    #[test]
    fn a_table_is_read_as_it_is_written() {
        let table = table(&["norms.f32 norm_rows 8x8 threads=12 w.read=3", "a.f16 b c"]);
        assert_eq!(table.compiler, "of old");
        assert_eq!(table.lines.len(), 2);
        assert_eq!(Table::parse(&table.text()), Some(table.clone()));
        assert!(table.text().ends_with("a.f16 b c\nnorms.f32 norm_rows 8x8 threads=12 w.read=3\n"), "in order");
        for bad in ["a b", "a b c d", "a b c d=", "a b c d=-1", "a b c d=1\na b c d=1"] {
            assert_eq!(Table::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn equal_tables_differ_in_nothing() {
        let table = table(&["a b c threads=1 w.read=0"]);
        assert!(table.differences(&table).is_empty());
        // What is missing is zero.
        assert!(table.differences(&self::table(&["a b c threads=1"])).is_empty());
    }

    #[test]
    fn differences_say_which_way_and_by_how_much() {
        let before = table(&["a b c threads=200 waits=0 w.read=8 x.read=4", "a gone c"]);
        let now = table(&["a b c threads=150 waits=3 w.read=9 y.written=2", "a new c threads=1"]);
        let expected = [
            "worse  a b c: waits 0 → 3 (+3)",
            "worse  a b c: w.read 8 → 9 (+12.50 %)",
            "worse  a b c: y.written 0 → 2 (+2)",
            "better a b c: threads 200 → 150 (-25.00 %)",
            "better a b c: x.read 4 → 0 (-100.00 %)",
            "gone   a gone c: in the table, and no problem launches it",
            "new    a new c: not in the table",
        ];
        assert_eq!(before.differences(&now), expected);
        assert_eq!(before.incomplete(&now), expected[5..]);
    }
}
