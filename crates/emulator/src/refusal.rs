//! Clerk's refusals: status, code and messages as its documentation lists
//! them (`data/api_errors.json` of clerk/clerk-docs), in the body
//! `{errors: [{message, long_message, code, meta}], clerk_trace_id}`.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use serde_json::{Value, json};

/// One or several errors that are answered together under one status.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) errors: Vec<Value>,
    pub(crate) retry_after: Option<u64>,
}

static TRACE: AtomicU64 = AtomicU64::new(1);

/// The shape of an error answer.
pub(crate) fn body(errors: &[Value]) -> Value {
    json!({
        "errors": errors,
        "clerk_trace_id": format!("{:032x}", TRACE.fetch_add(1, Ordering::Relaxed)),
    })
}

pub(crate) fn error(code: &str, message: &str, long_message: &str, meta: Value) -> Value {
    let mut error = json!({ "message": message, "long_message": long_message, "code": code });
    if !meta.is_null() {
        error["meta"] = meta;
    }
    error
}

fn param(name: &str) -> Value {
    json!({ "param_name": name })
}

/// The error object of `form_identifier_exists`, of which an answer may carry several.
pub(crate) fn taken(name: &str) -> Value {
    let spoken = name.replace('_', " ");
    let long = format!("That {spoken} is taken. Please try another.");
    error("form_identifier_exists", "already exists", &long, param(name))
}

impl Refusal {
    fn new(status: StatusCode, error: Value) -> Self {
        Self { status, errors: vec![error], retry_after: None }
    }

