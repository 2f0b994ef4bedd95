//! The table of directives for people: `docs/units.md` holds what [`markdown`] gives, and a test compares.

use std::fmt::Write;

use super::{Directive, Support, pages};

/// What stands before and after the table in `docs/units.md`.
pub const REGION: [&str; 2] = [
    "<!-- made of the code: UPDATE=1 cargo test -p svcmgr --test directives -->\n",
    "<!-- end of what is made of the code -->\n",
];

/// The whole table in Markdown: a part for each section and man page.
pub fn markdown() -> String {
    let mut text = String::new();
    for page in pages() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n### [{}]: {}\n| directive | |\n|---|---|\n", page.section.name(), page.source);
        // Neighbours of which the same is said share a row.
        for rows in page.rows.chunk_by(|a, b| said(a) == said(b)) {
            let names: Vec<String> = rows.iter().map(|row| format!("`{}`", row.name)).collect();
            let _ = writeln!(text, "| {} | {} |", names.join(", "), rows.first().map_or_else(String::new, said));
        }
    }
    text.push('\n');
    text
}

fn said(row: &Directive) -> String {
    match row.support {
        Support::Yes(_) => "supported".to_owned(),
        Support::Partly(_, why) => format!("supported in part, warned about: {why}"),
        Support::Implied(why) => format!("ignored, nothing is lost: {why}"),
        Support::Ignored(why) => format!("ignored, warned about: {why}"),
        Support::Refused(why) => format!("**refused**: {why}"),
    }
}
