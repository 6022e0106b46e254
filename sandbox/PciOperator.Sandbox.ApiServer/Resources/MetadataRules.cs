using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>What ObjectMeta may hold (apimachinery's validation, with its wording).</summary>
internal static partial class MetadataRules
{
    private const string SubdomainText = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    private const string LabelText = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    private const string Rfc1035Text = "[a-z]([-a-z0-9]*[a-z0-9])?";
    private const string QualifiedText = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    private const string LabelValueText = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

    private static readonly HashSet<string> KnownFields = new(StringComparer.Ordinal)
    {
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    };

    /// <summary>Whether ObjectMeta has the field.</summary>
    public static bool Knows(string field) => KnownFields.Contains(field);

    /// <summary>Removes what is not ObjectMeta, and nulls; adds the paths of unknown fields.</summary>
    public static void Prune(JsonObject metadata, List<string> unknown)
    {
        foreach ((string? name, JsonNode? value) in metadata.ToList())
        {
            if (!KnownFields.Contains(name))
                unknown.Add("metadata." + name);
            if (value is null || !KnownFields.Contains(name))
                metadata.Remove(name);
        }

        foreach (string name in new[] { "labels", "annotations" })
        {
            if (metadata[name] is JsonObject { Count: 0 })
                metadata.Remove(name);
        }

        foreach (string name in new[] { "finalizers", "ownerReferences" })
        {
            if (metadata[name] is JsonArray { Count: 0 })
                metadata.Remove(name);
        }
    }

    /// <summary>The first type error in metadata, as a decoder would find it; null when there is none.</summary>
    public static string? TypeError(JsonObject metadata)
    {
        foreach (string name in new[] { "name", "generateName", "namespace", "uid", "resourceVersion" })
        {
            if (metadata[name] is { } value && Json.AsString(value) is null)
                return $"json: cannot unmarshal {GoKind(value)} into Go struct field ObjectMeta.{name} of type string";
        }

        foreach (string name in new[] { "labels", "annotations" })
        {
            if (
                metadata[name] is { } map
                && (map is not JsonObject entries || entries.Any(e => e.Value is not null && Json.AsString(e.Value) is null))
            )
            {
                return $"json: cannot unmarshal {GoKind(map is JsonObject o ? o.First(e => Json.AsString(e.Value) is null).Value : map)} into Go struct field ObjectMeta.{name} of type {(map is JsonObject ? "string" : "map[string]string")}";
            }
        }

        if (metadata["finalizers"] is { } list && (list is not JsonArray items || items.Any(i => Json.AsString(i) is null)))
            return "json: cannot unmarshal into Go struct field ObjectMeta.finalizers of type []string";
        return null;
    }

    private static string GoKind(JsonNode? node) =>
        node switch
        {
            JsonObject => "object",
            JsonArray => "array",
            _ when Json.AsString(node) is not null => "string",
            _ when Json.AsDouble(node) is not null => "number",
            null => "null",
            _ => "bool",
        };

    public static void Check(JsonObject metadata, ResourceType type, List<Violation> found)
    {
        string name = metadata.Str("name") ?? "";
        if (name.Length == 0)
            found.Add(Violation.Required("metadata.name", "name or generateName is required"));
        else if (NameError(name, type.Names) is { } error)
            found.Add(Violation.Invalid("metadata.name", metadata["name"], error));
        foreach ((string key, JsonNode? value) in metadata.Obj("labels") ?? [])
        {
            if (QualifiedNameError(key) is { } keyError)
                found.Add(Violation.Invalid("metadata.labels", JsonValue.Create(key), keyError));
            if (Json.AsString(value) is { } text && LabelValueError(text) is { } valueError)
                found.Add(Violation.Invalid("metadata.labels", value, valueError));
        }

        long size = 0L;
        foreach ((string key, JsonNode? value) in metadata.Obj("annotations") ?? [])
        {
            if (QualifiedNameError(key.ToLowerInvariant()) is { } keyError)
                found.Add(Violation.Invalid("metadata.annotations", JsonValue.Create(key), keyError));
            size += key.Length + (Json.AsString(value)?.Length ?? 0);
        }

        if (size > 256 << 10)
            found.Add(Violation.TooLong("metadata.annotations", "may not be more than 262144 bytes"));
        CheckFinalizers(metadata, found);
        CheckOwners(metadata, found);
    }

    private static void CheckFinalizers(JsonObject metadata, List<Violation> found)
    {
        foreach (JsonNode? finalizer in metadata.Arr("finalizers") ?? [])
        {
            if (QualifiedNameError(Json.AsString(finalizer) ?? "") is { } error)
                found.Add(Violation.Invalid("metadata.finalizers", finalizer, error));
        }
    }

    private static void CheckOwners(JsonObject metadata, List<Violation> found)
    {
        int controllers = 0;
        JsonArray? owners = metadata.Arr("ownerReferences");
        for (int i = 0; i < (owners?.Count ?? 0); i++)
        {
            var owner = owners![i] as JsonObject;
            foreach (string field in new[] { "apiVersion", "kind", "name", "uid" })
            {
                if (string.IsNullOrEmpty(owner.Str(field)))
                {
                    found.Add(
                        Violation.Invalid(
                            $"metadata.ownerReferences.{field}",
                            JsonValue.Create(""),
                            field == "apiVersion" ? "version must not be empty" : "must not be empty"
                        )
                    );
                }
            }

            if (owner.Flag("controller") && ++controllers == 2)
                found.Add(Violation.Invalid("metadata.ownerReferences", owners, "Only one reference can have Controller set to true"));
        }
    }

    public static string? NameError(string name, NameRule rule) =>
        rule switch
        {
            NameRule.Label => name.Length > 63 ? "must be no more than 63 bytes"
            : LabelName().IsMatch(name) ? null
            : $"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LabelText}')",
            NameRule.Rfc1035 => name.Length > 63 ? "must be no more than 63 bytes"
            : Rfc1035().IsMatch(name) ? null
            : $"a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{Rfc1035Text}')",
            NameRule.PathSegment => name is "." or ".." ? $"may not be '{name}'"
            : name.Contains('/') ? "may not contain '/'"
            : name.Contains('%') ? "may not contain '%'"
            : null,
            _ => name.Length > 253 ? "must be no more than 253 bytes"
            : Subdomain().IsMatch(name) ? null
            : $"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SubdomainText}')",
        };

    /// <summary>What is wrong with a label key, an annotation key or a finalizer; null when nothing is.</summary>
    public static string? QualifiedNameError(string key)
    {
        string[] parts = key.Split('/');
        if (parts.Length > 2)
            return $"a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QualifiedText}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
        if (parts.Length == 2)
        {
            if (parts[0].Length == 0)
                return "prefix part must be non-empty";
            if (NameError(parts[0], NameRule.Subdomain) is { } prefixError)
                return "prefix part " + prefixError;
        }

        string name = parts[^1];
        if (name.Length == 0)
            return "name part must be non-empty";
        if (name.Length > 63)
            return "name part must be no more than 63 bytes";
        return Qualified().IsMatch(name)
            ? null
            : $"name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QualifiedText}')";
    }

    /// <summary>What is wrong with a label's value; null when nothing is.</summary>
    public static string? LabelValueError(string value) =>
        value.Length > 63 ? "must be no more than 63 bytes"
        : LabelValue().IsMatch(value) ? null
        : $"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{LabelValueText}')";

    [GeneratedRegex("^" + SubdomainText + @"\z")]
    private static partial Regex Subdomain();

    [GeneratedRegex("^" + LabelText + @"\z")]
    private static partial Regex LabelName();

    [GeneratedRegex("^" + Rfc1035Text + @"\z")]
    private static partial Regex Rfc1035();

    [GeneratedRegex("^" + QualifiedText + @"\z")]
    private static partial Regex Qualified();

    [GeneratedRegex("^" + LabelValueText + @"\z")]
    private static partial Regex LabelValue();
}
