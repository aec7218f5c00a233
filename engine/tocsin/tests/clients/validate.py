"""Checks what the feed says against what its documentation says.

validate.py messages SCHEMA   reads JSON messages, one a line, from standard input; each must fit the
                              definition in SCHEMA that is named like its `type`. Users are told that
                              fields may be added, so the schema leaves objects open; here a field it
                              does not know is an error: whatever is sent is documented.
validate.py asyncapi FILE     FILE must be an AsyncAPI document whose every reference leads somewhere.

Prints one JSON object about what was checked. Exit code 1 with one line a fault on standard error.
"""

import json
import pathlib
import sys
import urllib.parse

import jsonschema
import yaml


def closed(schema):
    """The same schema, taking no field but those it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def check_messages(file):
    document = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
    checker = jsonschema.validators.validator_for(document)
    checker.check_schema(document)
    kinds = {
        name: checker({**closed(document), "oneOf": [{"$ref": f"#/$defs/{name}"}]}) for name in document["$defs"]
    }
    counts, faults = dict.fromkeys(kinds, 0), []
    for line in sys.stdin:
        message = json.loads(line)
        kind = message.get("type")
        if kind not in kinds:
            faults.append(f"type {kind!r} is not documented: {line.strip()}")
            continue
        counts[kind] += 1
        for error in kinds[kind].iter_errors(message):
            faults.extend(f"{cause.json_path}: {cause.message}: {line.strip()}" for cause in leaves(error))
    return counts, faults


def leaves(error):
    """The causes below the `oneOf` that wraps each definition."""
    return [leaf for cause in error.context for leaf in leaves(cause)] if error.context else [error]


def check_asyncapi(file):
    file = pathlib.Path(file).resolve()
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    faults = [f"no {part}" for part in ("info", "channels", "operations", "components") if not document.get(part)]
    if not str(document.get("asyncapi", "")).startswith("3."):
        faults.append(f"not AsyncAPI 3: {document.get('asyncapi')!r}")
    followed = set()
    follow(file, document, followed, faults)
    return {"references": len(followed)}, faults


def follow(file, node, followed, faults):
    """Follows every reference below `node`, into other files too."""
    if isinstance(node, list):
        for part in node:
            follow(file, part, followed, faults)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and (file, reference) not in followed:
            followed.add((file, reference))
            try:
                follow(*resolve(file, reference), followed, faults)
            except (OSError, LookupError, TypeError, ValueError) as error:
                faults.append(f"{file.name}: {reference}: {type(error).__name__}: {error}")
        for part in node.values():
            follow(file, part, followed, faults)


def resolve(file, reference):
    """The file and the value that a reference in `file` names."""
    path, _, pointer = reference.partition("#")
    if path:
        file = (file.parent / path).resolve()
    value = yaml.safe_load(file.read_text(encoding="utf-8"))
    for step in filter(None, pointer.split("/")):
        step = urllib.parse.unquote(step).replace("~1", "/").replace("~0", "~")
        value = value[int(step) if isinstance(value, list) else step]
    return file, value


def main():
    checks = {"messages": check_messages, "asyncapi": check_asyncapi}
    if len(sys.argv) != 3 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    summary, faults = checks[sys.argv[1]](sys.argv[2])
    print(json.dumps(summary))
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


main()
