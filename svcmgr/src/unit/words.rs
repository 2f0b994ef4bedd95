//! Splits a value into words: quotes and C escapes as in systemd.syntax(7), "Quoting". Used for commands,
//! environment assignments and lists.

/// A word, and whether any of it was quoted or escaped, which decides if `;` or `$X` have their special meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its text, without quotes, escapes resolved.
    pub text: String,
    /// Something in it was quoted or escaped.
    pub quoted: bool,
}

/// Why a value cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote without its partner.
    #[error("a {0} quote is never closed")]
    OpenQuote(char),
    /// A backslash before something that is not an escape.
    #[error("unknown escape \\{0}; write \\\\ for a backslash")]
    UnknownEscape(char),
    /// A value that ends within an escape.
    #[error("the value ends within an escape sequence")]
    OpenEscape,
    /// A numeric escape that is no character.
    #[error("escape \\{0} is not a character that may stand in a text")]
    BadNumber(String),
    /// Escapes that together are not UTF-8.
    #[error("the escapes in {0:?} do not make UTF-8")]
    NotUtf8(String),
}

/// Splits at white space that is neither quoted nor escaped.
pub fn split(value: &str) -> Result<Vec<Word>, WordError> {
    let mut words = Vec::new();
    let mut chars = value.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        words.push(one_word(&mut chars)?);
    }
}

/// `value` with its C escapes resolved, and nothing else: quotes and white space stay.
pub fn unescaped(value: &str) -> Result<String, WordError> {
    let mut text = Vec::new();
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, &mut text)?,
            c => push(&mut text, c),
        }
    }
    String::from_utf8(text).map_err(|error| WordError::NotUtf8(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The words of a variable's value: quotes hold a word together and are taken away, and of a backslash and what is behind
/// it the latter stays. Nothing is an error: a quote that is open at the end is closed there (systemd.service(5), "Command
/// Lines").
pub fn of_variable(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn one_word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Word, WordError> {
    let mut text: Vec<u8> = Vec::new();
    let mut quoted = false;
    let mut quote: Option<char> = None;
    while let Some(c) = chars.next_if(|c| quote.is_some() || !c.is_whitespace()) {
        match (c, quote) {
            ('\\', _) => {
                quoted = true;
                escape(chars, &mut text)?;
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quoted = true;
                quote = Some(c);
            }
            (c, _) => push(&mut text, c),
        }
    }
    if let Some(open) = quote {
        return Err(WordError::OpenQuote(open));
    }
    let text = String::from_utf8(text)
        .map_err(|error| WordError::NotUtf8(String::from_utf8_lossy(error.as_bytes()).into_owned()))?;
    Ok(Word { text, quoted })
}

fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, text: &mut Vec<u8>) -> Result<(), WordError> {
    let kind = chars.next().ok_or(WordError::OpenEscape)?;
    let byte = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        's' => b' ',
        '\\' => b'\\',
        '"' => b'"',
        '\'' => b'\'',
        ';' => b';',
        'x' => number(chars, "x", 2, 16)?.1,
        '0'..='7' => number(chars, &kind.to_string(), 2, 8)?.1,
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let (name, code) = digits_of(chars, &kind.to_string(), digits, 16)?;
            match char::from_u32(code) {
                Some(c) if c != '\0' => push(text, c),
                _ => return Err(WordError::BadNumber(name)),
            }
            return Ok(());
        }
        other => return Err(WordError::UnknownEscape(other)),
    };
    text.push(byte);
    Ok(())
}

/// A byte of `digits` more digits; NUL cannot stand in an argument.
fn number(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    begun: &str,
    digits: usize,
    radix: u32,
) -> Result<(String, u8), WordError> {
    let (name, code) = digits_of(chars, begun, digits, radix)?;
    match u8::try_from(code) {
        Ok(byte) if byte != 0 => Ok((name, byte)),
        _ => Err(WordError::BadNumber(name)),
    }
}

fn digits_of(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    begun: &str,
    digits: usize,
    radix: u32,
) -> Result<(String, u32), WordError> {
    let mut name = begun.to_owned();
    for _ in 0..digits {
        let digit = chars.next_if(|c| c.is_digit(radix)).ok_or_else(|| WordError::BadNumber(name.clone()))?;
        name.push(digit);
    }
    let digits = if radix == 16 { name.get(1..).unwrap_or("") } else { name.as_str() };
    let code = u32::from_str_radix(digits, radix).map_err(|_| WordError::BadNumber(name.clone()))?;
    Ok((name, code))
}

fn push(text: &mut Vec<u8>, c: char) {
    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(value: &str) -> Vec<String> {
        split(value).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_and_escapes_are_those_of_systemd_syntax() {
        assert_eq!(texts(r#"a  "b c" 'd "e"' f\sg"#), ["a", "b c", "d \"e\"", "f g"]);
        assert_eq!(texts(r#""A=1 2" B=x"y z""#), ["A=1 2", "B=xy z"]);
        assert_eq!(texts(r"\x41\102\u00e9\U0001F600 \t\\"), ["ABé😀", "\t\\"]);
        assert_eq!(texts(r"\xc3\xa9"), ["é"]);
        assert_eq!(texts(r#"'' """#), ["", ""]);
        assert_eq!(texts("  "), Vec::<String>::new());
        assert_eq!(unescaped(r#"a\tb "c""#).unwrap(), "a\tb \"c\"");
    }

    #[test]
    fn a_variable_holds_words_and_quotes_hold_them_together() {
        assert_eq!(of_variable(r#" -a 'x  y' --b="c d"e "" \'f g\ h"#), ["-a", "x  y", "--b=c de", "", "'f", "g h"]);
        assert_eq!(of_variable("a 'b c"), ["a", "b c"]);
        assert_eq!(of_variable(" \t"), Vec::<String>::new());
    }

    #[test]
    fn a_separator_can_be_told_from_an_escaped_one() {
        let words = split(r"a ; \;").unwrap();
        assert_eq!(
            words.iter().map(|w| (w.text.as_str(), w.quoted)).collect::<Vec<_>>(),
            [("a", false), (";", false), (";", true)]
        );
    }

    #[test]
    fn what_cannot_be_split_says_why() {
        assert_eq!(split("'a"), Err(WordError::OpenQuote('\'')));
        assert_eq!(split(r"a\d"), Err(WordError::UnknownEscape('d')));
        assert_eq!(split(r"a\"), Err(WordError::OpenEscape));
        assert_eq!(split(r"\x0"), Err(WordError::BadNumber("x0".into())));
        assert_eq!(split(r"\x00"), Err(WordError::BadNumber("x00".into())));
        assert_eq!(split(r"\777"), Err(WordError::BadNumber("777".into())));
        assert!(matches!(split(r"\xff"), Err(WordError::NotUtf8(_))));
    }

    proptest! {
        #[test]
        fn a_quoted_word_comes_back_whole(text in "[^\"\\\\\0]{0,40}") {
            let split = split(&format!("\"{text}\"")).unwrap();
            prop_assert_eq!(split, [Word { text, quoted: true }]);
        }

        #[test]
        fn any_value_is_split_or_refused(text in any::<String>()) {
            let _ = split(&text);
        }
    }
}
