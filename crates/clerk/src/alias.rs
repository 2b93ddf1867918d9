//! Names under which the journal finds a user again. Normalised, so that two spellings of one
//! identifier are one name, and two users who claim it are noticed.

/// The alias of an e-mail address; Clerk compares them without regard to case.
pub fn email(address: &str) -> String {
    format!("email:{}", address.trim().to_lowercase())
}

/// The alias of a phone number.
pub fn phone(number: &str) -> String {
    format!("phone:{}", number.trim())
}

/// The alias of a username.
pub fn username(username: &str) -> String {
    format!("username:{}", username.to_lowercase())
}

/// The alias of a wallet; checksummed and plain spellings of an address are one.
pub fn wallet(wallet: &str) -> String {
    format!("wallet:{}", wallet.to_lowercase())
}

/// The alias of a source's own external id.
pub fn external_id(external_id: &str) -> String {
    format!("external:{external_id}")
}
