//! `docs/units.md` holds the table of directives, made of the code, so that it can be read without it. This test fails
//! when it is not what the code says; `UPDATE=1 cargo test -p svcmgr --test directives` writes it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use svcmgr::unit::directive::{REGION, markdown};

#[test]
fn the_table_in_the_documentation_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/units.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let [begin, end] = REGION;
    let (before, rest) = text.split_once(begin).expect("docs/units.md has lost the mark where the table begins");
    let (there, after) = rest.split_once(end).expect("docs/units.md has lost the mark where the table ends");
    let made = markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
    } else {
        assert!(there == made, "docs/units.md is stale: UPDATE=1 cargo test -p svcmgr --test directives");
    }
}
