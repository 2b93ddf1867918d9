//! Words that look like ids, out of any bytes.

/// Everything in these bytes that begins so and goes on with letters and digits.
pub(super) fn tokens(bytes: &[u8], prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let Some(start) = rest.windows(prefix.len().max(1)).position(|w| w == prefix.as_bytes())
        else {
            break;
        };
        let body = rest.get(start + prefix.len()..).unwrap_or_default();
        let length = body.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let end = start + prefix.len() + length;
        if length > 0
            && let Some(token) = rest.get(start..end)
        {
            found.push(String::from_utf8_lossy(token).into_owned());
        }
        at += end.max(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_wherever_they_stand() {
        let text = b"{\"a\":\"user_1A\",\"b\":[\"user_2\"]} xuser_3- user_ \xffuser_4";
        assert_eq!(tokens(text, "user_"), ["user_1A", "user_2", "user_3", "user_4"]);
        assert!(tokens(b"use", "user_").is_empty());
    }
}