    fn form(code: &str, message: &str, long: &str, name: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error(code, message, long, param(name)))
    }

    /// Any code, with words of our own.
    pub(crate) fn of_code(status: StatusCode, code: &str, name: Option<&str>) -> Self {
        let meta = name.map_or(Value::Null, param);
        Self::new(status, error(code, "injected", &format!("injected: {code}"), meta))
    }

    pub(crate) fn body(&self) -> Value {
        body(&self.errors)
    }

    pub(crate) fn taken(errors: Vec<Value>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, errors, retry_after: None }
    }

    /// FormUnknownParameter, one error per name.
    pub(crate) fn unknown(names: &[&str]) -> Self {
        let errors = names
            .iter()
            .map(|name| {
                let long = format!("{name} is not a valid parameter for this request.");
                error("form_param_unknown", "is unknown", &long, param(name))
            })
            .collect();
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, errors, retry_after: None }
    }

    /// FailedToParseRequestBody: a field of the wrong JSON type.
    pub(crate) fn wrong_type(name: &str, received: &str, wanted: &str) -> Self {
        let long = format!("{name} is invalid. Received {received}, must be of type {wanted}.");
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            error("form_param_value_invalid", "is invalid", &long, Value::Null),
        )
    }

    pub(crate) fn bad_format(name: &str, long: &str) -> Self {
        Self::form("form_param_format_invalid", "is invalid", long, name)
    }

    pub(crate) fn bad_value(name: &str, value: &str) -> Self {
        let long = format!("{value} does not match one of the allowed values for parameter {name}");
        Self::form("form_param_value_invalid", "is invalid", &long, name)
    }

    pub(crate) fn bad_time(name: &str) -> Self {
        let long = format!(
            "{name} must contain a datetime specified in RFC3339 format (e.g. `2022-10-20T10:00:27.645Z`)."
        );
        Self::form("form_param_invalid_time", "invalid format", &long, name)
    }

    pub(crate) fn missing(name: &str) -> Self {
        Self::form("form_param_missing", "is missing", &format!("{name} must be included."), name)
    }

    pub(crate) fn missing_with(name: &str, other: &str) -> Self {
        let long = format!("`{name}` is required when `{other}` is present.");
        Self::form("form_conditional_param_missing", "is missing", &long, name)
    }

    pub(crate) fn not_with(name: &str, other: &str) -> Self {
        let long = format!("`{name}` isn't allowed when `{other}` is present.");
        Self::form("form_conditional_param_disallowed", "is not allowed", &long, name)
    }

    pub(crate) fn duplicate_values(name: &str) -> Self {
        let long = format!("{name} contains duplicate values");
        Self::form("form_param_duplicate", "duplicate values", &long, name)
    }

    pub(crate) fn duplicate(name: &str) -> Self {
        let long = format!("{name} included multiple times. There should only be one.");
        Self::form("form_param_duplicate", "is duplicate", &long, name)
    }

    pub(crate) fn too_many(name: &str, most: usize) -> Self {
        let long = format!("{name} should not exceed {most} items.");
        Self::form("form_param_array_size_exceeded", "exceeds maximum size", &long, name)
    }

    pub(crate) fn length_mismatch(name: &str, other: &str) -> Self {
        let long = format!("{name} must contain exactly one item for each item in {other}.");
        Self::form("form_param_array_length_mismatch", "length mismatch", &long, name)
    }

    pub(crate) fn too_long(name: &str, most: usize) -> Self {
        let long = format!("{name} should not exceed {most} characters.");
        Self::form("form_param_max_length_exceeded", "exceeds maximum length", &long, name)
    }

    pub(crate) fn too_large(name: &str) -> Self {
        let long = format!("{name} exceeds the maximum allowed size.");
        Self::form("form_param_exceeds_allowed_size", "exceeds allowed size", &long, name)
    }

    pub(crate) fn username(code: &str, long: &str) -> Self {
        Self::form(code, "is invalid", long, "username")
    }

    pub(crate) fn password_too_short() -> Self {
        let long = "Passwords must be 8 characters or more.";
        Self::form("form_password_length_too_short", long, long, "password")
    }

    pub(crate) fn digest_invalid() -> Self {
        let long = "The password digest is not valid for the given password hasher.";
        Self::form("form_password_digest_invalid_code", "is invalid", long, "password_digest")
    }

    pub(crate) fn totp_secret_invalid() -> Self {
        let long = "The TOTP secret is invalid, please provide a valid one base32 encoded";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            error("invalid_totp_secret_code", "invalid TOTP secret", long, Value::Null),
        )
    }

    pub(crate) fn data_missing(names: &[&str]) -> Self {
        let long = format!("{names:?} data doesn't match user requirements set for this instance");
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            error("form_data_missing", "missing data", &long, json!({ "param_names": names })),
        )
    }

    pub(crate) fn resource_missing(name: &str) -> Self {
        let long = format!("The resource associated with the supplied {name} was not found.");
        Self::form("form_resource_not_found", "is missing", &long, name)
    }

    pub(crate) fn unverified(name: &str) -> Self {
        let long = "This identification needs to be verified before you can perform this action.";
        Self::form("form_verification_needed", "is unverified", long, name)
    }

    pub(crate) fn body_invalid() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            error(
                "request_body_invalid",
                "Request body invalid",
                "The request body is invalid. Please consult the API documentation for more information.",
                Value::Null,
            ),
        )
    }

    pub(crate) fn query_malformed() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            error(
                "malformed_request_parameters",
                "Malformed request parameters",
                "The request parameters are malformed and could not be parsed",
                Value::Null,
            ),
        )
    }

    pub(crate) fn content_type(actual: &str) -> Self {
        let long = format!(
            "Content-Type {actual} is unsupported. You should use application/json instead."
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            error("unsupported_content_type", "Content-Type is unsupported", &long, Value::Null),
        )
    }

    pub(crate) fn body_too_large(most: usize) -> Self {
        let long = format!("The request body exceeds the maximum allowed size of {most} bytes.");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            error("request_body_too_large", "Request body too large", &long, Value::Null),
        )
    }

    pub(crate) fn api_version(reason: &str) -> Self {
        let long = format!("Invalid Clerk API version: {reason}");
        Self::new(
            StatusCode::BAD_REQUEST,
            error("api_version_invalid", "invalid API version", &long, Value::Null),
        )
    }

    pub(crate) fn authorization_format() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            error(
                "authorization_header_format_invalid",
                "Invalid Authorization header format",
                "Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'",
                Value::Null,
            ),
        )
    }

    pub(crate) fn key_invalid() -> Self {
        let text = "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.";
        Self::new(StatusCode::UNAUTHORIZED, error("clerk_key_invalid", text, text, Value::Null))
    }

    pub(crate) fn user_not_found(id: &str) -> Self {
        let long = format!("No user was found with id {id}");
        Self::new(
            StatusCode::NOT_FOUND,
            error("resource_not_found", "not found", &long, Value::Null),
        )
    }

    pub(crate) fn identification_not_found() -> Self {
        let text = "Resource not found";
        Self::new(StatusCode::NOT_FOUND, error("resource_not_found", text, text, Value::Null))
    }

    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            error("resource_not_found", "not found", "Resource not found", Value::Null),
        )
    }

    pub(crate) fn identification_claimed() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            error(
                "identification_claimed",
                "Identification claimed by another user",
                "One or more identifiers on this sign up have since been connected to a different User. Please sign up again.",
                Value::Null,
            ),
        )
    }

    pub(crate) fn last_identification() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            error(
                "identification_deletion_failed",
                "Deletion failed",
                "You cannot delete your last identification.",
                Value::Null,
            ),
        )
    }

    pub(crate) fn linked_identification() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            error(
                "delete_linked_identification_disallowed",
                "Deleting a linked email address is not allowed",
                "This email address is linked to one or more Connected Accounts. Remove the Connected Account before deleting this email address.",
                Value::Null,
            ),
        )
    }

    pub(crate) fn plan_lacks_ban() -> Self {
        Self::new(
            StatusCode::PAYMENT_REQUIRED,
            error(
                "unsupported_subscription_plan_features",
                "Unsupported plan features",
                "Some features are not supported in your current plan. Upgrade your subscription to unlock them.",
                json!({ "unsupported_features": ["ban_user"] }),
            ),
        )
    }

    pub(crate) fn feature_off(name: Option<&str>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            error(
                "feature_not_enabled",
                "not enabled",
                "This feature is not enabled on this instance",
                name.map_or(Value::Null, param),
            ),
        )
    }

    pub(crate) fn not_allowed(identifiers: &[&str]) -> Self {
        let verb = if identifiers.len() == 1 { "is" } else { "are" };
        let long =
            format!("{} {verb} not allowed to access this application.", identifiers.join(", "));
        Self::new(
            StatusCode::FORBIDDEN,
            error(
                "not_allowed_access",
                "Access not allowed.",
                &long,
                json!({ "identifiers": identifiers }),
            ),
        )
    }

    pub(crate) fn quota(cap: u64) -> Self {
        let long = format!("You have reached your limit of {cap} users.");
        Self::new(
            StatusCode::FORBIDDEN,
            error("user_quota_exceeded", "user quota exceeded", &long, Value::Null),
        )
    }

    pub(crate) fn too_many_requests(seconds: u64) -> Self {
        let mut refusal = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            error(
                "too_many_requests",
                "Too many requests",
                "Too many requests, retry later",
                json!({ "resets_in": seconds }),
            ),
        );
        refusal.retry_after = Some(seconds);
        refusal
    }
}
