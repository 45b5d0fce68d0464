//! Reads an HTML page strictly: what a browser forgives is an error here.

/// An element's start, with its attributes, and the text up to the next tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub text: String,
}

impl Tag {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn has_class(&self, class: &str) -> bool {
        self.get("class").is_some_and(|classes| classes.split_whitespace().any(|each| each == class))
    }
}

/// All elements in order; panics where tags do not balance, attributes are not quoted, or an entity is not known.
#[track_caller]
pub fn parse(page: &str) -> Vec<Tag> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let (mut open, mut tags): (Vec<String>, Vec<Tag>) = (Vec::new(), Vec::new());
    while let Some(start) = rest.find('<') {
        text(&mut tags, &rest[..start]);
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('/') {
            let (name, after) = after.split_once('>').expect("a closed end tag");
            assert_eq!(open.pop().as_deref(), Some(name), "inside {open:?}");
            rest = after;
            continue;
        }
        let (tag, empty, after) = start_tag(rest);
        rest = after;
        let raw = ["script", "style"].contains(&tag.name.as_str());
        if raw {
            let end = rest.find(&format!("</{}>", tag.name)).expect("an end of raw text");
            rest = &rest[end..];
        }
        if !empty && !["meta", "link"].contains(&tag.name.as_str()) {
            open.push(tag.name.clone());
        }
        tags.push(tag);
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    tags
}

fn start_tag(text: &str) -> (Tag, bool, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).expect("an end of the name");
    let (name, mut rest) = text.split_at(end);
    assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "no name: {:.60}", text);
    let mut tag = Tag { name: name.to_owned(), attributes: Vec::new(), text: String::new() };
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, false, after);
        }
        if let Some(after) = rest.strip_prefix("/>") {
            return (tag, true, after);
        }
        let end = rest.find(['=', ' ', '>']).expect("an attribute's end");
        let (key, after) = rest.split_at(end);
        assert!(!key.is_empty() && key.chars().all(|c| c.is_ascii_alphabetic() || c == '-' || c == ':'), "{key:?}");
        let (value, after) = match after.strip_prefix("=\"") {
            Some(quoted) => quoted.split_once('"').expect("a closed quote"),
            None => ("", after),
        };
        assert!(tag.get(key).is_none(), "{key} twice");
        tag.attributes.push((key.to_owned(), unescaped(value)));
        rest = after;
    }
}

fn text(tags: &mut [Tag], text: &str) {
    match tags.last_mut() {
        Some(tag) => tag.text += &unescaped(text),
        None => assert!(text.trim().is_empty()),
    }
}

fn unescaped(text: &str) -> String {
    assert!(!text.contains(['<', '>']), "{text:?}");
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (entity, after) = part.split_once(';').expect("an entity's end");
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            _ => panic!("&{entity};"),
        });
        out += after;
    }
    out
}
