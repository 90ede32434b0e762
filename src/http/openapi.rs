//! The API's description, made from the handlers themselves.

use super::groups;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "GoTel",
        description = "A dead-man's switch for scheduled jobs. 2xx means stored; every other answer is \
                       `{\"success\":false,\"message\":…}` with an honest status code.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "check-ins", description = "A job says that it ran. Token scope: `checkin`."),
        (name = "reservations", description = "What is expected of a job. Token scopes: `reserve` to change, `read` to see."),
        (name = "health", description = "GoTel itself.")
    )
)]
struct Head;

/// The OpenAPI document, as pretty JSON with a line break at its end.
pub fn document() -> String {
    let mut api = Head::openapi();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components.get_or_insert_default().add_security_scheme("token", bearer);
    for (scope, group) in groups() {
        let mut part = group.into_openapi();
        if scope.is_some() {
            for item in part.paths.paths.values_mut() {
                let operations = [&mut item.get, &mut item.head, &mut item.post];
                for operation in operations.into_iter().flatten() {
                    let wanted = SecurityRequirement::new::<_, [&str; 0], &str>("token", []);
                    operation.security.get_or_insert_default().push(wanted);
                }
            }
        }
        api.merge(part);
    }
    name_apart(&mut api);
    // A value that holds only strings, numbers, lists and maps always serializes.
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Gives the operations of one handler that serves several methods names of their own.
fn name_apart(api: &mut utoipa::openapi::OpenApi) {
    for item in api.paths.paths.values_mut() {
        let operations = [("get", &mut item.get), ("head", &mut item.head), ("post", &mut item.post)];
        let mut present: Vec<_> =
            operations.into_iter().filter_map(|(method, o)| Some((method, o.as_mut()?))).collect();
        let shared =
            |id: &Option<String>, all: &[Option<String>]| all.iter().filter(|o| *o == id).count() > 1;
        let ids: Vec<_> = present.iter().map(|(_, o)| o.operation_id.clone()).collect();
        for (method, operation) in &mut present {
            if shared(&operation.operation_id, &ids)
                && let Some(id) = &mut operation.operation_id
            {
                *id = format!("{id}_{method}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let items = document["paths"].as_object().unwrap().values();
        let ids: Vec<_> = items
            .flat_map(|item| item.as_object().unwrap().values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), unique.len(), "{ids:?}");
        assert!(ids.contains(&"checkin_ok_head") && ids.contains(&"reserve"));
    }
}
