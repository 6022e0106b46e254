using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>What structured-merge-diff refuses of an applied configuration before anything else looks at it.</summary>
internal static class ApplyTypes
{
    public static void CheckMetadata(JsonObject configuration, List<string> problems)
    {
        foreach ((string name, JsonNode? _) in configuration.Obj("metadata") ?? [])
        {
            if (!MetadataRules.Knows(name))
                problems.Add($".metadata.{name}: field not declared in schema");
        }
    }

    public static void Check(JsonNode? value, Schema schema, string path, List<string> problems)
    {
        if (value is null || schema.IntOrString || schema.PreserveUnknown)
            return;
        switch (schema.Type)
        {
            case "object" when value is not JsonObject:
                problems.Add($"{path}: expected map, got {Shown(value)}");
                return;
            case "array" when value is not JsonArray:
                problems.Add($"{path}: expected list, got {Shown(value)}");
                return;
            case "string" when Json.AsString(value) is null:
                problems.Add($"{path}: expected string, got {Shown(value)}");
                return;
            case "integer" or "number" when Json.AsDouble(value) is null:
                problems.Add($"{path}: expected numeric (int or float), got {Shown(value)}");
                return;
        }

        switch (value)
        {
            case JsonObject obj:
                foreach ((string name, JsonNode? member) in obj)
                {
                    if (path.Length == 0 && name is "metadata" or "apiVersion" or "kind")
                        continue;
                    if (schema.Field(name) is { } field)
                        Check(member, field, $"{path}.{name}", problems);
                    else
                        problems.Add($"{path}.{name}: field not declared in schema");
                }

                break;
            case JsonArray array:
                CheckItems(array, schema, path, problems);
                break;
        }
    }

    private static void CheckItems(JsonArray array, Schema schema, string path, List<string> problems)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        for (int i = 0; i < array.Count; i++)
        {
            string at = $"{path}[{i}]";
            if (schema.ListType == ListType.Map)
            {
                var keys = schema
                    .ListMapKeys.Select(k => (Name: k, Value: (array[i] as JsonObject)?[k] ?? schema.Items?.Field(k)?.Default))
                    .ToList();
                if (keys.TrueForAll(k => k.Value is null))
                {
                    problems.Add(
                        $"{path}: element {i}: associative list with keys has an element that omits all key fields [{string.Join(" ", schema.ListMapKeys.Select(k => $"\"{k}\""))}] (and doesn't have default values for any key fields)"
                    );
                    continue;
                }

                string element = $"[{string.Join(",", keys.Select(k => $"{k.Name}={Json.Text(k.Value)}"))}]";
                if (!seen.Add(element))
                    problems.Add($"{path}: duplicate entries for key {element}");
                at = path + element;
            }
            else if (schema.ListType == ListType.Set && !seen.Add(Json.Text(array[i])))
            {
                problems.Add($"{path}: duplicate entries for key [={Json.Text(array[i])}]");
            }

            if (schema.Items is { } items)
                Check(array[i], items, at, problems);
        }
    }

    private static string Shown(JsonNode value) =>
        value switch
        {
            JsonObject => "map",
            JsonArray => "list",
            _ when Json.AsString(value) is not null => "string",
            _ when Json.AsLong(value) is not null => "int",
            _ when Json.AsDouble(value) is not null => "float",
            _ => "boolean",
        };
}
