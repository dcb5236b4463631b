//! The core's errors as the Ruby classes of lib/promring/errors.rb, chosen by their stable codes.

use magnus::{Error, ExceptionClass, Module, RModule, Ruby};

/// What Ruby raises for an error of the core.
pub fn raised(ruby: &Ruby, error: &promring::error::Error) -> Error {
    let name = match error.code() {
        "label_count" => "InvalidLabelSetError",
        "label_name" => "InvalidLabelError",
        "reserved_label" => "ReservedLabelError",
        "family_conflict" => "AlreadyRegisteredError",
        "metric_name" | "buckets" | "setting" | "wrong_type" => {
            return Error::new(ruby.exception_arg_error(), error.to_string());
        }
        _ => "Error",
    };
    match class(ruby, name) {
        Ok(class) => Error::new(class, error.to_string()),
        Err(error) => error,
    }
}

fn class(ruby: &Ruby, name: &str) -> Result<ExceptionClass, Error> {
    let promring: RModule = ruby.class_object().const_get("Promring")?;
    promring.const_get(name)
}
