"""Holds a recorded tape of requests and answers against Clerk's OpenAPI document.

    openapi_judge.py TAPE SPECIFICATION [--negative]

Every line of the tape (NDJSON, written by the emulator's `record`) is judged twice: the request
(operation, names and values of query parameters, body) and the answer (status documented for the
operation, content type, body, unknown properties included). Neither side is trusted: the emulator
may have answered something that Clerk would not say, the client may have sent something that Clerk
would refuse.

With --negative, a request that breaks the document is tolerated where the answer is a refusal (4xx):
for tapes of tests that ask wrongly on purpose. A broken request that was answered 200 is a violation
in either case.

Allowed beside the documented statuses: 401 and 429, which the document describes for the whole API
and not per operation, and 5xx; each must still carry a ClerkErrors body. Answers that a fault plan
injected are judged as errors, and only when they claim to be JSON.

Prints counts; exits 1 on any violation, 2 on wrong usage.
"""

import collections
import json
import re
import sys
import urllib.parse

import jsonschema
import yaml

METHODS = ("get", "put", "post", "delete", "patch")
ANYWHERE = {401, 429}
ERRORS = {"$ref": "#/components/schemas/ClerkErrors"}


def converted(node):
    """A schema of OpenAPI 3.0 in the terms of JSON Schema 2020-12."""
    if isinstance(node, list):
        return [converted(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key in ("nullable", "discriminator", "example", "deprecated", "description", "title", "default"):
            continue
        if key.startswith("x-") or key == "format":
            continue
        if key == "properties":
            out[key] = {name: converted(schema) for name, schema in value.items()}
        elif key == "$ref":
            out[key] = value.replace("#/components/schemas/", "#/$defs/")
        elif key in ("enum", "required"):
            out[key] = value
        else:
            out[key] = converted(value)
    discriminator = node.get("discriminator")
    if discriminator:
        # Without its discriminator a value could not be told apart by a typed client.
        name = discriminator["propertyName"]
        out = {"allOf": [out, {"required": [name]}]}
        for value, reference in (discriminator.get("mapping") or {}).items():
            target = reference.replace("#/components/schemas/", "#/$defs/")
            out["allOf"].append({
                "if": {"properties": {name: {"const": value}}, "required": [name]},
                "then": {"$ref": target},
            })
    if node.get("nullable"):
        out = {"anyOf": [{"type": "null"}, out]}
    return out


class Document:
    """The specification, ready to be asked."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.raw = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.defs = {name: converted(schema) for name, schema in self.raw["components"]["schemas"].items()}
        self.validators = {}
        self.operations = []
        for path, item in self.raw["paths"].items():
            pattern = re.compile("^" + re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path)) + "$")
            shared = item.get("parameters", [])
            for method in METHODS:
                if method in item:
                    self.operations.append((path.count("{"), pattern, method, item[method], shared))
        # A literal path wins over one with a parameter: /users/count over /users/{user_id}.
        self.operations.sort(key=lambda operation: operation[0])

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            target = self.raw
            for part in node["$ref"].lstrip("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def operation(self, method, path):
        for _, pattern, name, operation, shared in self.operations:
            if name == method.lower() and pattern.match(path):
                return operation, shared
        return None

    def errors(self, schema, value):
        """What is wrong with a value, as short texts."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            whole = dict(converted(schema))
            whole["$defs"] = self.defs
            self.validators[key] = jsonschema.Draft202012Validator(whole)
        return [deepest(error) for error in self.validators[key].iter_errors(value)]


def deepest(error):
    """The innermost cause: `oneOf` failures say nothing by themselves."""
    while error.context:
        error = max(error.context, key=lambda inner: (len(inner.absolute_path), inner.validator != "type"))
    where = "/".join(str(part) for part in error.absolute_path) or "(whole)"
    return f"{where}: {error.message[:200]}"


def parsed(schema, text):
    """A query value as the type that its schema wants; None when it is not of that type."""
    kind = schema.get("type")
    if kind == "integer":
        return int(text) if re.fullmatch(r"-?\d+", text) else None
    if kind == "number":
        try:
            return float(text)
        except ValueError:
            return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text)
    return text


def judge_query(document, operation, shared, query):
    wrong = []
    parameters = {}
    for parameter in list(shared) + list(operation.get("parameters", [])):
        parameter = document.resolve(parameter)
        if parameter["in"] == "query":
            parameters[parameter["name"]] = parameter
    seen = collections.Counter()
    for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True, errors="strict"):
        seen[name] += 1
        if name == "__clerk_api_version":
            continue
        if name not in parameters:
            wrong.append(f"query parameter {name} is not documented")
            continue
        schema = document.resolve(parameters[name].get("schema", {}))
        array = schema.get("type") == "array"
        if seen[name] > 1 and not array:
            wrong.append(f"query parameter {name} is given more than once")
        item = document.resolve(schema.get("items", {})) if array else schema
        value = parsed(item, text)
        if value is None:
            wrong.append(f"query parameter {name}={text!r} is no {item.get('type')}")
        else:
            wrong += [f"query parameter {name}: {error}" for error in document.errors(item, value)]
        if name == "order_by" and text.startswith(" "):
            wrong.append("order_by begins with a raw +, which is a space in a query")
        if name in ("external_id", "user_id") and text.startswith(" "):
            wrong.append(f"{name} begins with a raw +, which is a space in a query")
    for name, count in seen.items():
        if count > 100 and name in parameters:
            wrong.append(f"query parameter {name} has {count} values; at most 100 are accepted")
    for name, parameter in parameters.items():
        if parameter.get("required") and name not in seen:
            wrong.append(f"query parameter {name} is required")
    return wrong


