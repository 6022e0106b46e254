using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Schemas;
using PciOperator.Sandbox.ApiServer.Tables;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>Reads CustomResourceDefinitions.</summary>
internal static class CustomResources
{
    /// <summary>Keeps a definition that is being deleted while there are objects of it.</summary>
    public const string CleanupFinalizer = "customresourcecleanup.apiextensions.k8s.io";

    /// <summary>Fills in what a CustomResourceDefinition may leave out.</summary>
    public static void ApplyDefaults(JsonObject crd)
    {
        JsonObject spec = crd.Child("spec");
        JsonObject names = spec.Child("names");
        if (names.Str("singular") is null or "" && names.Str("kind") is { } kind)
            names["singular"] = kind.ToLowerInvariant();
        if (names.Str("listKind") is null or "" && names.Str("kind") is { } k)
            names["listKind"] = k + "List";
        if (!spec.ContainsKey("conversion"))
            spec["conversion"] = new JsonObject { ["strategy"] = "None" };
    }

    /// <summary>What is wrong with a CustomResourceDefinition.</summary>
    public static void Check(JsonObject crd, List<Violation> found)
    {
        JsonObject? spec = crd.Obj("spec");
        JsonObject? names = spec.Obj("names");
        (string? group, string? plural) = (spec.Str("group") ?? "", names.Str("plural") ?? "");
        if (group.Length == 0)
            found.Add(Violation.Required("spec.group"));
        if (plural.Length == 0)
            found.Add(Violation.Required("spec.names.plural"));
        if (string.IsNullOrEmpty(names.Str("kind")))
            found.Add(Violation.Required("spec.names.kind"));
        if (crd.Obj("metadata").Str("name") != $"{plural}.{group}")
            found.Add(Violation.Invalid("metadata.name", crd.Obj("metadata")?["name"], "must be spec.names.plural+\".\"+spec.group"));
        if (spec.Str("scope") is null or "")
            found.Add(Violation.Required("spec.scope"));
        else if (spec.Str("scope") is not ("Namespaced" or "Cluster"))
            found.Add(Violation.NotSupported("spec.scope", spec!["scope"], [JsonValue.Create("Cluster"), JsonValue.Create("Namespaced")]));
        List<JsonObject> versions = spec.Arr("versions")?.OfType<JsonObject>().ToList() ?? [];
        if (versions.Count(v => v.Flag("storage")) != 1)
            found.Add(Violation.Invalid("spec.versions", spec?["versions"], "must have exactly one version marked as storage version"));
        for (int i = 0; i < versions.Count; i++)
            CheckSchema(versions[i], i, found);
    }

    private static void CheckSchema(JsonObject version, int index, List<Violation> found)
    {
        string path = $"spec.versions[{index}].schema.openAPIV3Schema";
        if (version.Obj("schema").Obj("openAPIV3Schema") is not { } schema)
        {
            found.Add(Violation.Required(path, "schemas are required"));
            return;
        }

        if (schema.Str("type") != "object")
            found.Add(Violation.Invalid(path + ".type", schema["type"], "must be object at the root"));
        CheckPatterns(schema, path, found);
    }

    private static void CheckPatterns(JsonObject schema, string path, List<Violation> found)
    {
        if (schema.Str("pattern") is { } pattern)
        {
            try
            {
                GoRegex.Compile(pattern);
            }
            catch (ArgumentException e)
            {
                found.Add(
                    Violation.Invalid(path + ".pattern", schema["pattern"], $"must be a valid regular expression, but isn't: {e.Message}")
                );
            }
        }

        foreach ((string name, JsonNode? property) in schema.Obj("properties") ?? [])
        {
            if (property is JsonObject p)
                CheckPatterns(p, $"{path}.properties[{name}]", found);
        }

        if (schema.Obj("items") is { } items)
            CheckPatterns(items, path + ".items", found);
        if (schema.Obj("additionalProperties") is { } additional)
            CheckPatterns(additional, path + ".additionalProperties", found);
    }

    /// <summary>The status that a server gives an accepted definition.</summary>
    public static JsonObject AcceptedStatus(JsonObject crd, string now)
    {
        JsonObject spec = crd.Obj("spec")!;
        JsonObject? old = crd.Obj("status");
        string since = old.Arr("conditions")?.OfType<JsonObject>().Select(c => c.Str("lastTransitionTime")).FirstOrDefault() ?? now;
        JsonObject Condition(string type, string reason, string message) =>
            new()
            {
                ["lastTransitionTime"] = since,
                ["message"] = message,
                ["reason"] = reason,
                ["status"] = "True",
                ["type"] = type,
            };
        var stored = (old.Arr("storedVersions")?.Select(Json.AsString).OfType<string>() ?? []).ToList();
        string storage = StorageVersion(spec);
        if (!stored.Contains(storage))
            stored.Add(storage);
        return new JsonObject
        {
            ["acceptedNames"] = spec["names"].Copy(),
            ["conditions"] = new JsonArray(
                Condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                Condition("Established", "InitialNamesAccepted", "the initial names have been accepted")
            ),
            ["storedVersions"] = new JsonArray([.. stored.Select(v => JsonValue.Create(v))]),
        };
    }

    private static string StorageVersion(JsonObject spec) =>
        spec.Arr("versions")!.OfType<JsonObject>().First(v => v.Flag("storage")).Str("name")!;

    /// <summary>The served versions of a CustomResourceDefinition.</summary>
    public static IEnumerable<ResourceType> Versions(JsonObject crd)
    {
        JsonObject spec = crd.Obj("spec")!;
        JsonObject names = spec.Obj("names")!;
        string group = spec.Str("group")!;
        string storage = $"{group}/{StorageVersion(spec)}";
        foreach (JsonObject? version in spec.Arr("versions")!.OfType<JsonObject>().Where(v => v.Flag("served")))
        {
            JsonObject schema = version.Obj("schema").Obj("openAPIV3Schema")!;
            string own = $"{group}/{version.Str("name")}";
            yield return new ResourceType
            {
                Group = group,
                Version = version.Str("name")!,
                Kind = names.Str("kind")!,
                Plural = names.Str("plural")!,
                Singular = names.Str("singular")!,
                ListKind = names.Str("listKind") ?? "",
                ShortNames = Strings(names.Arr("shortNames")),
                Categories = Strings(names.Arr("categories")),
                Namespaced = spec.Str("scope") == "Namespaced",
                HasStatus = version.Obj("subresources") is { } sub && sub.ContainsKey("status"),
                HasGeneration = true,
                Schema = Schema.Read(schema),
                SchemaJson = schema.Copy(),
                SelectableFields = Selectable(version),
                Columns = [.. PrinterColumns.Read(version.Arr("additionalPrinterColumns"))],
                ToStored = own == storage ? null : obj => WithVersion(obj, storage),
                FromStored = own == storage ? null : obj => WithVersion(obj, own),
            };
        }
    }

    private static Dictionary<string, string> Selectable(JsonObject version)
    {
        var fields = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (JsonObject field in version.Arr("selectableFields")?.OfType<JsonObject>() ?? [])
        {
            string path = field.Str("jsonPath")!.TrimStart('.');
            fields[path] = path;
        }

        return fields;
    }

    private static JsonObject WithVersion(JsonObject obj, string apiVersion)
    {
        JsonObject copy = obj.Copy();
        copy["apiVersion"] = apiVersion;
        return copy;
    }

    private static string[] Strings(JsonArray? array) => array?.Select(Json.AsString).OfType<string>().ToArray() ?? [];
}
