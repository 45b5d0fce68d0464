//! The little language of a row's pattern.

/// A parsed pattern: see the module's documentation.
pub(crate) struct Pattern {
    /// The text before the first modifier.
    pub opcode: &'static str,
    groups: Vec<Group>,
}

struct Group {
    choices: Vec<&'static str>,
    optional: bool,
}

impl Pattern {
    /// Parses a pattern. Rows are our own text: a malformed one is a bug, found by the table's own test.
    pub fn new(text: &'static str) -> Pattern {
        let end = text.find(['.', '{']).unwrap_or(text.len());
        let (opcode, mut rest) = text.split_at(end);
        let mut groups = Vec::new();
        while !rest.is_empty() {
            let (choices, after) = match rest.strip_prefix('{') {
                Some(inner) => {
                    let close = inner.find('}').expect("a group is closed");
                    (inner[..close].split('|').collect(), &inner[close + 1..])
                }
                None => {
                    let next = rest[1..].find(['.', '{']).map_or(rest.len(), |i| i + 1);
                    (vec![&rest[..next]], &rest[next..])
                }
            };
            let optional = after.starts_with('?');
            rest = if optional { &after[1..] } else { after };
            groups.push(Group { choices, optional });
        }
        Pattern { opcode, groups }
    }

    /// The modifiers, if `written` (".rn.f32") fits the pattern from start to end.
    pub fn matches<'a>(&self, written: &'a str) -> Option<Vec<&'a str>> {
        let mut found = Vec::new();
        Self::fit(&self.groups, written, &mut found).then_some(found)
    }

    fn fit<'a>(groups: &[Group], written: &'a str, found: &mut Vec<&'a str>) -> bool {
        let Some((group, later)) = groups.split_first() else { return written.is_empty() };
        for choice in &group.choices {
            let whole = written.strip_prefix(choice).filter(|rest| rest.is_empty() || rest.starts_with('.'));
            if let Some(rest) = whole {
                found.push(&written[..choice.len()]);
                if Self::fit(later, rest, found) {
                    return true;
                }
                found.pop();
            }
        }
        group.optional && Self::fit(later, written, found)
    }

    /// Every spelling that fits.
    pub fn spellings(&self) -> Vec<String> {
        let mut all = vec![self.opcode.to_owned()];
        for group in &self.groups {
            let mut longer = Vec::new();
            for stem in &all {
                if group.optional {
                    longer.push(stem.clone());
                }
                longer.extend(group.choices.iter().map(|choice| format!("{stem}{choice}")));
            }
            all = longer;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn groups_choices_and_options() {
        let pattern = Pattern::new("add{.rn|.rz}?{.ftz}?.f32");
        assert_eq!(pattern.opcode, "add");
        assert_eq!(pattern.matches(".rn.ftz.f32"), Some(vec![".rn", ".ftz", ".f32"]));
        assert_eq!(pattern.matches(".f32"), Some(vec![".f32"]));
        assert_eq!(pattern.matches(".ftz.rn.f32"), None);
        assert_eq!(pattern.matches(".f32x2"), None);
        assert_eq!(pattern.matches(""), None);
        assert_eq!(pattern.spellings().len(), 6);
    }

    #[test]
    fn an_optional_group_gives_way_when_the_rest_needs_its_text() {
        let pattern = Pattern::new("cvt{.f32}?{.f32|.f16}.f32");
        assert_eq!(pattern.matches(".f16.f32"), Some(vec![".f16", ".f32"]));
        assert_eq!(pattern.matches(".f32.f32"), Some(vec![".f32", ".f32"]));
    }
}