def judge_body(document, operation, body):
    request = document.resolve(operation.get("requestBody"))
    if request is None:
        # An empty object is what typed clients send where nothing is wanted.
        return [] if body in (None, {}) else ["a body is sent where none is documented"]
    if body is None:
        return ["the body is missing"] if request.get("required") else []
    schema = request.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return ["a JSON body is sent where none is documented"]
    return [f"body {error}" for error in document.errors(schema, body)]


def judge_answer(document, operation, line):
    status, body, fault = line["status"], line["response_body"], line.get("fault")
    kind = line["content_type"]
    if status is None:
        return []  # A fault broke the connection: there was no answer.
    if fault == "status":
        if kind == "application/json":
            return [f"injected {status} {error}" for error in document.errors(ERRORS, body)]
        return []
    wrong = [] if kind == "application/json" else [f"content type is {kind!r}"]
    documented = document.resolve((operation.get("responses") or {}).get(str(status)))
    if documented is None:
        if status not in ANYWHERE and status < 500:
            wrong.append(f"status {status} is not documented for {operation['operationId']}")
        schema = ERRORS
    else:
        schema = documented.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        if body is not None:
            wrong.append(f"status {status} carries a body where none is documented")
        return wrong
    return wrong + [f"answer {status} {error}" for error in document.errors(schema, body)]


def main(arguments):
    negative = "--negative" in arguments
    arguments = [argument for argument in arguments if argument != "--negative"]
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    document = Document(arguments[1])
    counts, statuses, tolerated, violations = collections.Counter(), collections.Counter(), 0, []
    with open(arguments[0], encoding="utf-8") as tape:
        for number, text in enumerate(tape, 1):
            line = json.loads(text)
            path = line["path"].removeprefix("/v1")
            found = document.operation(line["method"], path)
            label = f"{number}: {line['method']} {line['path']}"
            if found is None:
                if negative and line["status"] == 404:
                    tolerated += 1
                    violations += [f"{label}: {error}" for error in document.errors(ERRORS, line["response_body"])]
                else:
                    violations.append(f"{label}: no such operation")
                continue
            operation, shared = found
            counts[operation["operationId"]] += 1
            statuses[str(line["status"] or "none")] += 1
            asked = judge_query(document, operation, shared, line["query"])
            asked += judge_body(document, operation, line["request_body"])
            if asked and negative and 400 <= (line["status"] or 0) < 500:
                tolerated += 1
            else:
                violations += [f"{label}: request: {error}" for error in asked]
            violations += [f"{label}: {error}" for error in judge_answer(document, operation, line)]
    for operation, count in sorted(counts.items()):
        print(f"{count:8}  {operation}")
    print("statuses: " + ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    if tolerated:
        print(f"{tolerated} wrong requests, refused as they should be")
    for violation in violations[:200]:
        print(f"violation {violation}")
    print(f"{sum(counts.values())} exchanges judged, {len(violations)} violations")
    return 1 if violations or not counts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
