using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>What an object must be like to be stored: its fields known, its defaults filled in, its values valid.</summary>
internal sealed class Admission(IReadOnlyDictionary<GroupKind, ObjectValidator> validators)
{
    /// <summary>Prunes, and then fills in defaults; see <see cref="Prune"/>.</summary>
    public static void Normalise(
        ResourceType type,
        JsonObject obj,
        IReadOnlyCollection<string> duplicates,
        WriteOptions options,
        Func<string, ApiError> refuse
    )
    {
        Prune(type, obj, duplicates, options, refuse);
        if (type.Schema is { } schema)
            Defaulting.Apply(obj, schema);
    }

    /// <summary>
    /// Prunes <paramref name="obj"/> in place. Unknown and duplicate fields are refused, told as warnings or
    /// passed over, by <see cref="WriteOptions.FieldValidation"/>.
    /// </summary>
    public static void Prune(
        ResourceType type,
        JsonObject obj,
        IReadOnlyCollection<string> duplicates,
        WriteOptions options,
        Func<string, ApiError> refuse
    )
    {
        var unknown = new List<string>();
        JsonObject metadata = obj.Child("metadata");
        if (MetadataRules.TypeError(metadata) is { } typeError)
            throw ApiError.BadRequest($"{type.Kind} in version \"{type.Version}\" cannot be handled as a {type.Kind}: {typeError}");
        MetadataRules.Prune(metadata, unknown);
        if (type.Schema is { } schema)
        {
            Pruning.Apply(obj, schema, unknown);
        }
        else
        {
            DropNulls(obj);
        }

        if (options.FieldValidation == FieldValidation.Ignore)
            return;
        var problems = duplicates.Select(d => $"duplicate field \"{d}\"").Concat(unknown.Select(u => $"unknown field \"{u}\"")).ToList();
        if (problems.Count == 0)
            return;
        if (options.FieldValidation == FieldValidation.Strict)
            throw refuse($"strict decoding error: {string.Join(", ", problems)}");
        options.Warnings.AddRange(problems);
    }

    // Built-in types have no explicit nulls.
    private static void DropNulls(JsonNode node)
    {
        switch (node)
        {
            case JsonObject obj:
                List<string>? nulls = null;
                foreach ((string name, JsonNode? value) in obj)
                {
                    if (value is null)
                        (nulls ??= []).Add(name);
                    else
                        DropNulls(value);
                }

                nulls?.ForEach(name => obj.Remove(name));
                break;
            case JsonArray array:
                foreach (JsonNode? item in array)
                {
                    if (item is not null)
                        DropNulls(item);
                }

                break;
        }
    }

    /// <summary>Refuses what is not valid, with all that is wrong.</summary>
    public void Check(ResourceType type, JsonObject obj, JsonObject? old)
    {
        var found = new List<Violation>();
        MetadataRules.Check(obj.Obj("metadata")!, type, found);
        if (type is { Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition" })
            CustomResources.Check(obj, found);
        if (type.Schema is { } schema)
        {
            found.AddRange(SchemaValidation.Check(obj, schema));
            // Rules can't be evaluated on values of the wrong shape.
            bool blocked = found.Exists(v =>
                v.Reason
                    is "FieldValueNotSupported"
                        or "FieldValueRequired"
                        or "FieldValueTooLong"
                        or "FieldValueTooMany"
                        or "FieldValueTypeInvalid"
            );
            if (blocked && schema.HasRules)
            {
                found.Add(
                    Violation.Invalid(
                        "",
                        null,
                        "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
                    )
                );
            }

            if (!blocked && validators.TryGetValue(new GroupKind(type.Group, type.Kind), out ObjectValidator? validator))
                found.AddRange(validator(Plain(obj)!, Plain(old)).Select(error => ToViolation(obj, error)));
        }

        if (found.Count > 0)
            throw ApiError.Invalid(type.Group, type.Kind, obj.Obj("metadata").Str("name") ?? "", found);
    }

    // Validators get an object of their own, as any JSON parser would make it.
    private static JsonObject? Plain(JsonObject? obj) => obj is null ? null : (JsonObject)JsonNode.Parse(Json.Utf8(obj))!;

    private static Violation ToViolation(JsonObject obj, FieldError error) =>
        error.Reason switch
        {
            FieldErrorReason.Required => Violation.Required(error.Path, error.Message),
            FieldErrorReason.Forbidden => Violation.Forbidden(error.Path, error.Message),
            FieldErrorReason.Duplicate => Violation.Duplicate(error.Path, At(obj, error.Path)),
            // A failed rule's words stand alone, without the value.
            _ => Violation.Invalid(error.Path, null, "") with { Message = $"Invalid value: {error.Message}" },
        };

    private static JsonNode? At(JsonObject obj, string path)
    {
        JsonNode? node = obj;
        foreach (string part in path.Split(['.', '['], StringSplitOptions.RemoveEmptyEntries))
        {
            node = part.EndsWith(']')
                ? int.TryParse(part[..^1], out int i) && node is JsonArray array && i < array.Count
                    ? array[i]
                    : (node as JsonObject)?[part[..^1].Trim('"')]
                : (node as JsonObject)?[part];
        }

        return node;
    }
}
