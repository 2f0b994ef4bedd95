//! The XML data of a WIM: names and descriptions of its images. UTF-16LE, covered by no hash, and needed only to choose
//! an image by name or to show them; so what cannot be read in it is left out, and nothing fails.

use std::collections::BTreeMap;

use crate::name::from_utf16le;

/// The XML data is read into memory whole; what is larger is left out. A Windows image has some ten KiB of it.
pub(crate) const MAX_XML: u64 = 1 << 20;
/// Bytes of the longest entity with its semicolon, `#x10FFFF;`, and some leading zeros.
const MAX_ENTITY: usize = 12;
/// Elements inside elements; a WIM has four levels.
const MAX_DEPTH: usize = 64;

/// What the XML data says about one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Number of the image, from 1.
    pub index: u32,
    /// Its name; empty where it has none.
    pub name: String,
    /// Its description; empty where it has none.
    pub description: String,
    /// Bytes of its contents, those of a file with several names counted once, as far as the writer is to be believed.
    pub claimed_bytes: Option<u64>,
}

/// What is known of the images, by index.
pub(crate) fn parse(bytes: &[u8]) -> BTreeMap<u32, ImageInfo> {
    let text = String::from_utf8_lossy(&from_utf16le(bytes)).into_owned();
    let mut images: BTreeMap<u32, ImageInfo> = BTreeMap::new();
    // By how much the total counts hard links twice.
    let mut hard_links: BTreeMap<u32, u64> = BTreeMap::new();
    let mut open: Vec<&str> = Vec::new();
    let mut index = 0;
    let mut rest = text.as_str();
    while let Some((content, after)) = rest.split_once('<') {
        match open.as_slice() {
            ["WIM", "IMAGE", "NAME"] => images.entry(index).or_default().name.push_str(&unescape(content)),
            ["WIM", "IMAGE", "DESCRIPTION"] => {
                images.entry(index).or_default().description.push_str(&unescape(content));
            }
            ["WIM", "IMAGE", "TOTALBYTES"] => {
                images.entry(index).or_default().claimed_bytes = content.trim().parse().ok();
            }
            ["WIM", "IMAGE", "HARDLINKBYTES"] => {
                hard_links.insert(index, content.trim().parse::<u64>().unwrap_or(0));
            }
            _ => {}
        }
        let Some((tag, next)) = after.split_once('>') else { break };
        rest = next;
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if tag.starts_with('/') {
            open.pop();
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let name = tag.split_whitespace().next().unwrap_or_default();
        if open == ["WIM"] && name == "IMAGE" {
            index = attribute(tag, "INDEX").and_then(|value| value.parse().ok()).unwrap_or(0);
            images.insert(index, ImageInfo { index, ..ImageInfo::default() });
        }
        if !empty {
            if open.len() == MAX_DEPTH {
                break;
            }
            open.push(name);
        }
    }
    images.remove(&0);
    for (index, image) in &mut images {
        let twice = hard_links.get(index).copied().unwrap_or(0);
        image.claimed_bytes = image.claimed_bytes.map(|bytes| bytes.saturating_sub(twice));
    }
    images
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let value = tag.split_once(name)?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value.split(quote).nth(1)
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        out.push_str(before);
        // No further: a text of nothing but ampersands would be looked through once for each.
        let semicolon = entity.bytes().take(MAX_ENTITY).position(|b| b == b';');
        let parts = semicolon.and_then(|at| Some((entity.get(..at)?, entity.get(at..)?.strip_prefix(';')?)));
        let Some((name, after)) = parts else {
            out.push('&');
            rest = entity;
            continue;
        };
        let number = name
            .strip_prefix("#x")
            .map(|hex| u32::from_str_radix(hex, 16))
            .or_else(|| name.strip_prefix('#').map(str::parse))
            .and_then(Result::ok)
            .and_then(char::from_u32);
        let known = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number,
        };
        if let Some(c) = known {
            out.push(c);
            rest = after;
        } else {
            out.push('&');
            rest = entity;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Vec<(u32, String, String)> {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        parse(&bytes).into_values().map(|i| (i.index, i.name, i.description)).collect()
    }

    #[test]
    fn names_of_images_and_nothing_else_are_taken() {
        let text = "\u{feff}<WIM><TOTALBYTES>9</TOTALBYTES><IMAGE INDEX=\"1\"><NAME>a &amp; &#x62;</NAME>\
                    <WINDOWS><NAME>inner</NAME></WINDOWS></IMAGE>\
                    <IMAGE INDEX='2'><NAME/><DESCRIPTION>second</DESCRIPTION></IMAGE></WIM>";
        assert_eq!(parsed(text), [(1, "a & b".into(), String::new()), (2, String::new(), "second".into())]);
    }

    #[test]
    fn hard_links_are_taken_off_the_bytes_that_an_image_claims() {
        let text = "<WIM><TOTALBYTES>9</TOTALBYTES><IMAGE INDEX=\"1\"><TOTALBYTES>100</TOTALBYTES>\
                    <HARDLINKBYTES>30</HARDLINKBYTES></IMAGE><IMAGE INDEX=\"2\"><HARDLINKBYTES>5</HARDLINKBYTES></IMAGE>\
                    <IMAGE INDEX=\"3\"><TOTALBYTES>7</TOTALBYTES></IMAGE></WIM>";
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let claims: Vec<_> = parse(&bytes).into_values().map(|image| image.claimed_bytes).collect();
        assert_eq!(claims, [Some(70), None, Some(7)]);
    }

    #[test]
    fn an_unknown_entity_stays_as_it_is() {
        assert_eq!(unescape("a&nbsp;b & c&lt;&#xffffffff;"), "a&nbsp;b & c<&#xffffffff;");
    }

    #[test]
    fn an_entity_ends_within_its_length() {
        assert_eq!(unescape("&#x0010ffff;&lt"), "\u{10ffff}&lt");
        assert_eq!(unescape("&\u{1f600}\u{1f600}\u{1f600};"), "&\u{1f600}\u{1f600}\u{1f600};");
        assert_eq!(unescape("&#x00000000061;"), "&#x00000000061;");
    }

    /// With a search to the end for each ampersand this takes minutes.
    #[test]
    fn a_text_of_ampersands_is_read_in_one_pass() {
        let text = "&".repeat(usize::try_from(MAX_XML).unwrap());
        let begun = std::time::Instant::now();
        assert_eq!(unescape(&text), text);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn rubbish_gives_nothing_and_ends(text in "(<|>|/|&|;|WIM|IMAGE| INDEX=|\"1\"|NAME|x){0,60}") {
            parsed(&text);
        }
    }
}
