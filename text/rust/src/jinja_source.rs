//! What a template's source needs before and after minijinja has compiled it, to be Jinja's.

use minijinja::machinery::{get_compiled_template, tokenize, Instruction, Instructions, Token};
use minijinja::machinery::{Span, WhitespaceConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind};

/// `{% generation %}` marks for training which text the assistant wrote; rendering ignores it.
pub fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(end) = rest.find("%}").map(|end| end + 2) else {
            break;
        };
        let tag = &rest[..end];
        let word = tag[2..end - 2].trim_matches(|c: char| c.is_whitespace() || "-+".contains(c));
        match word {
            "generation" => out.push_str(&tag.replacen(word, "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen(word, "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// `'a %s' % x` becomes `'a %s' |format(x)`: minijinja's `%` is for numbers.
pub fn with_percent_as_format(source: &str) -> String {
    let lexed = tokenize(
        source,
        false,
        SyntaxConfig::default(),
        WhitespaceConfig::default(),
    );
    let Ok(tokens) = lexed.collect::<Result<Vec<_>, _>>() else {
        return source.to_owned(); // Told when it is compiled.
    };
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut at = 0;
    while at + 2 < tokens.len() {
        let is_text = matches!(tokens[at].0, Token::Str(_) | Token::String(_));
        at += 1;
        if !is_text || !matches!(tokens[at].0, Token::Mod) {
            continue;
        }
        let Some(end) = operand_end(&tokens, at + 1) else {
            continue;
        };
        let (mut first, mut last) = (at + 1, end - 1);
        if is_tuple(&tokens[..end], first) {
            (first, last) = (first + 1, last - 1);
        }
        out.push_str(&source[copied..tokens[at].1.start_offset as usize]);
        out.push_str("|format(");
        let values = tokens[first].1.start_offset as usize..tokens[last].1.end_offset as usize;
        out.push_str(&source[values]);
        out.push(')');
        copied = tokens[end - 1].1.end_offset as usize;
        at = end;
    }
    out.push_str(&source[copied..]);
    out
}

type Lexed<'a> = (Token<'a>, Span);

/// Past the operand that begins at `at`: a name, number, text or bracket and what is applied to it.
fn operand_end(tokens: &[Lexed], mut at: usize) -> Option<usize> {
    if matches!(tokens.get(at)?.0, Token::Minus | Token::Plus) {
        at += 1;
    }
    match tokens.get(at)?.0 {
        Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => at = closing(tokens, at)?,
        Token::Ident(_) | Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Float(_) => {
            at += 1
        }
        _ => return None,
    }
    while let Some((token, _)) = tokens.get(at) {
        match token {
            Token::Dot | Token::Pipe => at += 2,
            Token::ParenOpen | Token::BracketOpen => at = closing(tokens, at)?,
            _ => break,
        }
    }
    (at <= tokens.len()).then_some(at)
}

/// Past the bracket that closes the one at `at`.
fn closing(tokens: &[Lexed], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, (token, _)) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i + 1);
        }
    }
    None
}

/// `(a, b)` and nothing behind it, up to the end of `tokens`.
fn is_tuple(tokens: &[Lexed], first: usize) -> bool {
    if !matches!(tokens[first].0, Token::ParenOpen) || closing(tokens, first) != Some(tokens.len())
    {
        return false;
    }
    let mut at = first + 1;
    while at + 1 < tokens.len() {
        at = match tokens[at].0 {
            Token::Comma => return true,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                closing(tokens, at).unwrap_or(tokens.len())
            }
            _ => at + 1,
        };
    }
    false
}

/// Filters and tests that nobody knows are an error of the template, as in Jinja, not of the first
/// request that comes by them.
pub fn check_names(environment: &Environment, name: &str) -> Result<(), Error> {
    let template = environment.get_template(name)?;
    let compiled = get_compiled_template(&template);
    check_instructions(environment, &compiled.instructions)?;
    for block in compiled.blocks.values() {
        check_instructions(environment, block)?;
    }
    Ok(())
}

fn check_instructions(environment: &Environment, code: &Instructions) -> Result<(), Error> {
    let state = environment.empty_state();
    for index in 0..code.len() as u32 {
        let (what, found) = match code.get(index) {
            Some(Instruction::ApplyFilter(name, ..)) => (
                format!("filter \"{name}\""),
                state.apply_filter(name, &[]).map(|_| ()),
            ),
            Some(Instruction::PerformTest(name, ..)) => (
                format!("test \"{name}\""),
                state.perform_test(name, &[]).map(|_| ()),
            ),
            _ => continue,
        };
        let Err(error) = found else { continue };
        if matches!(
            error.kind(),
            ErrorKind::UnknownFilter | ErrorKind::UnknownTest
        ) {
            let line = code.get_line(index).unwrap_or(0);
            return Err(Error::new(
                error.kind(),
                format!("there is no {what} (line {line})"),
            ));
        }
    }
    Ok(())
}
