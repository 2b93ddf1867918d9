//! The words of a statement that SQLite keeps of a schema: enough to tell what a trigger writes
//! to and what a virtual table is made of, without a grammar.
//!
//! What SQLite stores has been accepted by its parser, so names, texts and comments are well
//! formed. Anything else only yields words that match nothing.

use std::iter::Peekable;
use std::str::CharIndices;

/// A piece of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, a bare name or a number.
    Word(String),
    /// A name in double quotes, backticks or brackets, or a text in single quotes, without them.
    Quoted(String),
    /// Anything else.
    Sign(char),
}

impl Token {
    /// Whether it is this keyword, in any case of letters.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }

    /// The name that it stands for, when it can be one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            Self::Sign(_) => None,
        }
    }
}

/// The tokens of `sql` in order, without white space and comments.
pub(super) fn tokens(sql: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut letters = sql.char_indices().peekable();
    while let Some((_, letter)) = letters.next() {
        let next = letters.peek().map(|(_, letter)| *letter);
        match letter {
            '\'' | '"' | '`' => found.push(Token::Quoted(quoted(&mut letters, letter, true))),
            '[' => found.push(Token::Quoted(quoted(&mut letters, ']', false))),
            '-' if next == Some('-') => {
                letters.by_ref().find(|(_, letter)| *letter == '\n');
            }
            '/' if next == Some('*') => {
                letters.next();
                let mut star = false;
                for (_, letter) in letters.by_ref() {
                    if star && letter == '/' {
                        break;
                    }
                    star = letter == '*';
                }
            }
            _ if letter.is_ascii_whitespace() => {}
            _ if of_a_word(letter) => {
                let mut word = String::from(letter);
                while let Some((_, letter)) = letters.next_if(|(_, letter)| of_a_word(*letter)) {
                    word.push(letter);
                }
                found.push(Token::Word(word));
            }
            sign => found.push(Token::Sign(sign)),
        }
    }
    found
}

fn of_a_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '$' || !letter.is_ascii()
}

/// What stands before the closing quote; a doubled one stands for itself where that is allowed.
fn quoted(letters: &mut Peekable<CharIndices<'_>>, close: char, doubles: bool) -> String {
    let mut inside = String::new();
    while let Some((_, letter)) = letters.next() {
        if letter == close
            && !(doubles && letters.next_if(|(_, letter)| *letter == close).is_some())
        {
            break;
        }
        inside.push(letter);
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_texts_and_comments_are_told_apart() {
        let found = tokens("a\"b\"\"c\" -- ; \n'it''s' /* end */ [x y]`z`;é=1");
        let quoted = |text: &str| Token::Quoted(text.to_owned());
        let word = |text: &str| Token::Word(text.to_owned());
        assert_eq!(
            found,
            [
                word("a"),
                quoted("b\"c"),
                quoted("it's"),
                quoted("x y"),
                quoted("z"),
                Token::Sign(';'),
                word("é"),
                Token::Sign('='),
                word("1")
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_brings_it_down(sql in "[a-z'\"`\\[\\]/*\\- \n;é]{0,60}") {
            prop_assert!(tokens(&sql).len() <= sql.len());
        }
    }
}
